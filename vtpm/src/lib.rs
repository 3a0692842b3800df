//! The TPM device: what a guest's driver sees, in front of an engine that executes commands.
//!
//! * [`Engine`]: one TPM without an interface. Commands run to completion, or in slices ([`sliced`]).
//! * [`ptp`]: the FIFO interface of the TCG PC Client Platform TPM Profile (PTP), the one that a
//!   stock kernel's `tpm_tis` binds to.
//! * [`mod@reference`]: the engine that is the TPM 2.0 reference code.
//! * [`attested`]: an engine whose life is measured into the trust domain ([`TrustDomain`]), with
//!   the [`log`] that explains the registers, an [`identity`] with certificates, digests of its
//!   [`state`], and reports and quotes for relying parties, also by [`service`].
//!
//! Nothing here knows how an access of the guest arrives; whoever does calls [`ptp::Interface::read`] and
//! [`ptp::Interface::write`] with an offset and a few bytes. The guest is hostile: every access has a
//! defined result, none allocates and none panics.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod attested;
mod cancel;
mod engine;
mod error;
mod evidence;
pub mod identity;
mod journal;
mod locality;
pub mod log;
mod message;
mod provision;
pub mod ptp;
pub mod reference;
mod request;
pub mod service;
pub mod sliced;
pub mod state;
mod trust_domain;

pub use cancel::Cancel;
pub use engine::{Engine, EngineFailure, MAX_RESPONSE, Progress, SavedState, Work};
pub use error::{Error, Failure};
pub use locality::Locality;
pub use provision::CommandError;
pub use trust_domain::{QuoteError, QuoteStatus, TrustDomain, TrustDomainError};
