//! PCR values: against the TCG event log, the launch, the claims, the journal and policy.

use super::{broken, certificates, same};
use crate::{
    cc_event::{CcEvent, digest},
    check::{Checked, Finding},
    evidence::Evidence,
    explain,
};
use attestation::{
    claims::pcr_banks_digest,
    digest::{Algorithm, Digest, Digests},
    event_log::{Log, replay_pcrs},
    journal::{PcrMirror, Record, StartupType},
    launch::{Launch, Measurement},
    pcr::{self, Bank, PcrBanks},
};
use std::collections::BTreeSet;

fn given<'a>(evidence: &'a Evidence<'_>) -> Result<&'a [Bank], Finding> {
    evidence
        .banks
        .as_deref()
        .map_err(broken("the bundle's PCR values do not parse"))
}

fn tcg_log<'a, 'e>(evidence: &'a Evidence<'e>) -> Result<&'a Log<'e>, Finding> {
    evidence
        .tcg_log
        .as_ref()
        .map_err(broken("the TCG event log does not parse"))
}

/// Compares banks, PCR by PCR, but for those that `except` names.
fn compare(
    sentence: &str,
    expected: &[Bank],
    found: &[Bank],
    mut except: impl FnMut(u8) -> bool,
) -> Result<(), Finding> {
    for bank in found {
        let name = bank.algorithm().name();
        let Some(other) = expected
            .iter()
            .find(|other| other.algorithm() == bank.algorithm())
        else {
            return Err(Finding::failed(sentence, "no such bank", name));
        };
        let pairs = other.values().iter().zip(bank.values());
        for (pcr, (expected, found)) in (0u8..).zip(pairs) {
            if expected != found && !except(pcr) {
                return Err(Finding::failed(
                    format!("{sentence}: PCR {pcr} in {name}"),
                    expected.to_string(),
                    found.to_string(),
                ));
            }
        }
    }
    Ok(())
}

pub(super) fn replay(evidence: &Evidence<'_>) -> Checked {
    let log = tcg_log(evidence)?;
    let replayed = replay_pcrs(log).map_err(broken("the TCG event log cannot be replayed"))?;
    let given_banks = given(evidence)?;
    if !algorithms(&replayed).eq(algorithms(given_banks)) {
        return Err(Finding::failed(
            "the TCG event log is of a TPM with other PCR banks",
            names(given_banks),
            names(&replayed),
        ));
    }
    let beyond = &evidence.policy.pcr.beyond_log;
    let left_to_guest = |pcr: u8| pcr > 9 && beyond.contains(&pcr);
    let mut extended = BTreeSet::new();
    compare(
        "the TCG event log does not give the PCR values: it is of another boot, or was changed",
        &replayed,
        given(evidence)?,
        |pcr| {
            if left_to_guest(pcr) {
                extended.insert(pcr);
            }
            left_to_guest(pcr)
        },
    )?;
    let extended: Vec<_> = extended.iter().map(u8::to_string).collect();
    let beyond = match &extended[..] {
        [] => "no PCR extended beyond the log".to_owned(),
        some => format!(
            "extended beyond the log by the guest: PCR {}",
            some.join(", ")
        ),
    };
    Ok(Finding::passed(
        "the TCG event log gives PCRs 0 to 9, and the others but those of pcr.beyond_log",
        format!("{} events; {beyond}", log.events.len()),
    ))
}

