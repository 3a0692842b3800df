//! Loading the payload: a position-independent ELF file from the image's firmware volume.
//!
//! As td-shim does it: every program header with memory is copied to base + p_vaddr whatever its
//! type, and the relocations that DT_RELACOUNT counts, all `R_X86_64_RELATIVE`, are applied.

use crate::fatal::Fatal;
use crate::ram::Ram;
use tdshim_config::firmware_volume;
use tdshim_config::hob_list;
use tdshim_config::layout::Runtime;
use tdshim_config::metadata::Section;
use uefi_defs::guid::HOB_PAYLOAD_INFO;
use uefi_defs::hob::{self, GuidExtension, PayloadInfo};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned, little_endian as le};

const PT_DYNAMIC: u32 = 2;
const DT_NULL: u64 = 0;
const DT_RELA: u64 = 7;
const DT_RELAENT: u64 = 9;
const DT_RELACOUNT: u64 = 0x6fff_fff9;
const R_X86_64_RELATIVE: u64 = 8;

/// Elf64_Ehdr.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct FileHeader {
    identification: [u8; 16],
    kind_machine_version: [u8; 8],
    entry: le::U64,
    program_headers: le::U64,
    _section_headers: le::U64,
    _flags: le::U32,
    _size: le::U16,
    program_header_size: le::U16,
    program_header_count: le::U16,
    _sections: [u8; 6],
}

/// Elf64_Phdr.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct ProgramHeader {
    kind: le::U32,
    _flags: le::U32,
    offset: le::U64,
    virtual_address: le::U64,
    _physical_address: le::U64,
    file_size: le::U64,
    memory_size: le::U64,
    _align: le::U64,
}

/// Whether the host describes the payload (TD_PAYLOAD_INFO), and it is an executable: the one in the image, for td-shim as
/// for this shim.
pub(crate) fn information(td_hob: &[u8]) -> Result<bool, Fatal> {
    for entry in hob_list::walk(td_hob) {
        let (kind, bytes) = entry.map_err(|_| Fatal("the TD HOB list is malformed"))?;
        let Ok((extension, data)) = GuidExtension::ref_from_prefix(bytes) else {
            continue;
        };
        if kind != hob::GUID_EXTENSION || extension.name != HOB_PAYLOAD_INFO {
            continue;
        }
        return match PayloadInfo::ref_from_prefix(data) {
            Ok((info, _)) if info.image_type.get() == PayloadInfo::EXECUTABLE => Ok(true),
            _ => Err(Fatal("the shim starts no payload but the image's")),
        };
    }
    Ok(false)
}

/// Loads the payload at `base`, which is zeroed memory, and returns its entry point.
pub(crate) fn load(ram: &Ram, volume: &Section, base: u64) -> Result<u64, Fatal> {
    const BAD: Fatal = Fatal("the payload is no position-independent 64-bit ELF file");
    let volume = ram.bytes(volume.address, volume.size as usize);
    let file = firmware_volume::section_data(volume)
        .map_err(|_| Fatal("the image's first BFV section holds no payload volume"))?;
    let (header, _) = FileHeader::ref_from_prefix(file).map_err(|_| BAD)?;
    if header.identification.get(..5) != Some(b"\x7fELF\x02") {
        return Err(BAD);
    }
    let mut dynamic = None;
    for index in 0..u64::from(header.program_header_count.get()) {
        let at = header
            .program_headers
            .get()
            .checked_add(index * u64::from(header.program_header_size.get()))
            .ok_or(BAD)?;
        let bytes = file.get(at as usize..).ok_or(BAD)?;
        let (program, _) = ProgramHeader::ref_from_prefix(bytes).map_err(|_| BAD)?;
        if program.memory_size.get() == 0 {
            continue;
        }
        load_segment(ram, file, program, base)?;
        if program.kind.get() == PT_DYNAMIC {
            dynamic = Some(program.virtual_address.get());
        }
    }
    if let Some(dynamic) = dynamic {
        relocate(ram, base, dynamic)?;
    }
    let entry = header.entry.get();
    check_offset(entry)?;
    Ok(base + entry)
}

fn load_segment(ram: &Ram, file: &[u8], program: &ProgramHeader, base: u64) -> Result<(), Fatal> {
    let address = program.virtual_address.get();
    let end = address
        .checked_add(program.memory_size.get())
        .filter(|_| program.file_size.get() <= program.memory_size.get());
    if end.is_none_or(|end| end > Runtime::PAYLOAD_SIZE) {
        return Err(Fatal("the payload needs more than 32 MiB of memory"));
    }
    let data = file
        .get(program.offset.get() as usize..)
        .and_then(|data| data.get(..program.file_size.get() as usize))
        .ok_or(Fatal("a segment of the payload lies outside its file"))?;
    ram.write(base + address, data);
    Ok(())
}

fn relocate(ram: &Ram, base: u64, dynamic: u64) -> Result<(), Fatal> {
    let (mut table, mut count, mut entry_size) = (0, 0, 24);
    let mut at = dynamic;
    loop {
        check_offset(at)?;
        let value = ram.read_u64(base + at + 8);
        match ram.read_u64(base + at) {
            DT_NULL => break,
            DT_RELA => table = value,
            DT_RELACOUNT => count = value,
            DT_RELAENT => entry_size = value,
            _ => {}
        }
        at += 16;
    }
    if entry_size != 24 {
        return Err(Fatal("the payload's relocations have an unknown size"));
    }
    for index in 0..count {
        let entry = table + index * entry_size;
        check_offset(entry)?;
        let place = ram.read_u64(base + entry);
        check_offset(place)?;
        if ram.read_u64(base + entry + 8) as u32 as u64 != R_X86_64_RELATIVE {
            return Err(Fatal(
                "the payload has a relocation other than R_X86_64_RELATIVE",
            ));
        }
        let addend = ram.read_u64(base + entry + 16);
        ram.write_u64(base + place, base.wrapping_add(addend));
    }
    Ok(())
}

/// An offset from the payload's base at which three u64 can be read.
fn check_offset(offset: u64) -> Result<(), Fatal> {
    if offset > Runtime::PAYLOAD_SIZE - 24 {
        return Err(Fatal(
            "an address in the payload's ELF file lies outside it",
        ));
    }
    Ok(())
}
