//! Digests that bind one thing to another, each with a prefix of its own.

use crate::digest::sha256;
use crate::pcr::Bank;
use crate::tpm::Name;
use alloc::vec::Vec;
use sha2::{Digest as _, Sha384};

/// SHA-256 over the names of the EKs: RSA-2048, P-256, P-384.
pub fn ek_names_digest(names: &[Name; 3]) -> [u8; 32] {
    let mut bytes = b"TDP-VTPM EKS v1\0".to_vec();
    for name in names {
        bytes.extend(name.size().to_be_bytes());
        bytes.extend(name.as_bytes());
    }
    sha256([bytes.as_slice()])
}

/// SHA-256 over all PCRs of the allocated banks, whatever the order of `banks`.
pub fn pcr_banks_digest(banks: &[Bank]) -> [u8; 32] {
    let mut banks: Vec<_> = banks.iter().collect();
    banks.sort_by_key(|bank| bank.algorithm());
    let mut bytes = b"TDP-VTPM PCRS v1\0".to_vec();
    for bank in banks {
        bytes.extend(bank.algorithm().id().to_be_bytes());
        bytes.extend(bank.values().iter().flat_map(|value| value.bytes()));
    }
    sha256([bytes.as_slice()])
}

/// REPORTDATA of a report for a relying party: its runtime claims as they are written.
pub fn report_data(claims: &[u8]) -> [u8; 64] {
    padded(&sha256([claims]))
}

/// REPORTDATA of the report that the CA's certificate carries; `public_key` is the CA's
/// SubjectPublicKeyInfo in DER.
pub fn ca_report_data(public_key: &[u8]) -> [u8; 64] {
    let digest = Sha384::new()
        .chain_update(b"TDP-VTPM CA v1\0")
        .chain_update(public_key)
        .finalize();
    padded(&digest)
}

fn padded(digest: &[u8]) -> [u8; 64] {
    let mut data = [0; 64];
    for (to, from) in data.iter_mut().zip(digest) {
        *to = *from;
    }
    data
}
