//! The machine's local APIC, its timer, and the interrupts the simulator takes from QEMU's devices.
//!
//! Interrupts stay disabled while the simulator runs; they end a VM's run or an idle wait, and are
//! taken at one place, [`take`]. What came is noted and asked for later with [`noted`].

use core::arch::asm;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::clock;
use super::cpu::rdtsc;
use super::memory::Mmio;
use super::port::Port;

const TIMER_VECTOR: u8 = 0x30;
const SERIAL_VECTOR: u8 = 0x33;
const UART_VECTOR: u8 = 0x34;
/// Of the processor to itself.
const SELF_VECTOR: u8 = 0x35;
/// Of one processor to another: there is something to do, or to see.
const CALL_VECTOR: u8 = 0x36;
const SPURIOUS_VECTOR: u8 = 0xFF;
/// The first vector of messages of QEMU's devices.
const MESSAGE_VECTOR: u8 = 0x40;
const MESSAGE_VECTOR_LAST: u8 = MESSAGE_VECTOR + MESSAGES - 1;
/// How many such messages there are.
pub(crate) const MESSAGES: u8 = 64;

/// COM1's input of QEMU's IOAPIC.
const UART_PIN: u32 = x86_defs::pc::COM1_IRQ as u32;
/// COM2's.
const COM2_PIN: u32 = x86_defs::pc::COM2_IRQ as u32;
/// COM3's here: on a PC it has COM1's.
pub(crate) const COM3_PIN: u32 = 5;

const LOCAL_APIC: Mmio = Mmio::new(0xFEE0_0000);
const IO_APIC: Mmio = Mmio::new(0xFEC0_0000);

/// Offsets of local APIC registers (SDM volume 3, table 11-1).
mod local_apic {
    pub(super) const EOI: u64 = 0xB0;
    pub(super) const SPURIOUS: u64 = 0xF0;
    pub(super) const INTERRUPT_COMMAND: u64 = 0x300;
    pub(super) const INTERRUPT_COMMAND_HIGH: u64 = 0x310;
    pub(super) const LVT_TIMER: u64 = 0x320;
    pub(super) const INITIAL_COUNT: u64 = 0x380;
    pub(super) const CURRENT_COUNT: u64 = 0x390;
    pub(super) const DIVIDE: u64 = 0x3E0;
    /// Divide by 1.
    pub(super) const DIVIDE_BY_1: u32 = 0xB;
    /// Interrupt command: fixed, edge, to this processor.
    pub(super) const TO_SELF: u32 = 1 << 18;
    /// Interrupt command: INIT, and a start at a page below 1 MiB.
    pub(super) const INIT: u32 = 0x4500;
    pub(super) const START_UP: u32 = 0x4600;
}

const TIMER: u8 = 1;
const UART: u8 = 2;
const SERIAL: u8 = 4;

static NOTED: AtomicU8 = AtomicU8::new(0);
static NOTED_MESSAGES: AtomicU64 = AtomicU64::new(0);

/// Interrupts taken since they were last asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Noted {
    pub(crate) timer: bool,
    pub(crate) uart: bool,
    /// COM2 or COM3.
    pub(crate) serial: bool,
    /// Messages, one bit each.
    pub(crate) messages: u64,
}

/// Switches the old interrupt controller off, the local APIC and the interrupts of COM1 to COM3 on.
pub(crate) fn start() {
    Port::PIC_MASTER_MASK.write8(0xFF);
    Port::PIC_SLAVE_MASK.write8(0xFF);
    LOCAL_APIC.write32(local_apic::SPURIOUS, 0x100 | u32::from(SPURIOUS_VECTOR));
    LOCAL_APIC.write32(local_apic::DIVIDE, local_apic::DIVIDE_BY_1);
    LOCAL_APIC.write32(local_apic::LVT_TIMER, u32::from(TIMER_VECTOR));
    // Redirection entry: edge, active high, fixed, to APIC 0.
    for (pin, vector) in [
        (UART_PIN, UART_VECTOR),
        (COM2_PIN, SERIAL_VECTOR),
        (COM3_PIN, SERIAL_VECTOR),
    ] {
        io_apic_write(0x10 + 2 * pin + 1, 0);
        io_apic_write(0x10 + 2 * pin, u32::from(vector));
    }
}

fn io_apic_write(register: u32, value: u32) {
    IO_APIC.write32(0, register);
    IO_APIC.write32(0x10, value);
}

/// Called by the interrupt stubs.
pub(super) fn taken(vector: u8) {
    match vector {
        TIMER_VECTOR => _ = NOTED.fetch_or(TIMER, Ordering::Relaxed),
        UART_VECTOR => _ = NOTED.fetch_or(UART, Ordering::Relaxed),
        SERIAL_VECTOR => _ = NOTED.fetch_or(SERIAL, Ordering::Relaxed),
        MESSAGE_VECTOR..=MESSAGE_VECTOR_LAST => {
            NOTED_MESSAGES.fetch_or(1 << (vector - MESSAGE_VECTOR), Ordering::Relaxed);
        }
        SELF_VECTOR | CALL_VECTOR => {}
        SPURIOUS_VECTOR => return,
        _ => panic!("interrupt {vector:#x} has no source here"),
    }
    LOCAL_APIC.write32(local_apic::EOI, 0);
}

