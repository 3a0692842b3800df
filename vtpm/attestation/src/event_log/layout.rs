//! Fixed layouts of the CC event log, for writers without a heap.

use super::{ALG_SHA384, EV_NO_ACTION};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

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

impl RecordHeader {
    /// The header of a record of an RTMR.
    pub fn new(rtmr: u8, event_type: u32, digest: [u8; 48], event_size: u32) -> Self {
        Self {
            register: (u32::from(rtmr) + 1).into(),
            event_type: event_type.into(),
            digest_count: 1.into(),
            algorithm: ALG_SHA384.into(),
            digest,
            event_size: event_size.into(),
        }
    }
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
    /// Bytes of the event's data.
    const EVENT_SIZE: u32 = 40;

    /// The header record of a log with this vendor information.
    pub fn new(vendor_info: [u8; 7]) -> Self {
        Self {
            register: 0.into(),
            event_type: EV_NO_ACTION.into(),
            sha1: [0; 20],
            event_size: Self::EVENT_SIZE.into(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_have_their_sizes() {
        assert_eq!(size_of::<RecordHeader>(), 66);
        assert_eq!(size_of::<SpecId>(), 72);
        assert_eq!(size_of::<SpecId>() as u32, 32 + SpecId::EVENT_SIZE);
    }
}
