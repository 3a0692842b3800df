//! Instructions that reached a device before.
//!
//! A driver polls the same registers with the same few instructions. For those an exit must
//! cost no TDCALL, so neither CR3 nor CS can be read and no page table walked: the cache knows
//! by the linear address where in L2's memory the instruction was found, and how it decodes.
//!
//! Why a hit is sound although the translation of RIP is not looked at again:
//! * Only kernel code is kept: CPL 0, 64-bit, in the upper half of the address space, which
//!   every address space of a kernel maps alike.
//! * The bytes are read again from L2's memory and compared: code that was patched is decoded
//!   anew.
//! * The operand's address, computed from the registers of now, must be the linear address of
//!   the exit, and the exit must report the kind of access that the instruction makes.
//!
//! An L2 that maps another instruction at the same linear address, leaves the old one in place
//! where it was, and makes the same access with it, gets the old one executed. It has then
//! fooled itself: what it reaches is its own registers and a device that it may reach anyway.

use super::instruction::Instruction;
use crate::guest::{Code, Part};
use crate::memory::GuestMemory;

/// Sets of the cache; a power of two.
const SETS: usize = 64;
/// Instructions of one set. A kernel has a few dozen that reach devices, and no two of them may
/// drive each other out for good.
const WAYS: usize = 4;

#[derive(Clone, Copy)]
struct Entry {
    rip: u64,
    code: Code,
    instruction: Instruction,
}

/// The instructions of one set.
#[derive(Clone, Copy)]
struct Set {
    ways: [Option<Entry>; WAYS],
    /// The way that is given up next, once all are taken.
    oldest: u8,
}

impl Set {
    const EMPTY: Self = Self {
        ways: [None; WAYS],
        oldest: 0,
    };

    fn find(&self, rip: u64) -> Option<&Entry> {
        self.ways.iter().flatten().find(|entry| entry.rip == rip)
    }

    /// Where an instruction is, or may be put.
    fn place(&mut self, rip: u64) -> Option<&mut Option<Entry>> {
        let known = |way: &Option<Entry>| way.is_some_and(|entry| entry.rip == rip);
        let way = self
            .ways
            .iter()
            .position(known)
            .or_else(|| self.ways.iter().position(Option::is_none))
            .unwrap_or_else(|| {
                let oldest = usize::from(self.oldest) % WAYS;
                self.oldest = self.oldest.wrapping_add(1);
                oldest
            });
        self.ways.get_mut(way)
    }
}

/// Decoded instructions, by linear address: set-associative, no allocation.
pub struct DecodeCache {
    sets: [Set; SETS],
    statistics: CacheStatistics,
}

/// How the cache did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatistics {
    /// Exits served without a TDCALL.
    pub hits: u64,
    /// Exits that needed the whole way.
    pub misses: u64,
    /// Entries dropped because L2's memory or the exit contradicted them.
    pub stale: u64,
}

impl Default for DecodeCache {
    fn default() -> Self {
        Self::new()
    }
}

impl DecodeCache {
    /// An empty cache.
    pub const fn new() -> Self {
        Self {
            sets: [Set::EMPTY; SETS],
            statistics: CacheStatistics {
                hits: 0,
                misses: 0,
                stale: 0,
            },
        }
    }

    /// Forgets every instruction.
    pub fn clear(&mut self) {
        self.sets = [Set::EMPTY; SETS];
    }

    /// How the cache did since it was made.
    pub const fn statistics(&self) -> CacheStatistics {
        self.statistics
    }

    /// The instruction at `rip`, if it is known and its bytes are still where they were.
    pub(super) fn look_up<M: GuestMemory>(&mut self, rip: u64, memory: &M) -> Option<Instruction> {
        let entry = self.sets.get(set(rip))?.find(rip)?;
        if is_unchanged(&entry.code, memory) {
            return Some(entry.instruction);
        }
        self.drop_stale(rip);
        None
    }

    /// Counts an exit served by what [`DecodeCache::look_up`] gave.
    pub(super) const fn hit(&mut self) {
        self.statistics.hits += 1;
    }

