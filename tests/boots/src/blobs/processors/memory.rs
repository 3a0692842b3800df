//! Where guests with several processors have what, besides what every blob has.

use super::super::runtime::place;

/// The processors that they have at most.
pub(super) const MOST: u64 = 4;
/// Real-mode code, copied here by the first processor: two copies, of which a STARTUP IPI names one by the page's number.
pub(super) const TRAMPOLINES: [u64; 2] = [0x6_0000, 0x6_8000];
/// In each copy: what its code reads.
pub(super) mod trampoline {
    /// What LGDT takes.
    pub(crate) const GDT_POINTER: u16 = 0xF00;
    /// CR3, CR4, EFER and CR0 of the first processor, a doubleword each.
    pub(crate) const CR3: u16 = 0xF10;
    pub(crate) const CR4: u16 = 0xF14;
    pub(crate) const EFER: u16 = 0xF18;
    pub(crate) const CR0: u16 = 0xF1C;
    /// What it found, a doubleword each: in EAX, and in EDX.
    pub(crate) const EAX_FOUND: u16 = 0xF20;
    pub(crate) const EDX_FOUND: u16 = 0xF24;
    /// In the other general registers, all of them in one.
    pub(crate) const OTHERS_FOUND: u16 = 0xF28;
    /// In DS, ES, SS, FS and GS, likewise.
    pub(crate) const SEGMENTS_FOUND: u16 = 0xF2C;
    pub(crate) const CR0_FOUND: u16 = 0xF30;
    /// In CR2, CR3 and CR4, likewise.
    pub(crate) const CR2_TO_4_FOUND: u16 = 0xF34;
    /// In DR0 to DR3, likewise.
    pub(crate) const DR0_TO_3_FOUND: u16 = 0xF38;
    pub(crate) const DR6_FOUND: u16 = 0xF3C;
    pub(crate) const DR7_FOUND: u16 = 0xF40;
    pub(crate) const EFER_FOUND: u16 = 0xF44;
    /// In GDTR and IDTR: limit and base, six bytes.
    pub(crate) const GDTR_FOUND: u16 = 0xF48;
    pub(crate) const IDTR_FOUND: u16 = 0xF50;
}

/// Where processors go on in 64-bit mode.
pub(super) const ENTRY: u64 = place::MORE_CODE;
/// Stubs of interrupts, their handler, and the table that leads there.
pub(super) const STUBS: u64 = ENTRY + 0x1000;
pub(super) const HANDLER: u64 = ENTRY + 0x2000;
pub(super) const IDT: u64 = ENTRY + 0x3000;
pub(super) const IDT_POINTER: u64 = ENTRY + 0x4000;

/// Words that processors share; zero at first.
pub(super) const SHARED: u64 = place::BUFFER;
/// A block for each processor: counts of its interrupts and its words at the begin, its stack at the end. Code finds the
/// block by the stack.
const BLOCKS: u64 = super::super::kernel::BASE + 0x10_0000;
pub(super) const BLOCK: u64 = 0x4000;
/// In a block: how often each interrupt came, a quadword each.
pub(super) const COUNTS: u64 = 0;
/// What the processor is to call; it makes it 0 when that is done.
pub(super) const JOB: u64 = 0x800;
/// How often it has come out of the trampoline.
pub(super) const STARTS: u64 = 0x808;
/// IA32_APIC_BASE, as a start found it.
pub(super) const APIC_BASE: u64 = 0x810;
/// The spurious-interrupt vector register, likewise.
pub(super) const SPURIOUS: u64 = 0x818;
/// The segment of the code that it was started with.
pub(super) const SEGMENT: u64 = 0x820;
/// A job's own words.
pub(super) const RESULT: u64 = 0x840;
pub(super) const MORE: u64 = 0x848;
/// What the handler of the next NMI is to call, once.
pub(super) const IN_NMI: u64 = 0x850;

/// An address in a processor's block.
pub(super) const fn of(cpu: u64, word: u64) -> u64 {
    BLOCKS + cpu * BLOCK + word
}

/// Where a processor counts this interrupt.
pub(super) const fn count(cpu: u64, vector: u8) -> u64 {
    of(cpu, COUNTS + vector as u64 * 8)
}
