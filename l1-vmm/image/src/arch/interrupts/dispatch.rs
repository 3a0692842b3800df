//! What happens at an interrupt or exception.

use core::arch::asm;
use core::sync::atomic::{AtomicU32, Ordering};

use l1_vmm::machine::host::{
    CONFIGURATION_VECTOR, CONSOLE_VECTOR, DEVICES_VECTOR, KICK_VECTOR, TIMER_VECTOR,
};
use x86::msr::{IA32_X2APIC_EOI, wrmsr};

use super::stubs::Frame;
use super::virtualization_exception;
use crate::arch::image;
use crate::fatal::{FatalCode, fatal};
use crate::per_cpu;

const NMI: u64 = 2;
const PAGE_FAULT: u64 = 14;
const VIRTUALIZATION_EXCEPTION: u64 = 20;
const FIRST_INTERRUPT: u64 = 32;
const SPURIOUS: u64 = 0xFF;

/// L1's own interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Vector {
    /// The local APIC's timer.
    Timer = TIMER_VECTOR,
    /// The host's UART, through its I/O APIC.
    Console = CONSOLE_VECTOR,
    /// The host's devices behind L2's.
    Devices = DEVICES_VECTOR,
    /// Another processor of this TD: it says only that there is something to look at.
    Kick = KICK_VECTOR,
}

/// How often a device of the host's has said that its configuration is another one.
pub(crate) static CONFIGURATION_CHANGES: AtomicU32 = AtomicU32::new(0);

/// Lets interrupts that are pending happen. Otherwise they are disabled, but for the wait in
/// `TDG.VP.VMCALL<Instruction.HLT>`.
pub(crate) fn open_window() {
    // SAFETY: handlers are installed before main code runs; they keep every register, and memory
    // they write is atomic. STI takes effect after the instruction behind it.
    unsafe { asm!("sti", "nop", "cli") };
}

/// Called by the stubs.
pub(super) extern "sysv64" fn dispatch(frame: &mut Frame) {
    match frame.vector {
        // The host may send one whenever it likes; it says nothing.
        NMI => {}
        VIRTUALIZATION_EXCEPTION => virtualization_exception::handle(frame),
        SPURIOUS => {}
        FIRST_INTERRUPT.. => interrupt(frame.vector),
        _ => exception(frame),
    }
}

fn interrupt(vector: u64) {
    for own in [
        Vector::Timer,
        Vector::Console,
        Vector::Devices,
        Vector::Kick,
    ] {
        if u64::from(own as u8) == vector {
            per_cpu::noted().note(own);
        }
    }
    if u64::from(CONFIGURATION_VECTOR) == vector {
        // What is read behind it is the host's to change at any time.
        CONFIGURATION_CHANGES.fetch_add(1, Ordering::Relaxed);
        per_cpu::noted().note(Vector::Devices);
    }
    // SAFETY: ends the interrupt at the local APIC, which is in x2APIC mode in every TD; the
    // register is virtualized by the processor and changes nothing else.
    unsafe { wrmsr(IA32_X2APIC_EOI, 0) };
}

fn exception(frame: &Frame) -> ! {
    let name = NAMES
        .get(frame.vector as usize)
        .copied()
        .unwrap_or("reserved");
    let at = frame.rip.wrapping_sub(image::start());
    let error = frame.error_code;
    if frame.vector == PAGE_FAULT {
        // SAFETY: reading CR2 changes nothing.
        let address = unsafe { x86::controlregs::cr2() };
        fatal(
            FatalCode::Exception,
            format_args!("page fault at image+{at:#x} on {address:#x}, error code {error:#x}"),
        )
    }
    let vector = frame.vector;
    let stack = frame.rsp;
    fatal(
        FatalCode::Exception,
        format_args!(
            "exception {vector} ({name}) at image+{at:#x}, error code {error:#x}, stack {stack:#x}"
        ),
    )
}

/// Exceptions by vector (SDM volume 3, "Protected-Mode Exceptions and Interrupts").
const NAMES: [&str; 32] = [
    "divide error",
    "debug",
    "NMI",
    "breakpoint",
    "overflow",
    "BOUND range exceeded",
    "invalid opcode",
    "device not available",
    "double fault",
    "coprocessor segment overrun",
    "invalid TSS",
    "segment not present",
    "stack fault",
    "general protection",
    "page fault",
    "reserved",
    "x87 floating point",
    "alignment check",
    "machine check",
    "SIMD floating point",
    "virtualization",
    "control protection",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "hypervisor injection",
    "VMM communication",
    "security",
    "reserved",
];
