//! What all pieces of a transaction share: the connection, the rows that are locked and read, and changes that are not
//! written yet. A hundred commits are read by two statements and written by two.

use super::trouble::Trouble;
use crate::store::columns::{EntryColumns, machine_of, number, unsigned};
use crate::store::{About, Event, Session, StoreError};
use broker_ledger::Entry;
use broker_protocol::MachineId;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;
use tokio::runtime::Runtime;

/// The columns of what the ledger knows, in the order of [`entry`].
pub(super) const ENTRY: &str =
    "m.standing, m.epoch, m.latest_epoch, m.latest_counter, m.latest_digest,
    m.pending_epoch, m.pending_counter, m.pending_digest";
/// The columns of a session, in the order of [`session`].
pub(super) const SESSION: &str = "id, machine, key, epoch, sequence, code, answer, made";

/// A machine's identity, by which locks are ordered.
type Id = [u8; 32];

/// Changes that are not written yet.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) entries: BTreeMap<Id, Entry>,
    pub(super) verdicts: BTreeMap<Id, String>,
    pub(super) sessions: BTreeMap<String, Session>,
    pub(super) events: Vec<Event>,
}

impl Changes {
    /// Makes later changes on top of these.
    pub(super) fn add(&mut self, later: Changes) {
        self.entries.extend(later.entries);
        self.verdicts.extend(later.verdicts);
        self.sessions.extend(later.sessions);
        self.events.extend(later.events);
    }
}

/// A transaction that is being made.
pub(super) struct Unit<'a> {
    runtime: &'a Runtime,
    connection: &'a mut PgConnection,
    end: Instant,
    /// Why this transaction cannot be made any more.
    trouble: Option<Trouble>,
    /// Of machines whose rows are locked.
    pub(super) entries: BTreeMap<Id, Entry>,
    /// Of machines whose rows are locked.
    pub(super) sessions: BTreeMap<String, Session>,
    /// Sessions that [`Unit::prepare`] looked for.
    pub(super) sought: BTreeSet<String>,
    /// Of pieces that are done.
    pub(super) changes: Changes,
}

impl<'a> Unit<'a> {
    pub(super) fn new(
        runtime: &'a Runtime,
        connection: &'a mut PgConnection,
        end: Instant,
    ) -> Self {
        Self {
            runtime,
            connection,
            end,
            trouble: None,
            entries: BTreeMap::new(),
            sessions: BTreeMap::new(),
            sought: BTreeSet::new(),
            changes: Changes::default(),
        }
    }

    /// Has the server do something.
    pub(super) fn ask<T>(
        &mut self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> Result<T, Trouble> {
        let left = self.end.saturating_duration_since(Instant::now());
        let connection = &mut *self.connection;
        self.runtime.block_on(async {
            match tokio::time::timeout(left, statement(connection)).await {
                Ok(done) => Ok(done?),
                Err(_) => Err(Trouble::Lost("the server does not answer".into())),
            }
        })
    }

    pub(super) fn execute(&mut self, statement: &'static str) -> Result<(), Trouble> {
        self.ask(async |connection| sqlx::raw_sql(statement).execute(connection).await)
            .map(drop)
    }

    /// As [`ask`](Self::ask), for a piece: after trouble with the server nothing more of the transaction is made.
    pub(super) fn of_piece<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, Trouble>,
    ) -> Result<T, StoreError> {
        if self.trouble.is_some() {
            return Err(StoreError::NotMade);
        }
        work(self).map_err(|trouble| match trouble {
            Trouble::Refused(error) => error,
            trouble => {
                self.trouble = Some(trouble);
                StoreError::NotMade
            }
        })
    }

    /// What became of the pieces so far.
    pub(super) fn standing(&mut self) -> Result<(), Trouble> {
        match self.trouble.take() {
            Some(trouble) => Err(trouble),
            None => Ok(()),
        }
    }

