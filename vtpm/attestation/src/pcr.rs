//! Banks of PCRs as values.

use crate::digest::{Algorithm, Digest};
use alloc::string::String;
use alloc::vec::Vec;

/// PCRs of a bank (TCG PC Client Platform TPM Profile, "PCR Requirements").
pub const COUNT: usize = 24;

/// Which banks a TPM has.
///
/// SHA-256 is always among them, since quotes are over its PCRs, and SHA-384, whose digests are those of the TD's
/// registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcrBanks {
    sha1: bool,
    sha512: bool,
}

impl PcrBanks {
    /// SHA-256 and SHA-384, as swtpm allocates them.
    pub const DEFAULT: Self = Self {
        sha1: false,
        sha512: false,
    };

    /// SHA-1, SHA-256, SHA-384, SHA-512.
    pub const ALL: Self = Self {
        sha1: true,
        sha512: true,
    };

    /// Of these algorithms, each once and in any order; `None` without SHA-256 or SHA-384.
    pub fn new(algorithms: &[Algorithm]) -> Option<Self> {
        let has = |algorithm| algorithms.contains(&algorithm);
        let banks = Self {
            sha1: has(Algorithm::Sha1),
            sha512: has(Algorithm::Sha512),
        };
        let complete = has(Algorithm::Sha256) && has(Algorithm::Sha384);
        (complete && banks.iter().count() == algorithms.len()).then_some(banks)
    }

    /// From names as tpm2-tools have them: "sha256+sha384".
    pub fn from_names(names: &str) -> Option<Self> {
        let algorithm = |name| {
            Algorithm::ALL
                .into_iter()
                .find(|algorithm| algorithm.name() == name)
        };
        let algorithms = names.split('+').map(algorithm);
        Self::new(&algorithms.collect::<Option<Vec<_>>>()?)
    }

    /// As [`from_names`](Self::from_names) takes them.
    pub fn names(self) -> String {
        let names: Vec<_> = self.iter().map(Algorithm::name).collect();
        names.join("+")
    }

    /// Whether it has this one.
    pub const fn contains(self, algorithm: Algorithm) -> bool {
        match algorithm {
            Algorithm::Sha1 => self.sha1,
            Algorithm::Sha256 | Algorithm::Sha384 => true,
            Algorithm::Sha512 => self.sha512,
        }
    }

    /// In order of their identifiers.
    pub fn iter(self) -> impl Iterator<Item = Algorithm> {
        let all = Algorithm::ALL.into_iter();
        all.filter(move |algorithm| self.contains(*algorithm))
    }

    /// The banks, as TPM2_Startup(CLEAR) leaves them.
    pub fn at_startup(self) -> Vec<Bank> {
        self.iter().map(Bank::at_startup).collect()
    }
}

impl Default for PcrBanks {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The PCRs of one algorithm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bank {
    algorithm: Algorithm,
    values: [Digest; COUNT],
}

/// Why a PCR could not be set or extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PcrError {
    /// There is no such PCR.
    #[error("there is no PCR {0}: a bank has PCRs 0 to 23")]
    NoSuchPcr(u32),
    /// A digest of another algorithm than the bank's.
    #[error("a {} digest does not fit a {} bank", digest.name(), bank.name())]
    OtherAlgorithm {
        /// Of the bank.
        bank: Algorithm,
        /// Of the digest.
        digest: Algorithm,
    },
}

impl Bank {
    /// As TPM2_Startup(CLEAR) leaves it: PCRs 17 to 22 all ones, all others zero (TCG PC Client
    /// Platform TPM Profile, table "PCR Initial and Reset Values").
    pub fn at_startup(algorithm: Algorithm) -> Self {
        let mut values = [Digest::zero(algorithm); COUNT];
        for value in values.iter_mut().take(23).skip(17) {
            *value = Digest::ones(algorithm);
        }
        Self { algorithm, values }
    }

    /// From values in order; `None` unless there are 24 of one algorithm.
    pub fn from_values(values: &[Digest]) -> Option<Self> {
        let values: [Digest; COUNT] = values.try_into().ok()?;
        let [first, ..] = &values;
        let algorithm = first.algorithm();
        values
            .iter()
            .all(|value| value.algorithm() == algorithm)
            .then_some(Self { algorithm, values })
    }

    /// Its algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// PCR 0 to 23.
    pub fn values(&self) -> &[Digest; COUNT] {
        &self.values
    }

