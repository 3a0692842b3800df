//! Registers and tables of ACPI (*Advanced Configuration and Power Interface Specification* 6.5).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// PM1_EN bits that exist: timer, global, power button, sleep button, RTC (section 4.8.3.1.2).
pub const PM1_ENABLES: u16 = 1 << 0 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 10;
/// PM1_CNT.SCI_EN: ACPI mode (section 4.8.3.2.1).
pub const SCI_EN: u16 = 1 << 0;
/// PM1_CNT.SLP_TYP.
pub const SLP_TYP: u16 = 0b111 << 10;
/// PM1_CNT.SLP_EN.
pub const SLP_EN: u16 = 1 << 13;

/// CCEL: the confidential-computing type of TDX (section 5.2.34).
pub const CC_TYPE_TDX: u8 = 2;

/// CC Event Log ACPI Table, with its header (section 5.2.34).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ccel {
    /// `CCEL`.
    pub signature: [u8; 4],
    /// Bytes of the table.
    pub length: le::U32,
    /// 1.
    pub revision: u8,
    /// Makes the sum of all bytes 0.
    pub checksum: u8,
    /// OEM ID.
    pub oem_id: [u8; 6],
    /// OEM table ID.
    pub oem_table_id: [u8; 8],
    /// OEM revision.
    pub oem_revision: le::U32,
    /// Creator ID.
    pub creator_id: [u8; 4],
    /// Creator revision.
    pub creator_revision: le::U32,
    /// Confidential-computing type: [`CC_TYPE_TDX`].
    pub cc_type: u8,
    /// Subtype, 0.
    pub cc_subtype: u8,
    /// Zero.
    pub reserved: le::U16,
    /// LAML: bytes of the log area.
    pub log_area_minimum_length: le::U64,
    /// LASA: first address of the log area.
    pub log_area_start_address: le::U64,
}

/// The byte that makes the sum of a table's bytes 0, where its own is 0 so far.
pub fn checksum(table: &[u8]) -> u8 {
    let sum = table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    sum.wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_its_size() {
        assert_eq!(size_of::<Ccel>(), 56);
        assert_eq!(PM1_ENABLES, 0x0721);
    }
}
