//! Where a broker is: its folder, its operator's key, its database.

use super::Opened;
use super::rotation::{Turn, next_of, settle};
use crate::random;
use crate::seal::{OperatorKey, Purpose, SealError};
use crate::store::postgresql::{Failover, Postgresql};
use crate::store::sqlite::Sqlite;
use crate::store::{Storage, StoreError, copy, once};
use anyhow::{Context, Result, bail};
use broker_protocol::jws::IdentityKey;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The broker's fact of this name is its identity, sealed.
pub(super) const IDENTITY: &str = "identity";

/// Where everything is kept but the operator's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// `broker.sqlite` in the broker's folder.
    Sqlite,
    /// PostgreSQL.
    Postgresql {
        /// Its URL. It may have a password.
        url: String,
        /// What a standby is taken for that has become the primary.
        failover: Failover,
    },
}

impl Database {
    /// That of an operator's words: a URL, or none.
    ///
    /// # Errors
    /// It is no URL of PostgreSQL.
    pub fn named(url: Option<String>, failover: Failover) -> Result<Self> {
        match url {
            None => Ok(Self::Sqlite),
            Some(url) if Postgresql::is_url(&url) => Ok(Self::Postgresql { url, failover }),
            // It may have a password: it is not shown.
            Some(_) => bail!(
                "--database names no PostgreSQL: postgres://USER@HOST/DATABASE; without it the database is SQLite, in the \
                 folder"
            ),
        }
    }
}

/// A broker's folder, its operator's key, and its database.
pub struct Place {
    /// Where the key is, and a database that is SQLite.
    pub folder: PathBuf,
    /// The file of the operator's key; `operator.key` in the folder if none is named.
    pub key: Option<PathBuf>,
    /// The database.
    pub database: Database,
}

impl Place {
    pub(super) fn key_file(&self) -> PathBuf {
        let own = || self.folder.join("operator.key");
        self.key.clone().unwrap_or_else(own)
    }

    fn sqlite(&self) -> PathBuf {
        self.folder.join("broker.sqlite")
    }

    /// Makes a broker: folder, operator's key, tables, identity.
    ///
    /// # Errors
    /// There is one already, or a file cannot be made.
    pub fn create(&self) -> Result<Opened> {
        let mut storage = self.empty()?;
        let operator = match self.key_file().exists() {
            true => OperatorKey::read(&self.key_file())?,
            false => OperatorKey::create(&self.key_file())?,
        };
        let identity = random::identity_key()?;
        let sealed = operator.seal(Purpose::Identity, b"", &*identity.to_bytes())?;
        once(&mut *storage, |transaction| {
            transaction.set_fact(IDENTITY, &sealed)
        })?;
        Ok(Opened {
            storage,
            operator,
            identity,
        })
    }

    /// Makes the folder, and a database with empty tables.
    fn empty(&self) -> Result<Box<dyn Storage>> {
        std::fs::create_dir_all(&self.folder)
            .with_context(|| format!("{}", self.folder.display()))?;
        restrict(&self.folder)?;
        let made: Result<Box<dyn Storage>, StoreError> = match &self.database {
            Database::Sqlite => Sqlite::create(&self.sqlite()).map(|made| Box::new(made) as _),
            Database::Postgresql { url, .. } => {
                Postgresql::create(url).map(|made| Box::new(made) as _)
            }
        };
        made.map_err(|error| self.explained(error))
    }

    /// Opens a broker.
    ///
    /// # Errors
    /// There is none, or it is another operator's.
    pub fn open(&self) -> Result<Opened> {
        self.open_with(None)
    }

    /// As [`open`](Self::open), and brings a rotation of the operator's key to its end.
    pub(super) fn open_in(&self, turn: &Turn) -> Result<Opened> {
        self.open_with(Some(turn))
    }

    fn open_with(&self, turn: Option<&Turn>) -> Result<Opened> {
        let found: Result<Box<dyn Storage>, StoreError> = match &self.database {
            Database::Sqlite => Sqlite::open(&self.sqlite()).map(|found| Box::new(found) as _),
            Database::Postgresql { url, failover } => {
                Postgresql::open(url, *failover).map(|found| Box::new(found) as _)
            }
        };
        let mut storage = found.map_err(|error| self.explained(error))?;
        let sealed = once(&mut *storage, |transaction| transaction.fact(IDENTITY))?
            .context("the database has no identity: `init` did not come to its end in it")?;
        let key = self.key_file();
        let operator = OperatorKey::read(&key)?;
        let (operator, identity) = match (opens(&operator, &sealed), turn) {
            (Ok(identity), _) => (operator, identity),
            (Err(error), None) => match Turn::of(&key) {
                Ok(turn) => {
                    drop(storage);
                    return self.open_in(&turn);
                }
                Err(_) => return Err(error.into()),
            },
            // A rotation was cut off behind its transaction, if it was not brought to its end in the meantime.
            (Err(error), Some(turn)) => {
                let next = match OperatorKey::read(&next_of(&key)) {
                    Ok(next) => next,
                    Err(_) => return Err(error.into()),
                };
                let identity = opens(&next, &sealed).map_err(|_| error)?;
                settle(&key, &operator, turn)?;
                (next, identity)
            }
        };
        let identity =
            IdentityKey::from_random(&identity).context("the database's identity is no key")?;
        Ok(Opened {
            storage,
            operator,
            identity,
        })
    }

    /// Makes the tables of an earlier version this version's: from which one, if it was one.
    ///
    /// # Errors
    /// There is no broker, or its tables are a later version's.
    pub fn migrate(&self) -> Result<Option<i64>> {
        let migrated = match &self.database {
            Database::Sqlite => Sqlite::migrate(&self.sqlite()),
            Database::Postgresql { url, .. } => Postgresql::migrate(url),
        };
        migrated.map_err(|error| self.explained(error))
    }

    /// Makes a broker of a backup. It gives no lease until each machine is recovered.
    ///
    /// # Errors
    /// There is a broker already, or the file is no backup.
    pub fn restore(&self, file: &Path) -> Result<Opened> {
        let mut backup =
            Sqlite::open(file).with_context(|| format!("the backup {}", file.display()))?;
        let mut storage = self.empty()?;
        copy(&mut backup, &mut *storage)
            .with_context(|| format!("the backup {}", file.display()))?;
        drop(storage);
        self.open()
    }

    fn explained(&self, error: StoreError) -> anyhow::Error {
        match &self.database {
            Database::Sqlite => {
                anyhow::Error::new(error).context(format!("{}", self.folder.display()))
            }
            Database::Postgresql { .. } => anyhow::Error::new(error).context("--database"),
        }
    }
}

/// The broker's identity, if it is sealed with this key.
pub(super) fn opens(
    operator: &OperatorKey,
    sealed: &[u8],
) -> Result<Zeroizing<[u8; 32]>, SealError> {
    operator.open_key(Purpose::Identity, b"", sealed)
}

/// Secrets in the folder are sealed; what is not is nobody's business either.
fn restrict(folder: &Path) -> Result<()> {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(folder, mode).with_context(|| format!("{}", folder.display()))
}
