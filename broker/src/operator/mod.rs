//! What the operator's command does, on the database.

mod place;
mod rotation;

pub use place::{Database, Place};
pub use rotation::Rotated;
pub(crate) use rotation::still;

use crate::attest::{SIMULATED_ROOT_SHA256, check_policy};
use crate::configuration::{Asked, Configured, Wishes, document, same};
use crate::now;
use crate::random;
use crate::seal::{OperatorKey, Purpose};
use crate::store::{Event, Machine, Policy, RESTORED, Storage, StoreError, Transaction, once};
use anyhow::{Context, Result, bail, ensure};
use broker_ledger::{Entry, Recovery, Standing};
use broker_protocol::MachineId;
use broker_protocol::jws::IdentityKey;
use broker_protocol::limits;
use broker_protocol::release::{Release, Secret};
use init_data::Rollback;
use sha2::{Digest, Sha256};
use std::path::Path;
use verifier::Collateral;
use zeroize::Zeroizing;

/// Largest policy file, in bytes.
const POLICY: u64 = 1 << 20;

/// Largest init-data document, in bytes.
const DOCUMENT: u64 = 1 << 20;

/// Reads the collateral of `--roots`. The root of the simulated platform is taken only by those who say that they want it.
///
/// # Errors
/// It cannot be read, or is that root, and nobody said so.
pub fn collateral(roots: Option<&Path>, simulated: bool) -> Result<Collateral> {
    let collateral = match roots {
        Some(folder) => Collateral::read(folder).context("--roots")?,
        None => Collateral::intel_root_only(),
    };
    let root = hex::encode(Sha256::digest(&collateral.root));
    if root == SIMULATED_ROOT_SHA256 && !simulated {
        bail!(
            "--roots names the root of the simulated platform, whose keys everybody has: whoever wants that says \
             --accept-simulated-platform"
        );
    }
    Ok(collateral)
}

/// A broker that was opened.
pub struct Opened {
    /// Its database.
    pub storage: Box<dyn Storage>,
    /// Its operator's key.
    pub operator: OperatorKey,
    /// Its identity.
    pub identity: IdentityKey,
}

/// What a machine's owner needs.
pub struct Enrolment {
    /// Its identity.
    pub machine: MachineId,
    /// The init-data document.
    pub init_data: String,
}

fn told(
    transaction: &mut dyn Transaction,
    machine: Option<MachineId>,
    event: &str,
    detail: String,
) -> Result<(), StoreError> {
    transaction.tell(&Event {
        time: now(),
        machine,
        event: event.into(),
        detail,
    })
}

impl Opened {
    /// Enrols a machine: a new identity, and a new key.
    ///
    /// # Errors
    /// The name is taken or not one; nothing can be kept.
    pub fn enrol(&mut self, name: &str, wishes: Wishes) -> Result<Enrolment> {
        check_name(name)?;
        let id = MachineId(*random::bytes()?);
        let key = random::bytes::<32>()?;
        let sealed = self.operator.seal(Purpose::MachineKey, &id.0, &*key)?;
        let machine = Machine {
            id,
            name: name.into(),
            key: sealed,
            rollback: wishes.rollback,
            configured: Some(wishes.configured()),
            entry: Entry::default(),
            enrolled: now(),
            verdict: None,
        };
        let operator = &self.operator;
        once(&mut *self.storage, |transaction| {
            transaction.add_machine(&machine)?;
            still(operator, transaction)?;
            told(transaction, Some(id), "enrolled", format!("as {name:?}"))
        })?;
        Ok(Enrolment {
            machine: id,
            init_data: document(&id, &self.identity.identity(), wishes),
        })
    }

