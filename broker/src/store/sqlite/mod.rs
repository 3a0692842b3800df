//! SQLite: one file, write-ahead log, `synchronous=FULL`, so that what was committed survives a cut of power.
//!
//! Several processes may have the file open: the server, and the operator's commands beside it.

mod tables;

use super::columns::{
    CommitColumns, EntryColumns, VERSION, configured_columns, configured_of, machine_of, number,
    rollback_of, text_of, unsigned,
};
use super::{
    About, Attested, Event, Machine, Policy, RESTORED, Resealed, Session, Storage, StoreError,
    Transaction, Work,
};
use crate::configuration::Configured;
use broker_ledger::{Entry, Standing};
use broker_protocol::MachineId;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, TransactionBehavior, params};
use std::path::Path;
use std::time::Duration;

/// How long another process may hold the database.
const BUSY: Duration = Duration::from_secs(10);

const MACHINE: &str =
    "SELECT standing, epoch, latest_epoch, latest_counter, latest_digest, pending_epoch,
    pending_counter, pending_digest, id, name, key, rollback, enrolled, verdict, halves, otherwise FROM machine";
const ENTRY: &str =
    "SELECT standing, epoch, latest_epoch, latest_counter, latest_digest, pending_epoch,
    pending_counter, pending_digest FROM machine";
const SESSION: &str = "SELECT id, machine, key, epoch, sequence, code, answer, made FROM session";

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        StoreError::Database(error.to_string())
    }
}

/// The database.
pub struct Sqlite(Connection);

impl Sqlite {
    /// Opens the file.
    ///
    /// # Errors
    /// See [`StoreError`]; there is none, or its tables are another version's.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError::NoBroker);
        }
        let connection = connect(path)?;
        match tables::version(&connection)? {
            0 => Err(StoreError::NoBroker),
            VERSION => Ok(Self(connection)),
            older @ 1..VERSION => Err(StoreError::OldTables(older)),
            newer => Err(StoreError::NewTables(newer)),
        }
    }

    /// Makes the file.
    ///
    /// # Errors
    /// See [`StoreError`]; it is there.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        if path.exists() {
            return Err(StoreError::BrokerThere);
        }
        let mut connection = connect(path)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tables::make(&transaction, 0)?;
        transaction.commit()?;
        Ok(Self(connection))
    }

    /// Closes the file: its log is in it, and it can be copied.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn close(self) -> Result<(), StoreError> {
        self.0.close().map_err(|(_, error)| error.into())
    }

    /// Makes the tables of an earlier version this version's: from which one, if it was one.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn migrate(path: &Path) -> Result<Option<i64>, StoreError> {
        match Self::open(path) {
            Ok(_) => Ok(None),
            Err(StoreError::OldTables(_)) => {
                let mut connection = connect(path)?;
                let transaction =
                    connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                // As it is now that nobody else can change it.
                let found = tables::version(&transaction)?;
                tables::make(&transaction, found)?;
                transaction.commit()?;
                Ok(Some(found))
            }
            Err(error) => Err(error),
        }
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

impl Storage for Sqlite {
    fn transaction(&mut self, pieces: &[About], work: Work<'_>) -> Result<(), StoreError> {
        let mut transaction = self
            .0
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for piece in 0..pieces.len() {
            let mut part = transaction.savepoint()?;
            match work(piece, &mut Part(&part)) {
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
        // It has its name when it is marked: one that was cut off must not pass for the database itself.
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".unfinished");
        let unfinished = Path::new(&unfinished);
        let failed = |error: std::io::Error| StoreError::Database(error.to_string());
        match std::fs::remove_file(unfinished) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(error));
            }
            _ => {}
        }
        self.0
            .execute("VACUUM INTO ?1", [unfinished.to_string_lossy()])?;
        let copy = Connection::open(unfinished)?;
        copy.pragma_update(None, "synchronous", "FULL")?;
        let standing = text_of(Standing::Restored);
        copy.execute("INSERT OR REPLACE INTO fact VALUES (?1, x'01')", [RESTORED])?;
        copy.execute(
            "UPDATE machine SET standing = ?1 WHERE standing = ?2",
            [standing, text_of(Standing::Enrolled)],
        )?;
        copy.close().map_err(|(_, error)| error)?;
        std::fs::rename(unfinished, path).map_err(failed)
    }
}

struct Part<'a>(&'a Connection);

/// The columns of a commit from `first` on.
fn commit(row: &Row<'_>, first: usize) -> rusqlite::Result<CommitColumns> {
    Ok((row.get(first)?, row.get(first + 1)?, row.get(first + 2)?))
}

fn entry(row: &Row<'_>) -> Result<Entry, StoreError> {
    let columns = EntryColumns {
        standing: row.get(0)?,
        epoch: row.get(1)?,
        latest: commit(row, 2)?,
        pending: commit(row, 5)?,
    };
    columns.entry()
}

