//! Values of the tables' columns, the same in each database.

use super::StoreError;
use crate::configuration::{Configured, Halves};
use broker_ledger::{Entry, Standing};
use broker_protocol::MachineId;
use broker_protocol::ledger::{Commit, SlotDigest};
use init_data::{Otherwise, Rollback};

/// The form of the tables that this version writes; see `tables.rs` of each database.
pub(super) const VERSION: i64 = 3;

pub(super) fn number(value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::Number)
}

pub(super) fn unsigned(value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|_| StoreError::Content("number"))
}

/// How a standing is written.
pub(super) fn text_of(standing: Standing) -> &'static str {
    match standing {
        Standing::Enrolled => "enrolled",
        Standing::Revoked => "revoked",
        Standing::Restored => "restored",
    }
}

pub(super) fn standing_of(text: &str) -> Result<Standing, StoreError> {
    [Standing::Enrolled, Standing::Revoked, Standing::Restored]
        .into_iter()
        .find(|standing| text_of(*standing) == text)
        .ok_or(StoreError::Content("standing"))
}

pub(super) fn rollback_of(text: &str) -> Result<Rollback, StoreError> {
    Rollback::ALL
        .into_iter()
        .find(|one| one.name() == text)
        .ok_or(StoreError::Content("rollback"))
}

/// The columns of what a machine's configuration must say: halves, otherwise.
pub(super) type ConfiguredColumns = (Option<String>, Option<String>);

pub(super) fn configured_of(columns: ConfiguredColumns) -> Result<Option<Configured>, StoreError> {
    let (Some(halves), Some(otherwise)) = columns else {
        return Ok(None);
    };
    let halves = Halves::ALL.into_iter().find(|one| one.name() == halves);
    let otherwise = Otherwise::ALL
        .into_iter()
        .find(|one| one.name() == otherwise);
    Ok(Some(Configured {
        halves: halves.ok_or(StoreError::Content("key of a configuration"))?,
        otherwise: otherwise.ok_or(StoreError::Content("state of a configuration"))?,
    }))
}

pub(super) fn configured_columns(
    configured: Option<&Configured>,
) -> (Option<&'static str>, Option<&'static str>) {
    (
        configured.map(|one| one.halves.name()),
        configured.map(|one| one.otherwise.name()),
    )
}

pub(super) fn machine_of(bytes: &[u8]) -> Result<MachineId, StoreError> {
    let id = bytes
        .try_into()
        .map_err(|_| StoreError::Content("machine's identity"))?;
    Ok(MachineId(id))
}

/// The columns of a commit: epoch, counter, digest.
pub(super) type CommitColumns = (Option<i64>, Option<i64>, Option<Vec<u8>>);

pub(super) fn commit_of(columns: CommitColumns) -> Result<Option<Commit>, StoreError> {
    match columns {
        (None, None, None) => Ok(None),
        (Some(epoch), Some(counter), Some(digest)) => {
            let digest = digest
                .try_into()
                .map_err(|_| StoreError::Content("digest"))?;
            Ok(Some(Commit {
                epoch: unsigned(epoch)?,
                counter: unsigned(counter)?,
                digest: SlotDigest(digest),
            }))
        }
        _ => Err(StoreError::Content("commit")),
    }
}

pub(super) fn commit_columns(commit: Option<&Commit>) -> Result<CommitColumns, StoreError> {
    Ok(match commit {
        None => (None, None, None),
        Some(commit) => (
            Some(number(commit.epoch)?),
            Some(number(commit.counter)?),
            Some(commit.digest.0.to_vec()),
        ),
    })
}

/// The columns of what the ledger knows of a machine.
pub(super) struct EntryColumns {
    pub(super) standing: String,
    pub(super) epoch: i64,
    pub(super) latest: CommitColumns,
    pub(super) pending: CommitColumns,
}

impl EntryColumns {
    pub(super) fn of(entry: &Entry) -> Result<Self, StoreError> {
        Ok(Self {
            standing: text_of(entry.standing).into(),
            epoch: number(entry.epoch)?,
            latest: commit_columns(entry.latest.as_ref())?,
            pending: commit_columns(entry.pending.as_ref())?,
        })
    }

    pub(super) fn entry(self) -> Result<Entry, StoreError> {
        Ok(Entry {
            standing: standing_of(&self.standing)?,
            epoch: unsigned(self.epoch)?,
            latest: commit_of(self.latest)?,
            pending: commit_of(self.pending)?,
        })
    }
}
