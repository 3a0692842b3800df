//! Hand-off blocks: how the host tells the shim, and the shim its payload, what memory there is.
//!
//! Layouts: UEFI Platform Initialization Specification, volume 3, "HOB Code Definitions".

use crate::guid::Guid;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// EFI_HOB_TYPE_HANDOFF.
pub const HANDOFF: u16 = 1;
/// EFI_HOB_TYPE_RESOURCE_DESCRIPTOR.
pub const RESOURCE: u16 = 3;
/// EFI_HOB_TYPE_GUID_EXTENSION.
pub const GUID_EXTENSION: u16 = 4;
/// EFI_HOB_TYPE_FV.
pub const FIRMWARE_VOLUME: u16 = 5;
/// EFI_HOB_TYPE_CPU.
pub const CPU: u16 = 6;
/// EFI_HOB_TYPE_END_OF_HOB_LIST.
pub const END: u16 = 0xFFFF;

/// Resource type: RAM the TD owns already.
pub const RESOURCE_SYSTEM_MEMORY: u32 = 0;
/// Resource type: RAM the TD must accept before use.
pub const RESOURCE_MEMORY_UNACCEPTED: u32 = 7;

/// EFI_HOB_GENERIC_HEADER.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Type.
    pub kind: le::U16,
    /// Bytes of the whole HOB, a multiple of 8.
    pub length: le::U16,
    /// Zero.
    pub reserved: le::U32,
}

impl Header {
    /// A header for a HOB of `length` bytes.
    pub fn new(kind: u16, length: u16) -> Self {
        Self {
            kind: kind.into(),
            length: length.into(),
            reserved: 0.into(),
        }
    }
}

/// EFI_HOB_HANDOFF_INFO_TABLE.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Handoff {
    /// Type [`HANDOFF`].
    pub header: Header,
    /// 9.
    pub version: le::U32,
    /// 0: full configuration.
    pub boot_mode: le::U32,
    /// Highest address the firmware may use, 4 KiB aligned.
    pub memory_top: le::U64,
    /// Lowest address.
    pub memory_bottom: le::U64,
    /// Highest free address.
    pub free_memory_top: le::U64,
    /// Lowest free address.
    pub free_memory_bottom: le::U64,
    /// Just past the END HOB.
    pub end_of_hob_list: le::U64,
}

/// EFI_HOB_RESOURCE_DESCRIPTOR.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Resource {
    /// Type [`RESOURCE`].
    pub header: Header,
    /// Zero.
    pub owner: Guid,
    /// [`RESOURCE_SYSTEM_MEMORY`], [`RESOURCE_MEMORY_UNACCEPTED`], …
    pub resource_type: le::U32,
    /// Present, initialized, tested: 7.
    pub attributes: le::U32,
    /// First address.
    pub start: le::U64,
    /// Bytes.
    pub length: le::U64,
}

impl Resource {
    /// RAM at `start`.
    pub fn ram(resource_type: u32, start: u64, length: u64) -> Self {
        Self {
            header: Header::new(RESOURCE, size_of::<Self>() as u16),
            owner: [0; 16],
            resource_type: resource_type.into(),
            attributes: 7.into(),
            start: start.into(),
            length: length.into(),
        }
    }
}

/// EFI_HOB_CPU.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Cpu {
    /// Type [`CPU`].
    pub header: Header,
    /// Physical address bits.
    pub size_of_memory_space: u8,
    /// I/O address bits: 16.
    pub size_of_io_space: u8,
    /// Zero.
    pub reserved: [u8; 6],
}

/// EFI_HOB_FIRMWARE_VOLUME.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct FirmwareVolume {
    /// Type [`FIRMWARE_VOLUME`].
    pub header: Header,
    /// First address.
    pub start: le::U64,
    /// Bytes.
    pub length: le::U64,
}

/// An entry of the E820 table that td-shim hands to its payload.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct E820Entry {
    /// First address.
    pub address: le::U64,
    /// Bytes.
    pub size: le::U64,
    /// 1 memory, 2 reserved, 3 ACPI, 4 NVS, …
    pub kind: le::U32,
}

/// What is wrong with a HOB list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HobError {
    /// The list ends in the middle of a HOB, or a HOB's length is no multiple of 8.
    #[error("the HOB at offset {0:#x} is malformed or cut off")]
    Malformed(usize),
    /// The first HOB must be the hand-off table.
    #[error("the HOB list does not start with a hand-off (PHIT) HOB")]
    NoHandoff,
}

/// Walks the HOBs of a list: type and the whole HOB's bytes, up to the END HOB.
pub fn walk(list: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), HobError>> {
    let mut at = 0;
    let mut done = false;
    core::iter::from_fn(move || {
        if done {
            return None;
        }
        let next = next_hob(list, at);
        match next {
            Ok((END, _)) => {
                done = true;
                return None;
            }
            Ok((_, bytes)) => at += bytes.len(),
            Err(_) => done = true,
        }
        Some(next)
    })
}

fn next_hob(list: &[u8], at: usize) -> Result<(u16, &[u8]), HobError> {
    let malformed = HobError::Malformed(at);
    let rest = list.get(at..).ok_or(malformed)?;
    let (header, _) = Header::read_from_prefix(rest).map_err(|_| malformed)?;
    let length = usize::from(header.length.get());
    let kind = header.kind.get();
    if at == 0 && kind != HANDOFF {
        return Err(HobError::NoHandoff);
    }
    if length < size_of::<Header>() || !length.is_multiple_of(8) {
        return Err(malformed);
    }
    Ok((kind, rest.get(..length).ok_or(malformed)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn layouts_have_their_sizes() {
        assert_eq!(size_of::<Handoff>(), 56);
        assert_eq!(size_of::<Resource>(), 48);
        assert_eq!(size_of::<Cpu>(), 16);
        assert_eq!(size_of::<FirmwareVolume>(), 24);
        assert_eq!(size_of::<E820Entry>(), 20);
    }

    proptest! {
        #[test]
        fn no_list_makes_the_walk_panic_or_run_away(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(walk(&bytes).count() <= bytes.len() / 8 + 1);
        }
    }
}
