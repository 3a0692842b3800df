//! The journal in RTMR3: what the vTPM is, and its life.

use super::{broken, by_policy, certificates, event_log::cc_log, same};
use crate::{
    check::{Checked, Finding},
    evidence::Evidence,
    explain,
    policy::Allowed,
};
use attestation::{
    event_log::replay_rtmrs,
    journal::{Mode, Record, StartupType},
    tpm::cc,
};

fn records<'a>(evidence: &'a Evidence<'_>) -> Result<&'a [Record], Finding> {
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
    let second = records.get(1);
    if second != Some(&Record::Startup(StartupType::Clear)) {
        return Err(Finding::failed(
            "L1 did not start the TPM up itself before the guest could",
            explain::record(&Record::Startup(StartupType::Clear)),
            second
                .map(explain::record)
                .unwrap_or_else(|| "nothing".into()),
        ));
    }
    let policy = &evidence.policy.vtpm;
    let mode = match start.mode {
        Mode::Ephemeral => "ephemeral",
        Mode::Persistent => "persistent",
    };
    for (key, found, allowed) in [
        (
            "engines",
            start.engine.as_str(),
            policy.engines.allows(&start.engine),
        ),
        (
            "interfaces",
            &start.interface,
            policy.interfaces.allows(&start.interface),
        ),
        ("modes", mode, policy.modes.allows(&start.mode)),
        (
            "mirror",
            start.mirror.name(),
            policy.mirror.allows(&start.mirror),
        ),
    ] {
        if !allowed {
            let expected = match key {
                "engines" => one_of(&policy.engines),
                "interfaces" => one_of(&policy.interfaces),
                _ => format!("one of vtpm.{key}"),
            };
            return Err(Finding::failed(
                format!("the vTPM is not one that the policy accepts (vtpm.{key})"),
                expected,
                found,
            ));
        }
    }
    match (&start.state, &policy.state) {
        (Some(state), allowed) => {
            by_policy(
                "the state that the vTPM started from",
                "vtpm.state",
                allowed,
                state,
            )?;
        }
        (None, Allowed::OneOf(states)) => {
            return Err(Finding::failed(
                "the vTPM started without an earlier state (vtpm.state)",
                states.iter().map(hex::encode).collect::<Vec<_>>().join(" "),
                "none",
            ));
        }
        (None, _) => {}
    }
    Ok(Finding::passed(
        "the journal begins with one start, of a vTPM that the policy accepts",
        format!(
            "{}, {}, {mode}, mirror {}",
            start.engine,
            start.interface,
            start.mirror.name()
        ),
    ))
}

fn one_of(allowed: &Allowed<String>) -> String {
    match allowed {
        Allowed::OneOf(values) => values.join(" "),
        _ => String::new(),
    }
}

pub(super) fn head(evidence: &Evidence<'_>) -> Checked {
    let claims = evidence
        .claims
        .as_ref()
        .map_err(broken("the claims do not parse"))?;
    let [.., rtmr3] =
        replay_rtmrs(&cc_log(evidence)?.events).map_err(broken("the log cannot be replayed"))?;
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
        Some(_) if evidence.policy.vtpm.allow_log_full => Ok(Finding::skipped(
            "the journal ended for want of room",
            "the policy accepts that (vtpm.allow_log_full)",
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
    let mut resets = 0u64;
    for (index, record) in records(evidence)?.iter().enumerate() {
        let forbidden = match record {
            Record::Clear if !policy.allow_clear => "TPM2_Clear (vtpm.allow_clear)",
            Record::Hierarchy { command, .. } => match *command {
                cc::CHANGE_EPS | cc::CHANGE_PPS | cc::PCR_ALLOCATE => {
                    "a change of seeds or of PCR banks, after which certificates and claims hold no more"
                }
                _ if policy.allow_hierarchy_changes => continue,
                _ => "a change of a hierarchy (vtpm.allow_hierarchy_changes)",
            },
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
    Ok(Finding::passed(
        "nothing in the journal is forbidden by policy",
        format!("{resets} resets"),
    ))
}
