//! The events of both logs, each with what it is, who measured it, and which checks judged it.

use super::words;
use crate::{
    cc_event::{CcEvent, mr_index, record},
    check::Id,
    explain::pcr_event,
    text::printable,
};
use attestation::{
    bundle::Bundle,
    digest::Algorithm,
    event_log::{EV_NO_ACTION, Event, Log, event_type_name},
    journal::Record,
};
use serde::Serialize;

/// An event log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventLog {
    /// What it is called.
    pub name: &'static str,
    /// What it is a log of, in plain words.
    pub explanation: &'static str,
    /// Why it cannot be read, if it cannot.
    pub problem: Option<String>,
    /// Bytes up to the end of its last event.
    pub bytes: usize,
    /// Its events, in order.
    pub events: Vec<LoggedEvent>,
}

/// An event of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoggedEvent {
    /// The register that it extended.
    pub register: String,
    /// Who measured it, by what it is and where it stands.
    pub by: &'static str,
    /// The specification's name of its type.
    pub event_type: String,
    /// What was measured, in short.
    pub what: String,
    /// What that means, in plain words.
    pub explanation: String,
    /// What the register was extended with: SHA-384, hex.
    pub digest: String,
    /// The checks that judged it.
    pub checks: Vec<Id>,
    /// What they concluded: the worst of their outcomes, as a check has them; `None` before they are made.
    pub outcome: Option<&'static str>,
}

impl EventLog {
    /// The CC event log and the TCG event log of a bundle.
    pub fn both(bundle: &Bundle) -> [EventLog; 2] {
        let cc = EventLog::of(
            &bundle.cc_event_log.0,
            "CC event log",
            words::CC_EVENT_LOG,
            cc_event,
        );
        let tcg = EventLog::of(
            &bundle.tcg_event_log.0,
            "TCG event log",
            words::TCG_EVENT_LOG,
            tcg_event,
        );
        [cc, tcg]
    }

    fn of(
        bytes: &[u8],
        name: &'static str,
        explanation: &'static str,
        event: impl Fn(&Event<'_>) -> LoggedEvent,
    ) -> EventLog {
        let (problem, length, events) = match Log::parse(bytes) {
            Ok(log) => (None, log.length, log.events.iter().map(event).collect()),
            Err(problem) => (Some(problem.to_string()), 0, Vec::new()),
        };
        EventLog {
            name,
            explanation,
            problem,
            bytes: length,
            events,
        }
    }
}

fn event_type(event: &Event<'_>) -> String {
    event_type_name(event.event_type).map_or_else(
        || format!("type {:#x}", event.event_type),
        ToOwned::to_owned,
    )
}

fn digest(event: &Event<'_>) -> String {
    let digest = event.digest(Algorithm::Sha384);
    digest.map(ToString::to_string).unwrap_or_default()
}

fn cc_event(event: &Event<'_>) -> LoggedEvent {
    let what = CcEvent::of(event);
    let rtmr = match event.register {
        1 => Some(Id::Rtmr0),
        2 => Some(Id::Rtmr1),
        3 => Some(Id::Rtmr2),
        4 => Some(Id::Rtmr3),
        _ => None,
    };
    let record = match what {
        CcEvent::Journal => record(event).ok(),
        _ => None,
    };
    let (by, own): (_, &[Id]) = match what {
        _ if event.register == 4 => ("L1", of_record(record.as_ref())),
        CcEvent::TdHob(_) | CcEvent::Firmware(..) => ("td-shim", &[Id::FirmwareEvents]),
        CcEvent::Separator => ("td-shim", &[Id::EventsOrder]),
        CcEvent::Kernel => ("L1", &[Id::LaunchKernel]),
        CcEvent::CommandLine(_) => ("L1", &[Id::LaunchCommandLine]),
        CcEvent::Initrd => ("L1", &[Id::LaunchInitrd]),
        CcEvent::Journal | CcEvent::NoAction | CcEvent::Unknown => {
            ("not known", &[Id::EventsOrder, Id::EventsExplained])
        }
    };
    // The check of the whole log, where it is this event that does not hold.
    let unexplained =
        event.register != 4 && !own.contains(&Id::EventsExplained) && !what.is_consistent(event);
    let whole: &[Id] = match unexplained {
        true => &[Id::EventsExplained],
        false => &[],
    };
    let replay = rtmr.filter(|_| event.extends()).unwrap_or(Id::CcLogFormat);
    LoggedEvent {
        register: match event.register {
            0 => "MRTD".to_owned(),
            index @ 1..=4 => format!("RTMR{}", index - 1),
            index => format!("MR index {}", mr_index(index)),
        },
        by,
        event_type: event_type(event),
        what: printable(&what.describe(event)),
        explanation: words::of_cc_event(&what, record.as_ref()),
        digest: digest(event),
        checks: [&[replay], own, whole].concat(),
        outcome: None,
    }
}

/// The checks that judge a record of the journal; one that is none fails the journal's form.
fn of_record(record: Option<&Record>) -> &'static [Id] {
    match record {
        None => &[Id::JournalFormat],
        Some(Record::Start(_)) => &[
            Id::JournalFormat,
            Id::JournalStart,
            Id::Processors,
            Id::EkNames,
            Id::AkName,
        ],
        Some(
            Record::PcrExtend { .. }
            | Record::PcrReset { .. }
            | Record::PcrValue { .. }
            | Record::PcrSummary { .. },
        ) => &[Id::JournalFormat, Id::PcrJournal],
        Some(Record::Unlock(_)) => &[Id::JournalFormat, Id::JournalStart, Id::StateUnlock],
        Some(Record::LogFull { .. }) => &[Id::JournalFormat, Id::JournalComplete],
        Some(_) => &[Id::JournalFormat, Id::JournalPolicy],
    }
}

