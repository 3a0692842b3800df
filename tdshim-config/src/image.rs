//! Assembling a firmware image around the built-in shim.
//!
//! From low to high addresses: the payload in its firmware volume, the metadata page, and the shim
//! with the reset vector at the end. All three are one measured section, as small as they allow, so
//! that building the TD is quick. What the shim writes to (its data, its stack, its mailbox) and the
//! TPM window are measured sections of their own, whose data are zeros of the file's front: no
//! processor of the TD finds a byte that the host chose, but for the TD HOB.

use crate::firmware_volume;
use crate::layout::{self, IMAGE_END, IMAGE_SIZE_MAX, mailbox, shim};
use crate::metadata::{Descriptor, SIGNATURE, Section, SectionKind, VERSION};
use object::read::elf::{ElfFile64, ProgramHeader};
use tcg_defs::ptp;
use uefi_defs::guid::{GUIDED_TABLE_FOOTER, TDX_METADATA, TDX_METADATA_OFFSET};
use x86_defs::paging::PAGE_4K;
use zerocopy::IntoBytes;

/// Why no image could be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The shim is not a 64-bit ELF file.
    #[error("the shim is not an ELF file: {0}")]
    NotElf(String),
    /// A part of the shim lies outside the place it has in an image.
    #[error(
        "the shim has a segment at {address:#x} ({size:#x} bytes), outside its place in the image"
    )]
    OutsidePlace {
        /// Its address.
        address: u64,
        /// Its size in memory.
        size: u64,
    },
    /// The payload does not fit.
    #[error("the payload is {size} bytes; an image holds at most {most}")]
    PayloadTooLarge {
        /// Its size.
        size: usize,
        /// What fits.
        most: usize,
    },
}

/// What an image is made of.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The shim's ELF file, linked at [`shim::CODE`].
    pub shim: &'a [u8],
    /// The payload's ELF file.
    pub payload: &'a [u8],
    /// Ask the host to back the TPM window with private pages.
    pub back_tpm_window: bool,
}

/// Assembles an image.
pub fn assemble(parts: Parts<'_>) -> Result<Vec<u8>, ImageError> {
    let code = flatten_shim(parts.shim)?;
    let most = (IMAGE_SIZE_MAX - FRONT - (IMAGE_END - shim::CODE) - PAGE_4K) as usize
        - firmware_volume::HEADERS;
    let too_large = ImageError::PayloadTooLarge {
        size: parts.payload.len(),
        most,
    };
    let volume_length =
        (parts.payload.len() + firmware_volume::HEADERS).next_multiple_of(PAGE_4K as usize);
    let headers = firmware_volume::headers(parts.payload.len(), volume_length)
        .filter(|_| parts.payload.len() <= most)
        .ok_or(too_large)?;

    // File offsets count from the start of an image of the usual size. Its front is zeros, but for
    // the mailbox, and the data of the sections that are not code.
    let size = volume_length as u64 + PAGE_4K + code.len() as u64;
    let start = (IMAGE_SIZE_MAX - size) as usize;
    let mut image = vec![0; start];
    let nobody = file_offset(shim::MAILBOX + mailbox::APIC_ID) as usize;
    if let Some(place) = image.get_mut(nobody..nobody + size_of::<u32>()) {
        place.copy_from_slice(&mailbox::NOBODY.to_le_bytes());
    }
    image.extend_from_slice(&headers);
    image.extend_from_slice(parts.payload);
    image.resize(start + volume_length, 0);
    let descriptor = append_metadata(&mut image, size, parts.back_tpm_window);
    image.extend_from_slice(&code);
    write_tail(&mut image, descriptor);
    Ok(image)
}

/// What tells where the metadata is: the u32 at the image's end - 0x20, and before it the table of
/// GUIDed structures with the one entry that OVMF and td-shim have.
fn write_tail(image: &mut [u8], descriptor: u32) {
    let distance = (image.len() as u32).wrapping_sub(descriptor);
    let entry_length = (4 + 2 + TDX_METADATA_OFFSET.len()) as u16;
    let footer_length = (2 + GUIDED_TABLE_FOOTER.len()) as u16;
    let mut tail = distance.to_le_bytes().to_vec();
    tail.extend(entry_length.to_le_bytes());
    tail.extend(TDX_METADATA_OFFSET);
    tail.extend((entry_length + footer_length).to_le_bytes());
    tail.extend(GUIDED_TABLE_FOOTER);
    let table_length = tail.len();
    tail.extend(descriptor.to_le_bytes());
    let start = image.len() - layout::DESCRIPTOR_OFFSET_FROM_END as usize - table_length;
    if let Some(place) = image.get_mut(start..start + tail.len()) {
        place.copy_from_slice(&tail);
    }
}

/// Bytes of an image's front that sections have data in: the shim's work area and its mailbox.
const FRONT: u64 = shim::MAILBOX + mailbox::SIZE - (IMAGE_END - IMAGE_SIZE_MAX);

