//! The TCG crypto-agile event log and the CC event log.
//!
//! Both are of TCG PC Client Platform Firmware Profile (PFP) 1.05, "Event Logging": a TCG_PCR_EVENT with a
//! TCG_EfiSpecIdEvent first, TCG_PCR_EVENT2 after it. The TCG log has a digest of each PCR bank and
//! the index of a PCR in its records; the CC log has SHA-384 alone and an MR index: 0 for MRTD,
//! RTMR + 1 (UEFI 2.10, "Confidential Computing", table "TD Event Log").

mod layout;
mod parse;
mod replay;
#[cfg(test)]
mod tests;
mod write;

pub use layout::{RecordHeader, SpecId};
pub use parse::{Event, Log, LogError};
pub use replay::{ReplayError, replay_pcrs, replay_rtmrs};
pub use write::{TcgLog, cc_record};

/// Bytes that stay empty behind the last record in the memory that a log is in.
///
/// A reader that finds a log's end by what was never written there looks at more than one byte: eventlog-rs 0.1.8 and
/// Trustee at 8, and both read beyond the memory, or refuse the log, where there are less; Linux
/// (`include/linux/tpm_eventlog.h`) at the type and size of a record, and wants one byte at least.
pub const SPARE: usize = 16;

/// EV_NO_ACTION: information; nothing is extended.
pub const EV_NO_ACTION: u32 = 0x3;
/// EV_SEPARATOR.
pub const EV_SEPARATOR: u32 = 0x4;
/// EV_EVENT_TAG: the data is a TCG_PCClientTaggedEvent.
pub const EV_EVENT_TAG: u32 = 0x6;
/// EV_S_CRTM_CONTENTS.
pub const EV_S_CRTM_CONTENTS: u32 = 0x7;
/// EV_S_CRTM_VERSION.
pub const EV_S_CRTM_VERSION: u32 = 0x8;
/// EV_PLATFORM_CONFIG_FLAGS.
pub const EV_PLATFORM_CONFIG_FLAGS: u32 = 0xA;
/// EV_COMPACT_HASH: the data is a word of who measured.
pub const EV_COMPACT_HASH: u32 = 0xC;
/// EV_IPL.
pub const EV_IPL: u32 = 0xD;
/// EV_EFI_PLATFORM_FIRMWARE_BLOB2.
pub const EV_EFI_PLATFORM_FIRMWARE_BLOB2: u32 = 0x8000_000A;
/// EV_EFI_HANDOFF_TABLES2.
pub const EV_EFI_HANDOFF_TABLES2: u32 = 0x8000_000B;
/// TPM_ALG_SHA384.
pub const ALG_SHA384: u16 = 0xC;

/// The name in the 20-byte header of td-shim's TD HOB event.
pub const TD_HOB_EVENT_NAME: [u8; 16] = *b"td_hob\0\0\0\0\0\0\0\0\0\0";

/// The specification's name of an event type, where there is one.
pub const fn event_type_name(event_type: u32) -> Option<&'static str> {
    Some(match event_type {
        EV_NO_ACTION => "EV_NO_ACTION",
        EV_SEPARATOR => "EV_SEPARATOR",
        EV_EVENT_TAG => "EV_EVENT_TAG",
        EV_S_CRTM_CONTENTS => "EV_S_CRTM_CONTENTS",
        EV_S_CRTM_VERSION => "EV_S_CRTM_VERSION",
        EV_PLATFORM_CONFIG_FLAGS => "EV_PLATFORM_CONFIG_FLAGS",
        EV_COMPACT_HASH => "EV_COMPACT_HASH",
        EV_IPL => "EV_IPL",
        EV_EFI_PLATFORM_FIRMWARE_BLOB2 => "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
        EV_EFI_HANDOFF_TABLES2 => "EV_EFI_HANDOFF_TABLES2",
        _ => return None,
    })
}
