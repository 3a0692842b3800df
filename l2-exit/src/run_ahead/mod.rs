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
//! **Code** is decoded once and kept by RIP, a few instructions at a time. Their bytes are compared before they are first
//! executed in a burst, and again behind a store of the burst to any page that was executed from, by whatever address. What
//! another processor writes there meanwhile is seen at the latest by the next burst: an instruction that serializes, which
//! has to come between such a store and its execution (SDM Vol. 3A, "Handling Self- and Cross-Modifying Code"), ends this
//! one, and so does an interrupt.
//!
//! | file | what is there |
//! | --- | --- |
//! | `decode`, `operation` | from bytes to an instruction of any kind that is executed |
//! | `execute`, `shift` | one of those, whatever its operands: the device's registers, unaligned, not translated yet |
//! | `step` | the form of the frequent ones |
//! | `steps` | those of a block, while all about them is plain; what is not is left to `execute` |
//! | `blocks`, `fetch` | code that was decoded, and its bytes |
//! | `registers`, `flags` | L2's registers at hand, and the status flags, which wait for somebody to ask |
//! | `translate` | the translations of a burst |

mod blocks;
mod decode;
mod execute;
mod fetch;
mod flags;
mod operation;
mod registers;
mod shift;
mod step;
mod steps;
mod translate;

use crate::exit::Exit;
use crate::memory::GuestPages;
use crate::vcpu::Vcpu;
use blocks::Blocks;
use execute::Burst;
use registers::Registers;
use translate::Translations;
use x86_defs::rflags;

/// Instructions without an access to the window, after which L2 goes on by itself: the next access may be far, and an exit
/// costs less than these. This bound and the next may be passed by the rest of a block.
const BETWEEN: u64 = 512;
/// Instructions of one burst.
const MOST: u64 = 1 << 15;
/// Instructions after which [`Window::is_due`] is asked even without an access.
const CHECK: u64 = 256;

/// The device that bursts are for, and what ends them from outside.
pub trait Window {
    /// Whether the page at `gpa` is the device's. Never true for one of [`GuestPages`].
    fn claims(&self, gpa: u64) -> bool;

    /// Reads 1, 2, 4 or 8 bytes at `gpa`.
    fn read(&mut self, gpa: u64, into: &mut [u8]) -> Served;

    /// Writes 1, 2, 4 or 8 bytes at `gpa`.
    fn write(&mut self, gpa: u64, from: &[u8]) -> Served;

    /// Whether L2 has to run, or L1 has something else to do. Asked every few instructions, and after an access that took
    /// its time.
    fn is_due(&mut self) -> bool;
}

/// What became of an access to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// Nothing has happened: the device cannot be had now.
    No,
    /// It is done.
    Soon,
    /// It is done, and took its time: [`Window::is_due`] is to be asked.
    Late,
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
pub struct RunAhead<P> {
    blocks: Blocks,
    translations: Translations<P>,
    /// [`Burst::now`] at the end of the last burst.
    now: u64,
    figures: Figures,
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

impl<P: Copy + PartialEq> RunAhead<P> {
    /// Knows no instruction yet. Any page of L2's memory will do, which is not touched. Allocates.
    pub fn new(page: P) -> Self {
        Self {
            blocks: Blocks::new(),
            translations: Translations::new(page),
            now: 0,
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
    pub fn run<V: Vcpu, M: GuestPages<Page = P>, W: Window>(
        &mut self,
        vcpu: &mut V,
        memory: &M,
        window: &mut W,
    ) -> Stop {
        self.translations.begin(vcpu.cr3());
        let mut burst = Burst {
            registers: Registers::of(vcpu),
            vcpu: &*vcpu,
            memory,
            window,
            translations: &mut self.translations,
            bases: [false; 2],
            now: self.now + 1,
        };
        let mut bounds = Bounds::new();
        let stop = steps::run(&mut self.blocks, &mut burst, &mut bounds);
        self.now = burst.now;
        let mut registers = burst.registers;
        registers.put(vcpu);
        self.figures.bursts += 1;
        self.figures.instructions += bounds.done;
        self.figures.accesses += bounds.accesses;
        stop
    }
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

    /// Counts instructions without an access. The reason to stop behind them, if there is one.
    #[inline]
    fn count<W: Window>(&mut self, instructions: u64, window: &mut W) -> Result<(), Stop> {
        self.done += instructions;
        if self.done < self.next {
            return Ok(());
        }
        self.look(window)
    }

    /// Counts an access, of the instruction behind so many that are not counted yet.
    fn access(&mut self, before: u64) {
        self.accesses += 1;
        self.last_access = self.done + before + 1;
    }

    #[inline(never)]
    fn look<W: Window>(&mut self, window: &mut W) -> Result<(), Stop> {
        let end = (self.last_access + BETWEEN).min(MOST);
        self.next = (self.done + CHECK).min(end);
        if self.done >= end {
            return Err(Stop::Bound);
        }
        match window.is_due() {
            true => Err(Stop::Due),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
