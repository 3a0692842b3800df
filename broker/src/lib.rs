//! Key broker of persistent vTPMs.
//!
//! It gives an L1 the key of its machine's state if the evidence that L1 shows passes the operator's policy, and keeps the
//! ledger that says which state is the latest. `docs/broker.md` is the manual.
//!
//! * [`attest`]: evidence to a verdict, with the `verifier` library.
//! * [`kbs`]: sessions of the KBS protocol, and the release of a key.
//! * [`ledger`]: openings and commits under a session's key.
//! * [`store`]: what is kept, in SQLite or PostgreSQL. [`writer`]: many requests, one transaction.
//! * [`seal`]: secrets at rest, under the operator's key.
//! * [`server`]: HTTP for machines, and another address for the operator: [`status`], [`metrics`].
//! * [`tls`]: of both addresses, and of the proxy, for those who want it.
//! * [`operator`]: what the command does. [`configuration`]: a machine's attested configuration.
//! * [`proxy`]: the host's pipe between a machine's channel and the broker; it understands nothing of what it moves.
#![forbid(unsafe_code)]

pub mod attest;
pub mod configuration;
pub mod kbs;
pub mod ledger;
pub mod metrics;
pub mod operator;
pub mod proxy;
mod random;
pub mod refused;
pub mod seal;
pub mod server;
pub mod status;
pub mod store;
pub mod tls;
pub mod upgrade;
pub mod writer;

use std::time::{SystemTime, UNIX_EPOCH};

/// The time, in Unix seconds.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
