//! The APIC timer's deadline.

use super::super::program::Assembled;
use super::apic::{self, Mode};
use super::smp::read_tsc;
use iced_x86::code_asm::{CodeAssembler, ecx, rax, rdx};
use x86_defs::apic::{LvtEntry, Register, TIMER_TSC_DEADLINE};
use x86_defs::msr::IA32_TSC_DEADLINE;

/// The timer interrupts `ticks` of the TSC from now; at once, if that is in the past.
pub(super) fn arm(a: &mut CodeAssembler, mode: Mode, vector: u8, ticks: i32) -> Assembled {
    let entry = LvtEntry::new()
        .with_vector(vector)
        .with_timer_mode(TIMER_TSC_DEADLINE);
    apic::write(a, mode, Register::LVT_TIMER, entry.into())?;
    // What was written to memory comes before what is written to an MSR (SDM volume 3, "TSC-Deadline Mode").
    a.mfence()?;
    read_tsc(a)?;
    a.add(rax, ticks)?;
    a.mov(rdx, rax)?;
    a.shr(rdx, 32)?;
    a.mov(ecx, IA32_TSC_DEADLINE)?;
    a.wrmsr()?;
    Ok(())
}
