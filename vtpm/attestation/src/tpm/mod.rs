//! The TPM's own wire structures, both ways. Big-endian.
//!
//! TPM 2.0 Library, part 2 ("Structures") and part 3 ("Commands"). What L1 and a verifier need of it:
//! public areas, attestation structures, signatures, PCR selections, and commands with their
//! authorizations. A structure outside that is refused, not guessed.

mod attest;
mod command;
mod name;
mod nv_public;
mod pcr_selection;
mod public;
mod response;
mod signature;
pub mod template;
#[cfg(test)]
mod tests;
mod wire;

pub mod alg;
pub mod cc;
pub mod commands;
pub mod rc;
pub mod rh;

pub use attest::{Attest, Attested, ClockInfo};
pub use command::{Authorization, Command, Entity};
pub use name::Name;
pub use nv_public::NvPublic;
pub use pcr_selection::{PcrSelect, PcrSelection};
pub use public::{Curve, Key, ObjectAttributes, Public, Scheme, Symmetric};
pub use response::{Response, ResponseError, response_code};
pub use signature::Signature;
pub use wire::{Fields, Put, WireError};