    /// Locks the machines that all pieces are about, in the order of their identities, and reads what the ledger knows of
    /// them, and the sessions.
    pub(super) fn prepare(&mut self, pieces: &[About]) -> Result<(), Trouble> {
        let (mut machines, mut sessions, mut attested) = (Vec::new(), Vec::new(), Vec::new());
        for piece in pieces {
            match piece {
                About::Anything => {}
                About::Machine(id) => machines.push(id.0.to_vec()),
                About::Session(id) if is_text(id) => sessions.push(id.clone()),
                About::Attested(name) if is_text(name) => attested.push(name.clone()),
                // What cannot be a name is nobody's.
                About::Session(_) | About::Attested(_) => {}
            }
        }
        if machines.is_empty() && sessions.is_empty() && attested.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "WITH about AS (
                 SELECT unnest($1::bytea[]) AS id
                 UNION SELECT machine FROM session WHERE id = ANY($2::text[])
                 UNION SELECT machine FROM attested WHERE name = ANY($3::text[]))
             SELECT {ENTRY}, m.id FROM machine m JOIN about ON about.id = m.id ORDER BY m.id FOR UPDATE OF m"
        );
        let rows = self.ask(async |connection| {
            sqlx::query(&sql)
                .bind(machines)
                .bind(&sessions)
                .bind(attested)
                .fetch_all(connection)
                .await
        })?;
        for row in &rows {
            let id = machine_of(&row.try_get::<Vec<u8>, _>(8)?)?;
            self.entries.insert(id.0, entry(row, 0)?);
        }
        if sessions.is_empty() {
            return Ok(());
        }
        // Another statement: it sees what those committed for whom the locks waited.
        let sql = format!("SELECT {SESSION} FROM session WHERE id = ANY($1)");
        let rows = self.ask(async |connection| {
            sqlx::query(&sql)
                .bind(&sessions)
                .fetch_all(connection)
                .await
        })?;
        for row in &rows {
            let session = session(row)?;
            // One that was made in between is of a machine that is not locked.
            if self.entries.contains_key(&session.machine.0) {
                self.sessions.insert(session.id.clone(), session);
            }
        }
        self.sought.extend(sessions);
        Ok(())
    }

    /// Locks a machine, and reads what the ledger knows of it.
    pub(super) fn lock(&mut self, id: &MachineId) -> Result<Option<Entry>, Trouble> {
        if let Some(entry) = self.entries.get(&id.0) {
            return Ok(Some(entry.clone()));
        }
        let sql = format!("SELECT {ENTRY} FROM machine m WHERE m.id = $1 FOR UPDATE");
        let row = self.ask(async |connection| {
            sqlx::query(&sql)
                .bind(&id.0[..])
                .fetch_optional(connection)
                .await
        })?;
        let Some(row) = row else {
            return Ok(None);
        };
        let entry = entry(&row, 0)?;
        self.entries.insert(id.0, entry.clone());
        Ok(Some(entry))
    }

    /// Locks a session's machine, and reads the session.
    pub(super) fn find_session(&mut self, id: &str) -> Result<Option<Session>, Trouble> {
        if let Some(session) = self.sessions.get(id) {
            return Ok(Some(session.clone()));
        }
        if self.sought.contains(id) || !is_text(id) {
            return Ok(None);
        }
        let row = self.ask(async |connection| {
            sqlx::query("SELECT machine FROM session WHERE id = $1")
                .bind(id)
                .fetch_optional(connection)
                .await
        })?;
        let Some(row) = row else {
            return Ok(None);
        };
        self.lock(&machine_of(&row.try_get::<Vec<u8>, _>(0)?)?)?;
        // Read again, now that nobody else can change it.
        let sql = format!("SELECT {SESSION} FROM session WHERE id = $1");
        let row = self
            .ask(async |connection| sqlx::query(&sql).bind(id).fetch_optional(connection).await)?;
        let found = row.as_ref().map(session).transpose()?;
        if let Some(session) = &found {
            self.sessions.insert(session.id.clone(), session.clone());
        }
        Ok(found)
    }

    /// Writes what pieces changed that are done.
    pub(super) fn flush(&mut self) -> Result<(), Trouble> {
        let changes = std::mem::take(&mut self.changes);
        self.write(changes)
    }

    /// Writes these changes.
    pub(super) fn write(&mut self, changes: Changes) -> Result<(), Trouble> {
        self.write_entries(&changes.entries)?;
        self.write_sessions(&changes.sessions)?;
        if !changes.verdicts.is_empty() {
            let (ids, verdicts): (Vec<Vec<u8>>, Vec<&String>) = changes
                .verdicts
                .iter()
                .map(|(id, verdict)| (id.to_vec(), verdict))
                .unzip();
            self.ask(async |connection| {
                sqlx::query(
                    "UPDATE machine m SET verdict = u.verdict
                     FROM unnest($1::bytea[], $2::text[]) AS u(id, verdict) WHERE m.id = u.id",
                )
                .bind(ids)
                .bind(verdicts)
                .execute(connection)
                .await
            })?;
        }
        self.write_events(&changes.events)?;
        self.entries.extend(changes.entries);
        self.sessions.extend(changes.sessions);
        Ok(())
    }

    fn write_entries(&mut self, entries: &BTreeMap<Id, Entry>) -> Result<(), Trouble> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut ids: Vec<Vec<u8>> = Vec::new();
        let (mut standings, mut epochs) = (Vec::new(), Vec::new());
        let (mut latest, mut pending) = (Commits::default(), Commits::default());
        for (id, entry) in entries {
            let columns = EntryColumns::of(entry)?;
            ids.push(id.to_vec());
            standings.push(columns.standing);
            epochs.push(columns.epoch);
            latest.push(columns.latest);
            pending.push(columns.pending);
        }
        self.ask(async |connection| {
            sqlx::query(
                "UPDATE machine m SET standing = u.standing, epoch = u.epoch,
                 latest_epoch = u.le, latest_counter = u.lc, latest_digest = u.ld,
                 pending_epoch = u.pe, pending_counter = u.pc, pending_digest = u.pd
                 FROM unnest($1::bytea[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bytea[],
                             $7::bigint[], $8::bigint[], $9::bytea[])
                 AS u(id, standing, epoch, le, lc, ld, pe, pc, pd) WHERE m.id = u.id",
            )
            .bind(ids)
            .bind(standings)
            .bind(epochs)
            .bind(latest.epochs)
            .bind(latest.counters)
            .bind(latest.digests)
            .bind(pending.epochs)
            .bind(pending.counters)
            .bind(pending.digests)
            .execute(connection)
            .await
        })?;
        Ok(())
    }

    fn write_sessions(&mut self, sessions: &BTreeMap<String, Session>) -> Result<(), Trouble> {
        if sessions.is_empty() {
            return Ok(());
        }
        let (mut ids, mut machines, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        let (mut epochs, mut sequences, mut made) = (Vec::new(), Vec::new(), Vec::new());
        let (mut codes, mut answers) = (Vec::new(), Vec::new());
        for session in sessions.values() {
            ids.push(&session.id);
            machines.push(session.machine.0.to_vec());
            keys.push(&session.key[..]);
            epochs.push(session.epoch.map(number).transpose()?);
            sequences.push(number(session.sequence)?);
            codes.push(&session.code[..]);
            answers.push(&session.answer[..]);
            made.push(number(session.made)?);
        }
        self.ask(async |connection| {
            sqlx::query(
                "INSERT INTO session (id, machine, key, epoch, sequence, code, answer, made)
                 SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bytea[],
                                      $7::bytea[], $8::bigint[])
                 ON CONFLICT (id) DO UPDATE SET epoch = EXCLUDED.epoch, sequence = EXCLUDED.sequence,
                 code = EXCLUDED.code, answer = EXCLUDED.answer",
            )
            .bind(ids)
            .bind(machines)
            .bind(keys)
            .bind(epochs)
            .bind(sequences)
            .bind(codes)
            .bind(answers)
            .bind(made)
            .execute(connection)
            .await
        })?;
        Ok(())
    }

    fn write_events(&mut self, events: &[Event]) -> Result<(), Trouble> {
        if events.is_empty() {
            return Ok(());
        }
        let (mut times, mut machines) = (Vec::new(), Vec::new());
        let (mut names, mut details) = (Vec::new(), Vec::new());
        for event in events {
            times.push(number(event.time)?);
            machines.push(event.machine.map(|id| id.0.to_vec()));
            names.push(event.event.replace('\0', "\u{fffd}"));
            details.push(event.detail.replace('\0', "\u{fffd}"));
        }
        self.ask(async |connection| {
            sqlx::query(
                "INSERT INTO event (time, machine, event, detail)
                 SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::text[], $4::text[])",
            )
            .bind(times)
            .bind(machines)
            .bind(names)
            .bind(details)
            .execute(connection)
            .await
        })?;
        Ok(())
    }
}

