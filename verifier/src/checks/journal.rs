//! The journal in RTMR3: what the vTPM is, and its life.

use super::{any, broken, by_policy, certificates, event_log::rtmrs, same, state, together};
use crate::{
    check::{Checked, Finding, Outcome},
    evidence::Evidence,
    explain,
    policy::Allowed,
};
use attestation::{
    journal::{Mode, Record, StartupType},
    tpm::cc,
};

pub(super) fn records<'a>(evidence: &'a Evidence<'_>) -> Result<&'a [Record], Finding> {
    evidence
        .journal
        .as_deref()
        .map_err(broken("the journal in RTMR3 does not parse"))
}

pub(super) fn format(evidence: &Evidence<'_>) -> Checked {
    let records = records(evidence)?;
    Ok(Finding::passed(
        "every event of RTMR3 is a record of the journal",
        format!("{} records", records.len()),
    ))
}

pub(super) fn start(evidence: &Evidence<'_>) -> Checked {
    let records = records(evidence)?;
    let start = certificates::start(evidence)?;
    let starts = records
        .iter()
        .filter(|record| matches!(record, Record::Start(_)));
    match starts.count() {
        1 => {}
        more => {
            return Err(Finding::failed(
                "a vTPM starts once in a TD's life, and this journal says otherwise",
                "1 start",
                format!("{more} starts"),
            ));
        }
    }
    let unlocks = records
        .iter()
        .filter(|record| matches!(record, Record::Unlock(_)))
        .count();
    let (expected, startup) = match start.mode {
        Mode::Ephemeral => (0, records.get(1)),
        Mode::Persistent => (1, records.get(2)),
    };
    if unlocks != expected || expected == 1 && state::record(records).is_none() {
        return Err(Finding::failed(
            "a state that is kept across boots is unlocked once, behind the start, and no other is",
            format!("{}, {expected} unlocks", mode_name(start.mode)),
            format!("{unlocks} unlocks"),
        ));
    }
    if startup != Some(&Record::Startup(StartupType::Clear)) {
        return Err(Finding::failed(
            "L1 did not start the TPM up itself before the guest could",
            explain::record(&Record::Startup(StartupType::Clear)),
            startup
                .map(explain::record)
                .unwrap_or_else(|| "nothing".into()),
        ));
    }
    let policy = &evidence.policy.vtpm;
    let mut outcomes = Vec::new();
    outcomes.push(one_of(
        "vtpm.engines",
        &start.engine,
        &policy.engines,
        String::clone,
    )?);
    outcomes.push(one_of(
        "vtpm.interfaces",
        &start.interface,
        &policy.interfaces,
        String::clone,
    )?);
    outcomes.push(one_of("vtpm.modes", &start.mode, &policy.modes, |mode| {
        mode_name(*mode).to_owned()
    })?);
    outcomes.push(one_of(
        "vtpm.mirror",
        &start.mirror,
        &policy.mirror,
        |mirror| mirror.name().to_owned(),
    )?);
    match (&start.state, &policy.state) {
        (Some(state), allowed) => {
            let what = "state that the vTPM started from";
            outcomes.push(by_policy(what, "vtpm.state", allowed, state)?.outcome);
        }
        (None, Allowed::OneOf(states)) => {
            return Err(Finding::failed(
                "the vTPM started without an earlier state (vtpm.state)",
                states.iter().map(hex::encode).collect::<Vec<_>>().join(" "),
                "none",
            ));
        }
        (None, Allowed::Any | Allowed::Absent) => {}
    }
    Ok(together(
        "the journal begins with one start, of a vTPM that the policy accepts",
        format!(
            "{}, {}, {}, mirror {}",
            start.engine,
            start.interface,
            mode_name(start.mode),
            start.mirror.name()
        ),
        outcomes,
    ))
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Ephemeral => "ephemeral",
        Mode::Persistent => "persistent",
    }
}

