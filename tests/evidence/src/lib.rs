//! Evidence for the verifier, made as it is made in a TD, and what it takes to lie about it.
//!
//! [`Boot`] plays a boot in this process: a firmware image is measured into MRTD by the model of the TDX module, the
//! firmware measures the TD HOB, L1's own code measures the launch, starts the reference TPM engine and asks the test
//! quoting enclave for quotes. [`guest::collect`] then does with TPM commands what `vtpm-evidence` does with tpm2-tools.
//! The outcome is an [`Evidence`]: a bundle with the policy and the trusted root that it satisfies.
//!
//! Nothing in it is made up; what is false in a test is what the test has made false.
//!
//! The engine is one a process, so boots take turns: a [`Machine`] holds the turn until it is dropped.
#![forbid(unsafe_code)]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "fixtures of tests"
)]

mod boot;
mod domain;
mod firmware;
pub mod guest;
mod host_tpm;
mod kernel;
mod quoting_host;
mod turn;

pub use boot::{Boot, Evidence, Launched, Machine, NOW, committed_collateral};
pub use domain::Domain;
pub use firmware::FirmwareImage;
pub use host_tpm::HostTpm;
pub use kernel::{bz_image, loaded};
pub use quoting_host::{QuotingHost, Service};
