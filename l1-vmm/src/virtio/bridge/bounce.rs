//! Buffers of any length in memory shared with the host, for requests that are on their way.
//!
//! Which of them are in use is in private memory. What a buffer held before is bytes that the host has seen, or has
//! written: nothing of L1's is ever there.

use alloc::vec;
use alloc::vec::Vec;

use tdcall::SharedBuffer;

/// Bytes of a unit.
const UNIT: usize = 512;
/// Units whose bits are in a word.
const WORD: usize = u64::BITS as usize;

/// Units in a row that somebody holds. There is one of each.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run {
    first: usize,
    count: usize,
}

impl Run {
    /// Where it begins in the memory.
    pub(super) fn offset(&self) -> usize {
        self.first * UNIT
    }
}

/// The memory, and which of its units are held.
#[derive(Debug)]
pub(super) struct Bounce<B> {
    memory: B,
    units: usize,
    /// A bit for each; behind the last there are only ones.
    held: Vec<u64>,
    /// Where to look first: behind the last run.
    next: usize,
}

impl<B: SharedBuffer> Bounce<B> {
    /// All of `memory`.
    pub(super) fn new(memory: B) -> Self {
        let units = memory.length() / UNIT;
        let mut bounce = Self {
            memory,
            units,
            held: vec![0; units.div_ceil(WORD)],
            next: 0,
        };
        bounce.give_all_back();
        bounce
    }

    /// The memory.
    pub(super) fn memory(&self) -> &B {
        &self.memory
    }

    /// Bytes that a run can have at most.
    #[cfg(test)]
    pub(super) fn length(&self) -> usize {
        self.units * UNIT
    }

    /// A run of at least `length` bytes, if there is one.
    pub(super) fn take(&mut self, length: usize) -> Option<Run> {
        let count = length.div_ceil(UNIT).max(1);
        let first = self
            .free(self.next, count)
            .or_else(|| self.free(0, count))?;
        self.mark(first, count, true);
        self.next = first + count;
        Some(Run { first, count })
    }

    /// Takes a run back.
    pub(super) fn give_back(&mut self, run: Run) {
        self.mark(run.first, run.count, false);
    }

    /// Takes all runs back, which nobody uses any more.
    pub(super) fn give_all_back(&mut self) {
        let mut left = self.units;
        for word in &mut self.held {
            let here = left.min(WORD);
            *word = !mask(0, here);
            left -= here;
        }
    }

    /// Whether nobody holds anything.
    #[cfg(test)]
    pub(super) fn is_free(&self) -> bool {
        self.free(0, self.units) == Some(0)
    }

    /// The first `count` free units in a row, from `start` on.
    fn free(&self, start: usize, count: usize) -> Option<usize> {
        let (mut at, mut row) = (start, 0);
        while let Some(word) = self.held.get(at / WORD) {
            // From `at` on: what is shifted in behind the word's end is not of it.
            let (word, left) = (word >> (at % WORD), WORD - at % WORD);
            let free = (word.trailing_zeros() as usize).min(left);
            row += free;
            at += free;
            if row >= count {
                return Some(at - row);
            }
            if free != left {
                row = 0;
                at += (word >> free).trailing_ones() as usize;
            }
        }
        None
    }

    fn mark(&mut self, first: usize, count: usize, held: bool) {
        let (mut at, mut left) = (first, count);
        while left != 0 {
            let here = left.min(WORD - at % WORD);
            let mask = mask(at % WORD, here);
            if let Some(word) = self.held.get_mut(at / WORD) {
                *word = if held { *word | mask } else { *word & !mask };
            }
            at += here;
            left -= here;
        }
    }
}

/// `count` bits from bit `first` on: all of them in a word.
fn mask(first: usize, count: usize) -> u64 {
    match count {
        0 => 0,
        _ => (!0 >> (WORD - count)) << first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::model::memory::Shared;
    use proptest::prelude::*;

    #[test]
    fn a_run_goes_over_words_and_ends_with_the_memory() {
        for units in [1, 63, 64, 65, 128, 200] {
            let length = units * UNIT;
            let mut bounce = Bounce::new(Shared::new(0x1000, length));
            assert!(bounce.take(length + 1).is_none(), "{units}");
            let run = bounce.take(length).unwrap();
            assert_eq!((run.first, run.count), (0, units));
            assert!(bounce.take(1).is_none(), "{units}");
            bounce.give_back(run);
            assert!(bounce.is_free());
            let singles: Vec<Run> = core::iter::from_fn(|| bounce.take(1)).collect();
            assert_eq!(singles.len(), units);
            for run in singles.into_iter().rev() {
                bounce.give_back(run);
            }
            assert!(bounce.take(length).is_some());
            bounce.give_all_back();
            assert!(bounce.take(length).is_some(), "{units}");
            assert!(bounce.take(1).is_none(), "{units}");
        }
        assert_eq!(Bounce::new(Shared::new(0x1000, 0)).take(1), None);
    }

    proptest! {
        #[test]
        fn runs_are_apart_and_come_back(steps in proptest::collection::vec((any::<bool>(), 0_usize..40_000), 0..200)) {
            let mut bounce = Bounce::new(Shared::new(0x1000, 120_000));
            prop_assert_eq!(bounce.length(), 119_808);
            let mut held: Vec<Run> = Vec::new();
            for (take, length) in steps {
                if take || held.is_empty() {
                    if let Some(run) = bounce.take(length) {
                        prop_assert!(run.count * UNIT >= length);
                        prop_assert!(run.offset() + length <= bounce.length());
                        for other in &held {
                            let apart = run.first + run.count <= other.first || other.first + other.count <= run.first;
                            prop_assert!(apart);
                        }
                        held.push(run);
                    }
                } else {
                    bounce.give_back(held.swap_remove(length % held.len()));
                }
            }
            for run in held {
                bounce.give_back(run);
            }
            prop_assert!(bounce.is_free());
            prop_assert!(bounce.take(119_808).is_some());
        }
    }
}
