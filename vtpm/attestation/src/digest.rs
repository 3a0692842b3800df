//! The hash algorithms of a TPM's PCR banks.
//!
//! Identifiers: TCG Algorithm Registry, table "TPM_ALG_ID". Sizes: FIPS 180-4.

use crate::pcr::PcrBanks;
use alloc::vec::Vec;
use core::fmt;
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// A hash algorithm, in order of its TPM_ALG_ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// TPM_ALG_SHA1.
    Sha1,
    /// TPM_ALG_SHA256.
    Sha256,
    /// TPM_ALG_SHA384.
    Sha384,
    /// TPM_ALG_SHA512.
    Sha512,
}

impl Algorithm {
    /// All four, in order of their identifiers.
    pub const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    /// TPM_ALG_ID.
    pub const fn id(self) -> u16 {
        match self {
            Self::Sha1 => 0x0004,
            Self::Sha256 => 0x000B,
            Self::Sha384 => 0x000C,
            Self::Sha512 => 0x000D,
        }
    }

    /// The algorithm of a TPM_ALG_ID.
    pub const fn from_id(id: u16) -> Option<Self> {
        match id {
            0x0004 => Some(Self::Sha1),
            0x000B => Some(Self::Sha256),
            0x000C => Some(Self::Sha384),
            0x000D => Some(Self::Sha512),
            _ => None,
        }
    }

    /// Bytes of a digest.
    pub const fn size(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Lower-case name, as Linux and tpm2-tools write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// The digest of some bytes.
    pub fn digest(self, data: &[u8]) -> Digest {
        match self {
            Self::Sha1 => Digest::of(self, &Sha1::digest(data)),
            Self::Sha256 => Digest::of(self, &Sha256::digest(data)),
            Self::Sha384 => Digest::of(self, &Sha384::digest(data)),
            Self::Sha512 => Digest::of(self, &Sha512::digest(data)),
        }
    }
}

/// One digest, or the value of a register that is extended with digests.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    /// Zero behind the algorithm's size.
    bytes: [u8; 64],
}

impl Digest {
    /// A digest's bytes; `None` if their number is not the algorithm's.
    pub fn new(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        (bytes.len() == algorithm.size()).then(|| Self::of(algorithm, bytes))
    }

    /// All bytes zero: a register after reset.
    pub const fn zero(algorithm: Algorithm) -> Self {
        Self {
            algorithm,
            bytes: [0; 64],
        }
    }

    /// All bytes 0xFF: a resettable PCR before a D-RTM.
    pub fn ones(algorithm: Algorithm) -> Self {
        Self::of(algorithm, &[0xFF; 64])
    }

    fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut digest = Self::zero(algorithm);
        for (to, from) in digest.bytes.iter_mut().zip(bytes).take(algorithm.size()) {
            *to = *from;
        }
        digest
    }

    /// Its algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// As many bytes as the algorithm has.
    pub fn bytes(&self) -> &[u8] {
        self.bytes
            .get(..self.algorithm.size())
            .unwrap_or(&self.bytes)
    }

    /// The value of a register that held `self`, after an extend with `digest`: the digest of both
    /// (TPM 2.0 Library, part 1, "Extend of a PCR"). RTMRs are extended in the same way, in SHA-384.
    ///
    /// `None` if `digest` is of another algorithm.
    pub fn extended(&self, digest: &Self) -> Option<Self> {
        let mut both = [0; 128];
        let size = self.algorithm.size();
        let bytes = self.bytes().iter().chain(digest.bytes());
        for (to, from) in both.iter_mut().zip(bytes) {
            *to = *from;
        }
        let both = both.get(..2 * size)?;
        (self.algorithm == digest.algorithm).then(|| self.algorithm.digest(both))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{self}", self.algorithm.name())
    }
}

/// Lower-case hexadecimal.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The register of a TDX module's RTMR, or any other SHA-384 register, after an extend.
pub fn extend_sha384(register: &[u8; 48], digest: &[u8; 48]) -> [u8; 48] {
    Sha384::new()
        .chain_update(register)
        .chain_update(digest)
        .finalize()
        .into()
}

/// SHA-256 of several pieces, one behind the other.
pub(crate) fn sha256<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    pieces
        .into_iter()
        .fold(Sha256::new(), |hash, piece| hash.chain_update(piece))
        .finalize()
        .into()
}

/// SHA-384 of some bytes.
pub fn sha384(data: &[u8]) -> [u8; 48] {
    Sha384::digest(data).into()
}

/// The digests of one thing, in the algorithms of some PCR banks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digests {
    /// SHA-1, where there is such a bank.
    pub sha1: Option<[u8; 20]>,
    /// SHA-256.
    pub sha256: [u8; 32],
    /// SHA-384.
    pub sha384: [u8; 48],
    /// SHA-512, where there is such a bank.
    pub sha512: Option<[u8; 64]>,
}

impl Digests {
    /// Of some bytes, in all four algorithms.
    pub fn of(data: &[u8]) -> Self {
        let mut hasher = Hasher::new(PcrBanks::ALL);
        hasher.update(data);
        hasher.finish()
    }

    /// The one of an algorithm, if it was computed.
    pub fn get(&self, algorithm: Algorithm) -> Option<Digest> {
        let bytes: &[u8] = match algorithm {
            Algorithm::Sha1 => self.sha1.as_ref()?,
            Algorithm::Sha256 => &self.sha256,
            Algorithm::Sha384 => &self.sha384,
            Algorithm::Sha512 => self.sha512.as_ref()?,
        };
        Some(Digest::of(algorithm, bytes))
    }

