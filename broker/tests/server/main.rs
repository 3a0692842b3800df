//! The server as machines and operators meet it: over HTTP, with evidence of whole boots. Here on SQLite; `../postgresql`
//! has the same tests on PostgreSQL.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

#[allow(dead_code, reason = "for the tests on PostgreSQL")]
#[path = "../postgresql/cluster.rs"]
mod cluster;

mod certificates;
mod client;
mod http;
mod kill;
mod ledger;
mod lies;
mod machine;
mod operator;
mod proxy;
mod release;
mod rotation;
mod running;
#[allow(dead_code, reason = "for the tests on PostgreSQL")]
mod storage;
mod store;
mod tls;
mod transcripts;
mod upgrade;

/// The database of these tests.
const KIND: storage::Kind = storage::Kind::Sqlite;
