//! What the broker keeps.
//!
//! All of it is behind [`Storage`] and [`Transaction`]: what is written in one transaction is there as a whole, or not at
//! all, and when [`Storage::transaction`] has returned it is on the disk. What a transaction reads of a machine stays as it
//! is until its end, whoever else has the database open: [`sqlite`] locks the database, [`postgresql`] the machines.

mod columns;
mod copy;
pub mod postgresql;
pub mod sqlite;

pub use copy::copy;

use crate::configuration::Configured;
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
    /// The database cannot be reached, or the connection broke before the transaction came to its end, each time that it
    /// was tried: nothing was kept.
    #[error("the database cannot be reached: {0}")]
    Unreachable(String),
    /// The connection broke while the transaction came to its end: all of it was kept, or nothing. A request of a machine
    /// that is repeated gets the right answer in either case.
    #[error(
        "whether the transaction was made is not known, the connection to the database broke: {0}"
    )]
    Unknown(String),
    /// The database is set up so that it may forget what it acknowledged, or it takes no changes.
    #[error("the database cannot be used: {0}")]
    SetUp(String),
    /// There are no tables of a broker.
    #[error("the database has no broker: `init` makes one")]
    NoBroker,
    /// There are tables of a broker.
    #[error("the database has a broker already")]
    BrokerThere,
    /// An earlier version of this program wrote the tables.
    #[error(
        "the database has tables of version {0}, and this broker writes version {writes}: end all brokers that serve from \
         it, make a `backup` with the older program, and run `migrate` with this one",
        writes = columns::VERSION
    )]
    OldTables(i64),
    /// A later version of this program wrote the tables.
    #[error(
        "the database has tables of version {0}, and this broker knows none after version {writes}: a newer program has to \
         serve from it",
        writes = columns::VERSION
    )]
    NewTables(i64),
    /// What is in the database is not what this version writes.
    #[error("the database has a {0} that this version does not write")]
    Content(&'static str),
    /// The number of a machine's epochs or commits is beyond what the database holds.
    #[error("a number is too large for the database")]
    Number,
    /// The operator's key was replaced since the broker was opened.
    #[error("the operator's key was replaced meanwhile: try again")]
    OtherKey,
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
    /// What else its attested configuration must say; nothing is known of it where a version before 3 enrolled it.
    pub configured: Option<Configured>,
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

/// A session of KBS whose evidence passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attested {
    /// Its name.
    pub name: String,
    /// Whose evidence.
    pub machine: MachineId,
    /// When it passed, in Unix seconds.
    pub made: u64,
    /// What was found, sealed.
    pub sealed: Vec<u8>,
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

/// Keys that are sealed with another operator's key.
#[derive(Default)]
pub struct Resealed {
    /// Of machines.
    pub machines: Vec<(MachineId, Vec<u8>)>,
    /// Of sessions of the ledger, by name.
    pub sessions: Vec<(String, Vec<u8>)>,
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
    /// What the ledger knows of a machine.
    fn entry(&mut self, id: &MachineId) -> Result<Option<Entry>, StoreError>;
    /// All machines, by name.
    fn machines(&mut self) -> Result<Vec<Machine>, StoreError>;
    /// Keeps a new machine.
    fn add_machine(&mut self, machine: &Machine) -> Result<(), StoreError>;
    /// Keeps what a machine's attested configuration must say.
    fn set_configured(&mut self, id: &MachineId, configured: &Configured)
    -> Result<(), StoreError>;
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
    /// A session of KBS whose evidence passed.
    fn attested(&mut self, name: &str) -> Result<Option<Attested>, StoreError>;
    /// Keeps one, and of its machine's the newest `keep` of those that were made at `since` or later.
    fn set_attested(
        &mut self,
        attested: &Attested,
        since: u64,
        keep: u32,
    ) -> Result<(), StoreError>;
    /// Adds to the audit trail.
    fn tell(&mut self, event: &Event) -> Result<(), StoreError>;
    /// The last events, the newest first, of one machine or of all.
    fn events(&mut self, id: Option<&MachineId>, most: u32) -> Result<Vec<Event>, StoreError>;
    /// Takes events from before this time, in Unix seconds, out of the trail: how many.
    fn prune(&mut self, before: u64) -> Result<u64, StoreError>;
    /// Nobody else changes anything until the transaction's end.
    fn alone(&mut self) -> Result<(), StoreError>;
    /// Keeps keys that are sealed anew, and no session of KBS.
    fn reseal(&mut self, resealed: &Resealed) -> Result<(), StoreError>;
    /// All facts of the whole broker, but what says of which database they are.
    fn facts(&mut self) -> Result<Vec<(String, Vec<u8>)>, StoreError>;
    /// All sessions of the ledger.
    fn sessions(&mut self) -> Result<Vec<Session>, StoreError>;
    /// Events in the order in which they were told, each with its number, from the one after number `after` on.
    fn events_after(&mut self, after: i64, most: u32) -> Result<Vec<(i64, Event)>, StoreError>;
}

/// What a piece of work is about, as far as it is known before: a database can get it ready for all pieces at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// The broker, or what is found on the way.
    Anything,
    /// A machine.
    Machine(MachineId),
    /// The session of this name, and its machine.
    Session(String),
    /// The session of KBS of this name, and its machine.
    Attested(String),
}

/// A piece of work within a transaction, by its place in the list. A transaction that did not come to its end may be made
/// again, from its first piece on.
pub type Work<'a> = &'a mut dyn FnMut(usize, &mut dyn Transaction) -> Result<(), StoreError>;

/// Where it is kept.
pub trait Storage: Send {
    /// Does all `pieces` of `work` in one transaction: what a piece did is kept as a whole or, if it fails, not at all. What
    /// was kept is on the disk when this returns.
    ///
    /// # Errors
    /// Nothing was kept; with [`StoreError::Unknown`], that is not known.
    fn transaction(&mut self, pieces: &[About], work: Work<'_>) -> Result<(), StoreError>;

    /// A consistent copy at `path`, where no file is yet, marked as a backup. It is a database of SQLite in any case.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn backup(&mut self, path: &Path) -> Result<(), StoreError>;
}

/// One piece of work in a transaction of its own. It may be called more than once, of which one is kept.
///
/// # Errors
/// See [`StoreError`].
pub fn once<T>(
    storage: &mut dyn Storage,
    mut work: impl FnMut(&mut dyn Transaction) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut result = Err(StoreError::NotMade);
    storage.transaction(&[About::Anything], &mut |_, transaction| {
        let (kept, returned) = match work(transaction) {
            Ok(value) => (Ok(()), Ok(value)),
            Err(error) => (Err(error.clone()), Err(error)),
        };
        result = returned;
        kept
    })?;
    result
}
