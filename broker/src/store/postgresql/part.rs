//! A piece of a transaction.
//!
//! What the ledger does all the time (sessions, entries, events) is read from and written to the unit, and undone by
//! dropping it. All else goes to the server at once, behind a savepoint.

use super::connection::PLACE;
use super::trouble::Trouble;
use super::unit::{Changes, ENTRY, SESSION, Unit, entry, is_text, session};
use crate::configuration::Configured;
use crate::store::columns::{
    EntryColumns, configured_columns, configured_of, machine_of, number, rollback_of, text_of,
    unsigned,
};
use crate::store::{Attested, Event, Machine, Policy, Resealed, Session, StoreError, Transaction};
use broker_ledger::Entry;
use broker_protocol::MachineId;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

/// Where a piece's changes are.
enum Changed {
    /// In the unit alone.
    Here,
    /// At the server as well, behind a savepoint.
    There,
}

/// A piece.
pub(super) struct Part<'a, 'b> {
    unit: &'a mut Unit<'b>,
    own: Changes,
    changed: Changed,
}

impl<'a, 'b> Part<'a, 'b> {
    pub(super) fn new(unit: &'a mut Unit<'b>) -> Self {
        Self {
            unit,
            own: Changes::default(),
            changed: Changed::Here,
        }
    }

    /// Keeps what the piece did, or undoes it.
    pub(super) fn end(self, done: Result<(), StoreError>) -> Result<(), Trouble> {
        self.unit.standing()?;
        match (done, self.changed) {
            (Ok(()), Changed::Here) => self.unit.changes.add(self.own),
            (Ok(()), Changed::There) => {
                self.unit.write(self.own)?;
                self.unit.execute("RELEASE SAVEPOINT piece")?;
            }
            (Err(_), Changed::Here) => {}
            (Err(_), Changed::There) => {
                self.unit
                    .execute("ROLLBACK TO SAVEPOINT piece; RELEASE SAVEPOINT piece")?;
                // Read again: what was read behind the savepoint may not be so, and its locks are gone.
                self.unit.entries.clear();
                self.unit.sessions.clear();
                self.unit.sought.clear();
            }
        }
        Ok(())
    }

    /// Has the server do something that the unit does not keep in mind.
    fn server<T>(
        &mut self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> Result<T, StoreError> {
        let own = std::mem::take(&mut self.own);
        let changed = &mut self.changed;
        self.unit.of_piece(|unit| {
            if let Changed::Here = changed {
                unit.flush()?;
                unit.execute("SAVEPOINT piece")?;
                *changed = Changed::There;
            }
            unit.write(own)?;
            unit.ask(statement)
        })
    }

    fn rows<T>(
        &mut self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<Vec<PgRow>>,
        read: impl Fn(&PgRow) -> Result<T, Trouble>,
    ) -> Result<Vec<T>, StoreError> {
        let rows = self.server(statement)?;
        self.unit.of_piece(|_| rows.iter().map(read).collect())
    }
}

const MACHINE: &str =
    "m.id, m.name, m.key, m.rollback, m.enrolled, m.verdict, m.halves, m.otherwise";
const EVENT: &str = "SELECT time, machine, event, detail, number FROM event";

fn machine(row: &PgRow) -> Result<Machine, Trouble> {
    Ok(Machine {
        entry: entry(row, 0)?,
        id: machine_of(&row.try_get::<Vec<u8>, _>(8)?)?,
        name: row.try_get(9)?,
        key: row.try_get(10)?,
        rollback: rollback_of(&row.try_get::<String, _>(11)?)?,
        enrolled: unsigned(row.try_get(12)?)?,
        verdict: row.try_get(13)?,
        configured: configured_of((row.try_get(14)?, row.try_get(15)?))?,
    })
}

fn event(row: &PgRow) -> Result<Event, Trouble> {
    let machine: Option<Vec<u8>> = row.try_get(1)?;
    Ok(Event {
        time: unsigned(row.try_get(0)?)?,
        machine: machine.as_deref().map(machine_of).transpose()?,
        event: row.try_get(2)?,
        detail: row.try_get(3)?,
    })
}

fn numbered(row: &PgRow) -> Result<(i64, Event), Trouble> {
    Ok((row.try_get(4)?, event(row)?))
}

impl Transaction for Part<'_, '_> {
    fn fact(&mut self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.unit.of_piece(|unit| {
            let row = unit.ask(async |connection| {
                sqlx::query("SELECT value FROM fact WHERE name = $1")
                    .bind(name)
                    .fetch_optional(connection)
                    .await
            })?;
            Ok(row.map(|row| row.try_get(0)).transpose()?)
        })
    }

