//! Buffers of any length in memory shared with the host, for requests that are on their way.
//!
//! Which of them are in use is in private memory. What a buffer held before is bytes that the host has seen, or has
//! written: nothing of L1's is ever there.

use alloc::vec;
use alloc::vec::Vec;

use tdcall::SharedBuffer;

/// Bytes of a unit.
const UNIT: usize = 512;

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
    held: Vec<bool>,
    /// Where to look first: behind the last run.
    next: usize,
}

impl<B: SharedBuffer> Bounce<B> {
    /// All of `memory`.
    pub(super) fn new(memory: B) -> Self {
        let units = memory.length() / UNIT;
        Self {
            memory,
            held: vec![false; units],
            next: 0,
        }
    }

    /// The memory.
    pub(super) fn memory(&self) -> &B {
        &self.memory
    }

    /// Bytes that a run can have at most.
    #[cfg(test)]
    pub(super) fn length(&self) -> usize {
        self.held.len() * UNIT
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
        self.held.fill(false);
    }

    /// Whether nobody holds anything.
    #[cfg(test)]
    pub(super) fn is_free(&self) -> bool {
        self.held.iter().all(|held| !held)
    }

    /// The first `count` free units in a row, from `start` on.
    fn free(&self, start: usize, count: usize) -> Option<usize> {
        let mut row = 0;
        for (index, held) in self.held.iter().enumerate().skip(start) {
            row = if *held { 0 } else { row + 1 };
            if row == count {
                return Some(index + 1 - count);
            }
        }
        None
    }

    fn mark(&mut self, first: usize, count: usize, held: bool) {
        for unit in self.held.iter_mut().skip(first).take(count) {
            *unit = held;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::model::memory::Shared;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_are_apart_and_come_back(steps in proptest::collection::vec((any::<bool>(), 0_usize..9000), 0..200)) {
            let mut bounce = Bounce::new(Shared::new(0x1000, 20_000));
            prop_assert_eq!(bounce.length(), 19_968);
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
            prop_assert!(bounce.take(19_968).is_some());
        }
    }
}
