//! Whose turn it is to use the engine, and its entropy.

use std::sync::{Mutex, MutexGuard, PoisonError};
use tpm2_ref_sys::NoEntropy;

/// The engine is one a process.
static TURN: Mutex<()> = Mutex::new(());

/// State of the generator behind [`entropy`].
static STATE: Mutex<u64> = Mutex::new(1);

/// What L1 drew last for a P-384 scalar.
static SCALAR: Mutex<Scalar> = Mutex::new([0; 48]);

/// A P-384 scalar.
pub(crate) type Scalar = [u8; 48];

/// The right to use the engine.
pub(crate) struct Turn {
    _guard: MutexGuard<'static, ()>,
}

impl Turn {
    /// Waits for the turn. What is random in it follows from `seed`, which must not be 0.
    pub(crate) fn wait(seed: u64) -> Turn {
        let guard = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        *STATE.lock().unwrap_or_else(PoisonError::into_inner) = seed;
        Turn { _guard: guard }
    }

    /// What L1 drew last for a P-384 scalar in this turn.
    pub(crate) fn scalar(&self) -> Scalar {
        *SCALAR.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// xorshift64*: not random at all, and the same in each run.
pub(crate) fn entropy(into: &mut [u8]) -> Result<(), NoEntropy> {
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    for byte in into {
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        *byte = (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8;
    }
    Ok(())
}

/// As [`entropy`], for L1's own use: it draws a scalar for nothing but the key of its CA, which [`Turn::scalar`] then knows.
pub(crate) fn l1_entropy(into: &mut [u8]) {
    let _ = entropy(into);
    if let Ok(scalar) = <&Scalar>::try_from(&*into) {
        *SCALAR.lock().unwrap_or_else(PoisonError::into_inner) = *scalar;
    }
}

/// A clock that stands, so that runs are alike.
pub(crate) fn clock() -> u64 {
    1_000_000_000
}
