//! Whether a finished image can launch the L1 VMM.
//!
//! Every finding names what was looked at and what to do; a check that passes is listed too, so that
//! the output says what was checked.

use crate::firmware_volume;
use crate::layout::{IMAGE_END, IMAGE_SIZE_MAX, Runtime};
use crate::metadata::{Metadata, Section, SectionKind};
use object::elf;
use object::read::elf::{Dyn, ElfFile64, FileHeader, ProgramHeader, Rela};
use tcg_defs::ptp;

/// What a check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it must be.
    Pass,
    /// Works, but read the text.
    Note,
    /// The L1 VMM cannot be launched.
    Fail,
}

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// What was checked.
    pub check: &'static str,
    /// The outcome.
    pub verdict: Verdict,
    /// What was found, and for failures what to do.
    pub text: String,
}

/// Checks an image file; nothing is left out because an earlier check failed, unless it cannot be
/// made without it.
pub fn image(image: &[u8]) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    findings.size(image);
    let metadata = match Metadata::find(image) {
        Ok(metadata) => metadata,
        Err(error) => {
            findings.fail(
                "metadata",
                format!("{error}; link the image with td-shim-ld"),
            );
            return findings.0;
        }
    };
    findings.pass(
        "metadata",
        format!("{} sections, all by the rules", metadata.sections().count()),
    );
    findings.sections(&metadata);
    findings.window(&metadata);
    findings.copied_shim(image);
    if let Some((place, payload)) = findings.payload(image, &metadata) {
        findings.payload_elf(place, payload);
    }
    findings.0
}

/// Whether the image can launch the L1 VMM.
pub fn fits(findings: &[Finding]) -> bool {
    findings
        .iter()
        .all(|finding| finding.verdict != Verdict::Fail)
}

struct Findings(Vec<Finding>);

impl Findings {
    fn push(&mut self, check: &'static str, verdict: Verdict, text: String) {
        self.0.push(Finding {
            check,
            verdict,
            text,
        });
    }

    fn pass(&mut self, check: &'static str, text: String) {
        self.push(check, Verdict::Pass, text);
    }

    fn fail(&mut self, check: &'static str, text: String) {
        self.push(check, Verdict::Fail, text);
    }

    fn size(&mut self, image: &[u8]) {
        let size = image.len() as u64;
        if size.is_multiple_of(4096) && size <= IMAGE_SIZE_MAX {
            self.pass("size", format!("{size:#x} bytes, ends at {IMAGE_END:#x}"));
        } else {
            self.fail(
                "size",
                format!("{size:#x} bytes; a firmware image is a multiple of 4 KiB and at most {IMAGE_SIZE_MAX:#x}"),
            );
        }
    }

    fn sections(&mut self, metadata: &Metadata) {
        for section in metadata
            .sections()
            .filter(|section| section.kind == SectionKind::Bfv)
        {
            if section.range().end > IMAGE_END || section.range().start < IMAGE_END - IMAGE_SIZE_MAX
            {
                self.fail(
                    "BFV",
                    format!(
                        "{:#x?} lies outside the firmware's place below 4 GiB",
                        section.range()
                    ),
                );
            } else {
                self.pass(
                    "BFV",
                    format!(
                        "{:#x}..{:#x}, measured into MRTD",
                        section.range().start,
                        section.range().end
                    ),
                );
            }
        }
        match (
            metadata.section(SectionKind::TdHob),
            metadata.section(SectionKind::PermMem),
        ) {
            (_, Some(section)) if section.size < 256 << 20 => self.push(
                "memory",
                Verdict::Note,
                format!(
                    "PermMem gives the TD only {} MiB, whatever the host has",
                    section.size >> 20
                ),
            ),
            (_, Some(_)) => self.pass(
                "memory",
                "fixed by PermMem; no TD HOB is measured".to_owned(),
            ),
            (Some(section), None) => self.pass(
                "memory",
                format!("from the TD HOB at {:#x}", section.address),
            ),
            // Metadata::find refuses this.
            (None, None) => self.fail(
                "memory",
                "neither a TD_HOB nor a PermMem section".to_owned(),
            ),
        }
    }

