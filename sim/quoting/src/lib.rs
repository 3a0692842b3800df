//! What stands behind TDG.VP.VMCALL\<GetQuote\> on a real platform, for tests: the TD quoting enclave
//! and the certificates of its platform.
//!
//! A quote of this crate has the form of a real one (Intel TDX DCAP Quoting Library API, appendix 3,
//! "Version 4 Quote Format"), down to the certificate chain, and any verifier that is told to take
//! `pki/root-ca.der` for a root accepts it. It proves nothing: **all private keys are derived from
//! their names, in the open** ([`TestKey`]). Never trust that root.
//!
//! * [`quote`] and [`QuotingEnclave`]: from a TDREPORT, or from any [`TdQuoteBody`](tdx_defs::quote::TdQuoteBody), to a quote. No
//!   `std`, so that the simulator's host can do it on bare metal.
//! * [`message`]: the messages of the quote generation service, in which Linux's and td-shim's
//!   requests come.
//! * [`pki`] (feature `pki`, hosted): makes the certificates, revocation lists and collateral in
//!   `pki/`, and others that are wrong in a chosen way.
//!
//! Whether a TDREPORT is one of this platform is for the platform to say: its MAC can only be checked
//! where its key is (`tdx_module::Module::is_local_report`).
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "of the simulator: what it takes apart, its tests have made"
)]
#![cfg_attr(not(any(test, feature = "pki")), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod enclave;
mod key;
pub mod message;
#[cfg(feature = "pki")]
pub mod pki;
mod report;

pub use enclave::{QuotingEnclave, quote};
pub use key::TestKey;
pub use report::{ReportError, body_of};
