//! Whether a finished image can launch the L1 VMM.
//!
//! Every finding names what was looked at and what to do; a check that passes is listed too, so that
//! the output says what was checked.

mod payload;
mod reset_code;
#[cfg(test)]
mod tests;

use crate::firmware_volume;
use crate::layout::{IMAGE_END, IMAGE_SIZE_MAX, Runtime, shim};
use crate::metadata::{Content, Metadata, Section, SectionKind};
use object::elf;
use object::read::elf::{ElfFile64, ProgramHeader};
use payload::Payload;
use reset_code::{has_more_boot_processors, reset_vector_parameters};
use tcg_defs::ptp;

/// The bytes by which the L1 VMM's ELF file is known.
pub const L1_VMM_MARK: &[u8] = b"tdp-vtpm l1-vmm ";

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
    findings.contents(&metadata);
    findings.window(&metadata);
    findings.copied_shim(image);
    findings.boot_processor(image);
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

/// What a host does with the bytes of a section that nobody measures; `None` if it cannot choose them.
fn attack(section: &Section) -> Option<&'static str> {
    if section.content() != Content::HostsChoice {
        return None;
    }
    Some(match section.kind {
        SectionKind::Payload | SectionKind::PayloadParam => {
            "it replaces the payload by its own, which then speaks for this image's MRTD"
        }
        SectionKind::Cfv => {
            "it writes its own code or keys there, for the firmware or a second virtual processor to take"
        }
        _ if section.range().contains(&shim::MAILBOX) => {
            "it fills td-shim's mailbox with a command and starts a second virtual processor first, which jumps to the \
             host's code in a TD whose MRTD is this image's"
        }
        _ => {
            "what a processor reads there before it has written there, a second virtual processor that is started first \
             above all, is the host's word in a TD whose MRTD is this image's"
        }
    })
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
            let range = section.range();
            let in_firmware = range.start >= IMAGE_END - IMAGE_SIZE_MAX && range.end <= IMAGE_END;
            if !in_firmware && range != ptp::WINDOW {
                self.fail(
                    "BFV",
                    format!("{range:#x?} lies outside the firmware's place below 4 GiB"),
                );
            } else {
                self.pass(
                    "BFV",
                    format!("{:#x}..{:#x}, measured into MRTD", range.start, range.end),
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

    /// Every byte that a processor can read before L1 owns the TD is in MRTD, or is written first
    /// by code that is.
    fn contents(&mut self, metadata: &Metadata) {
        let mut measured = true;
        for section in metadata.sections() {
            let Some(attack) = attack(section) else {
                continue;
            };
            measured = false;
            self.fail(
                section.kind.name(),
                format!(
                    "{:#x}..{:#x} is added without MR.EXTEND, so the host chooses what is there: {attack}. \
                     Describe it as a BFV section with its data in the image, as metadata.json does",
                    section.range().start,
                    section.range().end
                ),
            );
        }
        if measured {
            self.pass(
                "contents",
                "MRTD covers every byte of every page; the TD HOB is the host's, and RTMR0 covers it"
                    .to_owned(),
            );
        }
    }

    /// td-shim takes a processor whose index is a multiple of 256 for the boot processor.
    fn boot_processor(&mut self, image: &[u8]) {
        if has_more_boot_processors(image) {
            self.fail(
                "td-shim",
                "its reset code takes virtual processor 256 for the boot processor as well, on the same stack: a host \
                 that starts both has one write over the other's return addresses, before L1 can refuse so many. \
                 Build td-shim with td-shim.patch"
                    .to_owned(),
            );
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
            self.fail(
                "TPM window",
                format!(
                    "a section covers a part of {:#x?}; cover all of it with a BFV section or none",
                    ptp::WINDOW
                ),
            );
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
