//! What can go wrong with a server, and what follows of it.

use crate::store::StoreError;
use sqlx::postgres::{PgDatabaseError, PgSeverity};

/// Why a step did not succeed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The transaction was not made and the connection is good: it collided with another one.
    Collided(sqlx::Error),
    /// The connection is gone, or there was none.
    Lost(String),
    /// The server refused a statement.
    Statement(sqlx::Error),
    /// What the broker itself says.
    Refused(StoreError),
}

/// Serialization failure, deadlock, and a lock that another process holds for too long.
const COLLISIONS: [&str; 3] = ["40001", "40P01", "55P03"];
/// Conditions and classes of them after which another connection may work: connection exceptions, a session that was ended
/// because its transaction stood still, a server that is short of something, one that is ended or starts.
const PASSING: [&str; 4] = ["08", "25P03", "53", "57P"];
/// A server that has become a standby: where its name leads to another one, a new connection helps.
const READ_ONLY: &str = "25006";

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        let sqlx::Error::Database(database) = &error else {
            return match error {
                sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::ColumnNotFound(_)
                | sqlx::Error::ColumnIndexOutOfBounds { .. }
                | sqlx::Error::Decode(_)
                | sqlx::Error::Encode(_)
                | sqlx::Error::RowNotFound
                | sqlx::Error::TypeNotFound { .. }
                | sqlx::Error::Configuration(_) => Self::Statement(error),
                error => Self::Lost(error.to_string()),
            };
        };
        let code = database.code().unwrap_or_default();
        if COLLISIONS.contains(&&*code) {
            return Self::Collided(error);
        }
        let severity = database
            .try_downcast_ref::<PgDatabaseError>()
            .map(PgDatabaseError::severity);
        let ended = matches!(severity, Some(PgSeverity::Fatal | PgSeverity::Panic));
        let passing = PASSING.iter().any(|class| code.starts_with(class));
        match ended && passing || code == READ_ONLY {
            true => Self::Lost(error.to_string()),
            false => Self::Statement(error),
        }
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<Trouble> for StoreError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Lost(what) => Self::Unreachable(what),
            Trouble::Collided(error) | Trouble::Statement(error) => {
                Self::Database(error.to_string())
            }
            Trouble::Refused(error) => error,
        }
    }
}

impl Trouble {
    /// What is known when this came of COMMIT: the transaction was not made if the server says so and goes on.
    pub(super) fn of_commit(self) -> Self {
        match self {
            Trouble::Lost(what) => Trouble::Refused(StoreError::Unknown(what)),
            Trouble::Statement(error) if is_fatal(&error) => {
                Trouble::Refused(StoreError::Unknown(error.to_string()))
            }
            other => other,
        }
    }

    /// Whether the connection can be used again.
    pub(super) fn keeps_connection(&self) -> bool {
        matches!(self, Trouble::Collided(_))
    }

    /// Whether the same may succeed when it is tried again.
    pub(super) fn passes(&self) -> bool {
        matches!(self, Trouble::Collided(_) | Trouble::Lost(_))
    }
}

fn is_fatal(error: &sqlx::Error) -> bool {
    let severity = error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<PgDatabaseError>())
        .map(PgDatabaseError::severity);
    !matches!(severity, Some(PgSeverity::Error))
}
