//! Checks the evidence of a vTPM in a partitioned TD, offline.
//!
//! A relying party gives [`verify`] a bundle of evidence, the nonce it asked with, a [`Policy`] and the [`Collateral`] of a
//! trusted root. It gets a [`Report`]: one [`Check`] for each link of the chain
//!
//! ```text
//! trusted root → PCK → quoting enclave → TD quote → REPORTDATA = claims → nonce
//!                                          ├─ MRTD, attributes           = policy
//!                                          ├─ RTMR0–2 = CC event log     = policy: firmware, kernel, command line, initrd
//!                                          └─ RTMR3   = journal          = policy: the vTPM and its life
//!                                               └─ CA, EKs, AK → TPM quote → PCRs = TCG event log = claims = journal
//! ```
//!
//! * [`check`]: the checks and what each rests on. Where a link is broken, that check alone fails; what rests on it is *not
//!   reached*.
//! * [`policy`]: what a relying party accepts; a TOML file, documented in this crate's README.
//! * [`verify_launch`]: the part of it that there is before the vTPM starts, for whoever keeps its state's key.
//! * [`collateral`]: the trusted root and what its owner says of platforms, from files.
//! * [`account`]: the report, what it is about, and every measured event in words, as data; [`page()`] is that as a page,
//!   `--json` the same as JSON.
//!
//! Everything in a bundle is hostile until a check has passed: nothing in here panics on it, and the time that a
//! verification takes is bounded by the bundle's size. What is not checked, and why, is in the report: *accepted* where
//! the policy takes whatever is there, *skipped* where there is nothing to compare.
#![forbid(unsafe_code)]

pub mod account;
pub mod cc_event;
pub mod certificate;
pub mod check;
mod checks;
pub mod collateral;
mod evidence;
mod explain;
pub mod files;
mod launch;
mod limits;
mod page;
pub mod policy;
pub mod public_key;
pub mod quote;
pub mod tcb;
pub mod td_attributes;
pub mod td_bindings;
pub mod td_body;
mod text;
pub mod tpm_signature;

pub use account::{About, Account};
pub use attestation::bundle::Bundle;
pub use check::{Check, Id, Outcome, Report, Verdict};
pub use collateral::Collateral;
pub use explain::explain;
pub use launch::{LaunchEvidence, verify_launch};
pub use page::page;
pub use policy::Policy;
pub use text::printable;

use check::Finding;
use evidence::Evidence;

/// Largest bundle that is read.
pub const BUNDLE_LIMIT: usize = 16 << 20;

/// Checks a bundle: `now` in Unix seconds, `nonce` as the relying party gave it to the guest.
pub fn verify(
    bundle: &Bundle,
    policy: &Policy,
    collateral: &Collateral,
    now: u64,
    nonce: &[u8],
) -> Report {
    let evidence = Evidence::new(bundle, policy, collateral, now, nonce);
    check::run(|id| checks::make(id, &evidence))
}

/// As [`verify`], for a bundle as JSON. One that does not parse fails [`Id::BundleFormat`].
pub fn verify_json(
    json: &[u8],
    policy: &Policy,
    collateral: &Collateral,
    now: u64,
    nonce: &[u8],
) -> Report {
    let problem = match json.len() {
        0..=BUNDLE_LIMIT => match Bundle::from_json(json) {
            Ok(bundle) => return verify(&bundle, policy, collateral, now, nonce),
            Err(error) => error.to_string(),
        },
        more => format!("{more} bytes"),
    };
    check::run(|_| {
        Err(Finding::failed(
            "this is not a bundle of evidence",
            "JSON as docs/measurement.md, section 9, has it",
            problem.clone(),
        ))
    })
}
