//! What unlocked the permanent state of a vTPM that is kept across boots.

use super::{certificates, journal, journal::one_of, together};
use crate::{
    check::{Checked, Finding, Outcome},
    evidence::Evidence,
    policy::Allowed,
};
use attestation::journal::{Mode, Record, Unlock};

/// Its place is behind the start.
pub(super) fn record(records: &[Record]) -> Option<&Unlock> {
    match records.get(1) {
        Some(Record::Unlock(unlock)) => Some(unlock),
        _ => None,
    }
}

pub(super) fn unlock(evidence: &Evidence<'_>) -> Checked {
    let start = certificates::start(evidence)?;
    let unlock = match (start.mode, record(journal::records(evidence)?)) {
        (Mode::Ephemeral, _) => {
            return Ok(Finding::passed(
                "the TPM is new at each boot: there is no state to unlock",
                "no unlock",
            ));
        }
        (Mode::Persistent, Some(unlock)) => unlock,
        (Mode::Persistent, None) => {
            return Err(Finding::failed(
                "the journal does not tell what unlocked the state",
                "unlock",
                "nothing",
            ));
        }
    };
    let policy = &evidence.policy.vtpm;
    let mut outcomes = vec![
        one_of(
            "vtpm.machine",
            &unlock.machine,
            &policy.machine,
            |machine| hex::encode(machine),
        )?,
        one_of("vtpm.key", &unlock.key, &policy.key, |key| {
            key.name().to_owned()
        })?,
        one_of(
            "vtpm.rollback",
            &unlock.rollback,
            &policy.rollback,
            |rollback| rollback.name().to_owned(),
        )?,
    ];
    outcomes.push(broker(unlock, &policy.broker)?);
    Ok(together(
        "the state was unlocked by whom the policy names, for the machine that it names",
        format!(
            "machine {}…, key {}, rollback protection {}, epoch {}, commit {}",
            hex::encode(&unlock.machine[..4]),
            unlock.key.name(),
            unlock.rollback.name(),
            unlock.epoch,
            unlock.counter
        ),
        outcomes,
    ))
}

fn broker(unlock: &Unlock, allowed: &Allowed<[u8; 32]>) -> Result<Outcome, Finding> {
    match (&unlock.broker, allowed) {
        (Some(broker), allowed) => one_of("vtpm.broker", broker, allowed, |key| hex::encode(key)),
        (None, Allowed::Absent) => Ok(Outcome::Passed),
        (None, Allowed::Any) => Ok(Outcome::Accepted {
            by: super::any("vtpm.broker"),
        }),
        (None, Allowed::OneOf(brokers)) => Err(Finding::failed(
            "no broker unlocked the state (vtpm.broker)",
            brokers
                .iter()
                .map(hex::encode)
                .collect::<Vec<_>>()
                .join(", "),
            "none",
        )),
    }
}
