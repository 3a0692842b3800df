//! SQLite: one file, write-ahead log, `synchronous=FULL`, so that what was committed survives a cut of power.
//!
//! Several processes may have the file open: the server, and the operator's commands beside it.

use super::{Event, Machine, Policy, RESTORED, Session, Storage, StoreError, Transaction, Work};
use broker_ledger::{Entry, Standing};
use broker_protocol::MachineId;
use broker_protocol::ledger::{Commit, SlotDigest};
use init_data::Rollback;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, TransactionBehavior, params};
use std::path::Path;
use std::time::Duration;

/// What `PRAGMA user_version` says of this form of the tables.
const VERSION: i64 = 1;
/// How long another process may hold the database.
const BUSY: Duration = Duration::from_secs(10);

const TABLES: &str = "
CREATE TABLE fact (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE machine (
    id BLOB PRIMARY KEY, name TEXT NOT NULL UNIQUE, key BLOB NOT NULL, rollback TEXT NOT NULL, standing TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    latest_epoch INTEGER, latest_counter INTEGER, latest_digest BLOB,
    pending_epoch INTEGER, pending_counter INTEGER, pending_digest BLOB,
    enrolled INTEGER NOT NULL, verdict TEXT
) STRICT;
CREATE TABLE policy (
    machine BLOB NOT NULL REFERENCES machine, name TEXT NOT NULL, text TEXT NOT NULL, allowed INTEGER NOT NULL,
    PRIMARY KEY (machine, name)
) STRICT;
CREATE TABLE session (
    id TEXT PRIMARY KEY, machine BLOB NOT NULL REFERENCES machine, key BLOB NOT NULL, epoch INTEGER,
    sequence INTEGER NOT NULL, code BLOB NOT NULL, answer BLOB NOT NULL, made INTEGER NOT NULL
) STRICT;
CREATE INDEX session_machine ON session (machine);
CREATE TABLE event (
    number INTEGER PRIMARY KEY, time INTEGER NOT NULL, machine BLOB, event TEXT NOT NULL, detail TEXT NOT NULL
) STRICT;
CREATE INDEX event_machine ON event (machine);
";

const MACHINE: &str =
    "SELECT id, name, key, rollback, standing, epoch, latest_epoch, latest_counter, latest_digest,
    pending_epoch, pending_counter, pending_digest, enrolled, verdict FROM machine";

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        StoreError::Database(error.to_string())
    }
}

/// The database.
pub struct Sqlite(Connection);

impl Sqlite {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        connection.set_prepared_statement_cache_capacity(64);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        match version {
            0 => {
                transaction.execute_batch(TABLES)?;
                transaction.pragma_update(None, "user_version", VERSION)?;
            }
            VERSION => {}
            _ => return Err(StoreError::Content("version")),
        }
        transaction.commit()?;
        Ok(Self(connection))
    }
}

impl Storage for Sqlite {
    fn transaction(&mut self, times: usize, work: Work<'_>) -> Result<(), StoreError> {
        let mut transaction = self
            .0
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for _ in 0..times {
            let mut part = transaction.savepoint()?;
            match work(&mut Part(&part)) {
                Ok(()) => part.commit()?,
                Err(_) => part.rollback()?,
            }
        }
        Ok(transaction.commit()?)
    }

    fn backup(&mut self, path: &Path) -> Result<(), StoreError> {
        if path.exists() {
            return Err(StoreError::Database(format!(
                "{} is there already",
                path.display()
            )));
        }
        self.0.execute("VACUUM INTO ?1", [path.to_string_lossy()])?;
        let copy = Connection::open(path)?;
        copy.pragma_update(None, "synchronous", "FULL")?;
        let standing = text_of(Standing::Restored);
        copy.execute("INSERT OR REPLACE INTO fact VALUES (?1, x'01')", [RESTORED])?;
        copy.execute(
            "UPDATE machine SET standing = ?1 WHERE standing = ?2",
            [standing, text_of(Standing::Enrolled)],
        )?;
        Ok(())
    }
}

struct Part<'a>(&'a Connection);

fn number(value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::Number)
}

fn unsigned(value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|_| StoreError::Content("number"))
}

fn text_of(standing: Standing) -> &'static str {
    match standing {
        Standing::Enrolled => "enrolled",
        Standing::Revoked => "revoked",
        Standing::Restored => "restored",
    }
}

