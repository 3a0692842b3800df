//! The ledger of one vTPM's states: which one is the latest, and who may commit the next.
//!
//! [`Entry`] is plain data and its operations are functions of it, without clock, disk or network: the exhaustive search
//! in `tests/protocol` runs the same code that the server runs. What is true of a machine is told by three numbers:
//!
//! * the **epoch** says which life of the machine may write: [`Entry::open`] raises it, and every operation of an older
//!   one is refused ([`Refusal::Fenced`]). Two TDs of one disk image cannot both commit.
//! * the **counter** of the latest commit only grows, by one a commit.
//! * the **digest** is that of the slot as it lies on the disk, under its AEAD.
//!
//! A commit is: write the slot that does not hold the state in use, flush, [`Entry::commit`], answer the TPM command.
//! Nothing is acknowledged to the guest before the commit is. A commit whose outcome is unknown is repeated, never
//! replaced. Between flush and commit, [`Entry::prepare`] may tell the ledger that the slot is there; nothing needs it, and
//! L1 saves the round trip. The slot is written *before* it is prepared: prepared first, a machine that goes on from a
//! pending state would overwrite the latest slot while the ledger knows neither of the two on the disk. A life that opens
//! a pending state commits once before the guest runs: until then the ledger would also give the state before it.
#![forbid(unsafe_code)]

mod open;

use broker_protocol::ledger::Commit;
use serde::{Deserialize, Serialize};

/// Whether the machine gets its key at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It does.
    #[default]
    Enrolled,
    /// The operator took it out.
    Revoked,
    /// The ledger is a backup's, and may know less than the machine did: the owner has to say which state is the latest.
    Restored,
}

/// What the ledger knows of one machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Whether it gets its key.
    pub standing: Standing,
    /// Of the last lease; 0 before the first.
    pub epoch: u64,
    /// The last commit that was acknowledged.
    pub latest: Option<Commit>,
    /// A slot that is on the disk, and of which nothing was acknowledged.
    pub pending: Option<Commit>,
}

/// Why the ledger refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The operator revoked the machine.
    #[error("the machine was revoked")]
    Revoked,
    /// A later life of the machine has the lease: this one is an older twin, and must not go on.
    #[error("epoch {asked} is over: epoch {live} has the lease")]
    Fenced {
        /// Of the request.
        asked: u64,
        /// Of the lease.
        live: u64,
    },
    /// The ledger is a backup's, and its owner has not said yet that it may be used for this machine.
    #[error(
        "the ledger was restored from a backup: the owner has to say which state is the latest"
    )]
    Restored,
    /// The request or the disk has an epoch that this ledger never gave, or a counter that it cannot have followed.
    #[error(
        "{what} {asked} is ahead of the ledger's {known}: the ledger lost what it knew, as one from a backup"
    )]
    LedgerBehind {
        /// `epoch` or `counter`.
        what: &'static str,
        /// Of the request or the disk.
        asked: u64,
        /// Of the ledger.
        known: u64,
    },
    /// Not the counter after the latest commit.
    #[error("counter {asked} does not follow {latest}, the latest commit")]
    WrongCounter {
        /// Of the request.
        asked: u64,
        /// Of the latest commit; 0 if there is none.
        latest: u64,
    },
    /// That counter is committed already, with another digest or by another epoch.
    #[error("counter {0} is committed with another state")]
    OtherCommitted(u64),
    /// The disk has no state, and the ledger knows of one.
    #[error("the disk has no state, and counter {latest} was committed")]
    StateMissing {
        /// Of the latest commit.
        latest: u64,
    },
    /// What is on the disk belongs to another machine.
    #[error("the state on the disk is another machine's")]
    OtherMachine,
    /// The newest slot on the disk is older than the latest commit.
    #[error(
        "the newest state on the disk has counter {found}, and {latest} was committed: the disk was rolled back"
    )]
    RolledBack {
        /// Of the newest slot.
        found: u64,
        /// Of the latest commit.
        latest: u64,
    },
    /// The slot has the counter of the latest commit, and is not what was committed.
    #[error("the state with counter {0} is not the one that was committed")]
    Altered(u64),
    /// Only a state that nobody committed is on the disk.
    #[error(
        "the state with counter {found} was never committed, and {latest}, the latest commit, is not on the disk"
    )]
    Uncommitted {
        /// Of the newest slot.
        found: u64,
        /// Of the latest commit.
        latest: u64,
    },
    /// No epoch or counter is left.
    #[error("no number is left")]
    Exhausted,
}

