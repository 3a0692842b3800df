//! The firmware volume that wraps the payload in an image: one volume, one file, one section.
//!
//! Layouts: UEFI Platform Initialization Specification, volume 3, "Firmware Storage Formats".

use uefi_defs::guid::{FIRMWARE_FILE_SYSTEM, Guid, PAYLOAD_FILE, PAYLOAD_VOLUME};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// Bytes before the payload.
pub const HEADERS: usize = size_of::<Headers>();
/// File and section sizes are 24-bit.
pub const PAYLOAD_MAX: usize = (1 << 24) - 1 - 28;

/// EFI_FIRMWARE_VOLUME_HEADER with its extension header, EFI_FFS_FILE_HEADER and
/// EFI_COMMON_SECTION_HEADER, in the one arrangement td-shim-ld writes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Headers {
    zero_vector: [u8; 16],
    file_system: Guid,
    volume_length: le::U64,
    signature: [u8; 4],
    attributes: le::U32,
    header_length: le::U16,
    checksum: le::U16,
    extension_offset: le::U16,
    reserved: u8,
    revision: u8,
    blocks: le::U32,
    block_length: le::U32,
    map_end: [u8; 8],
    // An extension file: pad file header and the extension header with the volume's name.
    pad_file: FileHeader,
    volume_name: Guid,
    extension_size: le::U32,
    pad: [u8; 4],
    file: FileHeader,
    section_size: [u8; 3],
    section_type: u8,
}

/// EFI_FFS_FILE_HEADER.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct FileHeader {
    name: Guid,
    integrity: le::U16,
    kind: u8,
    attributes: u8,
    size: [u8; 3],
    state: u8,
}

const SIGNATURE: [u8; 4] = *b"_FVH";
const FILE_TYPE_DXE_CORE: u8 = 5;
const FILE_TYPE_PAD: u8 = 0xF0;
const SECTION_PE32: u8 = 0x10;
const SECTION_HEADER: usize = 4;

/// The 148 bytes that go before a payload of `payload_length` bytes in a volume of
/// `volume_length` bytes; `None` if it does not fit.
pub fn headers(payload_length: usize, volume_length: usize) -> Option<[u8; HEADERS]> {
    if payload_length > PAYLOAD_MAX || payload_length + HEADERS > volume_length {
        return None;
    }
    let section_size = payload_length + SECTION_HEADER;
    let mut headers = Headers {
        zero_vector: [0; 16],
        file_system: FIRMWARE_FILE_SYSTEM,
        volume_length: (volume_length as u64).into(),
        signature: SIGNATURE,
        // EFI_FVB2_ERASE_POLARITY, readable, memory-mapped.
        attributes: 0x0004_FEFF.into(),
        header_length: 72.into(),
        checksum: 0.into(),
        extension_offset: 96.into(),
        reserved: 0,
        revision: 2,
        blocks: ((volume_length / 4096) as u32).into(),
        block_length: 4096.into(),
        map_end: [0; 8],
        pad_file: FileHeader::new([0xFF; 16], FILE_TYPE_PAD, 24 + 20),
        volume_name: PAYLOAD_VOLUME,
        extension_size: 20.into(),
        pad: [0; 4],
        file: FileHeader::new(PAYLOAD_FILE, FILE_TYPE_DXE_CORE, section_size + 24),
        section_size: size24(section_size),
        section_type: SECTION_PE32,
    };
    let sum = headers
        .as_bytes()
        .chunks_exact(2)
        .take(72 / 2)
        .fold(0u16, |sum, pair| {
            let word = pair
                .iter()
                .rev()
                .fold(0u16, |word, byte| word << 8 | u16::from(*byte));
            sum.wrapping_add(word)
        });
    headers.checksum = sum.wrapping_neg().into();
    headers.as_bytes().try_into().ok()
}

impl FileHeader {
    fn new(name: Guid, kind: u8, size: usize) -> Self {
        let mut header = Self {
            name,
            integrity: 0.into(),
            kind,
            attributes: 0,
            size: size24(size),
            state: 0,
        };
        let sum = header
            .as_bytes()
            .iter()
            .fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        // The file checksum is the fixed value 0xAA when it is not computed.
        header.integrity = u16::from_le_bytes([sum.wrapping_neg(), 0xAA]).into();
        header.state = 0xF8;
        header
    }
}

fn size24(size: usize) -> [u8; 3] {
    let [a, b, c, _] = (size as u32).to_le_bytes();
    [a, b, c]
}

/// Why a firmware volume gives no payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeError {
    /// Not a firmware volume.
    #[error("there is no firmware volume (signature \"_FVH\")")]
    NoVolume,
    /// The volume's file is not in the arrangement of td-shim-ld.
    #[error("the firmware volume does not hold one PE32/ELF section in one file")]
    NoSection,
    /// The section's size leads outside the volume.
    #[error("the payload's section ({section} bytes) is larger than its volume ({volume} bytes)")]
    SectionOutside {
        /// Its size field.
        section: usize,
        /// Room in the volume.
        volume: usize,
    },
}

/// The data of the one section in a volume, padding included.
pub fn section_data(volume: &[u8]) -> Result<&[u8], VolumeError> {
    let (headers, rest) = Headers::ref_from_prefix(volume).map_err(|_| VolumeError::NoVolume)?;
    if headers.signature != SIGNATURE || headers.file_system != FIRMWARE_FILE_SYSTEM {
        return Err(VolumeError::NoVolume);
    }
    let [a, b, c] = headers.section_size;
    let section = u32::from_le_bytes([a, b, c, 0]) as usize;
    let length = section
        .checked_sub(SECTION_HEADER)
        .ok_or(VolumeError::NoSection)?;
    if headers.section_type != SECTION_PE32 {
        return Err(VolumeError::NoSection);
    }
    rest.get(..length).ok_or(VolumeError::SectionOutside {
        section,
        volume: volume.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapped_payload_is_found_again() {
        assert_eq!(HEADERS, 148);
        let payload = [7u8; 1000];
        let mut volume = headers(payload.len(), 4096).unwrap().to_vec();
        volume.extend(payload);
        volume.resize(4096, 0);
        assert_eq!(section_data(&volume).unwrap(), payload);
        assert_eq!(headers(5000, 4096), None);
        assert_eq!(section_data(&[0; 4096]), Err(VolumeError::NoVolume));
        let sum = volume[..72].chunks(2).fold(0u16, |sum, pair| {
            sum.wrapping_add(u16::from_le_bytes([pair[0], pair[1]]))
        });
        assert_eq!(sum, 0);
    }
}
