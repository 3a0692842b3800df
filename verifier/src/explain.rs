//! Every measured event, in words.

use crate::account::{EventLog, LoggedEvent};
use attestation::{
    bundle::Bundle,
    event_log::Event,
    journal::{Mode, Record, StartupType},
    launch,
    tpm::cc,
};
use std::fmt::Write;

/// What the events of both logs and the records of the journal are, one a line. Logs that do not parse say so.
pub fn explain(bundle: &Bundle) -> String {
    let mut text = String::new();
    for (index, log) in EventLog::both(bundle).iter().enumerate() {
        // Writing to a `String` does not fail, here and below.
        if index > 0 {
            text.push('\n');
        }
        let _ = match &log.problem {
            None => writeln!(
                text,
                "{}: {} events, {} bytes",
                log.name,
                log.events.len(),
                log.bytes
            ),
            Some(problem) => writeln!(text, "{}: {problem}", log.name),
        };
        for event in &log.events {
            let start = event.digest.get(..16).unwrap_or(&event.digest);
            let LoggedEvent {
                register,
                event_type,
                what,
                ..
            } = event;
            let _ = writeln!(text, "  {register:<6} {start}…  {event_type:<30} {what}");
        }
    }
    text
}

/// What an event of the TCG log is (`docs/measurement.md`, section 2).
pub(crate) fn pcr_event(event: &Event<'_>) -> String {
    let data = event.data;
    match (event.register, data) {
        (0, launch::MRTD) => "MRTD: td-shim and L1".into(),
        (1, launch::RTMR0) => {
            "RTMR0 as td-shim left it: the host's description of the machine".into()
        }
        (4, launch::KERNEL) => "kernel of L2".into(),
        (9, launch::INITRD) => "initrd of L2".into(),
        (0..8, data) if data == launch::SEPARATOR => "end of L1's part".into(),
        (0, data) if crtm_version(data).is_some() => {
            format!("version of L1: {}", crtm_version(data).unwrap_or_default())
        }
        (8, data) if launch::command_line(data).is_some() => {
            let line = launch::command_line(data).unwrap_or_default();
            format!("command line of L2: {}", line.escape_ascii())
        }
        _ => format!("not known: {} bytes of data", data.len()),
    }
}

/// The version in the data of EV_S_CRTM_VERSION.
pub(crate) fn crtm_version(data: &[u8]) -> Option<String> {
    let (units, rest) = data.as_chunks::<2>();
    let units: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
    let text = String::from_utf16(&units).ok()?;
    let version = text.strip_prefix("tdp-vtpm l1-vmm ")?.strip_suffix('\0')?;
    rest.is_empty().then(|| version.to_owned())
}

/// What a record of the journal says.
pub(crate) fn record(record: &Record) -> String {
    match record {
        Record::Start(start) => {
            let mode = match start.mode {
                Mode::Ephemeral => "ephemeral",
                Mode::Persistent => "persistent",
            };
            let state = match &start.state {
                Some(state) => format!("state {}…", short(state)),
                None => "no earlier state".into(),
            };
            let names: Vec<_> = start
                .eks
                .iter()
                .map(|name| short(name.as_bytes()))
                .collect();
            format!(
                "start: engine {}, interface {}, {mode}, PCR mirror {}, PCR banks {}, {state}, EKs {}, AK {}…, CA {}…, processors {}",
                start.engine,
                start.interface,
                start.mirror.name(),
                start.banks.names(),
                names.join(" "),
                short(start.ak.as_bytes()),
                short(&start.ca),
                match start.processors {
                    Some(processors) => processors.to_string(),
                    None => "not told".into(),
                },
            )
        }
        Record::Startup(StartupType::Clear) => "TPM2_Startup(CLEAR)".into(),
        Record::Startup(StartupType::State) => "TPM2_Startup(STATE)".into(),
        Record::Reset => "TPM reset".into(),
        Record::Shutdown(StartupType::Clear) => "TPM2_Shutdown(CLEAR)".into(),
        Record::Shutdown(StartupType::State) => "TPM2_Shutdown(STATE)".into(),
        Record::Clear => "TPM2_Clear".into(),
        Record::Hierarchy {
            command,
            handle,
            parameters,
        } => format!(
            "{} by {handle:#x}, parameters {}",
            command_name(*command),
            hex::encode(parameters)
        ),
        Record::NvIndex {
            defined,
            index,
            attributes,
        } => {
            let what = if *defined { "defined" } else { "undefined" };
            format!("NV index {index:#010x} {what}, attributes {attributes:#010x}")
        }
        Record::NvCommit { state } => format!("permanent state is now {}…", short(state)),
        Record::PcrExtend { pcr, digests } => {
            let digest = digests.last().map(|digest| short(digest.bytes()));
            format!("PCR {pcr} extended with {}…", digest.unwrap_or_default())
        }
        Record::PcrReset { pcr } => format!("PCR {pcr} reset"),
        Record::PcrValue { pcr, values } => {
            let value = values.last().map(|value| short(value.bytes()));
            format!("PCR {pcr} has value {}…", value.unwrap_or_default())
        }
        Record::PcrSummary { changes, banks } => {
            format!("{changes} changes of PCRs so far, banks {}…", short(banks))
        }
        Record::LogFull { records } => {
            format!("no room for more records after {records}: the journal ends here")
        }
        Record::Unlock(unlock) => {
            let broker = match &unlock.broker {
                Some(broker) => format!("broker {}…", short(broker)),
                None => "no broker".into(),
            };
            format!(
                "state of machine {}… unlocked: {broker}, key {}, rollback protection {}, epoch {}, commit {}",
                short(&unlock.machine),
                unlock.key.name(),
                unlock.rollback.name(),
                unlock.epoch,
                unlock.counter
            )
        }
        Record::StateRefused { reason } => {
            format!("state refused: {}", crate::text::printable(reason))
        }
        _ => "a record that this version cannot explain".into(),
    }
}

fn short(bytes: &[u8]) -> String {
    hex::encode(bytes.get(..8).unwrap_or(bytes))
}

/// The commands that the journal's `hierarchy` records are of (TPM 2.0 Library, part 2, table "TPM_CC Constants").
pub(crate) const HIERARCHY_COMMANDS: [(u32, &str); 8] = [
    (cc::HIERARCHY_CONTROL, "TPM2_HierarchyControl"),
    (cc::CHANGE_EPS, "TPM2_ChangeEPS"),
    (cc::CHANGE_PPS, "TPM2_ChangePPS"),
    (cc::CLEAR_CONTROL, "TPM2_ClearControl"),
    (cc::HIERARCHY_CHANGE_AUTH, "TPM2_HierarchyChangeAuth"),
    (cc::PCR_ALLOCATE, "TPM2_PCR_Allocate"),
    (cc::SET_PRIMARY_POLICY, "TPM2_SetPrimaryPolicy"),
    (
        cc::DICTIONARY_ATTACK_PARAMETERS,
        "TPM2_DictionaryAttackParameters",
    ),
];

pub(crate) fn command_name(command: u32) -> String {
    HIERARCHY_COMMANDS
        .iter()
        .find(|(code, _)| *code == command)
        .map_or_else(
            || format!("command {command:#x}"),
            |(_, name)| (*name).to_owned(),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_l1_is_read_back() {
        let event = launch::Measurement::crtm_version("1.2.3");
        assert_eq!(crtm_version(&event.data).as_deref(), Some("1.2.3"));
        assert_eq!(crtm_version(b"t\0d\0"), None);
        assert_eq!(crtm_version(&event.data[1..]), None);
    }
}
