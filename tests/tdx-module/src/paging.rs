//! A VM's linear addresses: the walk of its own page tables.
//!
//! The walk finds where the bytes of an instruction are that has just been executed, so it checks
//! presence only; permissions have been checked by the processor.

use crate::memory::Unmapped;
use crate::module::Module;
use crate::platform::{Platform, Register, SegmentName, Vm};

const CR0_PE: u64 = 1;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const CR4_LA57: u64 = 1 << 12;
const EFER_LMA: u64 = 1 << 10;
const CS_L: u32 = 1 << 13;
const CS_DB: u32 = 1 << 14;

const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// How a VM executes code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CodeSize {
    Bits16,
    Bits32,
    Bits64,
}

impl CodeSize {
    pub(crate) fn bits(self) -> u32 {
        match self {
            CodeSize::Bits16 => 16,
            CodeSize::Bits32 => 32,
            CodeSize::Bits64 => 64,
        }
    }
}

/// The size of the code that `vm` is at.
pub(crate) fn code_size<P: Platform>(platform: &mut P, vm: Vm) -> CodeSize {
    let access_rights = platform.segment(vm, SegmentName::Cs).access_rights;
    if is_long_mode(platform, vm) && access_rights & CS_L != 0 {
        CodeSize::Bits64
    } else if platform.register(vm, Register::Cr0) & CR0_PE != 0 && access_rights & CS_DB != 0 {
        CodeSize::Bits32
    } else {
        CodeSize::Bits16
    }
}

/// EFER.LMA.
pub(crate) fn is_long_mode<P: Platform>(platform: &mut P, vm: Vm) -> bool {
    platform.register(vm, Register::Efer) & EFER_LMA != 0
}

/// The linear address of the instruction that `vm` is at.
pub(crate) fn instruction_address<P: Platform>(platform: &mut P, vm: Vm) -> u64 {
    let rip = platform.register(vm, Register::Rip);
    if code_size(platform, vm) == CodeSize::Bits64 {
        rip
    } else {
        platform.segment(vm, SegmentName::Cs).base.wrapping_add(rip) & 0xffff_ffff
    }
}

/// The format of a table entry.
struct Format {
    levels: u32,
    index_bits: u32,
    entry_size: u64,
}

impl Module {
    /// The GPA behind a linear address of `vm`.
    pub(crate) fn translate<P: Platform>(
        &self,
        platform: &mut P,
        vm: Vm,
        linear: u64,
    ) -> Result<u64, Unmapped> {
        if platform.register(vm, Register::Cr0) & CR0_PG == 0 {
            return Ok(linear & 0xffff_ffff);
        }
        let cr4 = platform.register(vm, Register::Cr4);
        let long_mode = is_long_mode(platform, vm);
        let format = if long_mode {
            Format {
                levels: if cr4 & CR4_LA57 != 0 { 5 } else { 4 },
                index_bits: 9,
                entry_size: 8,
            }
        } else if cr4 & CR4_PAE != 0 {
            Format {
                levels: 3,
                index_bits: 9,
                entry_size: 8,
            }
        } else {
            Format {
                levels: 2,
                index_bits: 10,
                entry_size: 4,
            }
        };
        let cr3 = platform.register(vm, Register::Cr3);
        let root = if long_mode {
            cr3 & FRAME
        } else if format.levels == 3 {
            cr3 & 0xffff_ffe0
        } else {
            cr3 & 0xffff_f000
        };
        self.walk(platform, &format, root, linear)
    }

    fn walk<P: Platform>(
        &self,
        platform: &mut P,
        format: &Format,
        root: u64,
        linear: u64,
    ) -> Result<u64, Unmapped> {
        let mut table = root;
        for level in (0..format.levels).rev() {
            let shift = 12 + level * format.index_bits;
            let index = linear >> shift & ((1 << format.index_bits) - 1);
            // A legacy PAE root has four entries only; bits 31:30 of a 32-bit linear address.
            let mut entry = [0; 8];
            let bytes = &mut entry[..format.entry_size as usize];
            self.read_guest(platform, table + index * format.entry_size, bytes)?;
            let entry = u64::from_le_bytes(entry);
            if entry & PRESENT == 0 {
                return Err(Unmapped);
            }
            let may_be_large = level == 1 || level == 2 && format.levels > 3;
            if level == 0 || may_be_large && entry & LARGE != 0 {
                let offset = (1 << shift) - 1;
                return Ok(entry & FRAME & !offset | linear & offset);
            }
            table = entry & FRAME;
        }
        Err(Unmapped)
    }

    /// Reads the memory of `vm` at a linear address, as far as it is there; returns how far.
    pub(crate) fn read_linear<P: Platform>(
        &self,
        platform: &mut P,
        vm: Vm,
        linear: u64,
        into: &mut [u8],
    ) -> usize {
        let mut done = 0;
        while done < into.len() {
            let at = linear.wrapping_add(done as u64);
            let length = (into.len() - done).min((0x1000 - at % 0x1000) as usize);
            let part = &mut into[done..done + length];
            let read = self
                .translate(platform, vm, at)
                .and_then(|gpa| self.read_guest(platform, gpa, part));
            if read.is_err() {
                break;
            }
            done += length;
        }
        done
    }
}