    /// Counts an exit that was not.
    pub(super) const fn miss(&mut self) {
        self.statistics.misses += 1;
    }

    /// Forgets the instruction at `rip`.
    pub(super) fn drop_stale(&mut self, rip: u64) {
        let Some(set) = self.sets.get_mut(set(rip)) else {
            return;
        };
        for way in &mut set.ways {
            if way.is_some_and(|entry| entry.rip == rip) {
                *way = None;
                self.statistics.stale += 1;
            }
        }
    }

    /// Keeps an instruction found at `rip` in `code`.
    pub(super) fn insert(&mut self, rip: u64, code: &Code, instruction: Instruction) {
        let set = self.sets.get_mut(set(rip));
        if let Some(way) = set.and_then(|set| set.place(rip)) {
            *way = Some(Entry {
                rip,
                code: trim(code, instruction.length),
                instruction,
            });
        }
    }
}

/// Instructions that follow each other closely get different sets.
const fn set(rip: u64) -> usize {
    (rip ^ rip >> 6 ^ rip >> 12) as usize % SETS
}

/// Only the bytes that belong to the instruction.
fn trim(code: &Code, length: u8) -> Code {
    let [first, second] = code.parts;
    let here = first.length.min(length);
    Code {
        bytes: code.bytes,
        length,
        parts: [
            Part {
                length: here,
                ..first
            },
            Part {
                length: length - here,
                ..second
            },
        ],
    }
}

fn is_unchanged<M: GuestMemory>(code: &Code, memory: &M) -> bool {
    let mut now = [0; 15];
    let [first, second] = code.parts;
    let length = usize::from(code.length);
    let Some((head, tail)) = now
        .get_mut(..length)
        .and_then(|now| now.split_at_mut_checked(usize::from(first.length)))
    else {
        return false;
    };
    if memory.read(first.gpa, head).is_err()
        || second.length != 0 && memory.read(second.gpa, tail).is_err()
    {
        return false;
    }
    now.get(..length) == code.bytes.get(..length)
}

#[cfg(test)]
mod tests {
    use super::super::instruction::decode;
    use super::*;
    use crate::memory::MemoryError;

    /// MOV EAX, [RBX + 0x18], wherever it is read.
    const CODE: [u8; 3] = [0x8B, 0x43, 0x18];

    struct Everywhere;

    impl GuestMemory for Everywhere {
        fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), MemoryError> {
            for (address, byte) in (gpa..).zip(into) {
                *byte = CODE[(address % 0x10) as usize];
            }
            Ok(())
        }

        fn write(&self, _: u64, _: &[u8]) -> Result<(), MemoryError> {
            Ok(())
        }
    }

    #[test]
    fn instructions_of_one_set_are_kept_until_there_is_one_too_many() {
        let mut code = Code::default();
        code.bytes[..3].copy_from_slice(&CODE);
        code.length = 3;
        code.parts[0] = Part {
            gpa: 0x1000,
            length: 3,
        };
        let rip = |index: u64| 0xFFFF_FFFF_8100_0000 + (index << 18);
        let count = WAYS as u64;
        let mut cache = DecodeCache::new();
        for index in 0..=count {
            assert_eq!(set(rip(index)), set(rip(0)));
            let instruction = decode(64, rip(index), &CODE).unwrap();
            cache.insert(rip(index), &code, instruction);
            let first_known = u64::from(index == count);
            for known in first_known..=index {
                assert!(cache.look_up(rip(known), &Everywhere).is_some());
            }
        }
        assert!(cache.look_up(rip(0), &Everywhere).is_none());
    }

    /// Instructions that follow each other in a function, functions in a page and pages in a
    /// module get a set each, as long as there are sets.
    #[test]
    fn neighbours_are_in_different_sets() {
        for stride in [1, 1 << 6, 1 << 12] {
            let mut used = [false; SETS];
            for index in 0..SETS as u64 {
                used[set(0xFFFF_FFFF_8100_0000 + index * stride)] = true;
            }
            assert_eq!(used, [true; SETS], "{stride}");
        }
    }
}
