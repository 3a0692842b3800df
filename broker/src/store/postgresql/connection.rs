//! A connection, and what the broker asks of the server behind it.

use super::Failover;
use super::trouble::Trouble;
use crate::now;
use crate::store::{RESTORED, StoreError};
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{ConnectOptions, Connection, PgConnection, Row};
use std::time::Duration;

/// How long to wait for a server that does not answer.
const CONNECT: Duration = Duration::from_secs(3);

/// The fact that says which database this is: cluster, database, timeline. A copy of it is another one.
pub(super) const PLACE: &str = "place";

/// What a session is like: what was acknowledged is on the disk (and, where the server says `remote_apply`, at its
/// standbys), whatever was set for the role or the database; a process that stops in the middle of a transaction, or waits
/// for one that did, does not hold the others up. No time-out for statements: one that ends COMMIT's wait for a
/// synchronous standby has the server report success.
const SESSION: &str = "
SELECT set_config('synchronous_commit',
           CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false),
       set_config('search_path', 'tdp_vtpm_broker', false),
       set_config('statement_timeout', '0', false),
       set_config('lock_timeout', '3s', false),
       set_config('idle_in_transaction_session_timeout', '5s', false),
       set_config('client_min_messages', 'warning', false)";

/// What the broker wants to know of a server.
const SERVER: &str = "
SELECT current_setting('fsync'), current_setting('full_page_writes'), pg_is_in_recovery(),
       current_setting('server_version_num')::int";

/// Which database this is.
const WHERE: &str = "
SELECT (SELECT system_identifier FROM pg_control_system())::text,
       (SELECT oid FROM pg_database WHERE datname = current_database())::text,
       substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)";

/// The oldest server whose statements these are.
const OLDEST: i32 = 130_000;

/// Connects, and sets the session up. The tables are not looked at.
pub(super) async fn connect(options: &PgConnectOptions) -> Result<PgConnection, Trouble> {
    let connecting = options.clone().disable_statement_logging();
    let mut connection =
        match tokio::time::timeout(CONNECT, PgConnection::connect_with(&connecting)).await {
            Ok(connected) => connected?,
            Err(_) => return Err(Trouble::Lost("the server does not answer".into())),
        };
    sqlx::query(SESSION).execute(&mut connection).await?;
    let server = sqlx::query(SERVER).fetch_one(&mut connection).await?;
    usable(&server)?;
    Ok(connection)
}

fn usable(server: &PgRow) -> Result<(), Trouble> {
    for (column, setting) in ["fsync", "full_page_writes"].into_iter().enumerate() {
        let value: String = server.try_get(column)?;
        if value != "on" {
            return Err(StoreError::SetUp(format!(
                "the server has {setting} = {value}, so that a crash may lose or damage what was acknowledged: set it to on"
            ))
            .into());
        }
    }
    if server.try_get(2)? {
        // Its name may lead to the primary a moment later.
        return Err(Trouble::Lost("the server is a standby".into()));
    }
    let version: i32 = server.try_get(3)?;
    match version < OLDEST {
        true => Err(StoreError::SetUp(format!(
            "the server is PostgreSQL {}, and the broker needs {} or newer",
            version / 10_000,
            OLDEST / 10_000
        ))
        .into()),
        false => Ok(()),
    }
}

/// A database, and its place in the history of its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    cluster: String,
    database: String,
    timeline: String,
}

impl Place {
    async fn of(connection: &mut PgConnection) -> Result<Self, Trouble> {
        let row = sqlx::query(WHERE).fetch_one(connection).await?;
        Ok(Self {
            cluster: row.try_get(0)?,
            database: row.try_get(1)?,
            timeline: row.try_get(2)?,
        })
    }

    fn to_text(&self) -> String {
        format!("{} {} {}", self.cluster, self.database, self.timeline)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(text)
            .ok()?
            .split(' ')
            .map(str::to_owned);
        Some(Self {
            cluster: words.next()?,
            database: words.next()?,
            timeline: words.next()?,
        })
    }
}

/// Notes which database this is, in a transaction of its own.
pub(super) async fn settle(connection: &mut PgConnection) -> Result<(), Trouble> {
    let place = Place::of(connection).await?;
    Ok(note(connection, &place).await?)
}

async fn note(connection: &mut PgConnection, place: &Place) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO fact VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value",
    )
    .bind(PLACE)
    .bind(place.to_text().into_bytes())
    .execute(connection)
    .await
    .map(drop)
}

/// Finds out whether the database is one that was restored: from a dump, as a copy, or as of an earlier time. Then its
/// ledger may know less than the machines do, and gives no lease until its owner has spoken.
pub(super) async fn check_place(
    connection: &mut PgConnection,
    failover: Failover,
) -> Result<(), Trouble> {
    let place = Place::of(connection).await?;
    if noted(connection).await?.as_ref() == Some(&place) {
        return Ok(());
    }
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql("LOCK TABLE version IN EXCLUSIVE MODE")
        .execute(&mut *transaction)
        .await?;
    // Another process may have been faster.
    let before = noted(&mut transaction).await?;
    if before.as_ref() == Some(&place) {
        return Ok(());
    }
    let promoted = before.as_ref().is_some_and(|before| {
        (&before.cluster, &before.database) == (&place.cluster, &place.database)
    });
    let before = before.map_or_else(|| "none".into(), |before| before.to_text());
    let detail = format!("the database is {}, and was {before}", place.to_text());
    let event = match (promoted, failover) {
        (true, Failover::LosesNothing) => "failover",
        _ => {
            mark(&mut transaction).await?;
            "restored"
        }
    };
    tracing::error!(event, detail);
    note(&mut transaction, &place).await?;
    sqlx::query("INSERT INTO event (time, event, detail) VALUES ($1, $2, $3)")
        .bind(i64::try_from(now()).map_err(|_| StoreError::Number)?)
        .bind(event)
        .bind(detail)
        .execute(&mut *transaction)
        .await?;
    Ok(transaction.commit().await?)
}

async fn noted(connection: &mut PgConnection) -> Result<Option<Place>, Trouble> {
    let row = sqlx::query("SELECT value FROM fact WHERE name = $1")
        .bind(PLACE)
        .fetch_optional(connection)
        .await?;
    let text: Option<Vec<u8>> = row.map(|row| row.try_get(0)).transpose()?;
    Ok(text.and_then(|text| Place::parse(&text)))
}

async fn mark(connection: &mut PgConnection) -> Result<(), Trouble> {
    sqlx::query("INSERT INTO fact VALUES ($1, '\\x01') ON CONFLICT (name) DO NOTHING")
        .bind(RESTORED)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "UPDATE machine SET standing = 'restored' WHERE id IN
         (SELECT id FROM machine WHERE standing = 'enrolled' ORDER BY id FOR UPDATE)",
    )
    .execute(connection)
    .await?;
    Ok(())
}