    fn set_fact(&mut self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        self.server(async |connection| {
            sqlx::query(
                "INSERT INTO fact VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value",
            )
            .bind(name)
            .bind(value)
            .execute(connection)
            .await
        })?;
        Ok(())
    }

    fn machine(&mut self, id: &MachineId) -> Result<Option<Machine>, StoreError> {
        let sql = format!("SELECT {ENTRY}, {MACHINE} FROM machine m WHERE m.id = $1 FOR UPDATE");
        let found = self.rows(
            async |connection| {
                sqlx::query(&sql)
                    .bind(&id.0[..])
                    .fetch_all(connection)
                    .await
            },
            machine,
        )?;
        Ok(found.into_iter().next())
    }

    fn entry(&mut self, id: &MachineId) -> Result<Option<Entry>, StoreError> {
        for changes in [&self.own, &self.unit.changes] {
            if let Some(entry) = changes.entries.get(&id.0) {
                return Ok(Some(entry.clone()));
            }
        }
        self.unit.of_piece(|unit| unit.lock(id))
    }

    fn machines(&mut self) -> Result<Vec<Machine>, StoreError> {
        let sql = format!("SELECT {ENTRY}, {MACHINE} FROM machine m ORDER BY m.name COLLATE \"C\"");
        self.rows(
            async |connection| sqlx::query(&sql).fetch_all(connection).await,
            machine,
        )
    }

    fn add_machine(&mut self, machine: &Machine) -> Result<(), StoreError> {
        let enrolled = number(machine.enrolled)?;
        let (halves, otherwise) = configured_columns(machine.configured.as_ref());
        let added = self.server(async |connection| {
            sqlx::query(
                "INSERT INTO machine (id, name, key, rollback, standing, epoch, enrolled, halves, otherwise)
                 VALUES ($1, $2, $3, $4, $5, 0, $6, $7, $8) ON CONFLICT DO NOTHING",
            )
            .bind(&machine.id.0[..])
            .bind(&machine.name)
            .bind(&machine.key)
            .bind(machine.rollback.name())
            .bind(text_of(machine.entry.standing))
            .bind(enrolled)
            .bind(halves)
            .bind(otherwise)
            .execute(connection)
            .await
        })?;
        match added.rows_affected() {
            0 => Err(StoreError::NameTaken(machine.name.clone())),
            _ => Ok(()),
        }
    }

    fn set_configured(
        &mut self,
        id: &MachineId,
        configured: &Configured,
    ) -> Result<(), StoreError> {
        let (halves, otherwise) = configured_columns(Some(configured));
        self.server(async |connection| {
            sqlx::query("UPDATE machine SET halves = $2, otherwise = $3 WHERE id = $1")
                .bind(&id.0[..])
                .bind(halves)
                .bind(otherwise)
                .execute(connection)
                .await
        })?;
        Ok(())
    }

    fn set_entry(&mut self, id: &MachineId, entry: &Entry) -> Result<(), StoreError> {
        // What the tables cannot hold fails this piece, not all of them.
        EntryColumns::of(entry)?;
        // Locked, if it was not: nothing is changed that is not.
        if self.entry(id)?.is_some() {
            self.own.entries.insert(id.0, entry.clone());
        }
        Ok(())
    }

    fn set_verdict(&mut self, id: &MachineId, verdict: &str) -> Result<(), StoreError> {
        if self.entry(id)?.is_some() {
            self.own.verdicts.insert(id.0, verdict.into());
        }
        Ok(())
    }

    fn policies(&mut self, id: &MachineId) -> Result<Vec<Policy>, StoreError> {
        self.rows(
            async |connection| {
                sqlx::query(
                    "SELECT name, text, allowed FROM policy WHERE machine = $1
                     ORDER BY allowed DESC, name COLLATE \"C\"",
                )
                .bind(&id.0[..])
                .fetch_all(connection)
                .await
            },
            |row| {
                Ok(Policy {
                    name: row.try_get(0)?,
                    text: row.try_get(1)?,
                    allowed: unsigned(row.try_get(2)?)?,
                })
            },
        )
    }

