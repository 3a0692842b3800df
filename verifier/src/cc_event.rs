//! What the events of a CC event log mean.
//!
//! RTMR0 and RTMR1 begin with td-shim's (td-shim specification, "TD-Shim measurement"; the names are those in its source),
//! RTMR1 and RTMR2 go on with L1's, RTMR3 is the vTPM's journal: `docs/measurement.md`, sections 1 and 4.

use attestation::{
    digest::{Algorithm, Digest},
    event_log::{
        EV_COMPACT_HASH, EV_EFI_PLATFORM_FIRMWARE_BLOB2, EV_EVENT_TAG, EV_IPL, EV_NO_ACTION,
        EV_PLATFORM_CONFIG_FLAGS, EV_SEPARATOR, Event, TD_HOB_EVENT_NAME,
    },
    journal,
    launch::{self, INITRD, KERNEL},
};

/// MR index of RTMR0; the others follow.
const RTMR0: u32 = 1;

/// td-shim: name and length, then what was measured.
const NAMED_HEADER: usize = 20;
/// td-shim: name of the payload's event, with its length in front and a NUL behind.
const PAYLOAD_NAME: &[u8] = b"\x0btd_payload\0";

/// Events of td-shim beside the TD HOB's: the name that their data begins with (16 bytes), and what they are.
const NAMED: [(&[u8], &str); 4] = [
    (
        b"secure_policy_db",
        "trust anchor that td-shim verifies its payload with",
    ),
    (
        b"secure_authority",
        "trust anchor that verified td-shim's payload",
    ),
    (b"td_payload_svn\0", "security version of td-shim's payload"),
    (b"td_payload_info\0", "command line of td-shim's payload"),
];