fn tcg_event(event: &Event<'_>) -> LoggedEvent {
    LoggedEvent {
        register: format!("PCR {}", event.register.cast_signed()),
        by: match words::of_pcr_event(event) {
            Some(_) => "L1",
            None => "not known",
        },
        event_type: event_type(event),
        what: printable(&pcr_event(event)),
        explanation: match (words::of_pcr_event(event), event.event_type) {
            (Some(words), _) => words.to_owned(),
            (None, EV_NO_ACTION) => words::NO_ACTION.to_owned(),
            (None, _) => words::UNKNOWN.to_owned(),
        },
        digest: digest(event),
        checks: vec![Id::PcrReplay, Id::PcrLaunch],
        outcome: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attestation::launch::Measurement;

    fn logged(register: u32, event_type: u32, data: &[u8]) -> LoggedEvent {
        cc_event(&Event {
            register,
            event_type,
            digests: vec![Algorithm::Sha384.digest(data)],
            data,
            offset: 0,
        })
    }

    #[test]
    fn an_event_is_told_with_its_register_and_its_checks() {
        let line = Measurement::command_line(b"quiet \xE2\x80\xAEx");
        let event = logged(3, line.event_type, &line.data);
        assert_eq!((event.register.as_str(), event.by), ("RTMR2", "L1"));
        assert!(event.what.is_ascii(), "{}", event.what);
        // Its digest is not that of the line: the data lies.
        let checks = [Id::Rtmr2, Id::LaunchCommandLine, Id::EventsExplained];
        assert_eq!(event.checks, checks);
        let separator = logged(1, attestation::event_log::EV_SEPARATOR, &[0; 4]);
        assert_eq!(separator.by, "td-shim");
        assert_eq!(separator.checks, [Id::Rtmr0, Id::EventsOrder]);
        let record = Record::Reset.to_event();
        let event = logged(4, attestation::event_log::EV_EVENT_TAG, &record);
        let checks = [Id::Rtmr3, Id::JournalFormat, Id::JournalPolicy];
        assert_eq!(event.checks, checks);
        let event = logged(u32::MAX, EV_NO_ACTION, b"");
        assert_eq!(event.register, "MR index −1");
        assert_eq!(event.by, "not known");
    }
}
