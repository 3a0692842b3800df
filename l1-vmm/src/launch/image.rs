//! What L2 was launched with: the files from the host, where they lie, and their digests.
//!
//! A digest is over the bytes as they were copied into L2's memory, so what is measured is what
//! runs.

use super::gpa_range::GpaRange;
use core::fmt;
use sha2::{Digest, Sha384};

/// A SHA-384 digest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sha384Digest(pub [u8; 48]);

impl fmt::Display for Sha384Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha384Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A file in L2's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchedFile {
    /// Where its bytes lie. For the kernel: the protected-mode code only.
    pub range: GpaRange,
    /// Bytes that were measured. For the kernel: setup code and protected-mode code.
    pub measured_length: u64,
    /// Digest of the measured bytes.
    pub sha384: Sha384Digest,
}

impl fmt::Display for LaunchedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bytes at {:#x}, SHA-384 {}",
            self.measured_length,
            self.range.start(),
            self.sha384
        )
    }
}

/// All files L2 was launched with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchedImage {
    /// The whole bzImage, but with the header fields zeroed that a boot loader overwrites
    /// ([`super::boot::canonical_setup`]).
    pub kernel: LaunchedFile,
    /// The initrd, if there is one.
    pub initrd: Option<LaunchedFile>,
    /// The command line, without its NUL.
    pub command_line: LaunchedFile,
}

/// Measures a file as it passes.
#[derive(Clone, Default)]
pub(super) struct Measurer {
    hash: Sha384,
    length: u64,
}

impl Measurer {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
    }

    pub(super) fn finish(self, range: GpaRange) -> LaunchedFile {
        LaunchedFile {
            range,
            measured_length: self.length,
            sha384: Sha384Digest(self.hash.finalize().into()),
        }
    }
}
