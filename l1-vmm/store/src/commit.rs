//! A commit: slot, flush, the ledger's acknowledgement, commit record, flush.
//!
//! With a ledger a state is stored when the ledger has acknowledged it; the commit record is a second witness, for
//! the day on which the ledger has lost what it knew. Without one it is stored when the commit record is on the
//! disk. A commit whose end is not known is brought to its end before the next one begins, and its slot is not
//! touched until then.
//!
//! With [`Rollback::Lazy`] the answer does not wait for the acknowledgement: [`Commit::Written`]. It is looked for as time
//! passes ([`Store::collect`]), and the next commit waits for it. So one commit at most is not acknowledged
//! ([`Store::unacknowledged`]), and the host can take back that one.

use crate::device::{self, Device, DeviceError};
use crate::key::{MachineId, Ring};
use crate::layout::{LABEL_SECTOR, Label, Sha, Slot};
use crate::ledger::{self, Collected, Ledger, LedgerError, Point, Refusal, Rollback};
use crate::record::State;
use crate::seal::{self, Nonce, Seal};
use zerocopy::IntoBytes;

/// What may be told to who sent the command that changed the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The command's own response.
    Response,
    /// TPM_RC_NV_UNAVAILABLE: it may succeed later (TPM 2.0 Library, part 2, table "TPM_RC Constants").
    NvUnavailable,
    /// TPM_RC_FAILURE: it never will, the TPM is in failure mode.
    Failure,
}

/// Whether a state that was not stored can be found when the state is next opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Later {
    /// It cannot.
    Never,
    /// It may: the ledger or the disk may have it, and the answer was lost. So it is with every storage that can
    /// lose an answer.
    Possible,
}

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Commit {
    /// The state is stored as this commit.
    Stored(Point),
    /// It is on the disk, and the ledger has not acknowledged it ([`Rollback::Lazy`]): the host can take it back.
    Written(Point),
    /// It is the one that is stored already: nothing was written.
    Unchanged(Point),
    /// It is not known to be stored.
    NotStored {
        /// Why.
        why: NotStored,
        /// Whether it can appear nevertheless.
        later: Later,
    },
}

impl Commit {
    /// What may be answered.
    pub fn answer(&self) -> Answer {
        match self {
            Self::Stored(_) | Self::Written(_) | Self::Unchanged(_) => Answer::Response,
            Self::NotStored { why, .. } => why.answer(),
        }
    }
}

/// Why a state was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotStored {
    /// The device failed, again and again.
    #[error("the state cannot be written: {0}")]
    Device(#[from] DeviceError),
    /// The ledger did not acknowledge.
    #[error("the state is not acknowledged: {0}")]
    Ledger(#[from] LedgerError),
    /// No slot has room for it.
    #[error("the state is larger than a slot")]
    TooLarge,
    /// It is of a TPM with another size of NV memory than was opened.
    #[error("the state is of a TPM with another size of NV memory")]
    OtherNvSize,
    /// There have been 2^64 commits.
    #[error("the state was stored too often")]
    CountersEnd,
}

impl NotStored {
    /// What may be answered.
    pub fn answer(&self) -> Answer {
        match self {
            Self::Device(_) | Self::Ledger(LedgerError::Unreachable) => Answer::NvUnavailable,
            _ => Answer::Failure,
        }
    }
}

/// What an opening found out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) label: Labelled,
    pub(crate) rollback: Rollback,
    pub(crate) machine: MachineId,
    pub(crate) nv_size: u32,
    /// Slots that are sealed with another key than that of now.
    pub(crate) former: usize,
}

/// Whether the disk has its label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Labelled {
    /// It has.
    Yes,
    /// It is blank.
    NotYet,
}

/// How far the last commit came.
#[derive(Clone, Copy, Debug)]
enum Progress {
    /// To its end.
    Settled,
    /// Its slot is on the disk; it is not known to count.
    Written(Point, Sha),
    /// It counts; its commit record is not on the disk.
    Acknowledged(Point),
    /// The ledger has ended this epoch.
    Over(Refusal),
}

/// What the next commit's slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replaced {
    /// Nothing that anybody needs.
    Superseded,
    /// The state that was opened, which the ledger did not acknowledge.
    Opened,
}

/// Where the states of one machine go, in one epoch.
pub struct Store<D, L> {
    device: D,
    ledger: L,
    ring: Ring,
    found: Found,
    epoch: u64,
    /// The commit that counts, and its state's digest.
    last: Option<(Point, Sha)>,
    progress: Progress,
    replaced: Replaced,
    /// Commits until every slot is sealed with the key of now.
    to_reseal: usize,
}