impl Refusal {
    /// Its name in answers, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::Revoked => "revoked",
            Refusal::Restored => "restored",
            Refusal::Fenced { .. } => "fenced",
            Refusal::LedgerBehind { .. } => "ledger-behind",
            Refusal::WrongCounter { .. } => "wrong-counter",
            Refusal::OtherCommitted(_) => "other-committed",
            Refusal::StateMissing { .. } => "state-missing",
            Refusal::OtherMachine => "other-machine",
            Refusal::RolledBack { .. } => "rolled-back",
            Refusal::Altered(_) => "altered",
            Refusal::Uncommitted { .. } => "uncommitted",
            Refusal::Exhausted => "exhausted",
        }
    }
}

/// How the owner has a machine go on that the ledger refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// This state is the latest from now on, older or newer than what the ledger knows.
    Accept(Commit),
    /// No state: the machine starts anew.
    Fresh,
}

impl Entry {
    /// The counter of the latest commit; 0 if there is none.
    pub fn counter(&self) -> u64 {
        self.latest.map_or(0, |latest| latest.counter)
    }

    /// Notes that the slot of `commit` is on the disk. Replaces an earlier pending one, of which nothing was acknowledged.
    ///
    /// # Errors
    /// See [`Refusal`]; the entry is as it was.
    pub fn prepare(&mut self, commit: Commit) -> Result<(), Refusal> {
        self.check_lease(commit.epoch)?;
        if self.is_latest(&commit)? {
            return Ok(());
        }
        self.pending = Some(commit);
        Ok(())
    }

    /// Makes `commit` the latest: it may be acknowledged to the guest, and no older state is accepted any more.
    /// A preparation is not asked for: it only tells that the slot is there.
    ///
    /// # Errors
    /// See [`Refusal`]; the entry is as it was.
    pub fn commit(&mut self, commit: Commit) -> Result<(), Refusal> {
        self.check_lease(commit.epoch)?;
        if self.is_latest(&commit)? {
            return Ok(());
        }
        self.latest = Some(commit);
        self.pending = None;
        Ok(())
    }

    /// What the owner decides: the epoch is raised, so that no life of the machine goes on beside the recovery.
    ///
    /// # Errors
    /// [`Refusal::Exhausted`].
    pub fn recover(&mut self, recovery: Recovery) -> Result<(), Refusal> {
        let (seen, latest) = match recovery {
            Recovery::Accept(commit) => (commit.epoch, Some(commit)),
            Recovery::Fresh => (0, None),
        };
        self.epoch = self
            .epoch
            .max(seen)
            .checked_add(1)
            .ok_or(Refusal::Exhausted)?;
        self.latest = latest;
        self.pending = None;
        if self.standing == Standing::Restored {
            self.standing = Standing::Enrolled;
        }
        Ok(())
    }

    /// Whether the machine gets anything.
    ///
    /// # Errors
    /// [`Refusal::Revoked`], [`Refusal::Restored`].
    pub fn check_standing(&self) -> Result<(), Refusal> {
        match self.standing {
            Standing::Enrolled => Ok(()),
            Standing::Revoked => Err(Refusal::Revoked),
            Standing::Restored => Err(Refusal::Restored),
        }
    }

    /// Whether `epoch` may write.
    ///
    /// # Errors
    /// [`Refusal::Revoked`], [`Refusal::Restored`], [`Refusal::Fenced`], [`Refusal::LedgerBehind`].
    pub fn check_lease(&self, epoch: u64) -> Result<(), Refusal> {
        self.check_standing()?;
        match epoch.cmp(&self.epoch) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Less => Err(Refusal::Fenced {
                asked: epoch,
                live: self.epoch,
            }),
            std::cmp::Ordering::Greater => Err(Refusal::LedgerBehind {
                what: "epoch",
                asked: epoch,
                known: self.epoch,
            }),
        }
    }

    /// Whether `commit` is the latest one, repeated; `false` if it is the next.
    fn is_latest(&self, commit: &Commit) -> Result<bool, Refusal> {
        let latest = self.counter();
        if commit.counter == latest && self.latest.is_some() {
            return match self.latest == Some(*commit) {
                true => Ok(true),
                false => Err(Refusal::OtherCommitted(latest)),
            };
        }
        let next = latest.checked_add(1).ok_or(Refusal::Exhausted)?;
        match commit.counter == next {
            true => Ok(false),
            false => Err(Refusal::WrongCounter {
                asked: commit.counter,
                latest,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