pub(super) fn launch(evidence: &Evidence<'_>) -> Checked {
    let td = evidence
        .td()
        .map_err(broken("there is no TD to compare the TCG event log with"))?;
    let version = tcg_log(evidence)?
        .events
        .first()
        .and_then(|event| explain::crtm_version(event.data))
        .ok_or_else(|| {
            Finding::failed(
                "the TCG event log does not begin with L1's version",
                "EV_S_CRTM_VERSION, `tdp-vtpm l1-vmm VERSION` in UTF-16LE",
                "another event",
            )
        })?;
    let mut kernel = None;
    let mut command_line = None;
    let mut initrd = None;
    for event in &super::event_log::cc_log(evidence)?.events {
        match CcEvent::of(event) {
            CcEvent::Kernel => kernel = Some(digest(event)),
            CcEvent::CommandLine(line) => command_line = Some(line),
            CcEvent::Initrd => initrd = Some(digest(event)),
            _ => {}
        }
    }
    let expected = Launch {
        version: &version,
        mrtd: &td.mrtd,
        rtmr0: &td.rtmr[0],
        kernel: sha384_only(kernel.unwrap_or([0; 48])),
        command_line: command_line.unwrap_or_default(),
        initrd: initrd.map(sha384_only),
    }
    .pcr_events();
    let banks = certificates::start(evidence)?.banks;
    let events = &tcg_log(evidence)?.events;
    if events.len() != expected.len() {
        return Err(Finding::failed(
            "the TCG event log has other events than L1's launch of this kernel has",
            format!("{} events", expected.len()),
            format!("{} events", events.len()),
        ));
    }
    for (index, (event, (pcr, measurement))) in events.iter().zip(&expected).enumerate() {
        let place = (event.register, event.event_type, event.data);
        if place
            != (
                u32::from(*pcr),
                measurement.event_type,
                &measurement.data[..],
            )
        {
            return Err(Finding::failed(
                format!("event {index} of the TCG event log is not the one that L1 measures there"),
                describe(*pcr, measurement),
                format!("PCR {}: {}", event.register, explain::pcr_event(event)),
            ));
        }
        for expected in known(measurement, banks) {
            let algorithm = expected.algorithm();
            let found = event
                .digest(algorithm)
                .copied()
                .unwrap_or(Digest::zero(algorithm));
            same(
                &format!(
                    "the TCG event log and the TD tell different things of the launch: PCR {pcr}, event {index}"
                ),
                expected.bytes(),
                found.bytes(),
            )?;
        }
    }
    Ok(Finding::passed(
        "the TCG event log tells of the launch what the CC event log and the TD tell",
        format!("{} events, L1 {version}", events.len()),
    ))
}

/// Digests of which the CC event log has SHA-384 alone.
fn sha384_only(sha384: [u8; 48]) -> Digests {
    Digests {
        sha1: None,
        sha256: [0; 32],
        sha384,
        sha512: None,
    }
}

/// A measurement's digests for the banks, as far as they are known: all, unless it is a file's.
fn known(measurement: &Measurement, banks: PcrBanks) -> Vec<Digest> {
    let is_file = measurement.digests.sha512.is_none();
    let known = |algorithm: &Algorithm| !is_file || *algorithm == Algorithm::Sha384;
    let algorithms = banks.iter().filter(known);
    algorithms
        .filter_map(|algorithm| measurement.digests.get(algorithm))
        .collect()
}

fn describe(pcr: u8, measurement: &Measurement) -> String {
    let data = measurement.data.escape_ascii();
    format!("PCR {pcr}: type {:#x}, {data}", measurement.event_type)
}

pub(super) fn banks(evidence: &Evidence<'_>) -> Checked {
    let claims = evidence
        .claims
        .as_ref()
        .map_err(broken("the claims do not parse"))?;
    let banks = given(evidence)?;
    let started = certificates::start(evidence)?.banks;
    if !algorithms(banks).eq(started.iter()) {
        return Err(Finding::failed(
            "the bundle has the PCR values of other banks than the journal says that there are",
            started.names(),
            names(banks),
        ));
    }
    same(
        "the claims are over other PCR values than the bundle's (or a PCR changed between report and quote: collect evidence again)",
        &claims.pcrs[..],
        &pcr_banks_digest(banks)[..],
    )?;
    Ok(Finding::passed(
        "the claims bind the PCR values of all banks that the journal says that there are",
        names(banks),
    ))
}

fn algorithms(banks: &[Bank]) -> impl Iterator<Item = Algorithm> {
    banks.iter().map(Bank::algorithm)
}

fn names(banks: &[Bank]) -> String {
    let names: Vec<_> = algorithms(banks).map(Algorithm::name).collect();
    names.join("+")
}