impl<D, L> core::fmt::Debug for Store<D, L> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Store")
            .field("epoch", &self.epoch)
            .field("last", &self.last)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

impl<D: Device, L: Ledger> Store<D, L> {
    /// Without a state as yet.
    pub(crate) fn new(device: D, ledger: L, ring: Ring, found: Found, epoch: u64) -> Self {
        Self {
            device,
            ledger,
            ring,
            found,
            epoch,
            last: None,
            progress: Progress::Settled,
            replaced: Replaced::Superseded,
            // A state that was opened with a former key is replaced by the second commit.
            to_reseal: match found.former {
                0 => 0,
                _ => Slot::BOTH.len(),
            },
        }
    }

    /// With the commit that counts, and its state's digest. `recorded` is the commit that the commit record of its
    /// slot tells of.
    pub(crate) fn after(self, last: (Point, Sha), recorded: Option<Point>) -> Self {
        let progress = match recorded == Some(last.0) {
            true => Progress::Settled,
            false => Progress::Acknowledged(last.0),
        };
        Self {
            last: Some(last),
            progress,
            ..self
        }
    }

    /// With the state that was opened in the slot of the next commit.
    pub(crate) fn ahead(self) -> Self {
        Self {
            replaced: Replaced::Opened,
            ..self
        }
    }

    /// This opening's epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The commit that counts.
    pub fn point(&self) -> Option<Point> {
        self.last.map(|(point, _)| point)
    }

    /// The commit that is on the disk and not known to count. There is no second one: it is brought to its end before
    /// the next begins.
    pub fn unacknowledged(&self) -> Option<Point> {
        match self.progress {
            Progress::Written(point, _) => Some(point),
            _ => None,
        }
    }

    /// Whether a slot may still be sealed with a former key: the same state committed again replaces it.
    pub fn is_resealing(&self) -> bool {
        self.to_reseal > 0
    }

    /// The device and the ledger, given back.
    pub fn into_parts(self) -> (D, L) {
        (self.device, self.ledger)
    }

    /// Stores a state. `nonce` is random.
    pub fn commit(&mut self, state: &State, nonce: Nonce) -> Commit {
        self.store(state, nonce, Same::Left)
    }

    /// As [`commit`](Self::commit), and writes a state as well that is the stored one: who sees what is written does not
    /// see which it is, and that it was stored shows that states can be.
    pub fn commit_anew(&mut self, state: &State, nonce: Nonce) -> Commit {
        self.store(state, nonce, Same::Written)
    }

    fn store(&mut self, state: &State, nonce: Nonce, same: Same) -> Commit {
        if let Err(why) = self.settle() {
            let later = Later::Never;
            return Commit::NotStored { why, later };
        }
        let point = match self.write(state, nonce, same) {
            Ok(Put::Slot(point)) => point,
            Ok(Put::Nothing(point)) => return Commit::Unchanged(point),
            Err(why) => {
                // Whatever a failed write left there: nothing else can say of a slot that it counts.
                let later = match (self.found.rollback, why) {
                    (Rollback::Lazy, NotStored::Device(_)) => Later::Possible,
                    _ => Later::Never,
                };
                return Commit::NotStored { why, later };
            }
        };
        // What was answered is overwritten only by what is acknowledged.
        if self.found.rollback == Rollback::Lazy && self.replaced == Replaced::Superseded {
            return Commit::Written(point);
        }
        match self.settle() {
            Ok(()) => Commit::Stored(point),
            Err(why) => {
                let later = match (self.progress, self.found.rollback) {
                    (Progress::Over(_), Rollback::Ledger) => Later::Never,
                    _ => Later::Possible,
                };
                Commit::NotStored { why, later }
            }
        }
    }

