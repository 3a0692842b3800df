//! PostgreSQL: a database by its URL, which several processes of one broker use at once.
//!
//! **Why two processes cannot both change a machine.** All that a transaction reads of a machine in order to change it
//! (what the ledger knows, its sessions), it reads after it has locked the machine's row (`FOR UPDATE`), each statement
//! sees what was committed before it began (READ COMMITTED), and whoever changes any of it holds the same lock until
//! COMMIT. So transactions of one machine come one after the other, as in SQLite, and those of other machines do not wait
//! for them. The locks of all pieces are taken by the first statement, in the order of the machines' identities, so that
//! two transactions do not wait for each other; where a piece finds a machine on its way, they may, and the server ends one
//! of the two, which is made again. SERIALIZABLE would do the same by predicate locks, which are pages and, for small
//! tables, whole tables: transactions of a hundred machines each would mostly fail.
//!
//! **What is made again.** A transaction that collided or whose connection broke before COMMIT, so many times and so long
//! (`TRIES`, `PATIENCE`), all pieces from the first on. Not one whose connection broke while it waited for COMMIT's
//! answer: whether it was made is not known ([`StoreError::Unknown`]), whoever asked gets no answer, and asks again. The
//! ledger's request is then found answered already, or new.

mod connection;
mod part;
mod tables;
mod trouble;
mod unit;

use super::sqlite::Sqlite;
use super::{About, Storage, StoreError, Work, copy};
use part::Part;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{Connection, PgConnection, Row};
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use trouble::Trouble;
use unit::Unit;

/// How often a transaction is tried.
const TRIES: u32 = 12;
/// How long a transaction is tried again; L1 waits 6 seconds for an answer.
const PATIENCE: Duration = Duration::from_secs(4);
/// The first pause between two tries; each later one is twice as long.
const PAUSE: Duration = Duration::from_millis(10);
/// How long one try may take, from its first statement to COMMIT's answer.
const TRANSACTION: Duration = Duration::from_secs(10);

/// What a broker takes a standby for that has become the primary, or a cluster that was recovered to a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Failover {
    /// One that may lack what was acknowledged: the ledger counts as restored.
    #[default]
    MayLose,
    /// One that has all that was acknowledged, as the operator says: replication is synchronous.
    LosesNothing,
}

/// How a transaction sees the others.
#[derive(Clone, Copy)]
enum View {
    /// Each statement sees what is there when it begins.
    Latest,
    /// All statements see what was there at the first one; nothing is changed.
    Snapshot,
}

impl View {
    fn begin(self) -> &'static str {
        match self {
            View::Latest => "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
            View::Snapshot => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        }
    }
}

/// The database.
pub struct Postgresql {
    // Before the runtime, which it ends with.
    connection: Option<PgConnection>,
    runtime: Runtime,
    options: PgConnectOptions,
    failover: Failover,
}

impl Postgresql {
    /// Whether this is an address of such a database.
    pub fn is_url(url: &str) -> bool {
        ["postgres://", "postgresql://"]
            .iter()
            .any(|scheme| url.starts_with(scheme))
    }