fn machine(row: &Row<'_>) -> Result<Machine, StoreError> {
    let rollback: String = row.get(11)?;
    Ok(Machine {
        id: machine_of(&row.get::<_, Vec<u8>>(8)?)?,
        name: row.get(9)?,
        key: row.get(10)?,
        rollback: rollback_of(&rollback)?,
        configured: configured_of((row.get(14)?, row.get(15)?))?,
        entry: entry(row)?,
        enrolled: unsigned(row.get(12)?)?,
        verdict: row.get(13)?,
    })
}

fn session(row: &Row<'_>) -> Result<Session, StoreError> {
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

    fn entry(&mut self, id: &MachineId) -> Result<Option<Entry>, StoreError> {
        let found = self.all(&format!("{ENTRY} WHERE id = ?1"), [id.0], entry)?;
        Ok(found.into_iter().next())
    }

    fn machines(&mut self) -> Result<Vec<Machine>, StoreError> {
        self.all(&format!("{MACHINE} ORDER BY name"), [], machine)
    }

    fn add_machine(&mut self, machine: &Machine) -> Result<(), StoreError> {
        let (halves, otherwise) = configured_columns(machine.configured.as_ref());
        let added = self.change(
            "INSERT INTO machine (id, name, key, rollback, standing, epoch, enrolled, halves, otherwise)
             VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?7, ?8)",
            params![
                machine.id.0,
                machine.name,
                machine.key,
                machine.rollback.name(),
                text_of(machine.entry.standing),
                number(machine.enrolled)?,
                halves,
                otherwise
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

    fn set_configured(
        &mut self,
        id: &MachineId,
        configured: &Configured,
    ) -> Result<(), StoreError> {
        let (halves, otherwise) = configured_columns(Some(configured));
        self.change(
            "UPDATE machine SET halves = ?2, otherwise = ?3 WHERE id = ?1",
            params![id.0, halves, otherwise],
        )?;
        Ok(())
    }

    fn set_entry(&mut self, id: &MachineId, entry: &Entry) -> Result<(), StoreError> {
        let columns = EntryColumns::of(entry)?;
        let (latest, pending) = (columns.latest, columns.pending);
        self.change(
            "UPDATE machine SET standing = ?2, epoch = ?3, latest_epoch = ?4, latest_counter = ?5, latest_digest = ?6,
             pending_epoch = ?7, pending_counter = ?8, pending_digest = ?9 WHERE id = ?1",
            params![
                id.0,
                columns.standing,
                columns.epoch,
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
        let found = self.all(&format!("{SESSION} WHERE id = ?1"), [id], session)?;
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

    fn attested(&mut self, name: &str) -> Result<Option<Attested>, StoreError> {
        let sql = "SELECT name, machine, made, sealed FROM attested WHERE name = ?1";
        let found = self.all(sql, [name], |row| {
            Ok(Attested {
                name: row.get(0)?,
                machine: machine_of(&row.get::<_, Vec<u8>>(1)?)?,
                made: unsigned(row.get(2)?)?,
                sealed: row.get(3)?,
            })
        })?;
        Ok(found.into_iter().next())
    }

    fn set_attested(
        &mut self,
        attested: &Attested,
        since: u64,
        keep: u32,
    ) -> Result<(), StoreError> {
        self.change(
            "INSERT OR REPLACE INTO attested VALUES (?1, ?2, ?3, ?4)",
            params![
                attested.name,
                attested.machine.0,
                number(attested.made)?,
                attested.sealed
            ],
        )?;
        self.change(
            "DELETE FROM attested WHERE machine = ?1 AND (made < ?2 OR rowid NOT IN
             (SELECT rowid FROM attested WHERE machine = ?1 ORDER BY made DESC, rowid DESC LIMIT ?3))",
            params![attested.machine.0, number(since)?, keep],
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

    fn prune(&mut self, before: u64) -> Result<u64, StoreError> {
        let gone = self.change("DELETE FROM event WHERE time < ?1", [number(before)?])?;
        u64::try_from(gone).map_err(|_| StoreError::Number)
    }

    fn alone(&mut self) -> Result<(), StoreError> {
        // Each transaction has the database for itself from its begin on.
        Ok(())
    }

    fn reseal(&mut self, resealed: &Resealed) -> Result<(), StoreError> {
        for (id, key) in &resealed.machines {
            self.change(
                "UPDATE machine SET key = ?2 WHERE id = ?1",
                params![id.0, key],
            )?;
        }
        for (id, key) in &resealed.sessions {
            self.change(
                "UPDATE session SET key = ?2 WHERE id = ?1",
                params![id, key],
            )?;
        }
        self.change("DELETE FROM attested", [])?;
        Ok(())
    }

    fn facts(&mut self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.all("SELECT name, value FROM fact ORDER BY name", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
    }

    fn sessions(&mut self) -> Result<Vec<Session>, StoreError> {
        self.all(&format!("{SESSION} ORDER BY rowid"), [], session)
    }

    fn events_after(&mut self, after: i64, most: u32) -> Result<Vec<(i64, Event)>, StoreError> {
        self.all(
            "SELECT time, machine, event, detail, number FROM event WHERE number > ?1 ORDER BY number LIMIT ?2",
            params![after, most],
            |row| Ok((row.get(4)?, event(row)?)),
        )
    }
}
