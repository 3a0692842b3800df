//! An update of L1 where the hardware has a part in the state's key (`key = "both"`).
//!
//! The hardware's half is of one MRTD. While an update is under way, releases carry a secret that stands for it: the L1 that
//! the operator leaves seals the state with it, the one that passes the policy of the update opens that and seals with its
//! own half again. As long as the state is sealed with it, what the broker has is enough to open the state.

use crate::now;
use crate::operator::{Opened, still};
use crate::random;
use crate::refused::Refused;
use crate::seal::{OperatorKey, Purpose};
use crate::store::{Event, StoreError, Transaction, once};
use anyhow::Result;
use broker_protocol::MachineId;
use broker_protocol::release::{Carry, CarrySeal, Secret};
use serde::{Deserialize, Serialize};

/// What is kept of an update, as a fact of the broker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Upgrade {
    /// The secret, sealed, in hexadecimal digits.
    key: String,
    /// The policy of the L1 that takes the state.
    pub to: String,
    /// The last release.
    last: Option<Released>,
}

/// A release while an update is under way.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Released {
    seal: CarrySeal,
    /// The ledger's epoch before it.
    epoch: u64,
}

fn fact(machine: &MachineId) -> String {
    format!("upgrade {machine}")
}

/// Whose update the fact of this name is of.
pub(crate) fn machine_of(name: &str) -> Option<MachineId> {
    MachineId::parse(name.strip_prefix("upgrade ")?)
}

/// The fact with its sealed key changed; one that is over is empty, and stays so.
pub(crate) fn with_key<E>(
    fact: &[u8],
    change: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<Result<Vec<u8>, E>, StoreError> {
    if fact.is_empty() {
        return Ok(Ok(Vec::new()));
    }
    let malformed = || StoreError::Content("upgrade");
    let upgrade: Upgrade = serde_json::from_slice(fact).map_err(|_| malformed())?;
    let sealed = hex::decode(&upgrade.key).map_err(|_| malformed())?;
    let changed = match change(&sealed) {
        Ok(sealed) => Upgrade {
            key: hex::encode(sealed),
            ..upgrade
        },
        Err(error) => return Ok(Err(error)),
    };
    serde_json::to_vec(&changed)
        .map(Ok)
        .map_err(|_| malformed())
}

/// The update that is under way.
fn under_way(
    transaction: &mut dyn Transaction,
    machine: &MachineId,
) -> Result<Option<Upgrade>, StoreError> {
    // One that is over is empty.
    let kept = transaction.fact(&fact(machine))?;
    kept.filter(|bytes| !bytes.is_empty())
        .map(|bytes| serde_json::from_slice(&bytes).map_err(|_| StoreError::Content("upgrade")))
        .transpose()
}

fn keep(
    transaction: &mut dyn Transaction,
    machine: &MachineId,
    upgrade: &Upgrade,
) -> Result<(), StoreError> {
    let bytes = serde_json::to_vec(upgrade).map_err(|_| StoreError::Content("upgrade"))?;
    transaction.set_fact(&fact(machine), &bytes)
}

/// What a release to an L1 that passed `policy` carries, sealed, and what the audit trail is to tell of it. `epoch` is the
/// ledger's.
///
/// # Errors
/// See [`StoreError`].
pub fn order(
    transaction: &mut dyn Transaction,
    machine: &MachineId,
    policy: &str,
    epoch: u64,
) -> Result<Option<Order>, StoreError> {
    let Some(mut upgrade) = under_way(transaction, machine)? else {
        return Ok(None);
    };
    let seal = match upgrade.to == policy {
        true => CarrySeal::Own,
        false => CarrySeal::Carry,
    };
    upgrade.last = Some(Released { seal, epoch });
    keep(transaction, machine, &upgrade)?;
    let key = hex::decode(&upgrade.key).map_err(|_| StoreError::Content("upgrade"))?;
    Ok(Some(Order { seal, key }))
}

/// An order, its secret still sealed.
pub struct Order {
    seal: CarrySeal,
    key: Vec<u8>,
}

impl Order {
    /// What the audit trail tells.
    pub fn detail(&self) -> &'static str {
        match self.seal {
            CarrySeal::Carry => ", update of L1: this one gives the state away",
            CarrySeal::Own => ", update of L1: this one takes the state",
        }
    }

    /// As it is released.
    ///
    /// # Errors
    /// It is not sealed with this operator's key.
    pub fn open(&self, operator: &OperatorKey, machine: &MachineId) -> Result<Carry, Refused> {
        let key = operator.open_key(Purpose::UpgradeKey, &machine.0, &self.key)?;
        Ok(Carry {
            key: Secret(*key),
            seal: self.seal,
        })
    }
}

