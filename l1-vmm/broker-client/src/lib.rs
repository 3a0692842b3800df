//! L1's side of its key broker.
//!
//! * [`Channel`]: bytes both ways, that the host moves. It can hold them back, cut them, change them and make its own.
//! * [`http`]: HTTP/1.1 over them: one request after the other, answers bounded in size and time.
//! * [`kbs`]: a session of the KBS protocol 0.4.0 (auth, attest, resource), which ends with what the broker released, or with
//!   the step at which it did not and why.
//! * [`ledger`]: the broker's ledger, as the state store asks it.
//!
//! With the feature `scripted`, for tests, `scripted` is a broker that lies as it is told.
//!
//! Nothing here decides what becomes of a machine whose broker says no: `l1_vmm::launch::unlock` does. Nothing here has a
//! clock, a device or random numbers of its own.
//!
//! Who the answers come from is said by two things alone: the signature of the identity that the attested configuration
//! names, over what was released for this start, and the message authentication codes of the session that was released
//! with it. All else that arrives is the host's: it can end an attempt, by a named error, before a deadline.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod channel;
pub mod http;
pub mod kbs;
pub mod ledger;
#[cfg(any(test, feature = "scripted"))]
pub mod scripted;

pub use channel::{Channel, ChannelError, Deadline};
