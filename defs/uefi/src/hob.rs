//! Hand-off blocks: how the host tells the shim, and the shim its payload, what memory there is.
//!
//! Layouts: UEFI Platform Initialization Specification, volume 3, "HOB Code Definitions".

use crate::Guid;
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
/// Resource type: memory that is not for use. In a list without [`RESOURCE_MEMORY_UNACCEPTED`], RAM the TD owns already.
pub const RESOURCE_MEMORY_RESERVED: u32 = 5;
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

/// EFI_HOB_GUID_TYPE, in front of its data.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct GuidExtension {
    /// Type [`GUID_EXTENSION`]; the length includes the data and the bytes that make it a multiple of 8.
    pub header: Header,
    /// What the data is.
    pub name: Guid,
}

impl GuidExtension {
    /// For `data` bytes of data; with how many zero bytes must follow them. `None` if they are too many for
    /// one block.
    pub fn new(name: Guid, data: usize) -> Option<(Self, usize)> {
        let bare = size_of::<Self>().checked_add(data)?;
        let length = bare.checked_next_multiple_of(8)?;
        let header = Header::new(GUID_EXTENSION, u16::try_from(length).ok()?);
        Some((Self { header, name }, length - bare))
    }
}

/// The data of a payload-information HOB (td-shim specification, "Payload GUID HOB"; numbers as in its source).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct PayloadInfo {
    /// 0 an executable, 1 a bzImage, 2 a raw vmlinux.
    pub image_type: le::U32,
    /// Zero.
    pub reserved: le::U32,
    /// Where a raw vmlinux begins.
    pub entry_point: le::U64,
}

impl PayloadInfo {
    /// Image type: an executable, from the image's payload volume.
    pub const EXECUTABLE: u32 = 0;
}

/// Version of the hand-off table (EFI_HOB_HANDOFF_TABLE_VERSION).
pub const HANDOFF_VERSION: u32 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_have_their_sizes() {
        assert_eq!(size_of::<Handoff>(), 56);
        assert_eq!(size_of::<Resource>(), 48);
        assert_eq!(size_of::<Cpu>(), 16);
        assert_eq!(size_of::<FirmwareVolume>(), 24);
        assert_eq!(size_of::<GuidExtension>(), 24);
    }

    #[test]
    fn an_extension_is_as_long_as_its_data_and_a_multiple_of_8() {
        let rows = [
            (0, Some((24, 0))),
            (1, Some((32, 7))),
            (56, Some((80, 0))),
            (65_504, Some((65_528, 0))),
            (65_505, None),
            (usize::MAX, None),
        ];
        for (data, expected) in rows {
            let made = GuidExtension::new([1; 16], data)
                .map(|(hob, padding)| (hob.header.length.get(), padding));
            assert_eq!(made, expected, "{data}");
        }
    }
}
