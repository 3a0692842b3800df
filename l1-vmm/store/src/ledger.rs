//! Who keeps count of the commits, out of the host's reach.

use crate::layout::Sha;

/// A commit, as the ledger knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The epoch that wrote it.
    pub epoch: u64,
    /// The commit's counter, from 1.
    pub counter: u64,
    /// The slot's digest, which covers epoch and counter as well.
    pub digest: Sha,
}

/// What the machine's attested configuration says of states that are put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rollback {
    /// A ledger names the state that counts, and a commit is stored when the ledger has acknowledged it.
    Ledger,
    /// A ledger names the state that counts. A commit is stored when it is on the disk, and acknowledged as soon as the
    /// ledger does, at the latest before the next one begins: until then a host can take back this one, and none before
    /// it.
    Lazy,
    /// No ledger is asked: the commit records on the disk say what counts. **Nothing protects against a whole older
    /// disk**; whoever tells relying parties of the state must tell this with it.
    None,
}

/// What a ledger says when it begins a new epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The epoch that this opening was given: every earlier one is over.
    pub epoch: u64,
    /// The last commit that the ledger acknowledged; `None` for a machine without a state.
    pub latest: Option<Point>,
}

/// Why a ledger refuses, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// `revoked`: the operator took the machine out.
    Revoked,
    /// `fenced`: the state was opened again, and the later opening has it.
    Fenced,
    /// `restored`: the ledger is a backup's, and the owner has not said yet which state is the latest.
    Restored,
    /// `ledger-behind`: the ledger was restored from an old backup.
    LedgerBehind,
    /// `state-missing`: there was a state, and the disk has none.
    StateMissing,
    /// `other-machine`: the state on the disk is another machine's.
    OtherMachine,
    /// `rolled-back`: the disk has no state that is as new as the latest.
    RolledBack,
    /// `altered`: the state on the disk has the latest one's counter, and is not the one that was committed.
    Altered,
    /// `uncommitted`: the disk has a state that nobody committed, and not the latest.
    Uncommitted,
    /// Another name.
    Other,
}

impl Refusal {
    /// All that have a name of their own.
    const NAMED: [Self; 9] = [
        Self::Revoked,
        Self::Restored,
        Self::Fenced,
        Self::LedgerBehind,
        Self::StateMissing,
        Self::OtherMachine,
        Self::RolledBack,
        Self::Altered,
        Self::Uncommitted,
    ];

    /// Its name in the ledger's answers; `other` for [`Refusal::Other`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Restored => "restored",
            Self::Fenced => "fenced",
            Self::LedgerBehind => "ledger-behind",
            Self::StateMissing => "state-missing",
            Self::OtherMachine => "other-machine",
            Self::RolledBack => "rolled-back",
            Self::Altered => "altered",
            Self::Uncommitted => "uncommitted",
            Self::Other => "other",
        }
    }

    /// The refusal of this name.
    pub fn named(name: &str) -> Self {
        let mut named = Self::NAMED.into_iter();
        named
            .find(|refusal| refusal.name() == name)
            .unwrap_or(Self::Other)
    }
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let text = match self {
            Self::Revoked => "the machine was revoked",
            Self::Fenced => "the state was opened again, and the later opening has it",
            Self::Restored => {
                "the owner has not said which state is the latest since the ledger was restored"
            }
            Self::LedgerBehind => "the ledger was restored from an old backup",
            Self::StateMissing => "there was a state, and the disk has none",
            Self::OtherMachine => "the state on the disk is another machine's",
            Self::RolledBack => "the disk has no state as new as the latest",
            Self::Altered => "the state on the disk is not the one that was committed",
            Self::Uncommitted => "the disk has a state that nobody committed, and not the latest",
            Self::Other => "for a reason that this version does not know",
        };
        write!(f, "{text} ({})", self.name())
    }
}

/// Why the ledger did not grant or acknowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// No answer, or none that is the ledger's. The request may have arrived.
    #[error("the ledger does not answer")]
    Unreachable,
    /// It answered, and refuses: to ask again is of no use.
    #[error("the ledger refuses: {0}")]
    Refused(Refusal),
}

