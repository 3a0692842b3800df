//! The payload's ELF file, as td-shim loads it.

use super::L1_VMM_MARK;
use object::elf;
use object::read::elf::{Dyn, ElfFile64, FileHeader, ProgramHeader, Rela};

/// Relative relocations in the compressed form (System V gABI, "DT_RELR").
const DT_RELR: u32 = 36;

/// What td-shim needs to know of an ELF payload.
pub(super) struct Payload {
    /// Bytes from its base to its end.
    pub(super) memory: u64,
    /// How many it has.
    pub(super) relocations: usize,
    /// Whether it has [`L1_VMM_MARK`].
    pub(super) is_l1_vmm: bool,
}

impl Payload {
    /// Reads the ELF file. The error is a sentence.
    pub(super) fn parse(data: &[u8]) -> Result<Self, String> {
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
