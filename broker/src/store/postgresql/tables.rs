//! The tables, in a schema of their own, and how those of an earlier version become these.

use super::trouble::Trouble;
use crate::store::StoreError;
use crate::store::columns::VERSION;
use sqlx::{Connection, PgConnection, Row};

/// What makes the tables of each version out of those of the one before; the first out of nothing.
const STEPS: [&str; VERSION as usize] = [
    "
CREATE SCHEMA tdp_vtpm_broker;
CREATE TABLE tdp_vtpm_broker.version (version BIGINT NOT NULL);
INSERT INTO tdp_vtpm_broker.version VALUES (1);
CREATE TABLE tdp_vtpm_broker.fact (name TEXT PRIMARY KEY, value BYTEA NOT NULL);
CREATE TABLE tdp_vtpm_broker.machine (
    id BYTEA PRIMARY KEY, name TEXT NOT NULL UNIQUE, key BYTEA NOT NULL, rollback TEXT NOT NULL, standing TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    latest_epoch BIGINT, latest_counter BIGINT, latest_digest BYTEA,
    pending_epoch BIGINT, pending_counter BIGINT, pending_digest BYTEA,
    enrolled BIGINT NOT NULL, verdict TEXT
) WITH (fillfactor = 70);
CREATE TABLE tdp_vtpm_broker.policy (
    machine BYTEA NOT NULL REFERENCES tdp_vtpm_broker.machine, name TEXT NOT NULL, text TEXT NOT NULL,
    allowed BIGINT NOT NULL, PRIMARY KEY (machine, name)
);
CREATE TABLE tdp_vtpm_broker.session (
    number BIGINT GENERATED ALWAYS AS IDENTITY, id TEXT PRIMARY KEY,
    machine BYTEA NOT NULL REFERENCES tdp_vtpm_broker.machine, key BYTEA NOT NULL, epoch BIGINT,
    sequence BIGINT NOT NULL, code BYTEA NOT NULL, answer BYTEA NOT NULL, made BIGINT NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX session_machine ON tdp_vtpm_broker.session (machine);
CREATE TABLE tdp_vtpm_broker.event (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, time BIGINT NOT NULL, machine BYTEA, event TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX event_machine ON tdp_vtpm_broker.event (machine);
",
    "
CREATE TABLE tdp_vtpm_broker.attested (
    number BIGINT GENERATED ALWAYS AS IDENTITY, name TEXT PRIMARY KEY,
    machine BYTEA NOT NULL REFERENCES tdp_vtpm_broker.machine, made BIGINT NOT NULL, sealed BYTEA NOT NULL
);
CREATE INDEX attested_machine ON tdp_vtpm_broker.attested (machine);
UPDATE tdp_vtpm_broker.version SET version = 2;
",
    "
ALTER TABLE tdp_vtpm_broker.machine ADD COLUMN halves TEXT, ADD COLUMN otherwise TEXT;
UPDATE tdp_vtpm_broker.version SET version = 3;
",
];

/// The version of the tables; 0 where there are none.
pub(super) async fn version(connection: &mut PgConnection) -> Result<i64, Trouble> {
    let there: bool = sqlx::query("SELECT to_regclass('tdp_vtpm_broker.version') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?
        .try_get(0)?;
    if !there {
        return Ok(0);
    }
    let row = sqlx::query("SELECT version FROM tdp_vtpm_broker.version")
        .fetch_one(connection)
        .await?;
    Ok(row.try_get(0)?)
}

/// Whether the tables are this version's.
pub(super) async fn check(connection: &mut PgConnection) -> Result<(), Trouble> {
    match version(connection).await? {
        0 => Err(StoreError::NoBroker.into()),
        VERSION => Ok(()),
        older @ 1..VERSION => Err(StoreError::OldTables(older).into()),
        newer => Err(StoreError::NewTables(newer).into()),
    }
}

/// Makes the tables, where there are none.
pub(super) async fn create(connection: &mut PgConnection) -> Result<(), Trouble> {
    let mut transaction = connection.begin().await?;
    if version(&mut transaction).await? != 0 {
        return Err(StoreError::BrokerThere.into());
    }
    make(&mut transaction, 0).await?;
    Ok(transaction.commit().await?)
}

/// Makes the tables of an earlier version this version's: from which one, if it was one.
pub(super) async fn migrate(connection: &mut PgConnection) -> Result<Option<i64>, Trouble> {
    match check(connection).await {
        Ok(()) => return Ok(None),
        Err(Trouble::Refused(StoreError::OldTables(_))) => {}
        Err(trouble) => return Err(trouble),
    }
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql("LOCK TABLE tdp_vtpm_broker.version IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *transaction)
        .await?;
    // As it is now that nobody else can change it.
    let found = version(&mut transaction).await?;
    make(&mut transaction, found).await?;
    transaction.commit().await?;
    Ok(Some(found))
}

async fn make(connection: &mut PgConnection, version: i64) -> Result<(), Trouble> {
    let done = usize::try_from(version).map_err(|_| StoreError::Content("version"))?;
    for step in STEPS.get(done..).unwrap_or_default() {
        sqlx::raw_sql(step).execute(&mut *connection).await?;
    }
    Ok(())
}
