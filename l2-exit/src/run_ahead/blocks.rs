//! Decoded code, by linear address: a few instructions in a row at a time. The bytes of all of them are compared with L2's
//! memory before the first is executed.

use alloc::vec::Vec;

use super::decode;
use super::operation::{Instruction, Kind};

/// Places for blocks; a power of two. The code between a driver's accesses is a few hundred instructions.
const PLACES: usize = 1024;
/// Instructions of a block.
const INSTRUCTIONS: usize = 6;
/// Words of eight bytes of a block.
const WORDS: usize = 4;

/// Not canonical: nothing is executed there.
const NOWHERE: u64 = 1 << 63;

/// A few instructions in a row, as they are in memory.
#[derive(Clone, Copy)]
struct Block {
    /// The linear address of the first; [`NOWHERE`] if there is none.
    rip: u64,
    /// The bytes, and 0 behind them.
    words: [u64; WORDS],
    /// Bytes.
    length: u8,
    /// Instructions.
    count: u8,
    instructions: [Instruction; INSTRUCTIONS],
}

impl Block {
    const EMPTY: Self = Self {
        rip: NOWHERE,
        words: [0; WORDS],
        length: 0,
        count: 0,
        instructions: [Instruction::UNKNOWN; INSTRUCTIONS],
    };

    /// The instructions at `rip`, to the first that may go elsewhere or is not known, of what `words` has whole.
    fn decode(rip: u64, words: [u64; WORDS], available: usize) -> Self {
        let mut bytes = [0; WORDS * 8];
        for (eight, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *eight = word.to_le_bytes();
        }
        let bytes = bytes.get(..available * 8).unwrap_or_default();
        let mut block = Self { rip, ..Self::EMPTY };
        let mut length = 0;
        for place in &mut block.instructions {
            let at = rip.wrapping_add(length as u64);
            let rest = bytes.get(length..).unwrap_or_default();
            let known = decode::decode(at, rest.get(..15).unwrap_or(rest));
            // What is behind the first and not known may only be cut off: it begins a block of its own.
            let instruction = match known {
                Some(instruction) => instruction,
                None if block.count == 0 => Instruction::UNKNOWN,
                None => break,
            };
            *place = instruction;
            block.count += 1;
            length += usize::from(instruction.length);
            if instruction.kind.ends_block() {
                break;
            }
        }
        block.length = length as u8;
        for (index, (kept, word)) in block.words.iter_mut().zip(words).enumerate() {
            *kept = word & low_bytes(length.saturating_sub(index * 8));
        }
        block
    }

    /// Whether its bytes are in memory now, of which `word` reads eight at a time.
    #[inline]
    fn is_current(&self, word: impl Fn(usize) -> Option<u64>) -> bool {
        let mut rest = usize::from(self.length);
        for (index, kept) in self.words.iter().enumerate() {
            let Some(word) = word(index) else {
                return false;
            };
            if (word ^ kept) & low_bytes(rest) != 0 {
                return false;
            }
            if rest <= 8 {
                return true;
            }
            rest -= 8;
        }
        true
    }
}

impl Kind {
    /// Whether what follows in memory is not what is executed next.
    const fn ends_block(self) -> bool {
        matches!(self, Self::Unknown | Self::Jump | Self::Call | Self::Return)
    }
}

/// Blocks that were decoded before: direct-mapped, allocated once.
pub(super) struct Blocks {
    places: Vec<Block>,
}

impl Blocks {
    /// None yet.
    pub(super) fn new() -> Self {
        Self {
            places: alloc::vec![Block::EMPTY; PLACES],
        }
    }

    /// The instructions at `rip`, of which `word` reads the bytes, eight at a time; at least the first two and at most
    /// `available` words can be had.
    #[inline]
    pub(super) fn find(
        &mut self,
        rip: u64,
        available: usize,
        word: impl Fn(usize) -> Option<u64>,
    ) -> Option<&[Instruction]> {
        let block = self.places.get_mut(place(rip))?;
        if block.rip != rip || !block.is_current(&word) {
            fill(block, rip, available.min(WORDS), &word)?;
        }
        block.instructions.get(..usize::from(block.count))
    }
}

#[cold]
#[inline(never)]
fn fill(
    block: &mut Block,
    rip: u64,
    available: usize,
    word: &impl Fn(usize) -> Option<u64>,
) -> Option<()> {
    let mut words = [0; WORDS];
    for (index, into) in words.iter_mut().take(available).enumerate() {
        *into = word(index)?;
    }
    *block = Block::decode(rip, words, available);
    Some(())
}

/// Blocks of one function get different places.
const fn place(rip: u64) -> usize {
    (rip ^ rip >> 10) as usize % PLACES
}

/// The lowest `length` bytes of a word, or all of it.
const fn low_bytes(length: usize) -> u64 {
    match length {
        0..8 => (1 << (length * 8)) - 1,
        _ => u64::MAX,
    }
}