/// Where the byte for a GPA of the firmware is in the file.
const fn file_offset(gpa: u64) -> u32 {
    (gpa - (IMAGE_END - IMAGE_SIZE_MAX)) as u32
}

/// Appends the metadata page and returns the descriptor's file offset.
fn append_metadata(image: &mut Vec<u8>, size: u64, back_tpm_window: bool) -> u32 {
    let measured = |data_offset, address, size| Section {
        data_offset,
        raw_data_size: size as u32,
        address,
        size,
        kind: SectionKind::Bfv,
        attributes: Section::MEASURE,
    };
    let firmware = |address, size| measured(file_offset(address), address, size);
    let mut sections = vec![
        // First the one with the payload's volume.
        firmware(IMAGE_END - size, size),
        firmware(shim::WORK, shim::WORK_SIZE),
        firmware(shim::MAILBOX, mailbox::SIZE),
        Section {
            data_offset: 0,
            raw_data_size: 0,
            address: layout::TD_HOB,
            size: layout::TD_HOB_SIZE,
            kind: SectionKind::TdHob,
            attributes: 0,
        },
    ];
    if back_tpm_window {
        let length = ptp::WINDOW.end - ptp::WINDOW.start;
        // Zeros, of which the work area has plenty.
        sections.push(measured(file_offset(shim::WORK), ptp::WINDOW.start, length));
    }
    let start = image.len();
    image.extend(TDX_METADATA);
    let descriptor = image.len() as u32;
    image.extend(
        Descriptor {
            signature: SIGNATURE,
            length: (16 + 32 * sections.len() as u32).into(),
            version: VERSION.into(),
            section_count: (sections.len() as u32).into(),
        }
        .as_bytes(),
    );
    for section in &sections {
        image.extend(section.to_raw().as_bytes());
    }
    image.resize(start + PAGE_4K as usize, 0);
    descriptor
}

/// The shim's bytes from [`shim::CODE`] to the end of the address space.
fn flatten_shim(elf: &[u8]) -> Result<Vec<u8>, ImageError> {
    let file: ElfFile64<'_> =
        ElfFile64::parse(elf).map_err(|error| ImageError::NotElf(error.to_string()))?;
    let endian = file.endian();
    let mut code = vec![0u8; (IMAGE_END - shim::CODE) as usize];
    for header in file.elf_program_headers() {
        if header.p_type(endian) != object::elf::PT_LOAD || header.p_memsz(endian) == 0 {
            continue;
        }
        let (address, size) = (header.p_vaddr(endian), header.p_memsz(endian));
        let outside = ImageError::OutsidePlace { address, size };
        let data = header.data(endian, elf).map_err(|()| outside.clone())?;
        let work = shim::WORK..shim::WORK + shim::WORK_SIZE;
        if data.is_empty() && work.contains(&address) && address + size <= work.end {
            continue;
        }
        let start = address.checked_sub(shim::CODE).ok_or(outside.clone())? as usize;
        code.get_mut(start..start + data.len())
            .ok_or(outside)?
            .copy_from_slice(data);
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Metadata;

    /// An ELF file without segments, which no shim is; what is around it is the same.
    fn no_shim() -> Vec<u8> {
        let mut elf = vec![0; 64];
        elf[..7].copy_from_slice(b"\x7FELF\x02\x01\x01");
        elf[16] = 2;
        elf[20] = 1;
        elf[52] = 64;
        elf
    }

    #[test]
    fn every_section_but_the_td_hob_is_measured() {
        let shim = no_shim();
        let image = |payload: &[u8]| {
            assemble(Parts {
                shim: &shim,
                payload,
                back_tpm_window: true,
            })
        };
        // As large as it may be: the volume must not reach the mailbox.
        let Err(ImageError::PayloadTooLarge { most, .. }) = image(&vec![0; 1 << 24]) else {
            panic!("16 MiB do not fit");
        };
        for payload in [vec![1; 5000], vec![1; most]] {
            let image = image(&payload).unwrap();
            let metadata = Metadata::find(&image).unwrap();
            assert_eq!(metadata.hosts_choice(), None);
            assert!(metadata.backs_tpm_window());
            let mailbox = metadata
                .sections()
                .find(|section| section.address == shim::MAILBOX)
                .unwrap();
            let data = &image[mailbox.data_offset as usize..][..mailbox.raw_data_size as usize];
            assert_eq!(data[..8], [0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
            assert!(data[8..].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn the_tail_is_where_td_shim_has_it() {
        let mut image = vec![0; IMAGE_SIZE_MAX as usize];
        write_tail(&mut image, 0xCA_E010);
        let at = |address: u64| (address - (IMAGE_END - IMAGE_SIZE_MAX)) as usize;
        assert_eq!(
            image[at(0xFFFF_FFB8)..][..6],
            [0xF0, 0x1F, 0x35, 0, 0x16, 0]
        );
        assert_eq!(image[at(0xFFFF_FFCE)..][..2], [0x28, 0]);
        assert_eq!(image[at(0xFFFF_FFE0)..][..4], [0x10, 0xE0, 0xCA, 0]);
    }
}
