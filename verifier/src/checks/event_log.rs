//! Both event logs, and the RTMRs that the CC event log gives.

use super::{broken, same};
use crate::{
    check::{Checked, Finding},
    evidence::Evidence,
};
use attestation::{
    digest::Algorithm,
    event_log::{Event, Log},
    pcr::PcrBanks,
};

/// The CC event log.
pub(super) fn cc_log<'a, 'e>(evidence: &'a Evidence<'e>) -> Result<&'a Log<'e>, Finding> {
    evidence
        .cc_log
        .as_ref()
        .map_err(broken("the CC event log does not parse"))
}

/// RTMR0 to RTMR3 by the CC event log.
pub(super) fn rtmrs<'a>(evidence: &'a Evidence<'_>) -> Result<&'a [[u8; 48]; 4], Finding> {
    evidence
        .rtmrs
        .as_ref()
        .map_err(broken("the log cannot be replayed"))
}

/// The events of one RTMR.
pub(super) fn of_rtmr<'a, 'e>(
    evidence: &'a Evidence<'e>,
    rtmr: u32,
) -> Result<impl Iterator<Item = &'a Event<'e>> + use<'a, 'e>, Finding> {
    let log = cc_log(evidence)?;
    Ok(log
        .events
        .iter()
        .filter(move |event| event.register == rtmr + 1))
}

pub(super) fn cc_format(evidence: &Evidence<'_>) -> Checked {
    let log = cc_log(evidence)?;
    if log.algorithms != [Algorithm::Sha384] {
        return Err(Finding::failed(
            "the log is not a CC event log: those have SHA-384 digests alone",
            "sha384",
            names(&log.algorithms),
        ));
    }
    let behind = evidence
        .bundle
        .cc_event_log
        .0
        .get(log.length..)
        .unwrap_or_default();
    nothing_behind(behind)?;
    rtmrs(evidence)?;
    Ok(Finding::passed(
        "the CC event log parses to its end, and its registers exist",
        format!("{} events", log.events.len()),
    ))
}

pub(super) fn rtmr(evidence: &Evidence<'_>, index: usize) -> Checked {
    let td = evidence
        .td()
        .map_err(broken("there is no TD to compare the log with"))?;
    let replayed = rtmrs(evidence)?;
    let (expected, found) = td
        .rtmr
        .get(index)
        .zip(replayed.get(index))
        .ok_or_else(|| Finding::failed("there is no such RTMR", "", index.to_string()))?;
    same(
        &format!(
            "the log does not give RTMR{index}: an event of it was dropped, added, moved or changed"
        ),
        &expected[..],
        &found[..],
    )?;
    Ok(Finding::passed(
        format!("the log gives RTMR{index}"),
        hex::encode(found),
    ))
}

pub(super) fn tcg_format(evidence: &Evidence<'_>) -> Checked {
    let log = evidence
        .tcg_log
        .as_ref()
        .map_err(broken("the TCG event log does not parse"))?;
    let mut algorithms = log.algorithms.clone();
    algorithms.sort();
    if PcrBanks::new(&algorithms).is_none() {
        return Err(Finding::failed(
            "the TCG event log does not have the digests that every TPM of L1's has",
            names(&[Algorithm::Sha256, Algorithm::Sha384]),
            names(&algorithms),
        ));
    }
    let behind = evidence
        .bundle
        .tcg_event_log
        .0
        .get(log.length..)
        .unwrap_or_default();
    nothing_behind(behind)?;
    Ok(Finding::passed(
        "the TCG event log parses to its end",
        format!("{} events in {}", log.events.len(), names(&algorithms)),
    ))
}

/// Behind a log there may be memory that was never written; anything else would be events that were not looked at.
fn nothing_behind(rest: &[u8]) -> Result<(), Finding> {
    let filled = |fill: u8| rest.iter().all(|byte| *byte == fill);
    if filled(0) || filled(0xff) {
        return Ok(());
    }
    Err(Finding::failed(
        "something follows the end of the log",
        "nothing, or one byte value throughout: 00 or ff",
        format!("{} bytes", rest.len()),
    ))
}

fn names(algorithms: &[Algorithm]) -> String {
    let names: Vec<_> = algorithms
        .iter()
        .map(|algorithm| algorithm.name())
        .collect();
    names.join(" ")
}