    fn allow(&mut self, id: &MachineId, policy: &Policy) -> Result<(), StoreError> {
        let allowed = number(policy.allowed)?;
        self.server(async |connection| {
            sqlx::query(
                "INSERT INTO policy VALUES ($1, $2, $3, $4)
                 ON CONFLICT (machine, name) DO UPDATE SET text = EXCLUDED.text, allowed = EXCLUDED.allowed",
            )
            .bind(&id.0[..])
            .bind(&policy.name)
            .bind(&policy.text)
            .bind(allowed)
            .execute(connection)
            .await
        })?;
        Ok(())
    }

    fn disallow(&mut self, id: &MachineId, name: &str) -> Result<bool, StoreError> {
        let gone = self.server(async |connection| {
            sqlx::query("DELETE FROM policy WHERE machine = $1 AND name = $2")
                .bind(&id.0[..])
                .bind(name)
                .execute(connection)
                .await
        })?;
        Ok(gone.rows_affected() > 0)
    }

    fn session(&mut self, id: &str) -> Result<Option<Session>, StoreError> {
        for changes in [&self.own, &self.unit.changes] {
            if let Some(session) = changes.sessions.get(id) {
                return Ok(Some(session.clone()));
            }
        }
        self.unit.of_piece(|unit| unit.find_session(id))
    }

    fn set_session(&mut self, session: &Session) -> Result<(), StoreError> {
        for value in [session.sequence, session.made, session.epoch.unwrap_or(0)] {
            number(value)?;
        }
        match self.entry(&session.machine)? {
            Some(_) => {
                let id = session.id.clone();
                self.own.sessions.insert(id, session.clone());
                Ok(())
            }
            None => Err(StoreError::Content("session")),
        }
    }

    fn forget_sessions(&mut self, id: &MachineId, epoch: u64, keep: u32) -> Result<(), StoreError> {
        let epoch = number(epoch)?;
        self.entry(id)?;
        let gone = self.rows(
            async |connection| {
                sqlx::query(
                    "DELETE FROM session WHERE machine = $1 AND epoch IS DISTINCT FROM $2 AND number NOT IN
                     (SELECT number FROM session WHERE machine = $1 ORDER BY made DESC, number DESC LIMIT $3)
                     RETURNING id",
                )
                .bind(&id.0[..])
                .bind(epoch)
                .bind(i64::from(keep))
                .fetch_all(connection)
                .await
            },
            |row| Ok(row.try_get::<String, _>(0)?),
        )?;
        for id in gone {
            self.unit.sessions.remove(&id);
        }
        Ok(())
    }

    fn attested(&mut self, name: &str) -> Result<Option<Attested>, StoreError> {
        if !is_text(name) {
            return Ok(None);
        }
        let whose = self.rows(
            async |connection| {
                sqlx::query("SELECT machine FROM attested WHERE name = $1")
                    .bind(name)
                    .fetch_all(connection)
                    .await
            },
            |row| Ok(machine_of(&row.try_get::<Vec<u8>, _>(0)?)?),
        )?;
        let Some(machine) = whose.into_iter().next() else {
            return Ok(None);
        };
        self.entry(&machine)?;
        // Read again, now that nobody else can change it.
        let found = self.rows(
            async |connection| {
                sqlx::query("SELECT made, sealed FROM attested WHERE name = $1")
                    .bind(name)
                    .fetch_all(connection)
                    .await
            },
            |row| {
                Ok(Attested {
                    name: name.into(),
                    machine,
                    made: unsigned(row.try_get(0)?)?,
                    sealed: row.try_get(1)?,
                })
            },
        )?;
        Ok(found.into_iter().next())
    }