    /// Connects to a broker's database.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open(url: &str, failover: Failover) -> Result<Self, StoreError> {
        let mut this = Self::unconnected(url, failover)?;
        let connected = this.runtime.block_on(async {
            let mut connection = connection::connect(&this.options).await?;
            tables::check(&mut connection).await?;
            connection::check_place(&mut connection, failover).await?;
            Ok::<_, Trouble>(connection)
        });
        this.connection = Some(connected?);
        Ok(this)
    }

    /// Makes a broker's tables in a database that is there.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn create(url: &str) -> Result<Self, StoreError> {
        let mut this = Self::unconnected(url, Failover::default())?;
        let connected = this.runtime.block_on(async {
            let mut connection = connection::connect(&this.options).await?;
            tables::create(&mut connection).await?;
            connection::settle(&mut connection).await?;
            Ok::<_, Trouble>(connection)
        });
        this.connection = Some(connected?);
        Ok(this)
    }

    /// Makes the tables of an earlier version this version's: from which one, if it was one.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn migrate(url: &str) -> Result<Option<i64>, StoreError> {
        let this = Self::unconnected(url, Failover::default())?;
        let migrated = this.runtime.block_on(async {
            let mut connection = connection::connect(&this.options).await?;
            tables::migrate(&mut connection).await
        });
        Ok(migrated?)
    }

    /// What a setting is in this broker's transactions, whatever it is for the role and the database.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn setting(&mut self, name: &str) -> Result<String, StoreError> {
        self.attempt(View::Latest, &[], &mut |_, _| Ok(()))?;
        let connection = self.connection.as_mut().ok_or(StoreError::NotMade)?;
        let mut unit = Unit::new(&self.runtime, connection, Instant::now() + TRANSACTION);
        unit.execute(View::Latest.begin())?;
        let row = unit.ask(async |connection| {
            sqlx::query("SELECT current_setting($1)")
                .bind(name)
                .fetch_one(connection)
                .await
        })?;
        unit.execute("ROLLBACK")?;
        Ok(row.try_get(0).map_err(Trouble::from)?)
    }

    fn unconnected(url: &str, failover: Failover) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|error| StoreError::SetUp(format!("its URL: {error}")))?
            .application_name("tdp-vtpm-broker");
        check_way(&options)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| StoreError::Database(error.to_string()))?;
        Ok(Self {
            connection: None,
            runtime,
            options,
            failover,
        })
    }

    /// One try.
    fn attempt(&mut self, view: View, pieces: &[About], work: Work<'_>) -> Result<(), Trouble> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.runtime.block_on(async {
                let mut connection = connection::connect(&self.options).await?;
                tables::check(&mut connection).await?;
                connection::check_place(&mut connection, self.failover).await?;
                Ok::<_, Trouble>(connection)
            })?,
        };
        let mut unit = Unit::new(&self.runtime, &mut connection, Instant::now() + TRANSACTION);
        let done = transact(&mut unit, view, pieces, work);
        let keeps = match &done {
            Ok(()) => true,
            Err(trouble) if trouble.keeps_connection() => unit.execute("ROLLBACK").is_ok(),
            Err(_) => false,
        };
        if keeps {
            self.connection = Some(connection);
        } else {
            // Nothing is said to a server that may not listen.
            self.runtime.block_on(async { drop(connection) });
        }
        done
    }
}

/// Without a word on TLS the driver does without it where the server, or somebody between, says that there is none: whoever
/// is in the network could write the ledger.
fn check_way(options: &PgConnectOptions) -> Result<(), StoreError> {
    let host = options.get_host();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let address = address.parse::<IpAddr>();
    let here = options.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || address.is_ok_and(|address| address.to_canonical().is_loopback());
    let unsaid = matches!(options.get_ssl_mode(), PgSslMode::Prefer | PgSslMode::Allow);
    match unsaid && !here {
        true => Err(StoreError::SetUp(format!(
            "the way to {host} may do without TLS: sslmode=verify-full and sslrootcert=FILE in its URL, or another sslmode \
             where the network between is trusted"
        ))),
        false => Ok(()),
    }
}

fn transact(
    unit: &mut Unit<'_>,
    view: View,
    pieces: &[About],
    work: Work<'_>,
) -> Result<(), Trouble> {
    unit.execute(view.begin())?;
    if let View::Latest = view {
        unit.prepare(pieces)?;
    }
    for piece in 0..pieces.len() {
        let mut part = Part::new(unit);
        let done = work(piece, &mut part);
        part.end(done)?;
    }
    unit.flush()?;
    unit.execute("COMMIT").map_err(Trouble::of_commit)
}

impl Storage for Postgresql {
    fn transaction(&mut self, pieces: &[About], work: Work<'_>) -> Result<(), StoreError> {
        let begun = Instant::now();
        let mut pause = PAUSE;
        let mut tries = 1;
        loop {
            match self.attempt(View::Latest, pieces, work) {
                Ok(()) => return Ok(()),
                Err(trouble)
                    if trouble.passes() && tries < TRIES && begun.elapsed() + pause < PATIENCE =>
                {
                    tracing::warn!(?trouble, tries, "a transaction is made again");
                }
                Err(trouble) => return Err(trouble.into()),
            }
            std::thread::sleep(pause + jitter(pause));
            pause *= 2;
            tries += 1;
        }
    }

    fn backup(&mut self, path: &Path) -> Result<(), StoreError> {
        if path.exists() {
            return Err(StoreError::Database(format!(
                "{} is there already",
                path.display()
            )));
        }
        let mut to = Sqlite::create(path)?;
        let mut copied = Err(StoreError::NotMade);
        let read = self.attempt(View::Snapshot, &[About::Anything], &mut |_, from| {
            copied = copy::into(from, &mut to);
            copied.clone()
        });
        to.close()?;
        let copied = read.map_err(StoreError::from).and(copied);
        if copied.is_err() {
            let _ = std::fs::remove_file(path);
        }
        copied
    }
}

impl Drop for Postgresql {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            let _ = self.runtime.block_on(async {
                tokio::time::timeout(Duration::from_secs(1), connection.close()).await
            });
        }
    }
}

/// So that processes that collided do not again: none to all of `pause`.
fn jitter(pause: Duration) -> Duration {
    let random = crate::random::bytes::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    pause.mul_f64(f64::from(random) / f64::from(u32::MAX))
}
