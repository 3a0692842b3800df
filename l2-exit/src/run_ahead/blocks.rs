//! Decoded code, by linear address: a few instructions in a row at a time. The bytes of all of them are compared with L2's
//! memory before the first is executed in a burst, and again behind a store to a page of code.
//!
//! Each remembers which block was executed next behind each of its instructions. That is looked at first, and whatever it
//! names is used only if it is at the address that is asked for.

use alloc::boxed::Box;

use super::Stop;
use super::decode;
use super::operation::{Instruction, Kind};
use super::step::Step;
use crate::vcpu::SegmentRegister;

/// Blocks. The code between a driver's accesses is a few hundred instructions.
const BLOCKS: usize = 896;
/// Places to look for them; a power of two. A quarter is used at most: a look or two find a block.
const PLACES: usize = 4096;
/// Each virtual processor has them, and a heap may give powers of two.
const _: () = assert!(BLOCKS * size_of::<Block>() <= 512 << 10);
/// Instructions of a block.
const INSTRUCTIONS: usize = 6;
/// Those, and the end.
const STEPS: usize = INSTRUCTIONS + 1;
/// Words of eight bytes of a block.
const WORDS: usize = 4;

/// Not canonical: nothing is executed there.
const NOWHERE: u64 = 1 << 63;

/// The bytes of code at an address, as they are in memory now.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bytes {
    pub(super) words: [u64; Self::WORDS],
    /// How many there are.
    pub(super) length: usize,
}

impl Bytes {
    /// Of eight bytes.
    pub(super) const WORDS: usize = WORDS;

    /// Whether the first `length` are those of `words`.
    pub(super) fn begin_with(&self, words: &[u64; WORDS], length: usize) -> bool {
        let mut rest = length;
        for (one, other) in self.words.iter().zip(words) {
            if (one ^ other) & low_bytes(rest) != 0 {
                return false;
            }
            rest = rest.saturating_sub(8);
        }
        length <= self.length
    }
}

/// Where code is read from.
pub(super) trait Source {
    /// As many bytes as [`Bytes`] has room for, or all there are. None if instructions may not be fetched at `rip`.
    fn fetch(&mut self, rip: u64) -> Option<Bytes>;

    /// Whether the first `length` bytes there are those of `words`.
    fn is(&mut self, rip: u64, words: &[u64; WORDS], length: usize) -> Option<bool>;

    /// Addresses will have the bases of FS and GS that are `wanted`.
    fn want_bases(&mut self, wanted: [bool; 2]);
}

/// Where a block was left.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Way {
    /// Its number; 0 is none.
    pub(super) block: u16,
    /// The number of its last step.
    pub(super) step: u8,
}

/// A few instructions in a row, as they are in memory.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// The linear address of the first; [`NOWHERE`] if there is none.
    rip: u64,
    /// When its bytes were last compared.
    compared: u64,
    /// The bytes, and 0 behind them.
    words: [u64; WORDS],
    /// Behind each step, the number of the block that was executed next.
    next: [u16; STEPS],
    /// Bytes.
    length: u8,
    /// Instructions.
    count: u8,
    /// Whether the first is not known because there was no more of it.
    cut: bool,
    /// Of FS and GS: whether an address has that base.
    bases: [bool; 2],
    /// What is behind the last is [`Step::END`].
    steps: [Step; STEPS],
    instructions: [Instruction; INSTRUCTIONS],
}

impl Block {
    const EMPTY: Self = Self {
        rip: NOWHERE,
        compared: 0,
        words: [0; WORDS],
        next: [0; STEPS],
        length: 0,
        count: 0,
        cut: false,
        bases: [false; 2],
        steps: [Step::END; STEPS],
        instructions: [Instruction::UNKNOWN; INSTRUCTIONS],
    };

    /// Its instructions, in the form that is executed fastest, and behind the last [`Step::END`].
    #[inline]
    pub(super) const fn steps(&self) -> &[Step; STEPS] {
        &self.steps
    }

    /// The instruction that is the step at `index`, and its address.
    #[inline]
    pub(super) fn instruction(&self, index: u8) -> Option<(u64, &Instruction)> {
        let index = usize::from(index);
        let before = match index.checked_sub(1) {
            Some(before) => self.steps.get(before)?.end,
            None => 0,
        };
        let rip = self.rip.wrapping_add(u64::from(before));
        Some((rip, self.instructions.get(index)?))
    }

