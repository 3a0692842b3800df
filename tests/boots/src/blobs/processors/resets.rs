//! A machine that one of its processors resets, again and again, while the others are at the TPM.

use super::super::program::{Blob, tpm};
use super::super::resets::{LAST, count_resets_or_power_off};
use super::super::tpm_commands::GET_RANDOM;
use super::apic::Mode;
use super::smp::{Smp, pass};
use anyhow::Result;
use iced_x86::code_asm::{al, byte_ptr, dx, rbx};
use x86_defs::pc::RESET_CONTROL;

/// The first executes commands, the second reads a register, the third resets.
pub(super) fn resets(mode: Mode) -> Result<Blob> {
    let mut smp = Smp::started(mode, 3)?;
    let reads = smp.job(|a, _| {
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        a.mov(al, byte_ptr(rbx + tpm::ACCESS))?;
        a.jmp(again)?;
        Ok(())
    })?;
    let resets = smp.job(|a, _| {
        pass(a, 400_000)?;
        a.mov(dx, u32::from(RESET_CONTROL))?;
        for value in [2, 6] {
            a.mov(al, value)?;
            a.out(dx, al)?;
        }
        Ok(())
    })?;
    smp.p.take_tpm()?;
    count_resets_or_power_off(&mut smp.p, LAST)?;
    smp.give(1, reads)?;
    smp.give(2, resets)?;
    let mut again = smp.p.a.create_label();
    smp.p.a.set_label(&mut again)?;
    smp.p.tpm_command(&GET_RANDOM)?;
    smp.p.a.jmp(again)?;
    smp.p.assemble()
}