/// Makes an interrupt pending that says nothing: it ends the next run of a VM before its first instruction.
pub(crate) fn end_next_run() {
    let command = local_apic::TO_SELF | u32::from(SELF_VECTOR);
    LOCAL_APIC.write32(local_apic::INTERRUPT_COMMAND, command);
}

/// Switches the local APIC of a further processor on.
pub(crate) fn start_more() {
    LOCAL_APIC.write32(local_apic::SPURIOUS, 0x100 | u32::from(SPURIOUS_VECTOR));
}

fn send(apic_id: u8, command: u32) {
    LOCAL_APIC.write32(local_apic::INTERRUPT_COMMAND_HIGH, u32::from(apic_id) << 24);
    LOCAL_APIC.write32(local_apic::INTERRUPT_COMMAND, command);
}

/// Interrupts another processor: its VM's run ends, or its wait.
pub(crate) fn call(apic_id: u8) {
    send(apic_id, CALL_VECTOR.into());
}

/// Starts another processor in real mode at a page below 1 MiB (SDM volume 3, "MP Initialization Protocol").
pub(crate) fn start_processor(apic_id: u8, page: u8) {
    send(apic_id, local_apic::INIT);
    send(apic_id, local_apic::START_UP | u32::from(page));
}

/// Address and data of a message, below [`MESSAGES`] (SDM volume 3, "Message Signalled Interrupts").
pub(crate) fn message(number: u8) -> (u32, u32) {
    (
        x86_defs::pc::LOCAL_APIC as u32,
        (MESSAGE_VECTOR + number).into(),
    )
}

/// Takes the interrupts that are pending, and says which came since the last call.
pub(crate) fn take() -> Noted {
    // SAFETY: the IDT is complete; the handlers touch only `NOTED`, and what they may clobber is
    // declared.
    unsafe { asm!("sti", "nop", "nop", "cli", clobber_abi("sysv64")) };
    noted()
}

/// Sleeps until an interrupt comes, and takes it.
pub(crate) fn wait() -> Noted {
    // SAFETY: as in `take`. STI's shadow makes sure that HLT sees an interrupt that is pending.
    unsafe { asm!("sti", "hlt", "cli", clobber_abi("sysv64")) };
    noted()
}

/// Takes what is pending on a processor that others only call.
pub(crate) fn take_calls() {
    // SAFETY: as in `take`.
    unsafe { asm!("sti", "nop", "nop", "cli", clobber_abi("sysv64")) };
}

/// Such a processor sleeps until it is called.
pub(crate) fn rest() {
    // SAFETY: as in `wait`.
    unsafe { asm!("sti", "hlt", "cli", clobber_abi("sysv64")) };
}

fn noted() -> Noted {
    let noted = NOTED.swap(0, Ordering::Relaxed);
    Noted {
        timer: noted & TIMER != 0,
        uart: noted & UART != 0,
        serial: noted & SERIAL != 0,
        messages: NOTED_MESSAGES.swap(0, Ordering::Relaxed),
    }
}

/// Measures the TSC against the timer, which QEMU counts in nanoseconds: TSC ticks a millisecond.
pub(crate) fn measure_tsc() -> u64 {
    const NANOSECONDS: u32 = 50_000_000;
    LOCAL_APIC.write32(local_apic::INITIAL_COUNT, u32::MAX);
    let (count, start) = (LOCAL_APIC.read32(local_apic::CURRENT_COUNT), rdtsc());
    loop {
        let (now, end) = (LOCAL_APIC.read32(local_apic::CURRENT_COUNT), rdtsc());
        let passed = count.saturating_sub(now);
        if passed >= NANOSECONDS {
            LOCAL_APIC.write32(local_apic::INITIAL_COUNT, 0);
            return (end - start) * 1_000_000 / u64::from(passed);
        }
    }
}

/// Arms the timer for a TSC value, or disarms it. The interrupt may come early if the deadline is
/// more than four seconds away.
///
/// QEMU counts the timer in nanoseconds.
pub(crate) fn set_timer(deadline: Option<u64>) {
    let count = match deadline {
        None => 0,
        Some(deadline) => deadline
            .saturating_sub(rdtsc())
            .saturating_mul(clock::USUAL)
            .div_ceil(clock::ticks_per_millisecond())
            .clamp(1, u64::from(u32::MAX)) as u32,
    };
    LOCAL_APIC.write32(local_apic::INITIAL_COUNT, count);
}
