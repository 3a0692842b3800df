//! The server as machines and operators meet it: over HTTP, with evidence of whole boots.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

mod client;
mod http;
mod kill;
mod ledger;
mod lies;
mod machine;
mod operator;
mod proxy;
mod release;
mod running;
mod transcripts;
