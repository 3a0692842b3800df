//! The local APIC's registers, as MSRs or in memory.

use super::super::program::Assembled;
use iced_x86::code_asm::{CodeAssembler, dword_ptr, eax, ecx, edx, rdx};
use x86_defs::apic::{InterruptCommand, Register};
use x86_defs::msr::IA32_APIC_BASE;

/// How the registers are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// In memory, as after a reset.
    XApic,
    /// As MSRs.
    X2Apic,
}

/// Where an xAPIC's registers are.
const XAPIC: u32 = 0xFEE0_0000;
/// IA32_APIC_BASE: EXTD.
const EXTD: i32 = 1 << 10;
/// SVR: the APIC is on; the spurious vector.
const ON: u32 = 0x1FF;
/// DFR: the flat model.
const FLAT: u32 = 0xFFFF_FFFF;

/// Enters the mode. RAX, RCX and RDX are changed, as by all of these.
pub(super) fn enter(a: &mut CodeAssembler, mode: Mode) -> Assembled {
    if mode == Mode::X2Apic {
        a.mov(ecx, IA32_APIC_BASE)?;
        a.rdmsr()?;
        a.or(eax, EXTD)?;
        a.wrmsr()?;
    }
    Ok(())
}

/// Lets interrupts come. The logical ID is that of an x2APIC: bit 0 for ID 0, and so on.
pub(super) fn enable(a: &mut CodeAssembler, mode: Mode) -> Assembled {
    if mode == Mode::XApic {
        write(a, mode, Register::DFR, FLAT)?;
        read(a, mode, Register::ID)?;
        a.mov(ecx, eax)?;
        a.shr(ecx, 24)?;
        a.mov(eax, 1 << 24)?;
        a.shl(eax, iced_x86::code_asm::cl)?;
        a.mov(edx, XAPIC + u32::from(Register::LDR.offset()))?;
        a.mov(dword_ptr(rdx), eax)?;
    }
    write(a, mode, Register::SVR, ON)
}

/// A register's value in EAX.
pub(super) fn read(a: &mut CodeAssembler, mode: Mode, register: Register) -> Assembled {
    match mode {
        Mode::XApic => {
            a.mov(edx, XAPIC + u32::from(register.offset()))?;
            a.mov(eax, dword_ptr(rdx))?;
        }
        Mode::X2Apic => {
            a.mov(ecx, register.msr())?;
            a.rdmsr()?;
        }
    }
    Ok(())
}

/// Writes a value.
pub(super) fn write(
    a: &mut CodeAssembler,
    mode: Mode,
    register: Register,
    value: u32,
) -> Assembled {
    a.mov(eax, value)?;
    match mode {
        Mode::XApic => {
            a.mov(edx, XAPIC + u32::from(register.offset()))?;
            a.mov(dword_ptr(rdx), eax)?;
        }
        Mode::X2Apic => {
            a.xor(edx, edx)?;
            a.mov(ecx, register.msr())?;
            a.wrmsr()?;
        }
    }
    Ok(())
}

/// In a handler.
pub(super) fn end_of_interrupt(a: &mut CodeAssembler, mode: Mode) -> Assembled {
    write(a, mode, Register::EOI, 0)
}

/// Who gets an IPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// The one with this APIC ID.
    One(u64),
    /// Those of this set of logical IDs, of the first cluster.
    Set(u32),
    /// All, by the ID that is everybody's.
    Broadcast,
    /// By a shorthand.
    Myself,
    All,
    Others,
}

/// The IPI's command: its bits without the destination, and the destination.
pub(super) fn command(mode: Mode, delivery: u8, vector: u8, to: To) -> (u32, u32) {
    let usual = InterruptCommand::new()
        .with_vector(vector)
        .with_delivery_mode(delivery)
        .with_assert(true);
    let command = match to {
        To::One(_) | To::Broadcast => usual,
        To::Set(_) => usual.with_logical(true),
        To::Myself => usual.with_shorthand(x86_defs::apic::SHORTHAND_SELF),
        To::All => usual.with_shorthand(x86_defs::apic::SHORTHAND_ALL),
        To::Others => usual.with_shorthand(3),
    };
    let destination = match to {
        To::One(id) => id as u32,
        To::Set(set) => set,
        To::Broadcast => u32::MAX,
        _ => 0,
    };
    let destination = match mode {
        Mode::XApic => destination << 24,
        Mode::X2Apic => destination,
    };
    (u64::from(command) as u32, destination)
}

/// Sends an IPI by the command's two halves.
pub(super) fn send(a: &mut CodeAssembler, mode: Mode, (low, high): (u32, u32)) -> Assembled {
    match mode {
        Mode::XApic => {
            let icr = u32::from(Register::ICR.offset());
            a.mov(edx, XAPIC + icr)?;
            a.mov(dword_ptr(rdx + 0x10), high)?;
            a.mov(dword_ptr(rdx), low)?;
        }
        Mode::X2Apic => {
            a.mov(eax, low)?;
            a.mov(edx, high)?;
            a.mov(ecx, Register::ICR.msr())?;
            a.wrmsr()?;
        }
    }
    Ok(())
}
