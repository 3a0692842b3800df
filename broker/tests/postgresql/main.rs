//! The server on PostgreSQL: all tests of `../server`, and those of what only it can do, which is to serve from several
//! processes at once, and to lose its database and find it again.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

#[allow(dead_code, reason = "for the tests of the broker's own TLS")]
#[path = "../server/certificates.rs"]
mod certificates;
#[path = "../server/client.rs"]
mod client;
mod cluster;
mod copies;
#[path = "../server/http.rs"]
mod http;
#[path = "../server/kill.rs"]
mod kill;
#[path = "../server/ledger.rs"]
mod ledger;
#[path = "../server/lies.rs"]
mod lies;
#[path = "../server/machine.rs"]
mod machine;
#[path = "../server/operator.rs"]
mod operator;
mod outage;
mod pipe;
mod processes;
#[path = "../server/release.rs"]
mod release;
#[path = "../server/rotation.rs"]
mod rotation;
#[allow(dead_code, reason = "for the tests of the broker's own TLS")]
#[path = "../server/running.rs"]
mod running;
mod settings;
#[path = "../server/storage.rs"]
mod storage;
#[path = "../server/store.rs"]
mod store;
mod tls;

/// The database of these tests.
const KIND: storage::Kind = storage::Kind::Postgresql;
