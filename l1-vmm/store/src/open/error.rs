//! Why a state cannot be opened.

use crate::device::DeviceError;
use crate::key::MachineId;
use crate::layout::{SECTORS_MIN, VERSION};
use crate::ledger::Refusal;
use crate::record::RecordError;
use crate::seal::SlotFault;
use core::fmt;

/// Why there is no state. Each says what the owner can do. To open again helps only where the disk or the ledger did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The device could not be read.
    #[error("the state disk cannot be read: {0}")]
    Device(#[from] DeviceError),
    /// The ledger gave no answer.
    #[error("the ledger does not answer: without it nobody can say which state counts")]
    LedgerUnreachable,
    /// The ledger refuses to give the state to this machine. The epoch of the machine that has it goes on.
    #[error("the ledger refuses: {refusal}. {disk}")]
    Refused {
        /// Why.
        refusal: Refusal,
        /// What the disk has.
        disk: Seen,
    },
    /// Too small a disk, or one that was cut off.
    #[error(
        "the disk has {sectors} sectors, a state disk {SECTORS_MIN}: give the whole disk, or a larger blank one"
    )]
    TooSmall {
        /// Its sectors.
        sectors: u64,
    },
    /// Something else is on the disk.
    #[error(
        "this is not a state disk, and not blank: give the state disk, or one that is all zero"
    )]
    NotAStateDisk,
    /// The first sector is damaged.
    #[error("the state disk's label is damaged: restore the disk from a copy of its last state")]
    LabelDamaged,
    /// A later version wrote it.
    #[error(
        "the state's format has version {version}, this L1 knows {VERSION}: start the L1 that wrote it, or a later one"
    )]
    FutureFormat {
        /// The format's version.
        version: u16,
    },
    /// No version wrote it.
    #[error(
        "the state's format has version {version}, which there never was: restore the disk from a copy of its last state"
    )]
    UnknownVersion {
        /// What stands for the version.
        version: u16,
    },
    /// Another machine's disk.
    #[error("this is the state disk of another machine: give this machine its own")]
    OtherMachine {
        /// Whose it is.
        found: MachineId,
    },
    /// The key that was released is not the state's.
    #[error("the state was sealed with another key: the broker or the hardware gave the wrong one")]
    OtherKey,
    /// The engine's NV memory has another size than when the state was stored.
    #[error(
        "the state is of a TPM with {stored} bytes of NV memory, this one has {engine}: start the L1 that wrote it"
    )]
    OtherNvSize {
        /// What the state says.
        stored: u32,
        /// What the engine has.
        engine: u32,
    },
    /// The commit that counts is damaged. The older slot is not used.
    #[error(
        "the state of commit {counter} counts, and its slot cannot be used: {fault}. The older slot is not used instead; restore the disk from a copy of its last state, or recover with the owner's consent"
    )]
    NewestDamaged {
        /// The commit that counts.
        counter: u64,
        /// What is wrong with its slot.
        fault: SlotFault,
    },
    /// Without a ledger: the commit records do not tell which slot counts.
    #[error(
        "the commit records do not tell which state counts, and nobody else does: restore the disk from a copy of its last state"
    )]
    CommitRecordsDamaged,
    /// An older disk was put in place of the last one.
    #[error(
        "the newest state on the disk is {}, the ledger knows commit {ledger}: an older disk was put in place of the last one; give the last one, or recover with the owner's consent",
        Told(*disk)
    )]
    OlderDisk {
        /// The newest commit that the disk has; `None` if it is blank.
        disk: Option<u64>,
        /// The commit that counts.
        ledger: u64,
    },
    /// The same counter with another state: two machines have run from one disk.
    #[error(
        "the disk and the ledger have different states of commit {counter}: a copy of this disk was started as well; give the disk that the ledger knows"
    )]
    OtherHistory {
        /// The commit.
        counter: u64,
    },
    /// The ledger forgot commits: it was restored from an old backup.
    #[error(
        "the newest state on the disk is {}, the last one that the ledger knows is {}: the ledger lost what it knew; restore it, or recover with the owner's consent",
        Told(*disk),
        Told(*ledger)
    )]
    LedgerBehind {
        /// The newest commit that the disk tells of, if it can be told.
        disk: Option<u64>,
        /// What the ledger knows last.
        ledger: Option<u64>,
    },
    /// The ledger forgot openings: it was restored from an old backup.
    #[error(
        "the disk was written in epoch {disk}, and the ledger gives epoch {ledger}: the ledger lost what it knew; restore it, or recover with the owner's consent"
    )]
    EpochBehind {
        /// The newest epoch that the disk has.
        disk: u64,
        /// The epoch that the ledger gave.
        ledger: u64,
    },
    /// The AEAD passed it, and it is no state for this L1.
    #[error("the state cannot be read: {0}")]
    Records(#[from] RecordError),
    /// There have been 2^64 openings.
    #[error("the state was opened too often")]
    EpochsEnd,
}

impl OpenError {
    /// Its name, for logs, the journal and the ledger.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Device(_) => "disk-unreadable",
            Self::LedgerUnreachable => "ledger-unreachable",
            Self::Refused { refusal, .. } => refusal.name(),
            Self::TooSmall { .. } => "disk-too-small",
            Self::NotAStateDisk => "not-a-state-disk",
            Self::LabelDamaged => "label-damaged",
            Self::FutureFormat { .. } => "future-format",
            Self::UnknownVersion { .. } => "unknown-version",
            Self::OtherMachine { .. } => "other-machine",
            Self::OtherKey => "other-key",
            Self::OtherNvSize { .. } => "other-nv-size",
            Self::NewestDamaged { .. } => "newest-damaged",
            Self::CommitRecordsDamaged => "commit-records-damaged",
            Self::OlderDisk { .. } => "rolled-back",
            Self::OtherHistory { .. } => "altered",
            Self::LedgerBehind { .. } | Self::EpochBehind { .. } => "ledger-behind",
            Self::Records(_) => "records",
            Self::EpochsEnd => "epochs-end",
        }
    }

    /// What is wrong with a version that is not ours.
    pub(crate) fn version(version: u16) -> Self {
        if version > VERSION {
            Self::FutureFormat { version }
        } else {
            Self::UnknownVersion { version }
        }
    }
}

/// A commit by its counter, or that there is none.
struct Told(Option<u64>);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(counter) => write!(f, "commit {counter}"),
            None => f.write_str("none"),
        }
    }
}

/// A commit, without its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenCommit {
    /// The epoch that wrote it.
    pub epoch: u64,
    /// Its counter.
    pub counter: u64,
}

/// What was seen of slot 0 and slot 1 when the disk was opened: the commit in it, or what is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen(pub [Result<SeenCommit, SlotFault>; 2]);

impl Seen {
    /// Of a disk that is blank.
    pub(super) const BLANK: Self = Self([Err(SlotFault::Blank); 2]);
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [even, odd] = &self.0;
        for (text, slot) in [("Slot 0: ", even), ("; slot 1: ", odd)] {
            f.write_str(text)?;
            match slot {
                Ok(commit) => write!(f, "commit {} of epoch {}", commit.counter, commit.epoch)?,
                Err(fault) => write!(f, "{fault}")?,
            }
        }
        Ok(())
    }
}