    /// Takes this document for the machine's from now on: what it says of key and state is asked for of each that is
    /// presented.
    ///
    /// # Errors
    /// There is no such machine; the document is another machine's, another broker's, or counts states in another way.
    pub fn configure(&mut self, named: &str, file: &Path) -> Result<Configured> {
        let machine = self.machine(named)?;
        let bytes = verifier::files::read_bounded(file, DOCUMENT)
            .with_context(|| format!("{}", file.display()))?;
        let text = String::from_utf8(bytes).context("the document is no text")?;
        let asked = Asked::read(&text, &self.identity.identity())
            .with_context(|| format!("{}", file.display()))?;
        ensure!(
            asked.machine == machine.id,
            "the document is of machine {}",
            asked.machine
        );
        same("rollback", asked.rollback.name(), machine.rollback.name())?;
        let configured = asked.configured;
        let detail = format!(
            "key {:?}, state {:?}, SHA-384 {}",
            configured.halves.name(),
            configured.otherwise.name(),
            hex::encode(asked.digest)
        );
        once(&mut *self.storage, |transaction| {
            transaction.set_configured(&machine.id, &configured)?;
            told(transaction, Some(machine.id), "configured", detail.clone())
        })?;
        Ok(configured)
    }

    /// All machines.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn machines(&mut self) -> Result<Vec<Machine>> {
        Ok(once(&mut *self.storage, |transaction| {
            transaction.machines()
        })?)
    }

    /// A machine by its name or identity.
    ///
    /// # Errors
    /// There is none.
    pub fn machine(&mut self, named: &str) -> Result<Machine> {
        let found = self
            .machines()?
            .into_iter()
            .find(|machine| machine.name == named || machine.id.to_string() == named);
        found.with_context(|| format!("there is no machine {named:?}: see `list`"))
    }

    /// A machine's policies and its last events.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn known(&mut self, machine: &MachineId) -> Result<(Vec<Policy>, Vec<Event>)> {
        Ok(once(&mut *self.storage, |transaction| {
            Ok((
                transaction.policies(machine)?,
                transaction.events(Some(machine), 50)?,
            ))
        })?)
    }

    /// The audit trail, the newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn events(&mut self, most: u32) -> Result<Vec<Event>> {
        Ok(once(&mut *self.storage, |transaction| {
            transaction.events(None, most)
        })?)
    }

    /// Takes a machine out: it gets neither key nor commits from now on. Or takes that back.
    ///
    /// # Errors
    /// There is no such machine.
    pub fn set_standing(&mut self, named: &str, standing: Standing) -> Result<()> {
        let id = self.machine(named)?.id;
        // A revocation that is taken back says nothing of what a backup has lost.
        let restored = once(&mut *self.storage, |transaction| transaction.fact(RESTORED))?;
        let standing = match (standing, restored) {
            (Standing::Enrolled, Some(_)) => Standing::Restored,
            (standing, _) => standing,
        };
        let event = match standing {
            Standing::Enrolled => "reinstated",
            Standing::Revoked => "revoked",
            Standing::Restored => "restored",
        };
        self.change(id, event, String::new(), |entry| {
            entry.standing = standing;
            Ok(())
        })
    }

    /// Changes what the ledger knows, as it is when the change is made.
    fn change(
        &mut self,
        id: MachineId,
        event: &str,
        detail: String,
        mut change: impl FnMut(&mut Entry) -> Result<()>,
    ) -> Result<()> {
        once(&mut *self.storage, |transaction| {
            let mut entry = transaction
                .machine(&id)?
                .ok_or(StoreError::Content("machine"))?
                .entry;
            if let Err(error) = change(&mut entry) {
                return Ok(Err(error));
            }
            transaction.set_entry(&id, &entry)?;
            told(transaction, Some(id), event, detail.clone())?;
            Ok(Ok(()))
        })?
    }

    /// Allows a policy for a machine, beside those that it has.
    ///
    /// # Errors
    /// The file is no policy, or names files itself; there is no such machine.
    pub fn allow(&mut self, named: &str, file: &Path, name: Option<&str>) -> Result<String> {
        let stem = file.file_stem().and_then(|stem| stem.to_str());
        let name = name
            .or(stem)
            .context("the policy needs a --name")?
            .to_owned();
        check_name(&name)?;
        let bytes = verifier::files::read_bounded(file, POLICY)
            .with_context(|| format!("{}", file.display()))?;
        let text = String::from_utf8(bytes).context("the policy is no text")?;
        check_policy(&text).with_context(|| format!("{}", file.display()))?;
        let id = self.machine(named)?.id;
        let policy = Policy {
            name: name.clone(),
            text,
            allowed: now(),
        };
        let digest = hex::encode(Sha256::digest(&policy.text));
        once(&mut *self.storage, |transaction| {
            transaction.allow(&id, &policy)?;
            told(
                transaction,
                Some(id),
                "allowed",
                format!("policy {:?}, SHA-256 {digest}", policy.name),
            )
        })?;
        Ok(name)
    }

    /// Takes a policy back.
    ///
    /// # Errors
    /// There is no such machine or policy.
    pub fn disallow(&mut self, named: &str, name: &str) -> Result<()> {
        let id = self.machine(named)?.id;
        let gone = once(&mut *self.storage, |transaction| {
            let gone = transaction.disallow(&id, name)?;
            if gone {
                told(
                    transaction,
                    Some(id),
                    "disallowed",
                    format!("policy {name:?}"),
                )?;
            }
            Ok(gone)
        })?;
        match gone {
            true => Ok(()),
            false => bail!("{named} has no policy {name:?}"),
        }
    }

    /// Has a machine go on that the ledger refuses. `None`: from the state that the ledger knows.
    ///
    /// # Errors
    /// There is no such machine, or it has no state that could be accepted.
    pub fn recover(&mut self, named: &str, recovery: Option<Recovery>) -> Result<()> {
        let id = self.machine(named)?.id;
        let detail = match recovery {
            Some(Recovery::Accept(commit)) => format!(
                "commit {} of epoch {}, {}",
                commit.counter, commit.epoch, commit.digest
            ),
            Some(Recovery::Fresh) => "no state".into(),
            None => "what the ledger knows".into(),
        };
        self.change(id, "recovered", detail, |entry| {
            let latest = entry.latest.map_or(Recovery::Fresh, Recovery::Accept);
            Ok(entry.recover(recovery.unwrap_or(latest))?)
        })
    }

    /// Writes a backup. What is restored from it gives no lease until each machine is recovered.
    ///
    /// # Errors
    /// The file is there already, or cannot be written.
    pub fn backup(&mut self, path: &Path) -> Result<()> {
        self.storage.backup(path)?;
        let detail = format!("to {}", path.display());
        Ok(once(&mut *self.storage, |transaction| {
            told(transaction, None, "backup", detail.clone())
        })?)
    }

    /// Takes what happened before this time, in Unix seconds, out of the audit trail: how many events.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub fn prune(&mut self, before: u64) -> Result<u64> {
        Ok(once(&mut *self.storage, |transaction| {
            let gone = transaction.prune(before)?;
            let detail = format!("{gone} events from before {}", crate::status::time(before));
            told(transaction, None, "pruned", detail)?;
            Ok(gone)
        })?)
    }

    /// The machine's key as a resource that another KBS keeps, signed once: without a session, and so without a ledger.
    ///
    /// # Errors
    /// There is no such machine, or it has a ledger.
    pub fn sign_resource(&mut self, named: &str) -> Result<Zeroizing<String>> {
        let machine = self.machine(named)?;
        if machine.rollback != Rollback::None {
            bail!(
                "{named} has a ledger, which another KBS does not keep: enrol a machine with `--rollback none` for that"
            );
        }
        let key = self
            .operator
            .open_key(Purpose::MachineKey, &machine.id.0, &machine.key)?;
        let release = Release {
            machine: machine.id,
            key: Secret(*key),
            nonce: None,
            tee: None,
            session: None,
            ledger: false,
            policy: None,
            carry: None,
        };
        once(&mut *self.storage, |transaction| {
            told(
                transaction,
                Some(machine.id),
                "resource-signed",
                String::new(),
            )
        })?;
        Ok(release.sign(&self.identity)?)
    }
}

/// A name is short and can be seen.
fn check_name(name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > limits::NAME.min(64) || !name.bytes().all(plain) {
        bail!("{name:?} is no name: 1 to 64 letters, digits, '-', '_' and '.'");
    }
    Ok(())
}