fn standing_of(text: &str) -> Result<Standing, StoreError> {
    [Standing::Enrolled, Standing::Revoked, Standing::Restored]
        .into_iter()
        .find(|standing| text_of(*standing) == text)
        .ok_or(StoreError::Content("standing"))
}

fn machine_of(bytes: &[u8]) -> Result<MachineId, StoreError> {
    let id = bytes
        .try_into()
        .map_err(|_| StoreError::Content("machine's identity"))?;
    Ok(MachineId(id))
}

/// A commit in three columns from `first` on.
fn commit_of(row: &Row<'_>, first: usize) -> Result<Option<Commit>, StoreError> {
    let epoch: Option<i64> = row.get(first)?;
    let counter: Option<i64> = row.get(first + 1)?;
    let digest: Option<Vec<u8>> = row.get(first + 2)?;
    match (epoch, counter, digest) {
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

/// The columns of a commit.
type Columns = (Option<i64>, Option<i64>, Option<[u8; 48]>);

fn columns(commit: Option<&Commit>) -> Result<Columns, StoreError> {
    Ok(match commit {
        None => (None, None, None),
        Some(commit) => (
            Some(number(commit.epoch)?),
            Some(number(commit.counter)?),
            Some(commit.digest.0),
        ),
    })
}

fn machine(row: &Row<'_>) -> Result<Machine, StoreError> {
    let rollback: String = row.get(3)?;
    let standing: String = row.get(4)?;
    Ok(Machine {
        id: machine_of(&row.get::<_, Vec<u8>>(0)?)?,
        name: row.get(1)?,
        key: row.get(2)?,
        rollback: Rollback::ALL
            .into_iter()
            .find(|one| one.name() == rollback)
            .ok_or(StoreError::Content("rollback"))?,
        entry: Entry {
            standing: standing_of(&standing)?,
            epoch: unsigned(row.get(5)?)?,
            latest: commit_of(row, 6)?,
            pending: commit_of(row, 9)?,
        },
        enrolled: unsigned(row.get(12)?)?,
        verdict: row.get(13)?,
    })
}

fn event(row: &Row<'_>) -> Result<Event, StoreError> {
    let machine: Option<Vec<u8>> = row.get(1)?;
    Ok(Event {
        time: unsigned(row.get(0)?)?,
        machine: machine.map(|machine| machine_of(&machine)).transpose()?,
        event: row.get(2)?,
        detail: row.get(3)?,
    })
}

impl Part<'_> {
    fn all<T>(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
        read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.0.prepare_cached(sql)?;
        let mut rows = statement.query(parameters)?;
        let mut values = Vec::new();
        while let Some(row) = rows.next()? {
            values.push(read(row)?);
        }
        Ok(values)
    }

    fn change(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
    ) -> Result<usize, rusqlite::Error> {
        self.0.prepare_cached(sql)?.execute(parameters)
    }
}

impl Transaction for Part<'_> {
    fn fact(&mut self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let mut statement = self
            .0
            .prepare_cached("SELECT value FROM fact WHERE name = ?1")?;
        Ok(statement.query_row([name], |row| row.get(0)).optional()?)
    }

    fn set_fact(&mut self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        self.change(
            "INSERT OR REPLACE INTO fact VALUES (?1, ?2)",
            params![name, value],
        )?;
        Ok(())
    }

    fn machine(&mut self, id: &MachineId) -> Result<Option<Machine>, StoreError> {
        let found = self.all(&format!("{MACHINE} WHERE id = ?1"), [id.0], machine)?;
        Ok(found.into_iter().next())
    }

    fn machines(&mut self) -> Result<Vec<Machine>, StoreError> {
        self.all(&format!("{MACHINE} ORDER BY name"), [], machine)
    }

    fn add_machine(&mut self, machine: &Machine) -> Result<(), StoreError> {
        let added = self.change(
            "INSERT INTO machine (id, name, key, rollback, standing, epoch, enrolled) VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6)",
            params![
                machine.id.0,
                machine.name,
                machine.key,
                machine.rollback.name(),
                text_of(machine.entry.standing),
                number(machine.enrolled)?
            ],
        );
        match added {
            Err(rusqlite::Error::SqliteFailure(failure, _))
                if failure.code == ErrorCode::ConstraintViolation =>
            {
                Err(StoreError::NameTaken(machine.name.clone()))
            }
            other => Ok(other.map(drop)?),
        }
    }

    fn set_entry(&mut self, id: &MachineId, entry: &Entry) -> Result<(), StoreError> {
        let latest = columns(entry.latest.as_ref())?;
        let pending = columns(entry.pending.as_ref())?;
        self.change(
            "UPDATE machine SET standing = ?2, epoch = ?3, latest_epoch = ?4, latest_counter = ?5, latest_digest = ?6,
             pending_epoch = ?7, pending_counter = ?8, pending_digest = ?9 WHERE id = ?1",
            params![
                id.0,
                text_of(entry.standing),
                number(entry.epoch)?,
                latest.0,
                latest.1,
                latest.2,
                pending.0,
                pending.1,
                pending.2
            ],
        )?;
        Ok(())
    }

    fn set_verdict(&mut self, id: &MachineId, verdict: &str) -> Result<(), StoreError> {
        self.change(
            "UPDATE machine SET verdict = ?2 WHERE id = ?1",
            params![id.0, verdict],
        )?;
        Ok(())
    }

    fn policies(&mut self, id: &MachineId) -> Result<Vec<Policy>, StoreError> {
        self.all(
            "SELECT name, text, allowed FROM policy WHERE machine = ?1 ORDER BY allowed DESC, name",
            [id.0],
            |row| {
                Ok(Policy {
                    name: row.get(0)?,
                    text: row.get(1)?,
                    allowed: unsigned(row.get(2)?)?,
                })
            },
        )
    }

    fn allow(&mut self, id: &MachineId, policy: &Policy) -> Result<(), StoreError> {
        self.change(
            "INSERT OR REPLACE INTO policy VALUES (?1, ?2, ?3, ?4)",
            params![id.0, policy.name, policy.text, number(policy.allowed)?],
        )?;
        Ok(())
    }

    fn disallow(&mut self, id: &MachineId, name: &str) -> Result<bool, StoreError> {
        let gone = self.change(
            "DELETE FROM policy WHERE machine = ?1 AND name = ?2",
            params![id.0, name],
        )?;
        Ok(gone > 0)
    }

    fn session(&mut self, id: &str) -> Result<Option<Session>, StoreError> {
        let found = self.all(
            "SELECT id, machine, key, epoch, sequence, code, answer, made FROM session WHERE id = ?1",
            [id],
            |row| {
                let epoch: Option<i64> = row.get(3)?;
                Ok(Session {
                    id: row.get(0)?,
                    machine: machine_of(&row.get::<_, Vec<u8>>(1)?)?,
                    key: row.get(2)?,
                    epoch: epoch.map(unsigned).transpose()?,
                    sequence: unsigned(row.get(4)?)?,
                    code: row.get(5)?,
                    answer: row.get(6)?,
                    made: unsigned(row.get(7)?)?,
                })
            },
        )?;
        Ok(found.into_iter().next())
    }

    fn set_session(&mut self, session: &Session) -> Result<(), StoreError> {
        self.change(
            "INSERT OR REPLACE INTO session VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                session.id,
                session.machine.0,
                session.key,
                session.epoch.map(number).transpose()?,
                number(session.sequence)?,
                session.code,
                session.answer,
                number(session.made)?
            ],
        )?;
        Ok(())
    }

    fn forget_sessions(&mut self, id: &MachineId, epoch: u64, keep: u32) -> Result<(), StoreError> {
        self.change(
            "DELETE FROM session WHERE machine = ?1 AND epoch IS NOT ?2 AND rowid NOT IN
             (SELECT rowid FROM session WHERE machine = ?1 ORDER BY made DESC, rowid DESC LIMIT ?3)",
            params![id.0, number(epoch)?, keep],
        )?;
        Ok(())
    }

    fn tell(&mut self, event: &Event) -> Result<(), StoreError> {
        self.change(
            "INSERT INTO event (time, machine, event, detail) VALUES (?1, ?2, ?3, ?4)",
            params![
                number(event.time)?,
                event.machine.map(|id| id.0),
                event.event,
                event.detail
            ],
        )?;
        Ok(())
    }

    fn events(&mut self, id: Option<&MachineId>, most: u32) -> Result<Vec<Event>, StoreError> {
        let sql = "SELECT time, machine, event, detail FROM event";
        let order = "ORDER BY number DESC LIMIT";
        match id {
            Some(id) => self.all(
                &format!("{sql} WHERE machine = ?1 {order} ?2"),
                params![id.0, most],
                event,
            ),
            None => self.all(&format!("{sql} {order} ?1"), [most], event),
        }
    }
}