    fn window(&mut self, metadata: &Metadata) {
        if metadata.backs_tpm_window() {
            self.pass(
                "TPM window",
                "backed by private pages: L2's accesses exit straight to L1".to_owned(),
            );
            return;
        }
        let overlaps = |section: &Section| {
            section.kind.has_memory()
                && section.range().start < ptp::WINDOW.end
                && ptp::WINDOW.start < section.range().end
        };
        if metadata.sections().any(overlaps) {
            self.fail("TPM window", format!("a section covers a part of {:#x?}; cover all of it with a TempMem section or none", ptp::WINDOW));
        } else {
            self.push(
                "TPM window",
                Verdict::Note,
                "not backed by memory: the host must route its exits to L1 (TDH.VP.ENTER with RESUME_L1)".to_owned(),
            );
        }
    }

    /// td-shim's reset code copies itself to 1 MiB, as many bytes as the linked *file* had: a stripped
    /// file can be shorter than the program it holds.
    fn copied_shim(&mut self, image: &[u8]) {
        let Some((start, length)) = reset_vector_parameters(image) else {
            return;
        };
        let Some(program) = image.get(start..) else {
            return;
        };
        let Ok(file) = ElfFile64::<object::Endianness>::parse(program) else {
            return;
        };
        let endian = file.endian();
        let needed = file
            .elf_program_headers()
            .iter()
            .filter(|segment| segment.p_type(endian) == elf::PT_LOAD)
            .map(|segment| {
                segment
                    .p_vaddr(endian)
                    .saturating_add(segment.p_filesz(endian))
            })
            .max()
            .unwrap_or(0);
        if needed > length {
            self.fail(
                "td-shim",
                format!("its reset code copies {length:#x} bytes of it, but it has {needed:#x}: link a td-shim that is not stripped"),
            );
        } else {
            self.pass(
                "td-shim",
                format!("{needed:#x} bytes, of which the reset code copies all"),
            );
        }
    }

    /// Finds the payload: in its own section, or in the volume at the start of the first BFV.
    fn payload<'a>(
        &mut self,
        image: &'a [u8],
        metadata: &Metadata,
    ) -> Option<(&'static str, &'a [u8])> {
        let own = metadata.section(SectionKind::Payload);
        let (place, section) = match own {
            Some(section) => ("Payload section, measured into RTMR1 by td-shim", section),
            None => (
                "BFV section, measured into MRTD",
                metadata.section(SectionKind::Bfv)?,
            ),
        };
        let start = section.data_offset as usize;
        let data = image
            .get(start..start.saturating_add(section.raw_data_size as usize))
            .unwrap_or_default();
        if data.is_empty() {
            self.fail("payload", "the Payload section has no data: the host would load the payload; link the L1 VMM into the image (td-shim-ld -p FILE -t executable)".to_owned());
            return None;
        }
        match firmware_volume::section_data(data) {
            Ok(payload) => Some((place, payload)),
            Err(error) => {
                self.fail(
                    "payload",
                    format!("{error}; link the L1 VMM with td-shim-ld -p FILE -t executable"),
                );
                None
            }
        }
    }

    fn payload_elf(&mut self, place: &'static str, payload: &[u8]) {
        match Payload::parse(payload) {
            Err(problem) => self.fail("payload", problem),
            Ok(found) if found.memory > Runtime::PAYLOAD_SIZE => self.fail(
                "payload",
                format!(
                    "needs {:#x} bytes of memory; td-shim's layout gives {:#x}",
                    found.memory,
                    Runtime::PAYLOAD_SIZE
                ),
            ),
            Ok(found) => {
                self.pass(
                    "payload",
                    format!(
                        "position-independent ELF, {:#x} bytes in memory; in the {place}",
                        found.memory
                    ),
                );
                self.pass(
                    "relocations",
                    format!("{}, all R_X86_64_RELATIVE", found.relocations),
                );
                if !found.is_l1_vmm {
                    self.push(
                        "identity",
                        Verdict::Note,
                        "the payload does not carry the L1 VMM's mark: is it another program?"
                            .to_owned(),
                    );
                }
            }
        }
    }
}

/// File offset and length of the program that td-shim's reset code copies: the two u32 at the
/// image's end - 0x50 (td-shim, `ResetVectorParams`). `None` if this is not td-shim's reset code.
fn reset_vector_parameters(image: &[u8]) -> Option<(usize, u64)> {
    let at = image.len().checked_sub(0x50)?;
    let [a, b, c, d, e, f, g, h] = *image.get(at..)?.first_chunk()?;
    let base = u64::from(u32::from_le_bytes([a, b, c, d]));
    let length = u64::from(u32::from_le_bytes([e, f, g, h]));
    let start = (base + image.len() as u64).checked_sub(IMAGE_END)?;
    (length != 0).then_some((start as usize, length))
}