/// What became of a commit that was answered before the ledger acknowledged it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Collected {
    /// The ledger has acknowledged it.
    Acknowledged,
    /// The ledger was asked, and has not answered yet.
    Outstanding,
}

/// A ledger of states. One for one machine.
pub trait Ledger {
    /// Begins a new epoch, which ends all earlier ones, and says what is known. `disk` is what the disk holds, slot 0
    /// first: of each slot that the key's owner sealed for this machine, which commit it is. A ledger that does not
    /// find there what counts refuses, and ends no epoch.
    ///
    /// # Errors
    /// See [`LedgerError`].
    fn open(&mut self, disk: [Option<Point>; 2]) -> Result<Grant, LedgerError>;

    /// Makes a commit the latest one, which is whole on the disk. When this returns, the ledger names it at every
    /// later opening, until a later commit takes its place. The same commit again is acknowledged again.
    ///
    /// # Errors
    /// See [`LedgerError`].
    fn commit(&mut self, point: Point) -> Result<(), LedgerError>;

    /// As [`commit`](Self::commit), by who waits for nobody: the first time it asks, and then it looks for the answer. This
    /// is for a ledger that answers at once.
    ///
    /// # Errors
    /// See [`LedgerError`].
    fn collect(&mut self, point: Point) -> Result<Collected, LedgerError> {
        self.commit(point).map(|()| Collected::Acknowledged)
    }

    /// Tells it that L1 refused what it found on the disk, by the error's name and text: so its owner learns of it where
    /// the host has all other logs. Nothing depends on whether it arrives.
    fn note(&mut self, _error: &str, _text: &str) {}
}

impl<L: Ledger + ?Sized> Ledger for &mut L {
    fn open(&mut self, disk: [Option<Point>; 2]) -> Result<Grant, LedgerError> {
        (**self).open(disk)
    }
    fn commit(&mut self, point: Point) -> Result<(), LedgerError> {
        (**self).commit(point)
    }
    fn collect(&mut self, point: Point) -> Result<Collected, LedgerError> {
        (**self).collect(point)
    }
    fn note(&mut self, error: &str, text: &str) {
        (**self).note(error, text);
    }
}

/// No ledger, for [`Rollback::None`]: it is not asked. Where it is, it does not answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLedger;

impl Ledger for NoLedger {
    fn open(&mut self, _disk: [Option<Point>; 2]) -> Result<Grant, LedgerError> {
        Err(LedgerError::Unreachable)
    }
    fn commit(&mut self, _point: Point) -> Result<(), LedgerError> {
        Err(LedgerError::Unreachable)
    }
}

/// How often a ledger that does not answer is asked in all.
pub const ATTEMPTS: u32 = 3;

/// Asks again as long as there is no answer, [`ATTEMPTS`] times in all.
pub(crate) fn again<T>(
    mut attempt: impl FnMut() -> Result<T, LedgerError>,
) -> Result<T, LedgerError> {
    let mut result = attempt();
    for _ in 1..ATTEMPTS {
        match result {
            Err(LedgerError::Unreachable) => result = attempt(),
            _ => break,
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_refusal_is_known_by_its_name() {
        for refusal in Refusal::NAMED {
            assert_eq!(Refusal::named(refusal.name()), refusal);
            assert!(refusal.to_string().contains(refusal.name()));
        }
        for other in ["", "other", "Revoked", "wrong-counter"] {
            assert_eq!(Refusal::named(other), Refusal::Other);
        }
    }

    #[test]
    fn no_answer_is_asked_for_three_times_and_a_refusal_once() {
        for (error, expected) in [
            (LedgerError::Unreachable, 3),
            (LedgerError::Refused(Refusal::Fenced), 1),
        ] {
            let mut asked = 0;
            let result: Result<(), _> = again(|| {
                asked += 1;
                Err(error)
            });
            assert_eq!((result, asked), (Err(error), expected));
        }
    }

    #[test]
    fn no_ledger_answers_nothing() {
        let mut ledger = NoLedger;
        assert_eq!(ledger.open([None; 2]), Err(LedgerError::Unreachable));
    }
}
