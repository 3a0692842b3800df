//! Two processors at the command response buffer.

use super::super::crb::{
    CANCEL, CMD_LADDR, COMMAND_READY, CTRL_REQ, GO_IDLE, LOC_CTRL, RELINQUISH, REQUEST, START,
    command, response, start, take, wait,
};
use super::super::program::Blob;
use super::super::tpm_commands::GET_RANDOM;
use super::apic::Mode;
use super::memory::{RESULT, of};
use super::shared::{both, give_lock, take_lock};
use super::smp::Smp;
use anyhow::Result;
use iced_x86::code_asm::{
    byte_ptr, dword_ptr, eax, ecx, edi, edx, qword_ptr, r12d, r15, rbx, rdi, rsi,
};

/// Each in turn, under a lock in memory, and then both at once, who overwrite each other's commands, start, cancel and give up: every
/// command has an end, and the TPM works.
pub(super) fn both_start(mode: Mode) -> Result<Blob> {
    let mut smp = Smp::started(mode, 3)?;
    take(&mut smp.p.a)?;
    let data = smp.p.data(&GET_RANDOM);
    both(&mut smp, |a, _| {
        let mut right = a.create_label();
        take_lock(a)?;
        a.lea(rsi, qword_ptr(data))?;
        a.mov(edi, dword_ptr(rbx + CMD_LADDR))?;
        a.mov(ecx, GET_RANDOM.len() as u32)?;
        a.rep().movsb()?;
        start(a)?;
        wait(a)?;
        response(a, 6)?;
        a.mov(edx, eax)?;
        response(a, 2)?;
        a.sub(eax, 28)?;
        a.or(eax, edx)?;
        a.jz(right)?;
        a.inc(qword_ptr(r15 + RESULT as i32))?;
        a.set_label(&mut right)?;
        give_lock(a)?;
        Ok(())
    })?;
    for cpu in [1, 2] {
        smp.check(
            &format!("commands in turn, processor {cpu}"),
            of(cpu, RESULT),
            0,
        )?;
    }
    both(&mut smp, |a, cpu| {
        let (mut other, mut end) = (a.create_label(), a.create_label());
        a.lea(rsi, qword_ptr(data))?;
        a.mov(edi, dword_ptr(rbx + CMD_LADDR))?;
        a.mov(ecx, GET_RANDOM.len() as u32)?;
        a.rep().movsb()?;
        start(a)?;
        // A size that changes under the other's command.
        a.mov(edi, dword_ptr(rbx + CMD_LADDR))?;
        a.mov(dword_ptr(rdi + 2), r12d)?;
        a.mov(dword_ptr(rbx + START), 1)?;
        a.mov(eax, r12d)?;
        a.and(eax, 3)?;
        a.cmp(eax, cpu)?;
        a.jne(other)?;
        a.mov(dword_ptr(rbx + CANCEL), 1)?;
        a.mov(dword_ptr(rbx + CANCEL), 0)?;
        a.mov(dword_ptr(rbx + CTRL_REQ), GO_IDLE)?;
        a.mov(dword_ptr(rbx + CTRL_REQ), COMMAND_READY)?;
        a.jmp(end)?;
        a.set_label(&mut other)?;
        a.mov(byte_ptr(rbx + LOC_CTRL), RELINQUISH)?;
        a.mov(byte_ptr(rbx + LOC_CTRL), REQUEST)?;
        a.set_label(&mut end)?;
        a.nop()?;
        wait(a)?;
        Ok(())
    })?;
    take(&mut smp.p.a)?;
    command(&mut smp.p, &GET_RANDOM)?;
    smp.p.check("the TPM answers", 0)?;
    response(&mut smp.p.a, 2)?;
    smp.p.check("with a whole response", 28)?;
    smp.finish()
}
