//! The runtime claims, and what REPORTDATA stands for.
//!
//! `docs/measurement.md`, section 5. The claims are JSON of one form alone, so that they are written
//! and read here without a general JSON library.

mod binding;
mod json;
#[cfg(test)]
mod tests;

pub use binding::{ca_report_data, ek_names_digest, pcr_banks_digest, report_data};
pub use json::ClaimsError;

use alloc::vec::Vec;

/// What L1 says in a report for a relying party.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Modulus of the AK, big-endian.
    pub ak_modulus: Vec<u8>,
    /// Public exponent of the AK.
    pub ak_exponent: u32,
    /// The 64 bytes of NV index 0x01400002.
    pub user_data: [u8; 64],
    /// [`ek_names_digest`].
    pub eks: [u8; 32],
    /// [`pcr_banks_digest`].
    pub pcrs: [u8; 32],
    /// RTMR3.
    pub journal: [u8; 48],
    /// Records of the journal in it.
    pub records: u32,
}