    /// The value of a PCR.
    pub fn value(&self, pcr: u32) -> Result<Digest, PcrError> {
        let index = usize::try_from(pcr).map_err(|_| PcrError::NoSuchPcr(pcr))?;
        let value = self.values.get(index).ok_or(PcrError::NoSuchPcr(pcr))?;
        Ok(*value)
    }

    /// Gives a PCR a value.
    pub fn set(&mut self, pcr: u32, value: Digest) -> Result<(), PcrError> {
        let index = usize::try_from(pcr).map_err(|_| PcrError::NoSuchPcr(pcr))?;
        let place = self.values.get_mut(index).ok_or(PcrError::NoSuchPcr(pcr))?;
        if value.algorithm() != self.algorithm {
            return Err(PcrError::OtherAlgorithm {
                bank: self.algorithm,
                digest: value.algorithm(),
            });
        }
        *place = value;
        Ok(())
    }

    /// TPM2_PCR_Extend of one PCR.
    pub fn extend(&mut self, pcr: u32, digest: &Digest) -> Result<(), PcrError> {
        let value = self.value(pcr)?;
        let extended = value.extended(digest).ok_or(PcrError::OtherAlgorithm {
            bank: self.algorithm,
            digest: digest.algorithm(),
        })?;
        self.set(pcr, extended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn startup_leaves_the_drtm_pcrs_all_ones() {
        let bank = Bank::at_startup(Algorithm::Sha256);
        for (pcr, value) in bank.values().iter().enumerate() {
            let byte = if (17..=22).contains(&pcr) { 0xFF } else { 0 };
            assert_eq!(value.bytes(), [byte; 32], "PCR {pcr}");
        }
    }

    #[test]
    fn a_bank_takes_its_own_algorithm_and_its_own_pcrs() {
        let mut bank = Bank::at_startup(Algorithm::Sha1);
        let digest = Algorithm::Sha1.digest(b"measured");
        bank.extend(23, &digest).unwrap();
        let value = Digest::zero(Algorithm::Sha1).extended(&digest).unwrap();
        assert_eq!(bank.value(23), Ok(value));
        assert_eq!(bank.extend(24, &digest), Err(PcrError::NoSuchPcr(24)));
        assert_eq!(
            bank.extend(u32::MAX, &digest),
            Err(PcrError::NoSuchPcr(u32::MAX))
        );
        let other = Digest::zero(Algorithm::Sha512);
        let error = PcrError::OtherAlgorithm {
            bank: Algorithm::Sha1,
            digest: Algorithm::Sha512,
        };
        assert_eq!(bank.extend(0, &other), Err(error));
        assert_eq!(bank.set(0, other), Err(error));
    }

    #[test]
    fn banks_are_named_once_each_and_have_those_that_the_evidence_needs() {
        use Algorithm::{Sha1, Sha256, Sha384, Sha512};
        let default = PcrBanks::default();
        assert_eq!(default.names(), "sha256+sha384");
        assert_eq!(PcrBanks::ALL.names(), "sha1+sha256+sha384+sha512");
        for (names, algorithms) in [
            ("sha256+sha384", &[Sha256, Sha384][..]),
            ("sha384+sha256", &[Sha256, Sha384]),
            ("sha256+sha1+sha384", &[Sha1, Sha256, Sha384]),
            ("sha512+sha256+sha384", &[Sha256, Sha384, Sha512]),
            ("sha1+sha256+sha384+sha512", &Algorithm::ALL),
        ] {
            let banks = PcrBanks::from_names(names).unwrap();
            assert_eq!(banks.iter().collect::<Vec<_>>(), algorithms);
            assert_eq!(PcrBanks::from_names(&banks.names()), Some(banks));
            for algorithm in Algorithm::ALL {
                assert_eq!(banks.contains(algorithm), algorithms.contains(&algorithm));
            }
            let startup = banks.at_startup();
            assert!(startup.iter().map(Bank::algorithm).eq(banks.iter()));
        }
        for names in [
            "",
            "sha256",
            "sha1+sha384",
            "sha256+sha384+",
            "sha256+sha384+sha384",
            "SHA256+sha384",
            "sha256,sha384",
            "sha256+sha384+sm3_256",
        ] {
            assert_eq!(PcrBanks::from_names(names), None, "{names}");
        }
    }

    #[test]
    fn a_bank_has_24_values_of_one_algorithm() {
        let mut values = [Digest::zero(Algorithm::Sha256); COUNT];
        assert!(Bank::from_values(&values).is_some());
        assert_eq!(Bank::from_values(&values[..23]), None);
        values[5] = Digest::zero(Algorithm::Sha384);
        assert_eq!(Bank::from_values(&values), None);
    }
}
