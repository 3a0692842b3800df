//! Another operator's key in place of the one that there is.
//!
//! The new key is a file beside the old one (`.next`), whole and on the disk, before the transaction that seals all secrets
//! with it; behind it the file takes the old one's place. So at each moment one of the two files opens the database, and
//! whoever opens the broker after a cut finds out which one, and brings the rest to its end.

use super::place::{IDENTITY, Place, opens};
use super::{Opened, told};
use crate::seal::{OperatorKey, Purpose, SealError, sync_folder};
use crate::store::{Resealed, StoreError, Transaction, once};
use crate::upgrade;
use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What came of a rotation.
pub struct Rotated {
    /// The file of the key that is used from now on.
    pub key: PathBuf,
    /// The file of the one before: it opens backups of before.
    pub before: PathBuf,
}

/// Whoever has this brings a rotation to its end; nobody else does meanwhile.
pub(super) struct Turn(#[expect(dead_code, reason = "locked until it is dropped")] File);

impl Turn {
    /// Waits for the folder of the key's file.
    pub(super) fn of(key: &Path) -> Result<Self> {
        let folder = folder_of(key);
        let failed = || format!("{}", folder.display());
        let opened = File::open(folder).with_context(failed)?;
        flock(&opened, FlockOperation::LockExclusive).with_context(failed)?;
        Ok(Self(opened))
    }
}

fn folder_of(key: &Path) -> &Path {
    match key.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

fn beside(key: &Path, suffix: &str) -> PathBuf {
    let mut name = key.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The file of a key that is to come.
pub(super) fn next_of(key: &Path) -> PathBuf {
    beside(key, ".next")
}

/// Puts the next key in the place of `key`, whose name is kept for it.
pub(super) fn settle(key: &Path, before: &OperatorKey, _turn: &Turn) -> Result<PathBuf> {
    let kept = beside(key, &format!(".before-{}", before.name()));
    let failed = || format!("{}", kept.display());
    match std::fs::hard_link(key, &kept) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(error).with_context(failed);
        }
        _ => {}
    }
    std::fs::rename(next_of(key), key).with_context(failed)?;
    sync_folder(folder_of(key)).with_context(failed)?;
    Ok(kept)
}

/// The next key: that of a rotation which was cut off before its transaction, or a new one. A file of this name is whole.
fn next(key: &Path, _turn: &Turn) -> Result<OperatorKey> {
    let file = next_of(key);
    if !file.exists() {
        let unfinished = beside(key, ".unfinished");
        let _ = std::fs::remove_file(&unfinished);
        OperatorKey::create(&unfinished)?;
        std::fs::rename(&unfinished, &file).with_context(|| format!("{}", file.display()))?;
        sync_folder(folder_of(key)).with_context(|| format!("{}", file.display()))?;
    }
    Ok(OperatorKey::read(&file)?)
}

impl Place {
    /// Seals all secrets with a new operator's key, in one transaction. A broker that serves meanwhile answers nothing that
    /// needs a secret, until it is started with the new one.
    ///
    /// # Errors
    /// See [`StoreError`]; a file cannot be written. Nothing has changed then, or it is brought to its end when the broker is
    /// opened next.
    pub fn rotate(&self) -> Result<Rotated> {
        // What an earlier one left is brought to its end first.
        drop(self.open()?);
        let key = self.key_file();
        let turn = Turn::of(&key)?;
        let mut broker = self.open_in(&turn)?;
        let next = next(&key, &turn)?;
        broker.reseal(&next)?;
        let before = settle(&key, &broker.operator, &turn)?;
        Ok(Rotated { key, before })
    }
}

impl Opened {
    /// Seals all secrets with `next`.
    fn reseal(&mut self, next: &OperatorKey) -> Result<()> {
        let own = &self.operator;
        let detail = format!("from {} to {}", own.name(), next.name());
        once(&mut *self.storage, |transaction| {
            transaction.alone()?;
            match resealed(transaction, own, next) {
                Ok((facts, resealed)) => {
                    for (name, value) in &facts {
                        transaction.set_fact(name, value)?;
                    }
                    transaction.reseal(&resealed)?;
                    told(transaction, None, "operator-key-rotated", detail.clone())?;
                    Ok(Ok(()))
                }
                Err(Trouble::Store(error)) => Err(error),
                // Nothing was changed.
                Err(Trouble::Seal(error)) => Ok(Err(error)),
            }
        })??;
        Ok(())
    }
}

/// Whether the operator's key is still this one: asked after something was sealed with it and kept, which then stays.
///
/// # Errors
/// [`StoreError::OtherKey`]: what was sealed would be lost.
pub(crate) fn still(
    operator: &OperatorKey,
    transaction: &mut dyn Transaction,
) -> Result<(), StoreError> {
    let identity = transaction.fact(IDENTITY)?.unwrap_or_default();
    match opens(operator, &identity) {
        Ok(_) => Ok(()),
        Err(_) => Err(StoreError::OtherKey),
    }
}

enum Trouble {
    Store(StoreError),
    Seal(SealError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<SealError> for Trouble {
    fn from(error: SealError) -> Self {
        Self::Seal(error)
    }
}

type Facts = Vec<(String, Vec<u8>)>;

/// All that is sealed, with the new key in place of the old one.
fn resealed(
    transaction: &mut dyn Transaction,
    old: &OperatorKey,
    new: &OperatorKey,
) -> Result<(Facts, Resealed), Trouble> {
    let again = |purpose: Purpose, owner: &[u8], sealed: &[u8]| -> Result<Vec<u8>, SealError> {
        new.seal(purpose, owner, &old.open(purpose, owner, sealed)?)
    };
    let mut facts = Vec::new();
    for (name, value) in transaction.facts()? {
        if name == IDENTITY {
            facts.push((name, again(Purpose::Identity, b"", &value)?));
        } else if let Some(machine) = upgrade::machine_of(&name) {
            let sealed = upgrade::with_key(&value, |sealed| {
                again(Purpose::UpgradeKey, &machine.0, sealed)
            });
            facts.push((name, sealed??));
        }
    }
    let mut all = Resealed::default();
    for machine in transaction.machines()? {
        let key = again(Purpose::MachineKey, &machine.id.0, &machine.key)?;
        all.machines.push((machine.id, key));
    }
    for session in transaction.sessions()? {
        let key = again(Purpose::SessionKey, session.id.as_bytes(), &session.key)?;
        all.sessions.push((session.id, key));
    }
    Ok((facts, all))
}
