//! Formats of measurement, journal, reports and evidence.
//!
//! L1 writes them and a relying party reads them, with this crate on both sides; `docs/measurement.md`
//! is their specification.
//!
//! * [`digest`]: the four hash algorithms of a TPM, one at a time or all in one pass;
//! * [`pcr`]: banks of PCRs as values;
//! * [`event_log`]: the TCG crypto-agile event log and the CC event log;
//! * [`launch`]: the events that L1 measures before L2 runs;
//! * [`journal`]: records of the vTPM's life, in RTMR3;
//! * [`claims`]: the runtime claims that a TD report's REPORTDATA stands for;
//! * [`certificate`]: what the certificate of L1's CA carries;
//! * [`report`], [`window`]: what the NV indices for attestation hold;
//! * [`tpm`]: the TPM's own wire structures, both ways;
//! * with feature `std`, `bundle`: the bundle of evidence as JSON.
//!
//! Nothing here measures, signs or decides: it says what bytes mean. Every parser takes hostile
//! bytes, is bounded by their number and never panics; what a parser accepts, the writer beside it
//! writes back byte for byte.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(any(test, feature = "std"))]
extern crate std;

#[cfg(feature = "std")]
pub mod bundle;
pub mod certificate;
pub mod claims;
pub mod digest;
pub mod event_log;
pub mod journal;
pub mod launch;
pub mod pcr;
mod reader;
pub mod report;
pub mod tpm;
pub mod window;