    /// The instructions at `rip`, to the first that goes elsewhere or is not known, of what `code` has whole.
    fn decode(rip: u64, code: &Bytes) -> Self {
        let mut bytes = [0; WORDS * 8];
        for (eight, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(code.words) {
            *eight = word.to_le_bytes();
        }
        let bytes = bytes.get(..code.length).unwrap_or_default();
        let mut block = Self { rip, ..Self::EMPTY };
        let mut length = 0;
        for (place, step) in block.instructions.iter_mut().zip(&mut block.steps) {
            let at = rip.wrapping_add(length as u64);
            let rest = bytes.get(length..).unwrap_or_default();
            let known = decode::decode(at, rest.get(..15).unwrap_or(rest));
            // What is behind the first and not known may only be cut off: it begins a block of its own.
            let Some(instruction) = known else {
                if block.count == 0 {
                    block.count = 1;
                    length = rest.len().min(15);
                    block.cut = length < 15;
                    *step = Step {
                        end: length as u8,
                        ..Step::OTHER
                    };
                }
                break;
            };
            length += usize::from(instruction.length);
            *place = instruction;
            *step = Step::of(&instruction, block.count, length as u8);
            block.count += 1;
            let [fs, gs] = &mut block.bases;
            match instruction.address.segment {
                SegmentRegister::Fs => *fs = true,
                SegmentRegister::Gs => *gs = true,
                _ => (),
            }
            if instruction.kind.ends_block() {
                break;
            }
        }
        block.length = length as u8;
        if let Some(end) = block.steps.get_mut(usize::from(block.count)) {
            end.number = block.count;
            end.end = block.length;
        }
        for first in 0..INSTRUCTIONS {
            if let Some([step, next, ..]) = block.steps.get_mut(first..)
                && let Some(both) = step.with(next)
            {
                *step = both;
            }
        }
        for (index, (kept, word)) in block.words.iter_mut().zip(code.words).enumerate() {
            *kept = word & low_bytes(length.saturating_sub(index * 8));
        }
        block
    }

    /// Whether it is what `source` has now.
    #[inline]
    fn is_in(&self, source: &mut impl Source) -> Option<bool> {
        let length = usize::from(self.length);
        // One that is cut off may be whole now.
        if self.count == 0 || self.cut {
            return Some(false);
        }
        source.is(self.rip, &self.words, length)
    }
}

impl Kind {
    /// Whether what follows in memory is not what is executed next.
    const fn ends_block(self) -> bool {
        matches!(self, Self::Unknown | Self::Jump | Self::Call | Self::Return)
    }
}

/// Blocks that were decoded before, all of them dropped when there is no room for another.
pub(super) struct Blocks {
    /// The first is [`Block::EMPTY`].
    blocks: Box<[Block]>,
    /// How many are used.
    used: u16,
    /// The blocks by address, hashed: each at its place or behind it, with nothing but blocks between. 0 is none.
    numbers: Box<[u16]>,
}

impl Blocks {
    /// None yet.
    pub(super) fn new() -> Self {
        Self {
            blocks: alloc::vec![Block::EMPTY; BLOCKS].into_boxed_slice(),
            used: 1,
            numbers: alloc::vec![0; PLACES].into_boxed_slice(),
        }
    }

    /// The instructions at `rip`, where the block before was left by `way`. Their bytes were compared with memory at `now`: if
    /// not before, then by `source`.
    #[inline(always)]
    pub(super) fn find(
        &mut self,
        way: Way,
        rip: u64,
        now: u64,
        source: &mut impl Source,
    ) -> Result<(u16, &Block), Stop> {
        let before = self.block(way.block);
        let next = before.and_then(|before| before.next.get(usize::from(way.step)));
        let mut number = next.copied().unwrap_or_default();
        if self.block(number).is_none_or(|block| block.rip != rip) {
            number = self.look(way, rip);
        }
        let block = self.blocks.get_mut(usize::from(number));
        let block = block.ok_or(Stop::Code)?;
        if block.compared != now {
            compare(block, now, source).ok_or(Stop::Code)?;
        }
        Ok((number, block))
    }

    /// The number of the block at `rip`, which is next behind `way` from now on.
    #[inline(never)]
    fn look(&mut self, way: Way, rip: u64) -> u16 {
        let mut place = place(rip);
        let found = loop {
            let number = self.number(place);
            if number == 0 {
                break self.insert(rip);
            }
            if self.block(number).is_some_and(|block| block.rip == rip) {
                break number;
            }
            place = (place + 1) % PLACES;
        };
        let before = self.blocks.get_mut(usize::from(way.block));
        let next = before.and_then(|before| before.next.get_mut(usize::from(way.step)));
        if let Some(next) = next {
            *next = found;
        }
        found
    }

    #[inline]
    fn number(&self, place: usize) -> u16 {
        self.numbers.get(place).copied().unwrap_or_default()
    }

    #[inline]
    fn block(&self, number: u16) -> Option<&Block> {
        self.blocks.get(usize::from(number))
    }

    /// A block of nothing, for what is at `rip`.
    #[cold]
    #[inline(never)]
    fn insert(&mut self, rip: u64) -> u16 {
        if usize::from(self.used) >= self.blocks.len() {
            self.used = 1;
            self.numbers.fill(0);
        }
        let number = self.used;
        self.used += 1;
        if let Some(block) = self.blocks.get_mut(usize::from(number)) {
            *block = Block {
                rip,
                ..Block::EMPTY
            };
        }
        let mut place = place(rip);
        while self.number(place) != 0 {
            place = (place + 1) % PLACES;
        }
        if let Some(free) = self.numbers.get_mut(place) {
            *free = number;
        }
        number
    }
}

#[inline(never)]
fn compare(block: &mut Block, now: u64, source: &mut impl Source) -> Option<()> {
    if !block.is_in(source)? {
        *block = Block::decode(block.rip, &source.fetch(block.rip)?);
    }
    if block.bases != [false; 2] {
        source.want_bases(block.bases);
    }
    block.compared = now;
    Some(())
}

/// Where a block is looked for first: the highest bits of a product, which all bits of the address reach (Knuth, "The Art
/// of Computer Programming", Vol. 3, 6.4: multiplicative hashing).
const fn place(rip: u64) -> usize {
    (rip.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - PLACES.trailing_zeros())) as usize
}

/// The lowest `length` bytes of a word, or all of it.
pub(super) const fn low_bytes(length: usize) -> u64 {
    match length {
        0..8 => (1 << (length * 8)) - 1,
        _ => u64::MAX,
    }
}