    /// Writes a state into its slot.
    fn write(&mut self, state: &State, nonce: Nonce, same: Same) -> Result<Put, NotStored> {
        if state.nv_size != self.found.nv_size {
            return Err(NotStored::OtherNvSize);
        }
        let records = state.encode().ok_or(NotStored::TooLarge)?;
        // With the key of now: a state that was sealed with a former one is another, and is sealed anew.
        let digest = self.ring.current().state_digest(&records);
        let counter = match self.last {
            Some((point, last))
                if last == digest
                    && same == Same::Left
                    && self.replaced == Replaced::Superseded
                    && !self.is_resealing() =>
            {
                return Ok(Put::Nothing(point));
            }
            Some((point, _)) => point.counter.checked_add(1).ok_or(NotStored::CountersEnd)?,
            None => 1,
        };
        if self.found.label == Labelled::NotYet {
            let label = Label::new(self.found.machine.0, self.ring.current().key_id);
            device::put(&mut self.device, LABEL_SECTOR, label.as_bytes())?;
            self.found.label = Labelled::Yes;
        }
        let seal = Seal {
            machine: self.found.machine,
            epoch: self.epoch,
            counter,
            nv_size: self.found.nv_size,
            nonce,
        };
        let (slot, point) = seal::seal(&self.ring, &seal, records).ok_or(NotStored::TooLarge)?;
        device::put(&mut self.device, Slot::of(counter).sector(), &slot)?;
        self.progress = Progress::Written(point, digest);
        self.to_reseal = self.to_reseal.saturating_sub(1);
        Ok(Put::Slot(point))
    }

    /// Brings the last commit to its end. Nothing to do is done.
    ///
    /// # Errors
    /// Why it is still not known to count. May be tried again; [`NotStored::answer`] says whether that is of use.
    pub fn settle(&mut self) -> Result<(), NotStored> {
        match self.progress {
            Progress::Settled => Ok(()),
            Progress::Over(refusal) => Err(LedgerError::Refused(refusal).into()),
            Progress::Written(point, digest) => {
                if self.found.rollback == Rollback::None {
                    self.record(point)?;
                    self.progress = Progress::Settled;
                    self.last = Some((point, digest));
                    self.replaced = Replaced::Superseded;
                } else {
                    let answer = ledger::again(|| self.ledger.commit(point));
                    self.heard(answer)?;
                    self.counts(point, digest);
                }
                Ok(())
            }
            Progress::Acknowledged(point) if self.found.rollback == Rollback::None => {
                self.record(point)?;
                self.progress = Progress::Settled;
                Ok(())
            }
            Progress::Acknowledged(point) => {
                self.acknowledged(point);
                Ok(())
            }
        }
    }

    /// Looks whether the ledger has acknowledged the commit that is on the disk and not known to count, and waits for
    /// nobody: it asks, and looks for the answer at each later call. Then the commit record is written.
    ///
    /// # Errors
    /// As of [`settle`](Self::settle).
    pub fn collect(&mut self) -> Result<Collected, NotStored> {
        let (point, digest) = match self.progress {
            Progress::Written(point, digest) if self.found.rollback != Rollback::None => {
                (point, digest)
            }
            Progress::Over(refusal) => return Err(LedgerError::Refused(refusal).into()),
            _ => return Ok(Collected::Acknowledged),
        };
        let answer = self.ledger.collect(point);
        let collected = self.heard(answer)?;
        if collected == Collected::Acknowledged {
            self.counts(point, digest);
        }
        Ok(collected)
    }

    /// A refusal is the end of this epoch.
    fn heard<T>(&mut self, answer: Result<T, LedgerError>) -> Result<T, LedgerError> {
        answer.inspect_err(|why| {
            if let LedgerError::Refused(refusal) = why {
                self.progress = Progress::Over(*refusal);
            }
        })
    }

    /// The ledger has acknowledged the commit.
    fn counts(&mut self, point: Point, digest: Sha) {
        self.acknowledged(point);
        self.last = Some((point, digest));
        self.replaced = Replaced::Superseded;
    }

    /// Writes the commit record of `point`, which the ledger knows: if it cannot be written now, it will be later.
    fn acknowledged(&mut self, point: Point) {
        self.progress = match self.record(point) {
            Ok(()) => Progress::Settled,
            Err(_) => Progress::Acknowledged(point),
        };
    }

    /// Writes the commit record of `point`.
    fn record(&mut self, point: Point) -> Result<(), DeviceError> {
        let record = seal::commit_record(self.ring.current(), self.found.machine, point);
        let sector = Slot::of(point.counter).commit_sector();
        device::put(&mut self.device, sector, record.as_bytes())
    }
}

/// What is done with a state that is the stored one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Same {
    /// Nothing.
    Left,
    /// It is written again.
    Written,
}

/// What writing a state came to.
enum Put {
    /// Its slot is on the disk.
    Slot(Point),
    /// It is the state that counts already.
    Nothing(Point),
}