/// One event of a CC event log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CcEvent<'a> {
    /// td-shim: the TD HOB list, by which the host describes the machine.
    TdHob(&'a [u8]),
    /// td-shim: the end of its part.
    Separator,
    /// td-shim: something else that it measures, and over what, if the event has it.
    Firmware(&'static str, Option<&'a [u8]>),
    /// L1: the kernel.
    Kernel,
    /// L1: the command line.
    CommandLine(&'a [u8]),
    /// L1: the initrd.
    Initrd,
    /// L1: a record of the vTPM's journal.
    Journal,
    /// EV_NO_ACTION: it extends nothing, so no register vouches for it, and anybody may have written it.
    NoAction,
    /// Nothing that td-shim or L1 measures there.
    Unknown,
}

impl<'a> CcEvent<'a> {
    /// What an event is, by its register, its type and its data.
    pub fn of(event: &Event<'a>) -> CcEvent<'a> {
        let data = event.data;
        match (event.register.checked_sub(RTMR0), event.event_type) {
            (_, EV_NO_ACTION) => CcEvent::NoAction,
            (Some(0 | 1), EV_SEPARATOR) => CcEvent::Separator,
            (Some(0 | 1), EV_PLATFORM_CONFIG_FLAGS) => match td_hob(data) {
                Some(list) if event.register == RTMR0 => CcEvent::TdHob(list),
                _ => named(data),
            },
            (Some(1), EV_EFI_PLATFORM_FIRMWARE_BLOB2) if data.starts_with(PAYLOAD_NAME) => {
                CcEvent::Firmware("payload of td-shim that is not in MRTD", None)
            }
            (Some(1), EV_COMPACT_HASH) if data == KERNEL => CcEvent::Kernel,
            (Some(2), EV_IPL) if data == INITRD => CcEvent::Initrd,
            (Some(2), EV_IPL) => {
                launch::command_line(data).map_or(CcEvent::Unknown, CcEvent::CommandLine)
            }
            (Some(3), EV_EVENT_TAG) => CcEvent::Journal,
            _ => CcEvent::Unknown,
        }
    }

    /// The bytes that the event's digest is over, where the event has them.
    pub fn measured(&self, event: &Event<'a>) -> Option<&'a [u8]> {
        match self {
            CcEvent::TdHob(list) => Some(list),
            CcEvent::Separator | CcEvent::Journal => Some(event.data),
            CcEvent::Firmware(_, measured) => *measured,
            CcEvent::CommandLine(line) => Some(line),
            CcEvent::Kernel | CcEvent::Initrd | CcEvent::NoAction | CcEvent::Unknown => None,
        }
    }

    /// Whether the event's digest is that of what the event says was measured; true where it does not say.
    pub fn is_consistent(&self, event: &Event<'a>) -> bool {
        match (self.measured(event), event.digest(Algorithm::Sha384)) {
            (Some(measured), Some(digest)) => Algorithm::Sha384.digest(measured) == *digest,
            (None, Some(_)) => true,
            (_, None) => false,
        }
    }

    /// What was measured, in words.
    pub fn describe(&self, event: &Event<'_>) -> String {
        match self {
            CcEvent::TdHob(list) => format!(
                "td-shim: TD HOB list, {} bytes: the host's description of the machine",
                list.len()
            ),
            CcEvent::Separator => "td-shim: end of the firmware's part".into(),
            CcEvent::Firmware(what, _) => format!("td-shim: {what}"),
            CcEvent::Kernel => "L1: kernel of L2".into(),
            CcEvent::CommandLine(line) => {
                format!("L1: command line of L2: {}", line.escape_ascii())
            }
            CcEvent::Initrd => "L1: initrd of L2".into(),
            CcEvent::Journal => match record(event) {
                Ok(record) => format!("L1: journal: {}", crate::explain::record(&record)),
                Err(problem) => format!("L1: journal, but {problem}"),
            },
            CcEvent::NoAction => "extends nothing: no register vouches for it".into(),
            CcEvent::Unknown => format!(
                "not known: type {:#x}, {} bytes of data",
                event.event_type,
                event.data.len()
            ),
        }
    }
}

/// An MR index as it is written: a log may have −1, all ones, where an event is of no register.
pub fn mr_index(register: u32) -> String {
    match register {
        u32::MAX => "−1".into(),
        index => index.to_string(),
    }
}

/// The SHA-384 digest of an event; all zeros if it has none.
pub fn digest(event: &Event<'_>) -> [u8; 48] {
    event
        .digest(Algorithm::Sha384)
        .map(Digest::bytes)
        .and_then(|bytes| bytes.try_into().ok())
        .unwrap_or([0; 48])
}

/// The journal's record in an event of RTMR3.
///
/// # Errors
/// It is not one; the sentence says why.
pub fn record(event: &Event<'_>) -> Result<journal::Record, String> {
    if event.event_type != EV_EVENT_TAG {
        return Err(format!(
            "its type is {:#x}, not EV_EVENT_TAG",
            event.event_type
        ));
    }
    let record = journal::unwrap(event.data).map_err(|error| error.to_string())?;
    journal::Record::from_cbor(record).map_err(|error| error.to_string())
}

/// The HOB list of td-shim's TD HOB event: 16 bytes of name, the length, the list.
fn td_hob(data: &[u8]) -> Option<&[u8]> {
    let (header, list) = data.split_at_checked(NAMED_HEADER)?;
    let (name, length) = header.split_first_chunk::<16>()?;
    let length = u32::from_le_bytes(length.try_into().ok()?);
    (*name == TD_HOB_EVENT_NAME && usize::try_from(length) == Ok(list.len())).then_some(list)
}

fn named(data: &[u8]) -> CcEvent<'_> {
    let known = NAMED.iter().find(|(name, _)| data.starts_with(name));
    known.map_or(CcEvent::Unknown, |(_, what)| {
        CcEvent::Firmware(what, data.get(NAMED_HEADER..))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(register: u32, event_type: u32, data: &[u8]) -> Event<'_> {
        Event {
            register,
            event_type,
            digests: vec![Algorithm::Sha384.digest(data)],
            data,
            offset: 0,
        }
    }

    #[test]
    fn events_are_known_where_they_belong_only() {
        let hob = [&TD_HOB_EVENT_NAME[..], &3u32.to_le_bytes(), b"hob"].concat();
        let cases: [(u32, u32, &[u8], CcEvent<'_>); 11] = [
            (1, EV_PLATFORM_CONFIG_FLAGS, &hob, CcEvent::TdHob(b"hob")),
            (2, EV_PLATFORM_CONFIG_FLAGS, &hob, CcEvent::Unknown),
            (1, EV_SEPARATOR, &[0; 4], CcEvent::Separator),
            (3, EV_SEPARATOR, &[0; 4], CcEvent::Unknown),
            (2, EV_COMPACT_HASH, b"kernel", CcEvent::Kernel),
            (2, EV_IPL, b"kernel", CcEvent::Unknown),
            (3, EV_IPL, b"kernel", CcEvent::Unknown),
            (
                3,
                EV_IPL,
                b"kernel_cmdline: quiet\0",
                CcEvent::CommandLine(b"quiet"),
            ),
            (3, EV_IPL, b"initrd", CcEvent::Initrd),
            (4, EV_EVENT_TAG, b"", CcEvent::Journal),
            (1, EV_NO_ACTION, b"", CcEvent::NoAction),
        ];
        for (register, event_type, data, expected) in cases {
            let event = event(register, event_type, data);
            assert_eq!(CcEvent::of(&event), expected, "{register} {data:?}");
        }
    }

    #[test]
    fn what_is_measured_gives_the_digest() {
        let separator = event(1, EV_SEPARATOR, &[0; 4]);
        assert!(CcEvent::of(&separator).is_consistent(&separator));
        let line = event(3, EV_IPL, b"kernel_cmdline: quiet\0");
        assert!(!CcEvent::of(&line).is_consistent(&line));
    }
}
