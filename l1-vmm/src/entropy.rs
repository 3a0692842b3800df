//! Random numbers for keys: the processor's generator behind continuous health tests.
//!
//! The tests are those of NIST SP 800-90B section 4.4, for a claimed min-entropy of half a bit a bit
//! (the generators promise a whole one) and a false-positive probability of 2⁻⁴⁰ a sample. They run on
//! words, which finds a generator that repeats itself, and on bytes, which finds one that counts or
//! has long runs. A generator that fails once is not asked again: what it would still give is
//! worth nothing.

/// Limits of the two tests for one kind of sample.
struct Cutoffs {
    /// Repetition count test: 1 + ⌈40 / H⌉ (SP 800-90B section 4.4.1).
    repetition: u32,
    /// Adaptive proportion test: the critical value of the binomial distribution for
    /// [`PROPORTION_WINDOW`] trials of probability 2⁻ᴴ at 2⁻⁴⁰ (section 4.4.2).
    proportion: u32,
}

/// H = 32.
const WORDS: Cutoffs = Cutoffs {
    repetition: 3,
    proportion: 3,
};
/// H = 4.
const BYTES: Cutoffs = Cutoffs {
    repetition: 11,
    proportion: 78,
};
/// Window of the adaptive proportion test for samples that are not binary (section 4.4.2).
const PROPORTION_WINDOW: u32 = 512;
/// Bytes tested and thrown away before the first use; section 4.3 asks for at least 1024.
const STARTUP_SAMPLES: usize = 4096;
/// How often a generator that has nothing is asked again. Intel's guide says 10 for RDRAND;
/// RDSEED is shared by all processors of a package and runs dry under load.
const ATTEMPTS: u32 = 10_000;

/// A hardware generator.
pub trait RandomSource {
    /// The next word, or `None` when there is none at the moment.
    fn word(&mut self) -> Option<u64>;
}

/// Why there are no random numbers, from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntropyError {
    /// The generator does not answer.
    #[error("the processor gives no random numbers")]
    Exhausted,
    /// The repetition count test failed.
    #[error("the processor's random numbers repeat")]
    Repetition,
    /// The adaptive proportion test failed.
    #[error("the processor's random numbers are not random enough")]
    Proportion,
}

/// Both continuous tests of SP 800-90B section 4.4 on one kind of sample.
#[derive(Clone, Debug, Default)]
struct HealthTests<T> {
    last: T,
    repetitions: u32,
    reference: T,
    seen: u32,
    matches: u32,
}

impl<T: Copy + PartialEq> HealthTests<T> {
    fn sample(&mut self, sample: T, cutoffs: &Cutoffs) -> Result<(), EntropyError> {
        if self.repetitions == 0 || sample != self.last {
            self.last = sample;
            self.repetitions = 0;
        }
        self.repetitions += 1;
        if self.repetitions >= cutoffs.repetition {
            return Err(EntropyError::Repetition);
        }
        if self.seen == 0 {
            self.reference = sample;
            self.matches = 0;
        }
        self.seen = (self.seen + 1) % PROPORTION_WINDOW;
        if sample == self.reference {
            self.matches += 1;
            if self.matches >= cutoffs.proportion {
                return Err(EntropyError::Proportion);
            }
        }
        Ok(())
    }
}

/// A tested generator.
#[derive(Clone, Debug)]
pub struct Entropy<S> {
    source: S,
    words: HealthTests<u64>,
    bytes: HealthTests<u8>,
    failed: Option<EntropyError>,
}

impl<S: RandomSource> Entropy<S> {
    /// Tests the generator at length before anything is made of it.
    pub fn start(source: S) -> Result<Self, EntropyError> {
        let mut entropy = Self {
            source,
            words: HealthTests::default(),
            bytes: HealthTests::default(),
            failed: None,
        };
        let mut discarded = [0; 64];
        for _ in 0..STARTUP_SAMPLES / discarded.len() {
            entropy.fill(&mut discarded)?;
        }
        Ok(entropy)
    }

    /// Fills the slice, or fails for good; what the slice then holds must not be used.
    pub fn fill(&mut self, into: &mut [u8]) -> Result<(), EntropyError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        for chunk in into.chunks_mut(8) {
            let word = self.tested_word()?.to_le_bytes();
            for (to, from) in chunk.iter_mut().zip(word) {
                *to = from;
            }
        }
        Ok(())
    }

    fn tested_word(&mut self) -> Result<u64, EntropyError> {
        let result = (0..ATTEMPTS)
            .find_map(|_| self.source.word())
            .ok_or(EntropyError::Exhausted)
            .and_then(|word| {
                self.words.sample(word, &WORDS)?;
                for byte in word.to_le_bytes() {
                    self.bytes.sample(byte, &BYTES)?;
                }
                Ok(word)
            });
        if let Err(error) = result {
            self.failed = Some(error);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Words<F>(F);

    impl<F: FnMut() -> Option<u64>> RandomSource for Words<F> {
        fn word(&mut self) -> Option<u64> {
            (self.0)()
        }
    }

    /// SplitMix64: statistically good.
    fn good(mut state: u64) -> impl FnMut() -> Option<u64> {
        move || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            Some(z ^ (z >> 31))
        }
    }

    #[test]
    fn a_dead_generator_is_found_at_start() {
        type Generator = fn(u64) -> Option<u64>;
        let rows: [(Generator, EntropyError); 5] = [
            (|_| None, EntropyError::Exhausted),
            (|_| Some(0), EntropyError::Repetition),
            (|_| Some(u64::MAX), EntropyError::Repetition),
            (|n| Some(n << 8), EntropyError::Proportion),
            (
                |n| Some(0x0123_4567_89AB_CDEF ^ (n & 1)),
                EntropyError::Proportion,
            ),
        ];
        for (index, (generator, expected)) in rows.into_iter().enumerate() {
            let mut n = 0;
            let source = Words(move || {
                n += 1;
                generator(n)
            });
            assert_eq!(Entropy::start(source).err(), Some(expected), "row {index}");
        }
    }

    #[test]
    fn a_generator_that_dies_later_is_never_asked_again() {
        let mut words = good(1);
        let mut left = STARTUP_SAMPLES / 8 + 1;
        let mut entropy = Entropy::start(Words(move || {
            if left == 0 {
                return Some(7);
            }
            left -= 1;
            words()
        }))
        .unwrap();
        let mut key = [0; 8];
        entropy.fill(&mut key).unwrap();
        assert_eq!(entropy.fill(&mut [0; 64]), Err(EntropyError::Repetition));
        entropy.words = HealthTests::default();
        assert_eq!(entropy.fill(&mut key), Err(EntropyError::Repetition));
    }

    proptest! {
        #[test]
        fn a_good_generator_passes(seed: u64) {
            let mut entropy = Entropy::start(Words(good(seed))).unwrap();
            let mut bytes = [0; 100_001];
            prop_assert!(entropy.fill(&mut bytes).is_ok());
            prop_assert_ne!(bytes[100_000 - 16..100_000].to_vec(), [0; 16]);
        }
    }
}
