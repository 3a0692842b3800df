//! What L2 does next, done in its place: after an access to a device, L1 goes on with L2's instructions, and comes to the
//! next access without an exit.
//!
//! Executed are MOV, MOVZX, MOVSX, MOVSXD, LEA, the ALU group, shifts and rotations, BSWAP, XCHG and BT of registers, SETcc,
//! CMOVcc, near branches, CALL and RET, PUSH and POP, NOP, fences and PAUSE: of 64-bit code of the kernel (CPL 0) with
//! four levels of paging.
//!
//! Everything else ends the burst before the instruction, and so does everything that is not plain about one of those: a
//! page that is not present, not accessed, not dirty where it is written, of a user, of another memory type or of neither
//! L2's memory nor the window; an operand across two pages; LOCK; a repeated instruction. The processor executes it, and
//! finds every fault itself: nothing here injects one, sets a flag of a paging entry or changes a register before the
//! instruction is certain to complete.
//!
//! **Memory.** A load or store is one access of its width, made in L2's order; L1's processor keeps the order that
//! L2's would have. A read-modify-write without LOCK is a load and a store, as it is there.
//!
//! **Translations** are held from one instruction to the next, and dropped with the burst. A TLB may have held them
//! since the exit; what would drop them there (INVLPG, MOV to CR3, an interrupt) ends the burst.
//!
//! **Code** is decoded once and kept by RIP. Its bytes are compared before each execution.

mod code;
mod decode;
mod execute;
mod operation;
mod shift;
mod translate;

use crate::exit::Exit;
use crate::memory::GuestPages;
use crate::vcpu::Vcpu;
use code::Code;
use execute::Burst;
use operation::Instruction;
use translate::Translations;
use x86_defs::paging::PAGE_4K;
use x86_defs::rflags;

/// Instructions without an access to the window, after which L2 goes on by itself: the next access may be far, and an exit
/// costs less than these.
const BETWEEN: u64 = 512;
/// Instructions of one burst.
const MOST: u64 = 1 << 15;
/// Instructions after which [`Window::is_due`] is asked even without an access.
const CHECK: u64 = 64;

/// The device that bursts are for, and what ends them from outside.
pub trait Window {
    /// Whether the page at `gpa` is the device's. Never true for one of [`GuestPages`].
    fn claims(&self, gpa: u64) -> bool;

    /// Reads 1, 2, 4 or 8 bytes at `gpa`. False, and nothing has happened, if the device cannot be had now.
    fn read(&mut self, gpa: u64, into: &mut [u8]) -> bool;

    /// Writes 1, 2, 4 or 8 bytes at `gpa`. False, and nothing has happened, if the device cannot be had now.
    fn write(&mut self, gpa: u64, from: &[u8]) -> bool;

    /// Whether L2 has to run, or L1 has something else to do. Asked after each access, and every few instructions.
    fn is_due(&mut self) -> bool;
}

/// Why a burst ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// At an instruction that is not executed here.
    Instruction,
    /// At one whose code is in a page that is not plain.
    Code,
    /// At one with an operand that is not plain.
    Memory,
    /// At one that needs the device, which somebody else has.
    Window,
    /// [`Window::is_due`].
    Due,
    /// The bound of instructions.
    Bound,
}

/// What bursts did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Bursts.
    pub bursts: u64,
    /// Instructions of bursts.
    pub instructions: u64,
    /// Accesses to the window that cost no exit.
    pub accesses: u64,
}

impl Figures {
    /// Adds what another processor did.
    pub const fn add(&mut self, other: &Self) {
        let Self {
            bursts,
            instructions,
            accesses,
        } = other;
        self.bursts += *bursts;
        self.instructions += *instructions;
        self.accesses += *accesses;
    }
}

/// Runs ahead for one virtual processor.
pub struct RunAhead {
    code: Code,
    figures: Figures,
}

impl Default for RunAhead {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a burst may begin where an instruction of `exit` has been executed, as far as it costs no TDCALL to know: CPL 0,
/// 64-bit code, no single-stepping. The rest is the caller's to ask: no breakpoint is enabled in DR7, and no event waits for
/// L2.
pub fn may_begin<V: Vcpu>(exit: &Exit, vcpu: &V) -> bool {
    exit.cpl == 0
        && (vcpu.rip() as i64) < 0
        && exit.cs.access_rights.long()
        && vcpu.rflags() & (rflags::TF | rflags::RF) == 0
}

impl RunAhead {
    /// Knows no instruction yet. Allocates.
    pub fn new() -> Self {
        Self {
            code: Code::new(),
            figures: Figures::default(),
        }
    }

    /// What was done so far.
    pub const fn figures(&self) -> Figures {
        self.figures
    }

    /// Executes instructions from RIP on, until one has to be the processor's, or L2 has to run for another reason.
    ///
    /// To be called where [`may_begin`] says so, with L2 in four-level paging.
    pub fn run<V: Vcpu, M: GuestPages, W: Window>(
        &mut self,
        vcpu: &mut V,
        memory: &M,
        window: &mut W,
    ) -> Stop {
        let translations = Translations::new(vcpu.cr3());
        let mut burst = Burst {
            vcpu,
            memory,
            window,
            translations,
            accesses: 0,
        };
        let mut done = 0;
        let mut last_access = 0;
        let stop = loop {
            let before = burst.accesses;
            if let Err(stop) = self.step(&mut burst) {
                break stop;
            }
            done += 1;
            if burst.accesses != before {
                last_access = done;
                if burst.window.is_due() {
                    break Stop::Due;
                }
            } else if done - last_access >= BETWEEN {
                break Stop::Bound;
            } else if done % CHECK == 0 && burst.window.is_due() {
                break Stop::Due;
            }
            if done >= MOST {
                break Stop::Bound;
            }
        };
        self.figures.bursts += 1;
        self.figures.instructions += done;
        self.figures.accesses += burst.accesses;
        stop
    }

    /// Executes the instruction at RIP, or changes nothing.
    #[inline]
    fn step<V: Vcpu, M: GuestPages, W: Window>(
        &mut self,
        burst: &mut Burst<'_, V, M, W>,
    ) -> Result<(), Stop> {
        let rip = burst.vcpu.rip();
        let page = burst.code_page(rip).ok_or(Stop::Code)?;
        let offset = rip & (PAGE_4K - 1);
        if offset > PAGE_4K - 16 {
            let (bytes, length) = burst.fetch_across(rip);
            let bytes = bytes.get(..length.min(15)).unwrap_or_default();
            let instruction = decode::decode(rip, bytes).ok_or(Stop::Instruction)?;
            return burst.execute(&instruction);
        }
        let memory = burst.memory;
        let word = |at: u64| memory.load(page, (offset + at) as u16, 8);
        let first = word(0).ok_or(Stop::Code)?;
        if let Some(instruction) = self.code.find(rip, first, || word(8)) {
            return burst.execute(instruction);
        }
        let second = word(8).ok_or(Stop::Code)?;
        burst.execute(&self.decode(rip, [first, second]))
    }

    #[cold]
    #[inline(never)]
    fn decode(&mut self, rip: u64, words: [u64; 2]) -> Instruction {
        let [first, second] = words;
        let bytes = (u128::from(second) << 64 | u128::from(first)).to_le_bytes();
        let bytes = bytes.get(..15).unwrap_or_default();
        let instruction = decode::decode(rip, bytes).unwrap_or(Instruction::UNKNOWN);
        self.code.insert(rip, words, instruction);
        instruction
    }
}

#[cfg(test)]
mod tests;
