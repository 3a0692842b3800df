//! Numbers and layouts of the Trusted Computing Group's specifications.
//!
//! * [`ptp`]: the TPM's window of registers (*PC Client Platform TPM Profile Specification for TPM 2.0*, "PTP").
//! * [`acpi`]: the TPM2 table.
//! * [`oid`]: object identifiers of certificates.
//!
//! Not here: how a register behaves (`vtpm`), and structures of TPM commands (`attestation::tpm`).
#![no_std]
#![forbid(unsafe_code)]

pub mod acpi;
pub mod oid;
pub mod ptp;
