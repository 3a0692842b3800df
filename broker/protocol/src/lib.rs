//! What L1 and its key broker say to each other.
//!
//! Both sides use this code: L1, which has no operating system and links it into its image, and the broker. It makes
//! and reads messages, and has no socket, no clock and no source of random numbers.
//!
//! * [`kbs`]: the messages of the KBS protocol 0.4.0 (Confidential Containers), what REPORTDATA must be, paths and cookie.
//! * [`jwk`]: P-256 keys as JSON Web Keys, and their thumbprint (RFC 7517, RFC 7638).
//! * [`jwe`]: a secret on its way to L1: ECDH-ES+A256KW, A256GCM (RFC 7516, RFC 7518).
//! * [`jws`]: what the broker signs: ES256, compact (RFC 7515).
//! * [`release`]: what it signs: the machine's key and the session of this start.
//! * [`ledger`]: openings and commits of the machine's state, under the session's key.
//! * [`limits`]: the bounds of sizes, all of them.
//!
//! The channel is the host's, who can read and replace every byte. L1 therefore takes nothing for granted that is not
//! signed by the broker's identity ([`jws`]) for this start's nonce and key ([`release::Release::check`]), or under the
//! session's key ([`ledger::open_answer`]). There is no TLS: a channel that ends in the broker would authenticate the same
//! key once more, and cost L1 a TLS library.
//!
//! Each refusal is an [`Error`] with a name. Secrets are erased when they are dropped.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod encoding;
mod error;
pub mod jwe;
pub mod jwk;
pub mod jws;
pub mod kbs;
pub mod ledger;
pub mod limits;
pub mod machine;
pub mod release;

pub use error::Error;
pub use machine::MachineId;
