//! What the broker keeps.
//!
//! All of it is behind [`Storage`] and [`Transaction`]: what is written in one transaction is there as a whole, or not at
//! all, and when [`Storage::transaction`] has returned it is on the disk. [`sqlite`] is the one that there is.

pub mod sqlite;

use broker_ledger::Entry;
use broker_protocol::MachineId;
use init_data::Rollback;
use serde::Serialize;
use std::path::Path;

/// Why something could not be read or kept.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database does not work.
    #[error("the database: {0}")]
    Database(String),
    /// What is in the database is not what this version writes.
    #[error("the database has a {0} that this version does not write")]
    Content(&'static str),
    /// The number of a machine's epochs or commits is beyond what the database holds.
    #[error("a number is too large for the database")]
    Number,
    /// There is a machine or a policy of this name.
    #[error("the name {0:?} is taken")]
    NameTaken(String),
    /// The broker is ending, or the transaction of which this was a part failed.
    #[error("the transaction was not made")]
    NotMade,
}

/// A machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its identity.
    pub id: MachineId,
    /// The operator's name for it.
    pub name: String,
    /// The broker's half of its state's key, sealed.
    pub key: Vec<u8>,
    /// What an older state is found out by: its attested configuration must say the same.
    pub rollback: Rollback,
    /// What the ledger knows.
    pub entry: Entry,
    /// When it was enrolled, in Unix seconds.
    pub enrolled: u64,
    /// The last verdict on evidence of a TD for it: [`crate::attest::Judged`] as JSON.
    pub verdict: Option<String>,
}

/// A policy that evidence of a machine may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name, one of a machine's.
    pub name: String,
    /// The verifier's policy file.
    pub text: String,
    /// When it was allowed, in Unix seconds.
    pub allowed: u64,
}

/// A session of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its name.
    pub id: String,
    /// Whose.
    pub machine: MachineId,
    /// Its key, sealed.
    pub key: Vec<u8>,
    /// The epoch of its lease, when it has one.
    pub epoch: Option<u64>,
    /// The number of the last request; 0 before the first.
    pub sequence: u64,
    /// The last request's code, empty before the first.
    pub code: Vec<u8>,
    /// The last request's answer as it was sent: a repeated request is answered the same.
    pub answer: Vec<u8>,
    /// When it was made, in Unix seconds.
    pub made: u64,
}

/// The fact that a database has which is a backup's.
pub const RESTORED: &str = "restored";

/// Something that the audit trail tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Unix seconds.
    pub time: u64,
    /// Of which machine, if it is of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineId>,
    /// What happened.
    pub event: String,
    /// More, for people.
    pub detail: String,
}

/// What can be done in a transaction.
pub trait Transaction {
    /// A fact of the whole broker.
    ///
    /// # Errors
    /// See [`StoreError`]; so for all that follow.
    fn fact(&mut self, name: &str) -> Result<Option<Vec<u8>>, StoreError>;
    /// Keeps a fact of the whole broker.
    fn set_fact(&mut self, name: &str, value: &[u8]) -> Result<(), StoreError>;
    /// A machine.
    fn machine(&mut self, id: &MachineId) -> Result<Option<Machine>, StoreError>;
    /// All machines, by name.
    fn machines(&mut self) -> Result<Vec<Machine>, StoreError>;
    /// Keeps a new machine.
    fn add_machine(&mut self, machine: &Machine) -> Result<(), StoreError>;
    /// Keeps what the ledger knows of a machine.
    fn set_entry(&mut self, id: &MachineId, entry: &Entry) -> Result<(), StoreError>;
    /// Keeps the last verdict.
    fn set_verdict(&mut self, id: &MachineId, verdict: &str) -> Result<(), StoreError>;
    /// The policies of a machine, the last allowed first.
    fn policies(&mut self, id: &MachineId) -> Result<Vec<Policy>, StoreError>;
    /// Allows a policy; one of the same name is replaced.
    fn allow(&mut self, id: &MachineId, policy: &Policy) -> Result<(), StoreError>;
    /// Takes a policy back; whether there was one.
    fn disallow(&mut self, id: &MachineId, name: &str) -> Result<bool, StoreError>;
    /// A session.
    fn session(&mut self, id: &str) -> Result<Option<Session>, StoreError>;
    /// Keeps a new session, or one that has changed.
    fn set_session(&mut self, session: &Session) -> Result<(), StoreError>;
    /// Forgets sessions of a machine, the newest `keep` and that of `epoch` excepted.
    fn forget_sessions(&mut self, id: &MachineId, epoch: u64, keep: u32) -> Result<(), StoreError>;
    /// Adds to the audit trail.
    fn tell(&mut self, event: &Event) -> Result<(), StoreError>;
    /// The last events, the newest first, of one machine or of all.
    fn events(&mut self, id: Option<&MachineId>, most: u32) -> Result<Vec<Event>, StoreError>;
}

/// Work within a transaction.
pub type Work<'a> = &'a mut dyn FnMut(&mut dyn Transaction) -> Result<(), StoreError>;

/// Where it is kept.
pub trait Storage: Send {
    /// Calls `work` so many times in one transaction: what a call did is kept as a whole or, if it fails, not at all. What
    /// was kept is on the disk when this returns.
    ///
    /// # Errors
    /// Nothing was kept.
    fn transaction(&mut self, times: usize, work: Work<'_>) -> Result<(), StoreError>;

    /// A consistent copy at `path`, where no file is yet, marked as a backup.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn backup(&mut self, path: &Path) -> Result<(), StoreError>;
}

/// One piece of work in a transaction of its own.
///
/// # Errors
/// See [`StoreError`].
pub fn once<T>(
    storage: &mut dyn Storage,
    work: impl FnOnce(&mut dyn Transaction) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut work = Some(work);
    let mut result = Err(StoreError::NotMade);
    storage.transaction(1, &mut |transaction| {
        let done = match work.take() {
            Some(work) => work(transaction),
            None => Err(StoreError::NotMade),
        };
        let (kept, returned) = match done {
            Ok(value) => (Ok(()), Ok(value)),
            Err(error) => (Err(error.clone()), Err(error)),
        };
        result = returned;
        kept
    })?;
    result
}