    /// Those that were computed, in order of their algorithms' identifiers.
    pub fn all(&self) -> Vec<Digest> {
        let all = Algorithm::ALL.into_iter();
        all.filter_map(|algorithm| self.get(algorithm)).collect()
    }

    /// As many of them as the banks take; `None` if one was not computed.
    pub fn of_banks(&self, banks: impl IntoIterator<Item = Algorithm>) -> Option<Vec<Digest>> {
        let banks = banks.into_iter();
        banks.map(|algorithm| self.get(algorithm)).collect()
    }
}

/// Bytes that are hashed with one algorithm before the next has its turn: they stay in the first-level
/// cache, so that a file is read from memory once.
const STRIDE: usize = 8 * 1024;

/// The algorithms of some PCR banks over one stream of bytes, in one pass.
#[derive(Clone)]
pub struct Hasher {
    sha1: Option<Sha1>,
    sha256: Sha256,
    sha384: Sha384,
    sha512: Option<Sha512>,
}

impl Hasher {
    /// Of an empty stream.
    pub fn new(banks: PcrBanks) -> Self {
        Self {
            sha1: banks.contains(Algorithm::Sha1).then(Sha1::new),
            sha256: Sha256::new(),
            sha384: Sha384::new(),
            sha512: banks.contains(Algorithm::Sha512).then(Sha512::new),
        }
    }

    /// The next bytes of the stream.
    pub fn update(&mut self, data: &[u8]) {
        for stride in data.chunks(STRIDE) {
            if let Some(sha1) = &mut self.sha1 {
                sha1.update(stride);
            }
            self.sha256.update(stride);
            self.sha384.update(stride);
            if let Some(sha512) = &mut self.sha512 {
                sha512.update(stride);
            }
        }
    }

    /// The digests of everything so far.
    pub fn finish(self) -> Digests {
        Digests {
            sha1: self.sha1.map(|sha1| sha1.finalize().into()),
            sha256: self.sha256.finalize().into(),
            sha384: self.sha384.finalize().into(),
            sha512: self.sha512.map(|sha512| sha512.finalize().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;
    use std::vec;

    /// FIPS 180-4's example "abc".
    const ABC: [(Algorithm, &str); 4] = [
        (Algorithm::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (
            Algorithm::Sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        (
            Algorithm::Sha384,
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed\
             8086072ba1e7cc2358baeca134c825a7",
        ),
        (
            Algorithm::Sha512,
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ),
    ];

    #[test]
    fn every_algorithm_gives_the_standards_digest() {
        let digests = Digests::of(b"abc");
        for (algorithm, digest) in ABC {
            assert_eq!(algorithm.digest(b"abc").to_string(), digest);
            assert_eq!(digests.get(algorithm).unwrap().to_string(), digest);
            assert_eq!(digest.len(), 2 * algorithm.size());
        }
    }

    #[test]
    fn identifiers_are_the_registrys_and_ascend() {
        let ids = Algorithm::ALL.map(Algorithm::id);
        assert_eq!(ids, [4, 0xB, 0xC, 0xD]);
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::from_id(algorithm.id()), Some(algorithm));
        }
        assert_eq!(Algorithm::from_id(0x12), None);
    }

    #[test]
    fn an_extend_is_the_digest_of_both() {
        for algorithm in Algorithm::ALL {
            let measured = algorithm.digest(b"abc");
            let register = Digest::zero(algorithm).extended(&measured).unwrap();
            let both = [vec![0; algorithm.size()], measured.bytes().to_vec()].concat();
            assert_eq!(register, algorithm.digest(&both));
        }
        let other = Digest::zero(Algorithm::Sha256);
        assert_eq!(Digest::zero(Algorithm::Sha1).extended(&other), None);
        assert_eq!(
            extend_sha384(&[0; 48], &sha384(b"abc")),
            sha384(&[[0; 48], sha384(b"abc")].concat())
        );
    }

    #[test]
    fn a_digest_has_its_algorithms_size() {
        assert!(Digest::new(Algorithm::Sha256, &[7; 32]).is_some());
        assert_eq!(Digest::new(Algorithm::Sha256, &[7; 31]), None);
        assert_eq!(Digest::ones(Algorithm::Sha1).bytes(), [0xFF; 20]);
    }

    proptest! {
        // Four algorithms over tens of kilobytes, without optimization.
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn it_does_not_matter_how_a_stream_is_cut(
            data in proptest::collection::vec(any::<u8>(), 0..2 * STRIDE),
            cut in 0..2 * STRIDE,
        ) {
            let (first, second) = data.split_at(cut.min(data.len()));
            for names in ["sha256+sha384", "sha1+sha256+sha384", "sha1+sha256+sha384+sha512"] {
                let banks = PcrBanks::from_names(names).unwrap();
                let mut hasher = Hasher::new(banks);
                hasher.update(first);
                hasher.update(second);
                let digests = hasher.finish();
                let expected: Vec<_> = banks.iter().map(|algorithm| algorithm.digest(&data)).collect();
                prop_assert_eq!(&digests.all(), &expected);
                prop_assert_eq!(digests.of_banks(banks.iter()), Some(expected));
                prop_assert_eq!(digests.of_banks(Algorithm::ALL).is_some(), banks == PcrBanks::ALL);
            }
        }
    }
}