pub(super) fn journal(evidence: &Evidence<'_>) -> Checked {
    let mirror = certificates::start(evidence)?.mirror;
    let records = evidence
        .journal
        .as_deref()
        .map_err(broken("the journal does not parse"))?;
    let ended = records
        .iter()
        .any(|record| matches!(record, Record::LogFull { .. }));
    if ended || mirror == PcrMirror::Off {
        let why = match ended {
            true => "the journal ended for want of room",
            false => "the vTPM does not mirror PCRs into it (vtpm.mirror)",
        };
        return Ok(Finding::skipped(
            "the journal does not tell PCR values",
            why,
        ));
    }
    if mirror == PcrMirror::Full {
        let banks = certificates::start(evidence)?.banks;
        let replayed = replay_journal(records, banks)
            .map_err(broken("the journal's PCR records contradict themselves"))?;
        compare(
            "the journal does not give the PCR values",
            &replayed,
            given(evidence)?,
            |_| false,
        )?;
        return Ok(Finding::passed(
            "the journal gives every PCR of every bank",
            format!("{} banks", given(evidence)?.len()),
        ));
    }
    let last = records.iter().rev().find_map(|record| match record {
        Record::PcrSummary { changes, banks } => Some((changes, banks)),
        _ => None,
    });
    let Some((changes, banks)) = last else {
        return Err(Finding::failed(
            "the journal has no summary of the PCRs, though L1 extended them itself",
            "pcr-summary",
            "none",
        ));
    };
    same(
        "the journal's last summary is of other PCR values",
        &banks[..],
        &pcr_banks_digest(given(evidence)?)[..],
    )?;
    Ok(Finding::passed(
        "the journal's last summary is of these PCR values",
        format!("{changes} changes"),
    ))
}

/// PCR values by the journal of a vTPM that mirrors every change.
fn replay_journal(records: &[Record], at_startup: PcrBanks) -> Result<Vec<Bank>, pcr::PcrError> {
    let mut banks = at_startup.at_startup();
    for record in records {
        match record {
            Record::Startup(StartupType::Clear) => banks = at_startup.at_startup(),
            Record::PcrExtend { pcr, digests } => {
                for_each(&mut banks, digests, |bank, digest| {
                    bank.extend(u32::from(*pcr), digest)
                })?;
            }
            Record::PcrValue { pcr, values } => {
                for_each(&mut banks, values, |bank, value| {
                    bank.set(u32::from(*pcr), *value)
                })?;
            }
            Record::PcrReset { pcr } => {
                for bank in &mut banks {
                    let zero = Digest::zero(bank.algorithm());
                    bank.set(u32::from(*pcr), zero)?;
                }
            }
            _ => {}
        }
    }
    Ok(banks)
}

fn for_each(
    banks: &mut [Bank],
    digests: &[Digest],
    mut change: impl FnMut(&mut Bank, &Digest) -> Result<(), pcr::PcrError>,
) -> Result<(), pcr::PcrError> {
    for digest in digests {
        for bank in banks
            .iter_mut()
            .filter(|bank| bank.algorithm() == digest.algorithm())
        {
            change(bank, digest)?;
        }
    }
    Ok(())
}

pub(super) fn policy(evidence: &Evidence<'_>) -> Checked {
    let values = &evidence.policy.pcr.values;
    if values.is_empty() {
        return Ok(Finding::skipped(
            "no further PCR values were compared",
            "the policy has no pcr.<bank>; PCRs 0 to 9 follow from what was measured",
        ));
    }
    for ((algorithm, pcr), allowed) in values {
        let found = given(evidence)?
            .iter()
            .find(|bank| bank.algorithm().id() == *algorithm)
            .and_then(|bank| bank.value(u32::from(*pcr)).ok())
            .map(|value| value.bytes().to_vec())
            .unwrap_or_default();
        if !allowed.contains(&found) {
            let name = name(*algorithm);
            return Err(Finding::failed(
                format!(
                    "PCR {pcr} in {name} has a value that the policy does not accept (pcr.{name}.{pcr})"
                ),
                allowed
                    .iter()
                    .map(hex::encode)
                    .collect::<Vec<_>>()
                    .join(" "),
                hex::encode(found),
            ));
        }
    }
    Ok(Finding::passed(
        "the PCRs that the policy names have values that it accepts",
        values
            .keys()
            .map(|(algorithm, pcr)| format!("{}:{pcr}", name(*algorithm)))
            .collect::<Vec<_>>()
            .join(" "),
    ))
}

/// The name of a bank.
fn name(algorithm: u16) -> &'static str {
    Algorithm::from_id(algorithm).map_or("?", Algorithm::name)
}
