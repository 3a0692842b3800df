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
//! **Code** is decoded once and kept by RIP, a few instructions at a time. Their bytes are compared before the first of them
//! is executed, and again behind one that writes to their page.

mod blocks;
mod decode;
mod execute;
mod operation;
mod registers;
mod shift;
mod translate;

use crate::exit::Exit;
use crate::memory::GuestPages;
use crate::vcpu::Vcpu;
use blocks::Blocks;
use execute::{Burst, Flow};
use registers::Registers;
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
    blocks: Blocks,
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
            blocks: Blocks::new(),
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
        let mut burst = Burst {
            registers: Registers::of(vcpu),
            vcpu: &*vcpu,
            memory,
            window,
            translations: Translations::new(vcpu.cr3()),
            code: None,
            bases: [None; 2],
        };
        let mut bounds = Bounds::new();
        let stop = loop {
            if let Err(stop) = block(&mut self.blocks, &mut burst, &mut bounds) {
                break stop;
            }
        };
        let registers = burst.registers;
        registers.put(vcpu);
        self.figures.bursts += 1;
        self.figures.instructions += bounds.done;
        self.figures.accesses += bounds.accesses;
        stop
    }
}

/// Executes the instructions at RIP, as many as are kept together.
#[inline]
fn block<V: Vcpu, M: GuestPages, W: Window>(
    blocks: &mut Blocks,
    burst: &mut Burst<'_, V, M, W>,
    bounds: &mut Bounds,
) -> Result<(), Stop> {
    let rip = burst.registers.rip;
    let page = burst.code_page(rip).ok_or(Stop::Code)?;
    burst.code = Some(page);
    let offset = rip & (PAGE_4K - 1);
    let rest = PAGE_4K - offset;
    if rest < 16 {
        let (bytes, length) = burst.fetch_across(rip);
        let bytes = bytes.get(..length.min(15)).unwrap_or_default();
        let instruction = decode::decode(rip, bytes).ok_or(Stop::Instruction)?;
        let flow = burst.execute_one(&instruction)?;
        return bounds.count(flow, burst.window);
    }
    let memory = burst.memory;
    let word = |index: usize| memory.load(page, offset as u16 + index as u16 * 8, 8);
    let instructions = blocks
        .find(rip, (rest / 8) as usize, word)
        .ok_or(Stop::Code)?;
    for instruction in instructions {
        let flow = burst.execute(instruction)?;
        bounds.count(flow, burst.window)?;
        if flow == Flow::Elsewhere {
            break;
        }
    }
    Ok(())
}

/// How long a burst lasts.
struct Bounds {
    /// Instructions so far.
    done: u64,
    /// Accesses to the window so far.
    accesses: u64,
    /// Instructions to the last of them.
    last_access: u64,
    /// Where `done` is looked at.
    next: u64,
}

impl Bounds {
    const fn new() -> Self {
        Self {
            done: 0,
            accesses: 0,
            last_access: 0,
            next: CHECK,
        }
    }

    /// Counts an instruction. The reason to stop behind it, if there is one.
    #[inline]
    fn count<W: Window>(&mut self, flow: Flow, window: &mut W) -> Result<(), Stop> {
        self.done += 1;
        if flow == Flow::Accessed {
            self.accesses += 1;
            self.last_access = self.done;
            self.look(window, true)
        } else if self.done >= self.next {
            self.look(window, false)
        } else {
            Ok(())
        }
    }

    #[inline(never)]
    fn look<W: Window>(&mut self, window: &mut W, accessed: bool) -> Result<(), Stop> {
        let end = (self.last_access + BETWEEN).min(MOST);
        self.next = (self.done + 1).next_multiple_of(CHECK).min(end);
        if (accessed || self.done.is_multiple_of(CHECK) && self.done < end) && window.is_due() {
            return Err(Stop::Due);
        }
        match self.done >= end {
            true => Err(Stop::Bound),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