impl Opened {
    /// The update of a machine that is under way.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn upgrade(&mut self, machine: &MachineId) -> Result<Option<Upgrade>> {
        Ok(once(&mut *self.storage, |transaction| {
            under_way(transaction, machine)
        })?)
    }

    /// Begins an update to the L1 that passes the policy `to`, or turns one that is under way to that policy.
    ///
    /// # Errors
    /// There is no such machine or policy.
    pub fn begin_upgrade(&mut self, named: &str, to: &str) -> Result<()> {
        let id = self.machine(named)?.id;
        let key = random::bytes::<32>()?;
        let sealed = self.operator.seal(Purpose::UpgradeKey, &id.0, &*key)?;
        let operator = &self.operator;
        once(&mut *self.storage, |transaction| {
            if !transaction.policies(&id)?.iter().any(|one| one.name == to) {
                return Ok(Err(anyhow::anyhow!(
                    "{named} has no policy {to:?}: `allow` that of the new L1 first"
                )));
            }
            let upgrade = match under_way(transaction, &id)? {
                // The state may be sealed with its secret.
                Some(upgrade) => Upgrade {
                    to: to.into(),
                    ..upgrade
                },
                None => Upgrade {
                    key: hex::encode(&sealed),
                    to: to.into(),
                    last: None,
                },
            };
            keep(transaction, &id, &upgrade)?;
            still(operator, transaction)?;
            tell(transaction, id, "upgrade", format!("to policy {to:?}"))?;
            Ok(Ok(()))
        })?
    }

    /// Ends an update: its secret is forgotten. `anyway`: also where the state may be sealed with it.
    ///
    /// # Errors
    /// There is none, or the new L1 has committed nothing yet.
    pub fn end_upgrade(&mut self, named: &str, anyway: bool) -> Result<()> {
        let id = self.machine(named)?.id;
        once(&mut *self.storage, |transaction| {
            let Some(upgrade) = under_way(transaction, &id)? else {
                return Ok(Err(anyhow::anyhow!("no update of {named} is under way")));
            };
            let latest = transaction.machine(&id)?.and_then(|one| one.entry.latest);
            let taken = match (upgrade.last, latest) {
                // No L1 has had the secret.
                (None, _) => true,
                (Some(last), Some(latest)) => {
                    last.seal == CarrySeal::Own && latest.epoch > last.epoch
                }
                (Some(_), None) => false,
            };
            if !taken && !anyway {
                return Ok(Err(anyhow::anyhow!(
                    "the state of {named} is sealed with this update's key, as far as the ledger tells: start it with the \
                     L1 of policy {:?} first. Where that L1 has the state, as its log says, --anyway ends the update; \
                     otherwise the state is lost with the key",
                    upgrade.to
                )));
            }
            transaction.set_fact(&fact(&id), b"")?;
            tell(
                transaction,
                id,
                "upgraded",
                format!("to policy {:?}", upgrade.to),
            )?;
            Ok(Ok(()))
        })?
    }
}

fn tell(
    transaction: &mut dyn Transaction,
    machine: MachineId,
    event: &str,
    detail: String,
) -> Result<(), StoreError> {
    transaction.tell(&Event {
        time: now(),
        machine: Some(machine),
        event: event.into(),
        detail,
    })
}
