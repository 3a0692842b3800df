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

const ENTRIES: usize = 64;

#[derive(Clone, Copy)]
struct Entry {
    rip: u64,
    code: Code,
    instruction: Instruction,
}

/// Decoded instructions, by linear address: direct-mapped, no allocation.
pub struct DecodeCache {
    entries: [Option<Entry>; ENTRIES],
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
            entries: [None; ENTRIES],
            statistics: CacheStatistics {
                hits: 0,
                misses: 0,
                stale: 0,
            },
        }
    }

    /// Forgets every instruction.
    pub fn clear(&mut self) {
        self.entries = [None; ENTRIES];
    }

    /// How the cache did since it was made.
    pub const fn statistics(&self) -> CacheStatistics {
        self.statistics
    }

    /// The instruction at `rip`, if it is known and its bytes are still where they were.
    pub(super) fn look_up<M: GuestMemory>(&mut self, rip: u64, memory: &M) -> Option<Instruction> {
        let entry = self
            .entries
            .get(slot(rip))?
            .as_ref()
            .filter(|entry| entry.rip == rip)?;
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
        if let Some(entry) = self.entries.get_mut(slot(rip)) {
            *entry = None;
            self.statistics.stale += 1;
        }
    }

    /// Keeps an instruction found at `rip` in `code`.
    pub(super) fn insert(&mut self, rip: u64, code: &Code, instruction: Instruction) {
        if let Some(entry) = self.entries.get_mut(slot(rip)) {
            *entry = Some(Entry {
                rip,
                code: trim(code, instruction.length),
                instruction,
            });
        }
    }
}

/// Instructions that follow each other closely get different slots.
const fn slot(rip: u64) -> usize {
    (rip ^ rip >> 6 ^ rip >> 12) as usize % ENTRIES
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
