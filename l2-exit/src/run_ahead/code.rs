//! Decoded instructions, by linear address. Each is compared with L2's memory before it is used.

use alloc::vec::Vec;

use super::operation::Instruction;

/// Places for instructions; a power of two. The code between a driver's accesses is a few hundred.
const PLACES: usize = 1024;

#[derive(Clone, Copy)]
struct Entry {
    rip: u64,
    /// The bytes, in two words, and 0 behind them.
    words: [u64; 2],
    instruction: Instruction,
}

/// Instructions that were decoded before: direct-mapped, allocated once.
pub(super) struct Code {
    entries: Vec<Option<Entry>>,
}

impl Code {
    /// None yet.
    pub(super) fn new() -> Self {
        Self {
            entries: alloc::vec![None; PLACES],
        }
    }

    /// The instruction at `rip`, if its bytes begin `words`; `second` is read only if it has more than eight.
    #[inline]
    pub(super) fn find(
        &self,
        rip: u64,
        first: u64,
        second: impl FnOnce() -> Option<u64>,
    ) -> Option<&Instruction> {
        let Entry {
            rip: known,
            words: [head, tail],
            instruction,
        } = self.entries.get(place(rip))?.as_ref()?;
        let length = u32::from(instruction.length);
        let same = *known == rip
            && (head ^ first) & low_bytes(length) == 0
            && (length <= 8 || (tail ^ second()?) & low_bytes(length - 8) == 0);
        same.then_some(instruction)
    }

    /// Keeps an instruction found at `rip` in `words`.
    pub(super) fn insert(&mut self, rip: u64, words: [u64; 2], instruction: Instruction) {
        if let Some(entry) = self.entries.get_mut(place(rip)) {
            *entry = Some(Entry {
                rip,
                words,
                instruction,
            });
        }
    }
}

/// Instructions of one function get different places.
const fn place(rip: u64) -> usize {
    (rip ^ rip >> 10) as usize % PLACES
}

/// The lowest `length` bytes of a word, or all of it.
const fn low_bytes(length: u32) -> u64 {
    match length {
        0..8 => (1 << (length * 8)) - 1,
        _ => u64::MAX,
    }
}
