//! What L2 was launched with: the files from the host, where they lie, and their digests.
//!
//! A digest is over the bytes as they were copied into L2's memory, so what is measured is what
//! runs. Hashed is once for each bank; the RTMRs take the SHA-384 of the bank.

use super::gpa_range::GpaRange;
use super::stopwatch::Stopwatch;
use alloc::vec::Vec;
use attestation::digest::{Algorithm, Digests};
use attestation::pcr::PcrBanks;
use core::fmt;
use tpm2_ref_sys::hash::{Sha1, Sha256, Sha384, Sha512};
use vtpm::attested::LaunchMeasurements;

/// A file in L2's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchedFile {
    /// Where its bytes lie. For the kernel: the protected-mode code only.
    pub range: GpaRange,
    /// Bytes that were measured. For the kernel: setup code and protected-mode code.
    pub measured_length: u64,
    /// Digests of the measured bytes.
    pub digests: Digests,
}

impl fmt::Display for LaunchedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bytes at {:#x}, SHA-384 ",
            self.measured_length,
            self.range.start()
        )?;
        let digest = &self.digests.sha384;
        digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// All files L2 was launched with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchedImage {
    /// The whole bzImage, but with the header fields zeroed that a boot loader overwrites
    /// ([`attestation::launch::canonical_setup`]).
    pub kernel: LaunchedFile,
    /// The initrd, if there is one.
    pub initrd: Option<LaunchedFile>,
    /// The command line, without its NUL.
    pub command_line: LaunchedFile,
    /// Its bytes.
    pub line: Vec<u8>,
}

impl LaunchedImage {
    /// What the TD's registers and the TPM's PCRs are to say of it.
    pub fn measurements(&self) -> LaunchMeasurements {
        LaunchMeasurements {
            kernel: self.kernel.digests,
            command_line: self.line.clone(),
            initrd: self.initrd.as_ref().map(|initrd| initrd.digests),
        }
    }
}

/// Bytes that are hashed with one algorithm before the next has its turn: they stay in the first-level
/// cache.
const STRIDE: usize = 8 * 1024;

/// Measures a file as it passes.
pub(super) struct Measurer<'a> {
    sha1: Option<Sha1>,
    sha256: Sha256,
    sha384: Sha384,
    sha512: Option<Sha512>,
    length: u64,
    watch: &'a Stopwatch,
}

impl<'a> Measurer<'a> {
    pub(super) fn new(banks: PcrBanks, watch: &'a Stopwatch) -> Self {
        Self {
            sha1: banks.contains(Algorithm::Sha1).then(Sha1::new),
            sha256: Sha256::new(),
            sha384: Sha384::new(),
            sha512: banks.contains(Algorithm::Sha512).then(Sha512::new),
            length: 0,
            watch,
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        let watch = self.watch;
        watch.time(|| bytes.chunks(STRIDE).for_each(|stride| self.hash(stride)));
    }

    fn hash(&mut self, stride: &[u8]) {
        if let Some(sha1) = &mut self.sha1 {
            sha1.update(stride);
        }
        self.sha256.update(stride);
        self.sha384.update(stride);
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(stride);
        }
    }

    pub(super) fn finish(self, range: GpaRange) -> LaunchedFile {
        LaunchedFile {
            range,
            measured_length: self.length,
            digests: Digests {
                sha1: self.sha1.map(Sha1::finish),
                sha256: self.sha256.finish(),
                sha384: self.sha384.finish(),
                sha512: self.sha512.map(Sha512::finish),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// What L1 measures is what a verifier computes, by another implementation.
        #[test]
        fn measured_is_what_the_verifier_computes(
            data in proptest::collection::vec(any::<u8>(), 0..3 * STRIDE),
            cut in 0..3 * STRIDE,
        ) {
            let watch = Stopwatch::new(|| 0);
            for names in ["sha256+sha384", "sha1+sha256+sha384", "sha1+sha256+sha384+sha512"] {
                let banks = PcrBanks::from_names(names).unwrap();
                let mut measurer = Measurer::new(banks, &watch);
                let (first, second) = data.split_at(cut.min(data.len()));
                measurer.update(first);
                measurer.update(second);
                let file = measurer.finish(GpaRange::EMPTY);
                let expected: Vec<_> = banks.iter().map(|algorithm| algorithm.digest(&data)).collect();
                prop_assert_eq!(file.digests.all(), expected);
                prop_assert_eq!(file.measured_length, data.len() as u64);
            }
        }
    }
}
