//! RDSEED, and RDRAND where it has nothing or does not exist.
//!
//! The health tests look at the words of all processors, behind a lock that no handler takes.

use core::arch::x86_64::{__cpuid_count, _rdrand64_step, _rdseed64_step};

use l1_vmm::entropy::{Entropy, EntropyError, RandomSource};
use spin::Mutex;

/// The processor's generators.
#[derive(Clone, Copy, Debug)]
struct Generators {
    rdseed: bool,
    rdrand: bool,
}

impl Generators {
    fn find() -> Self {
        Self {
            rdseed: __cpuid_count(7, 0).ebx & 1 << 18 != 0,
            rdrand: __cpuid_count(1, 0).ecx & 1 << 30 != 0,
        }
    }
}

impl RandomSource for Generators {
    fn word(&mut self) -> Option<u64> {
        let mut word = 0;
        // SAFETY: CPUID says that the instruction exists.
        if self.rdseed && unsafe { _rdseed64_step(&mut word) } == 1 {
            return Some(word);
        }
        // SAFETY: CPUID says that the instruction exists.
        if self.rdrand && unsafe { _rdrand64_step(&mut word) } == 1 {
            return Some(word);
        }
        None
    }
}

static ENTROPY: Mutex<Option<Entropy<Generators>>> = Mutex::new(None);

/// Finds and tests the generators.
pub(crate) fn start() -> Result<(), EntropyError> {
    *ENTROPY.lock() = Some(Entropy::start(Generators::find())?);
    Ok(())
}

/// Fills the slice with random bytes that passed the health tests.
pub(crate) fn fill(into: &mut [u8]) -> Result<(), EntropyError> {
    match ENTROPY.lock().as_mut() {
        Some(entropy) => entropy.fill(into),
        None => Err(EntropyError::Exhausted),
    }
}
