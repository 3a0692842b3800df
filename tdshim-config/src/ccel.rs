//! The ACPI table that says where the confidential-computing event log is.
//!
//! What is in the log: crate `attestation`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// The CCEL ACPI table (ACPI 6.5, "CC Event Log ACPI Table").
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ccel {
    signature: [u8; 4],
    length: le::U32,
    revision: u8,
    checksum: u8,
    oem_id: [u8; 6],
    oem_table_id: [u8; 8],
    oem_revision: le::U32,
    creator_id: [u8; 4],
    creator_revision: le::U32,
    cc_type: u8,
    cc_subtype: u8,
    reserved: le::U16,
    log_area_minimum_length: le::U64,
    log_area_start_address: le::U64,
}

impl Ccel {
    /// A table for a log area; type 2 is TDX.
    pub fn new(log_area_start_address: u64, log_area_minimum_length: u64) -> Self {
        let mut table = Self {
            signature: *b"CCEL",
            length: (size_of::<Self>() as u32).into(),
            revision: 1,
            checksum: 0,
            oem_id: *b"TDPVTP",
            oem_table_id: *b"TDSHIM  ",
            oem_revision: 1.into(),
            creator_id: *b"TDPV",
            creator_revision: 1.into(),
            cc_type: 2,
            cc_subtype: 0,
            reserved: 0.into(),
            log_area_minimum_length: log_area_minimum_length.into(),
            log_area_start_address: log_area_start_address.into(),
        };
        let sum = table
            .as_bytes()
            .iter()
            .fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        table.checksum = sum.wrapping_neg();
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_its_size() {
        assert_eq!(size_of::<Ccel>(), 56);
    }

    #[test]
    fn the_table_sums_to_zero() {
        let table = Ccel::new(0x3DDD_E000, 0x10_0000);
        assert_eq!(
            table
                .as_bytes()
                .iter()
                .fold(0u8, |sum, byte| sum.wrapping_add(*byte)),
            0
        );
    }
}
