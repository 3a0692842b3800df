//! Records of the confidential-computing event log that the CCEL table points to.
//!
//! Layouts: TCG PC Client Platform Firmware Profile, "Event Logging" (TCG_PCR_EVENT for the header,
//! TCG_PCR_EVENT2 for all others), with one digest, SHA-384; the register index is RTMR + 1.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// EV_NO_ACTION.
pub const EV_NO_ACTION: u32 = 3;
/// EV_SEPARATOR.
pub const EV_SEPARATOR: u32 = 4;
/// EV_PLATFORM_CONFIG_FLAGS.
pub const EV_PLATFORM_CONFIG_FLAGS: u32 = 0xA;
/// TPM_ALG_SHA384.
pub const ALG_SHA384: u16 = 0xC;

/// The name in the 20-byte header of the TD HOB event.
pub const TD_HOB_EVENT_NAME: [u8; 16] = *b"td_hob\0\0\0\0\0\0\0\0\0\0";

/// What stands before the event's data in every record but the first.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RecordHeader {
    /// RTMR index + 1; 0 is MRTD.
    pub register: le::U32,
    /// EV_*.
    pub event_type: le::U32,
    /// 1.
    pub digest_count: le::U32,
    /// [`ALG_SHA384`].
    pub algorithm: le::U16,
    /// What the register was extended with.
    pub digest: [u8; 48],
    /// Bytes of event data that follow.
    pub event_size: le::U32,
}

/// The first record: the log's format (TCG_PCR_EVENT with a TCG_EfiSpecIdEvent, SHA-384 only).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SpecId {
    register: le::U32,
    event_type: le::U32,
    sha1: [u8; 20],
    event_size: le::U32,
    signature: [u8; 16],
    platform_class: le::U32,
    spec_version_minor: u8,
    spec_version_major: u8,
    spec_errata: u8,
    uintn_size: u8,
    algorithm_count: le::U32,
    algorithm: le::U16,
    digest_size: le::U16,
    vendor_info_size: u8,
    vendor_info: [u8; 7],
}

impl SpecId {
    /// The header record of a log with this vendor information.
    pub fn new(vendor_info: [u8; 7]) -> Self {
        Self {
            register: 0.into(),
            event_type: EV_NO_ACTION.into(),
            sha1: [0; 20],
            event_size: ((size_of::<Self>() - 32) as u32).into(),
            signature: *b"Spec ID Event03\0",
            platform_class: 0.into(),
            spec_version_minor: 0,
            spec_version_major: 2,
            spec_errata: 0,
            uintn_size: 2,
            algorithm_count: 1.into(),
            algorithm: ALG_SHA384.into(),
            digest_size: 48.into(),
            vendor_info_size: 7,
            vendor_info,
        }
    }
}

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
    fn layouts_have_their_sizes() {
        assert_eq!(size_of::<RecordHeader>(), 66);
        assert_eq!(size_of::<SpecId>(), 72);
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
