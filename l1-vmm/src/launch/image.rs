//! What L2 was launched with: the files from the host, where they lie, and their digests.
//!
//! A digest is over the bytes as they were copied into L2's memory, so what is measured is what
//! runs.

use super::gpa_range::GpaRange;
use super::stopwatch::Stopwatch;
use alloc::vec::Vec;
use attestation::digest::{Digests, Hasher};
use attestation::pcr::PcrBanks;
use core::fmt;
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

/// Measures a file as it passes.
pub(super) struct Measurer<'a> {
    hasher: Hasher,
    length: u64,
    watch: &'a Stopwatch,
}

impl<'a> Measurer<'a> {
    pub(super) fn new(banks: PcrBanks, watch: &'a Stopwatch) -> Self {
        Self {
            hasher: Hasher::new(banks),
            length: 0,
            watch,
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.watch.time(|| self.hasher.update(bytes));
        self.length += bytes.len() as u64;
    }

    pub(super) fn finish(self, range: GpaRange) -> LaunchedFile {
        LaunchedFile {
            range,
            measured_length: self.length,
            digests: self.hasher.finish(),
        }
    }
}
