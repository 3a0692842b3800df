//! The tables, and how those of an earlier version become these.

use crate::store::StoreError;
use crate::store::columns::VERSION;
use rusqlite::Connection;

/// What makes the tables of each version out of those of the one before; the first out of nothing.
const STEPS: [&str; VERSION as usize] = [
    "
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
",
    "
CREATE TABLE attested (
    name TEXT PRIMARY KEY, machine BLOB NOT NULL REFERENCES machine, made INTEGER NOT NULL, sealed BLOB NOT NULL
) STRICT;
CREATE INDEX attested_machine ON attested (machine);
",
    "
ALTER TABLE machine ADD COLUMN halves TEXT;
ALTER TABLE machine ADD COLUMN otherwise TEXT;
",
];

/// The version of the tables; 0 where there are none.
pub(super) fn version(connection: &Connection) -> Result<i64, StoreError> {
    Ok(connection.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}

/// Makes the tables of [`VERSION`] out of those of `version`, in a transaction of the caller's.
pub(super) fn make(connection: &Connection, version: i64) -> Result<(), StoreError> {
    let done = usize::try_from(version).map_err(|_| StoreError::Content("version"))?;
    for step in STEPS.get(done..).unwrap_or_default() {
        connection.execute_batch(step)?;
    }
    Ok(connection.pragma_update(None, "user_version", VERSION)?)
}
