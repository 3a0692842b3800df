//! What a TD's registers and its vTPM's PCRs will be, from files alone, and a policy that accepts
//! nothing else.
//!
//! [`predict`] computes the values of a [`Configuration`] as `docs/measurement.md`, sections 1 to 3,
//! says; the events come from the crate that L1 takes them from. [`policy()`] writes them down for
//! the verifier.
#![forbid(unsafe_code)]

mod policy;
mod prediction;

pub use policy::{PREDICTED_PCRS, Terms, policy};
pub use prediction::{Configuration, Description, Prediction, engine, predict};