    fn set_attested(
        &mut self,
        attested: &Attested,
        since: u64,
        keep: u32,
    ) -> Result<(), StoreError> {
        let (made, since) = (number(attested.made)?, number(since)?);
        self.entry(&attested.machine)?;
        let machine = &attested.machine.0[..];
        self.server(async |connection| {
            sqlx::query(
                "INSERT INTO attested (name, machine, made, sealed) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (name) DO UPDATE SET machine = EXCLUDED.machine, made = EXCLUDED.made,
                 sealed = EXCLUDED.sealed",
            )
            .bind(&attested.name)
            .bind(machine)
            .bind(made)
            .bind(&attested.sealed)
            .execute(&mut *connection)
            .await?;
            sqlx::query(
                "DELETE FROM attested WHERE machine = $1 AND (made < $2 OR number NOT IN
                 (SELECT number FROM attested WHERE machine = $1 ORDER BY made DESC, number DESC LIMIT $3))",
            )
            .bind(machine)
            .bind(since)
            .bind(i64::from(keep))
            .execute(connection)
            .await
        })?;
        Ok(())
    }

    fn tell(&mut self, event: &Event) -> Result<(), StoreError> {
        number(event.time)?;
        self.own.events.push(event.clone());
        Ok(())
    }

    fn events(&mut self, id: Option<&MachineId>, most: u32) -> Result<Vec<Event>, StoreError> {
        let sql = match id {
            Some(_) => format!("{EVENT} WHERE machine = $2 ORDER BY number DESC LIMIT $1"),
            None => format!("{EVENT} ORDER BY number DESC LIMIT $1"),
        };
        self.rows(
            async |connection| {
                let query = sqlx::query(&sql).bind(i64::from(most));
                let query = match id {
                    Some(id) => query.bind(&id.0[..]),
                    None => query,
                };
                query.fetch_all(connection).await
            },
            event,
        )
    }

    fn prune(&mut self, before: u64) -> Result<u64, StoreError> {
        let before = number(before)?;
        let gone = self.server(async |connection| {
            sqlx::query("DELETE FROM event WHERE time < $1")
                .bind(before)
                .execute(connection)
                .await
        })?;
        Ok(gone.rows_affected())
    }

    fn alone(&mut self) -> Result<(), StoreError> {
        self.server(async |connection| {
            // Who locks a machine waits as well.
            sqlx::raw_sql("LOCK TABLE fact, machine, session, attested IN EXCLUSIVE MODE")
                .execute(connection)
                .await
        })?;
        Ok(())
    }

    fn reseal(&mut self, resealed: &Resealed) -> Result<(), StoreError> {
        let (machines, machine_keys): (Vec<_>, Vec<_>) = resealed
            .machines
            .iter()
            .map(|(id, key)| (id.0.to_vec(), key.clone()))
            .unzip();
        let (sessions, session_keys): (Vec<_>, Vec<_>) = resealed.sessions.iter().cloned().unzip();
        self.server(async |connection| {
            sqlx::query(
                "UPDATE machine SET key = new.key FROM unnest($1::bytea[], $2::bytea[]) AS new (id, key)
                 WHERE machine.id = new.id",
            )
            .bind(machines)
            .bind(machine_keys)
            .execute(&mut *connection)
            .await?;
            sqlx::query(
                "UPDATE session SET key = new.key FROM unnest($1::text[], $2::bytea[]) AS new (id, key)
                 WHERE session.id = new.id",
            )
            .bind(sessions)
            .bind(session_keys)
            .execute(&mut *connection)
            .await?;
            sqlx::raw_sql("DELETE FROM attested").execute(connection).await
        })?;
        self.unit.sessions.clear();
        Ok(())
    }

    fn facts(&mut self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.rows(
            async |connection| {
                sqlx::query("SELECT name, value FROM fact WHERE name <> $1 ORDER BY name")
                    .bind(PLACE)
                    .fetch_all(connection)
                    .await
            },
            |row| Ok((row.try_get(0)?, row.try_get(1)?)),
        )
    }

    fn sessions(&mut self) -> Result<Vec<Session>, StoreError> {
        let sql = format!("SELECT {SESSION} FROM session ORDER BY number");
        self.rows(
            async |connection| sqlx::query(&sql).fetch_all(connection).await,
            session,
        )
    }

    fn events_after(&mut self, after: i64, most: u32) -> Result<Vec<(i64, Event)>, StoreError> {
        let sql = format!("{EVENT} WHERE number > $1 ORDER BY number LIMIT $2");
        self.rows(
            async |connection| {
                sqlx::query(&sql)
                    .bind(after)
                    .bind(i64::from(most))
                    .fetch_all(connection)
                    .await
            },
            numbered,
        )
    }
}