/// Compares a member of `start` with policy.
pub(super) fn one_of<T: PartialEq>(
    key: &str,
    found: &T,
    allowed: &Allowed<T>,
    shown: impl Fn(&T) -> String,
) -> Result<Outcome, Finding> {
    let expected = match allowed {
        Allowed::Any => return Ok(Outcome::Accepted { by: any(key) }),
        Allowed::OneOf(values) if values.contains(found) => return Ok(Outcome::Passed),
        Allowed::OneOf(values) => values.iter().map(&shown).collect::<Vec<_>>().join(", "),
        Allowed::Absent => "none".into(),
    };
    Err(Finding::failed(
        format!("the vTPM is not one that the policy accepts ({key})"),
        expected,
        shown(found),
    ))
}

pub(super) fn head(evidence: &Evidence<'_>) -> Checked {
    let claims = evidence
        .claims
        .as_ref()
        .map_err(broken("the claims do not parse"))?;
    let [.., rtmr3] = rtmrs(evidence)?;
    same(
        "the claims name another head of the journal than RTMR3",
        &claims.journal[..],
        &rtmr3[..],
    )?;
    let count = records(evidence)?.len();
    if usize::try_from(claims.records) != Ok(count) {
        return Err(Finding::failed(
            "the claims count other records than the journal has",
            claims.records.to_string(),
            count.to_string(),
        ));
    }
    Ok(Finding::passed(
        "the claims name the journal's head and its length",
        format!("{count} records"),
    ))
}

pub(super) fn complete(evidence: &Evidence<'_>) -> Checked {
    let records = records(evidence)?;
    let end = records
        .iter()
        .position(|record| matches!(record, Record::LogFull { .. }));
    match end {
        None => Ok(Finding::passed(
            "the journal goes on to the report",
            "no log-full",
        )),
        Some(end) if end + 1 != records.len() => Err(Finding::failed(
            "records follow the one that ends the journal",
            "log-full last",
            format!("{} more", records.len() - end - 1),
        )),
        Some(end) if evidence.policy.vtpm.allow_log_full => Ok(Finding::accepted(
            "the journal ended for want of room: what became of the vTPM since is not known",
            "vtpm.allow_log_full = true",
            format!("log-full as record {end}"),
        )),
        Some(end) => Err(Finding::failed(
            "the journal ended for want of room: what became of the vTPM since is not known (vtpm.allow_log_full)",
            "no log-full",
            format!("log-full as record {end}"),
        )),
    }
}

pub(super) fn policy(evidence: &Evidence<'_>) -> Checked {
    let policy = &evidence.policy.vtpm;
    let (mut clears, mut changes, mut resets) = (0u64, 0u64, 0u64);
    for (index, record) in records(evidence)?.iter().enumerate() {
        let forbidden = match record {
            Record::Clear => {
                clears += 1;
                match policy.allow_clear {
                    true => continue,
                    false => "TPM2_Clear (vtpm.allow_clear)",
                }
            }
            Record::Hierarchy { command, .. } => match *command {
                cc::CHANGE_EPS | cc::CHANGE_PPS | cc::PCR_ALLOCATE => {
                    "a change of seeds or of PCR banks, after which certificates and claims hold no more"
                }
                _ if policy.allow_hierarchy_changes => {
                    changes += 1;
                    continue;
                }
                _ => "a change of a hierarchy (vtpm.allow_hierarchy_changes)",
            },
            Record::StateRefused { .. } => {
                "a state that was refused, or that another machine has taken"
            }
            Record::Reset => {
                resets += 1;
                match policy.max_resets {
                    Some(most) if resets > most => "more resets than vtpm.max_resets",
                    _ => continue,
                }
            }
            _ => continue,
        };
        return Err(Finding::failed(
            format!("the journal has what the policy does not accept: {forbidden}"),
            "not in the journal",
            format!("record {index}: {}", explain::record(record)),
        ));
    }
    let unseen = [
        (clears > 0, "vtpm.allow_clear = true".to_owned()),
        (
            changes > 0,
            "vtpm.allow_hierarchy_changes = true".to_owned(),
        ),
        (
            resets > 0 && policy.max_resets.is_none(),
            any("vtpm.max_resets"),
        ),
    ];
    let unseen = unseen
        .into_iter()
        .filter(|(happened, _)| *happened)
        .map(|(_, by)| Outcome::Accepted { by });
    Ok(together(
        "nothing in the journal is forbidden by policy",
        format!("{clears} clears, {changes} changes of hierarchies, {resets} resets"),
        unseen,
    ))
}
