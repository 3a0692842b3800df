//! The ACPI table that says where the confidential-computing event log is.
//!
//! What is in the log: crate `attestation`.

use uefi_defs::acpi::{CC_TYPE_TDX, Ccel, checksum};
use zerocopy::IntoBytes;

/// The table of td-shim for a log area.
pub fn ccel(log_area_start_address: u64, log_area_minimum_length: u64) -> Ccel {
    let mut table = Ccel {
        signature: *b"CCEL",
        length: (size_of::<Ccel>() as u32).into(),
        revision: 1,
        checksum: 0,
        oem_id: *b"TDPVTP",
        oem_table_id: *b"TDSHIM  ",
        oem_revision: 1.into(),
        creator_id: *b"TDPV",
        creator_revision: 1.into(),
        cc_type: CC_TYPE_TDX,
        cc_subtype: 0,
        reserved: 0.into(),
        log_area_minimum_length: log_area_minimum_length.into(),
        log_area_start_address: log_area_start_address.into(),
    };
    table.checksum = checksum(table.as_bytes());
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_sums_to_zero() {
        let table = ccel(0x3DDD_E000, 0x10_0000);
        assert_eq!(checksum(table.as_bytes()), 0);
    }
}
