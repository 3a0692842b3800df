//! Sessions whose evidence passed: in the database, so that the request for the key may reach any process of the broker,
//! and sealed with the operator's key.

use crate::now;
use crate::random;
use crate::refused::Refused;
use crate::seal::{OperatorKey, Purpose};
use crate::store::{Attested, Event, Session, StoreError, Transaction};
use crate::upgrade;
use broker_ledger::Refusal;
use broker_protocol::MachineId;
use broker_protocol::jwk::TeePubKey;
use broker_protocol::release::{self, Carry, Secret};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::SESSION_SECONDS;

/// Where keys of machines are, unless their documents say otherwise.
const MACHINES: &str = "/kbs/v0/resource/default/tdp-vtpm/";
/// Sessions of the ledger that are kept of a machine that does not open.
const UNOPENED: u32 = 16;
/// Sessions whose evidence passed that are kept of a machine; the oldest gives way. As many starts of it as there may be
/// at once.
const PASSED: u32 = 1024;

/// How often a session is given its key: once, and again where the answer was lost. The host has the session's name, and
/// each time is told in the audit trail.
const TIMES: u32 = 4;

/// What was found of a session's evidence, and what came of it since.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Passed {
    /// When, in Unix seconds.
    pub(super) made: u64,
    pub(super) tee: TeePubKey,
    pub(super) machine: MachineId,
    /// Where its key is.
    pub(super) path: String,
    pub(super) counted: bool,
    pub(super) policy: String,
    /// Of the ledger, once the key was asked for.
    pub(super) ledger: Option<release::Session>,
    /// How often the key was given.
    pub(super) given: u32,
}

impl Passed {
    /// Keeps it under the session's name.
    pub(super) fn keep(
        &self,
        name: &str,
        operator: &OperatorKey,
        transaction: &mut dyn Transaction,
    ) -> Result<(), Refused> {
        let text = serde_json::to_vec(self).map_err(|_| StoreError::Content("session of KBS"))?;
        let text = Zeroizing::new(text);
        let attested = Attested {
            name: name.into(),
            machine: self.machine,
            made: self.made,
            sealed: operator.seal(Purpose::KbsSession, name.as_bytes(), &text)?,
        };
        let since = now().saturating_sub(SESSION_SECONDS);
        Ok(transaction.set_attested(&attested, since, PASSED)?)
    }

    /// That of a session, if it is not too old.
    pub(super) fn find(
        name: &str,
        operator: &OperatorKey,
        transaction: &mut dyn Transaction,
    ) -> Result<Self, Refused> {
        let kept = transaction.attested(name)?.ok_or(Refused::NoSession)?;
        let text = operator.open(Purpose::KbsSession, name.as_bytes(), &kept.sealed)?;
        let passed: Self =
            serde_json::from_slice(&text).map_err(|_| StoreError::Content("session of KBS"))?;
        match passed.made >= now().saturating_sub(SESSION_SECONDS) {
            true => Ok(passed),
            false => Err(Refused::NoSession),
        }
    }
}

/// A session of the ledger that is there to be given.
pub(super) struct Fresh {
    session: release::Session,
    sealed: Vec<u8>,
}

impl Fresh {
    pub(super) fn new(operator: &OperatorKey) -> Result<Self, Refused> {
        let id = hex::encode(*random::bytes::<16>()?);
        let key = random::bytes::<32>()?;
        Ok(Self {
            sealed: operator.seal(Purpose::SessionKey, id.as_bytes(), &*key)?,
            session: release::Session {
                id,
                key: Secret(*key),
            },
        })
    }
}

/// Gives a session its machine's key, once the audit trail has its release, and the ledger its session: what is known of
/// the session, and the key. A key that is asked for again comes with the same session of the ledger.
pub(super) fn give(
    name: &str,
    path: &str,
    fresh: &Fresh,
    operator: &OperatorKey,
    transaction: &mut dyn Transaction,
) -> Result<(Passed, Secret, Option<Carry>), Refused> {
    let mut passed = Passed::find(name, operator, transaction)?;
    if path != passed.path {
        return Err(match path.starts_with(MACHINES) {
            true => Refused::OtherMachine,
            false => Refused::NoResource,
        });
    }
    let id = passed.machine;
    let machine = transaction
        .machine(&id)?
        .ok_or(Refused::UnknownMachine(id))?;
    machine.entry.check_standing().or_else(later)?;
    // The policy may have been taken back, or be another of the same name, since the evidence passed.
    let mut policies = transaction.policies(&id)?.into_iter();
    if !policies.any(|policy| policy.name == passed.policy && policy.allowed <= passed.made) {
        return Err(Refused::NoPolicy);
    }
    if passed.given >= TIMES {
        return Err(Refused::NoSession);
    }
    passed.given += 1;
    let key = operator.open_key(Purpose::MachineKey, &id.0, &machine.key)?;
    let ledger = match (&passed.ledger, passed.counted) {
        (_, false) => "no ledger".into(),
        (Some(_), true) => "the same session again".into(),
        (None, true) => {
            let session = Session {
                id: fresh.session.id.clone(),
                machine: id,
                key: fresh.sealed.clone(),
                epoch: None,
                sequence: 0,
                code: Vec::new(),
                answer: Vec::new(),
                made: now(),
            };
            transaction.set_session(&session)?;
            transaction.forget_sessions(&id, machine.entry.epoch, UNOPENED)?;
            passed.ledger = Some(fresh.session.clone());
            format!("session {}", session.id)
        }
    };
    passed.keep(name, operator, transaction)?;
    let (policy, tee) = (&passed.policy, hex::encode(passed.tee.thumbprint()));
    let order = upgrade::order(transaction, &id, policy, machine.entry.epoch)?;
    let update = order.as_ref().map_or("", upgrade::Order::detail);
    let event = Event {
        time: now(),
        machine: Some(id),
        event: "released".into(),
        detail: format!("policy {policy:?}, key of the TEE {tee}, {ledger}{update}"),
    };
    tracing::info!(machine = %id, event = event.event, detail = event.detail);
    transaction.tell(&event)?;
    let carry = order.map(|order| order.open(operator, &id)).transpose()?;
    Ok((passed, Secret(*key), carry))
}

/// A ledger of a backup gives its key, and says at the opening what is wrong: L1 can show that, and tells it in its turn.
pub(super) fn later(refusal: Refusal) -> Result<(), Refusal> {
    match refusal {
        Refusal::Restored => Ok(()),
        refusal => Err(refusal),
    }
}