/// Columns of commits.
#[derive(Default)]
struct Commits {
    epochs: Vec<Option<i64>>,
    counters: Vec<Option<i64>>,
    digests: Vec<Option<Vec<u8>>>,
}

impl Commits {
    fn push(&mut self, (epoch, counter, digest): (Option<i64>, Option<i64>, Option<Vec<u8>>)) {
        self.epochs.push(epoch);
        self.counters.push(counter);
        self.digests.push(digest);
    }
}

/// Whether the server takes it for a text: it has no byte 0.
pub(super) fn is_text(text: &str) -> bool {
    !text.contains('\0')
}

/// The columns of [`ENTRY`] from `first` on.
pub(super) fn entry(row: &PgRow, first: usize) -> Result<Entry, Trouble> {
    let commit = |first: usize| -> sqlx::Result<_> {
        Ok((
            row.try_get(first)?,
            row.try_get(first + 1)?,
            row.try_get(first + 2)?,
        ))
    };
    let columns = EntryColumns {
        standing: row.try_get(first)?,
        epoch: row.try_get(first + 1)?,
        latest: commit(first + 2)?,
        pending: commit(first + 5)?,
    };
    Ok(columns.entry()?)
}

/// The columns of [`SESSION`].
pub(super) fn session(row: &PgRow) -> Result<Session, Trouble> {
    let epoch: Option<i64> = row.try_get(3)?;
    Ok(Session {
        id: row.try_get(0)?,
        machine: machine_of(&row.try_get::<Vec<u8>, _>(1)?)?,
        key: row.try_get(2)?,
        epoch: epoch.map(unsigned).transpose()?,
        sequence: unsigned(row.try_get(4)?)?,
        code: row.try_get(5)?,
        answer: row.try_get(6)?,
        made: unsigned(row.try_get(7)?)?,
    })
}
