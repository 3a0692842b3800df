//! The state of the TPM, unlocked before L2 exists.
//!
//! [`Sealing`] is the TDX half of the key: what a module seals to this L1.

mod sealing;

pub use sealing::{HardwareTcb, Sealing, SealingError};