/// The bytes by which the L1 VMM's ELF file is known.
pub const L1_VMM_MARK: &[u8] = b"tdp-vtpm l1-vmm ";

/// Relative relocations in the compressed form (System V gABI, "DT_RELR").
const DT_RELR: u32 = 36;

/// What td-shim needs to know of an ELF payload.
struct Payload {
    memory: u64,
    relocations: usize,
    is_l1_vmm: bool,
}

impl Payload {
    fn parse(data: &[u8]) -> Result<Self, String> {
        let file: ElfFile64<'_> = ElfFile64::parse(data)
            .map_err(|error| format!("the payload is no 64-bit ELF file ({error})"))?;
        let endian = file.endian();
        let header = file.elf_header();
        if header.e_type(endian) != elf::ET_DYN {
            return Err("the payload's ELF file is not position-independent (ET_DYN); td-shim chooses the address".to_owned());
        }
        let segments = file.elf_program_headers();
        let memory = segments
            .iter()
            .map(|segment| {
                segment
                    .p_vaddr(endian)
                    .saturating_add(segment.p_memsz(endian))
            })
            .max()
            .unwrap_or(0);
        let mut relocations = 0;
        for segment in segments {
            let Ok(Some(dynamic)) = segment.dynamic(endian, data) else {
                continue;
            };
            let value = |tag: u32| {
                dynamic
                    .iter()
                    .find(|entry| entry.tag32(endian) == Some(tag))
                    .map(|entry| entry.d_val(endian))
            };
            let size = value(elf::DT_RELASZ).unwrap_or(0) as usize / 24;
            let count = value(elf::DT_RELACOUNT).unwrap_or(0) as usize;
            if size != count {
                return Err(format!(
                    "the payload has {size} relocations, of which td-shim applies {count} (DT_RELACOUNT)"
                ));
            }
            if value(DT_RELR).is_some() || value(elf::DT_JMPREL).is_some() {
                return Err("the payload has relocations that td-shim does not apply (DT_RELR or DT_JMPREL)".to_owned());
            }
            relocations = count;
            let table = value(elf::DT_RELA).unwrap_or(0);
            check_relative(&file, data, table, count)?;
        }
        Ok(Self {
            memory,
            relocations,
            is_l1_vmm: data
                .windows(L1_VMM_MARK.len())
                .any(|window| window == L1_VMM_MARK),
        })
    }
}

fn check_relative(
    file: &ElfFile64<'_>,
    data: &[u8],
    table: u64,
    count: usize,
) -> Result<(), String> {
    let endian = file.endian();
    let cut_off = || "the payload's relocation table lies outside its segments".to_owned();
    let segment = file.elf_program_headers().iter().find(|segment| {
        let start = segment.p_vaddr(endian);
        segment.p_type(endian) == elf::PT_LOAD
            && (start..start.saturating_add(segment.p_filesz(endian))).contains(&table)
    });
    let Some(segment) = segment else {
        return if count == 0 { Ok(()) } else { Err(cut_off()) };
    };
    let bytes = segment.data(endian, data).map_err(|()| cut_off())?;
    let bytes = bytes
        .get((table - segment.p_vaddr(endian)) as usize..)
        .ok_or_else(cut_off)?;
    let (entries, _) = object::slice_from_bytes::<elf::Rela64<object::Endianness>>(bytes, count)
        .map_err(|()| cut_off())?;
    match entries
        .iter()
        .find(|entry| entry.r_type(endian, false) != elf::R_X86_64_RELATIVE)
    {
        Some(entry) => Err(format!(
            "the payload has a relocation of type {} at {:#x}; td-shim applies only R_X86_64_RELATIVE",
            entry.r_type(endian, false),
            entry.r_offset(endian)
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_firmware_is_said_to_be_none() {
        let findings = image(&[0; 4096]);
        assert!(!fits(&findings));
        assert!(
            findings
                .iter()
                .any(|finding| finding.check == "metadata" && finding.verdict == Verdict::Fail)
        );
    }

    #[test]
    fn a_file_of_odd_size_fails() {
        let findings = image(&[0; 100]);
        assert!(
            findings
                .iter()
                .any(|finding| finding.check == "size" && finding.verdict == Verdict::Fail)
        );
    }
}
