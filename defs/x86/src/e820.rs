//! The E820 memory map (ACPI 6.5, section "INT 15H, E820H").

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// AddressRangeMemory.
pub const MEMORY: u32 = 1;
/// AddressRangeReserved.
pub const RESERVED: u32 = 2;
/// AddressRangeACPI: reclaimable once the tables were read.
pub const ACPI: u32 = 3;
/// AddressRangeNVS.
pub const NVS: u32 = 4;
/// AddressRangeUnusable.
pub const UNUSABLE: u32 = 5;

/// Address range descriptor, 20 bytes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Entry {
    /// First address.
    pub address: le::U64,
    /// Bytes.
    pub size: le::U64,
    /// What is there: [`MEMORY`], [`RESERVED`], [`ACPI`], [`NVS`], [`UNUSABLE`].
    pub kind: le::U32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_its_size() {
        assert_eq!(size_of::<Entry>(), 20);
    }
}
