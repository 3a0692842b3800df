//! Everything at once on shared words: locks, atomics, values that are replaced under their readers.

use crate::plan::Plan;
use crate::processors::{on_each, online};
use crate::{Outcome, Steps};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

pub(crate) fn steps(steps: &mut Steps, plan: &Plan) {
    steps.step("shared words are hammered", || {
        let words = Words::default();
        let rounds = plan.times(300, 100_000);
        on_each(&online()?, |cpu| words.hammer(cpu as u64, rounds))?;
        words.sum(online()?.len() as u64 * rounds as u64)
    });
}

/// What is hammered.
#[derive(Default)]
pub(crate) struct Words {
    added: AtomicU64,
    /// Raised by compare and exchange only.
    exchanged: AtomicU64,
    /// Both are always the same.
    pair: Mutex<(u64, u64)>,
    /// Eight times the same, replaced as a whole.
    shown: RwLock<Arc<[u64; 8]>>,
    busy: AtomicBool,
}

impl Words {
    /// One processor's part.
    pub(crate) fn hammer(&self, seed: u64, rounds: usize) -> Outcome {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        for _ in 0..rounds {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            self.added.fetch_add(1, Ordering::Relaxed);
            let mut seen = self.exchanged.load(Ordering::Relaxed);
            while let Err(now) = self.exchanged.compare_exchange_weak(
                seen,
                seen + 1,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                seen = now;
            }
            self.raise_pair()?;
            if random.is_multiple_of(8) {
                let new = Arc::new([random; 8]);
                *self.shown.write().map_err(|error| error.to_string())? = new;
            }
            let shown = Arc::clone(&*self.shown.read().map_err(|error| error.to_string())?);
            if random % 16 == 1 {
                std::thread::yield_now();
            }
            if shown.iter().any(|word| Some(word) != shown.first()) {
                return Err(format!("half a value is shown: {shown:?}"));
            }
        }
        Ok(())
    }

    fn raise_pair(&self) -> Outcome {
        let mut pair = self.pair.lock().map_err(|error| error.to_string())?;
        if self.busy.swap(true, Ordering::Relaxed) {
            return Err("two are in the lock".to_owned());
        }
        pair.0 += 1;
        std::hint::black_box(&mut *pair);
        pair.1 += 1;
        let same = pair.0 == pair.1;
        self.busy.store(false, Ordering::Relaxed);
        if same {
            Ok(())
        } else {
            Err(format!("{:?}", *pair))
        }
    }

    /// Whether nothing of `rounds` rounds was lost.
    pub(crate) fn sum(&self, rounds: u64) -> Outcome {
        let pair = self.pair.lock().map_err(|error| error.to_string())?.0;
        let words = [
            self.added.load(Ordering::Relaxed),
            self.exchanged.load(Ordering::Relaxed),
            pair,
        ];
        match words.iter().find(|word| **word != rounds) {
            Some(word) => Err(format!("{word} of {rounds} rounds: {words:?}")),
            None => Ok(()),
        }
    }
}
