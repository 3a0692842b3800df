//! What processors share: the TSC, memory, the TPM's registers, L1's services.

use super::super::program::{Assembled, Blob, TPM, tpm};
use super::apic::Mode;
use super::memory::{self, MORE, RESULT, SHARED, of};
use super::smp::{Smp, read_tsc};
use anyhow::Result;
use iced_x86::code_asm::{
    CodeAssembler, byte_ptr, dword_ptr, eax, ecx, edx, qword_ptr, r8, r9, r10, r11, r12, r12d, r13,
    r14, r15, rax, rbx, rcx, rdx,
};
use tdx_defs::ghci::mask;

const ROUNDS: i32 = 60;
/// How often patience may end before a job counts as one that does not end.
const TIMES_PATIENT: usize = 12;
const E: i32 = tpm::INT_ENABLE;
const TDCALL: [u8; 4] = [0x66, 0x0F, 0x01, 0xCC];
/// A lock, and what it protects.
const LOCK: u64 = SHARED + 0x40;
const LAST_TSC: u64 = SHARED + 0x48;
const COUNTED: u64 = SHARED + 0x50;
/// Bytes of the localities' registers.
const LOCALITY: u64 = 0x1000;
const ACTIVE: u32 = 1 << 5;

/// Two do this at once, each as often as the other.
pub(super) fn both(
    smp: &mut Smp,
    write: impl Fn(&mut CodeAssembler, i32) -> Assembled,
) -> Assembled {
    for cpu in [1, 2] {
        let job = smp.job(|a, _| {
            let mut round = a.create_label();
            a.xor(r12, r12)?;
            a.set_label(&mut round)?;
            a.inc(r12)?;
            write(a, cpu)?;
            a.cmp(r12, ROUNDS)?;
            a.jb(round)?;
            Ok(())
        })?;
        smp.give(cpu as u64, job)?;
    }
    for cpu in [1, 2] {
        // The TPM may be at keys of its own meanwhile.
        for _ in 0..TIMES_PATIENT {
            smp.wait_for_job(cpu)?;
        }
        smp.check(
            &format!("processor {cpu} has done it"),
            of(cpu, memory::JOB),
            0,
        )?;
    }
    Ok(())
}

pub(super) fn take_lock(a: &mut CodeAssembler) -> Assembled {
    let (mut again, mut mine) = (a.create_label(), a.create_label());
    a.set_label(&mut again)?;
    a.lock().bts(dword_ptr(LOCK), 0)?;
    a.jnc(mine)?;
    a.pause()?;
    a.jmp(again)?;
    a.set_label(&mut mine)?;
    a.nop()?;
    Ok(())
}

pub(super) fn give_lock(a: &mut CodeAssembler) -> Assembled {
    a.mov(dword_ptr(LOCK), 0)?;
    Ok(())
}

/// Under a lock in memory a counter that is not atomic is right, and the TSC never goes back.
pub(super) fn memory_and_tsc(mode: Mode) -> Result<Blob> {
    let mut smp = Smp::started(mode, 3)?;
    both(&mut smp, |a, _| {
        let mut later = a.create_label();
        take_lock(a)?;
        read_tsc(a)?;
        a.cmp(rax, qword_ptr(LAST_TSC))?;
        a.jae(later)?;
        a.inc(qword_ptr(r15 + RESULT as i32))?;
        a.set_label(&mut later)?;
        a.mov(qword_ptr(LAST_TSC), rax)?;
        a.mov(rax, qword_ptr(COUNTED))?;
        a.inc(rax)?;
        a.mov(qword_ptr(COUNTED), rax)?;
        give_lock(a)?;
        a.lock().inc(qword_ptr(SHARED))?;
        Ok(())
    })?;
    smp.check("LOCK INC", SHARED, 2 * ROUNDS as u64)?;
    smp.check("under a lock", COUNTED, 2 * ROUNDS as u64)?;
    for cpu in [1, 2] {
        smp.check(
            &format!("no TSC behind the other's, processor {cpu}"),
            of(cpu, RESULT),
            0,
        )?;
    }
    smp.finish()
}

/// Read-modify-write of a TPM register by two: none is lost.
pub(super) fn tpm_register(mode: Mode) -> Result<Blob> {
    const ENABLED: u32 = 0x8000_0081;
    let mut smp = Smp::started(mode, 3)?;
    smp.p.take_tpm()?;
    // Each sets and clears a bit of its own; the other's must stay as it is.
    smp.p.a.mov(dword_ptr(rbx + E), 0)?;
    both(&mut smp, |a, cpu| {
        let bit = cpu as u32;
        let (mut there, mut gone) = (a.create_label(), a.create_label());
        a.lock().or(dword_ptr(rbx + E), bit)?;
        a.mov(eax, dword_ptr(rbx + E))?;
        a.test(eax, bit as i32)?;
        a.jnz(there)?;
        a.inc(qword_ptr(r15 + RESULT as i32))?;
        a.set_label(&mut there)?;
        a.lock().and(dword_ptr(rbx + E), !bit)?;
        a.mov(eax, dword_ptr(rbx + E))?;
        a.test(eax, bit as i32)?;
        a.jz(gone)?;
        a.inc(qword_ptr(r15 + RESULT as i32))?;
        a.set_label(&mut gone)?;
        a.nop()?;
        Ok(())
    })?;
    for cpu in [1, 2] {
        smp.check(
            &format!("LOCK OR and LOCK AND, processor {cpu}"),
            of(cpu, RESULT),
            0,
        )?;
    }
    smp.p.a.mov(eax, dword_ptr(rbx + E))?;
    smp.p.check("and all bits are clear", 0)?;
    // What is put in comes out once: R13 is what was put in less what came out.
    smp.p.a.mov(dword_ptr(rbx + E), ENABLED)?;
    both(&mut smp, |a, cpu| {
        let mut first = a.create_label();
        a.cmp(r12, 1)?;
        a.jne(first)?;
        a.xor(r13, r13)?;
        a.set_label(&mut first)?;
        a.mov(eax, r12d)?;
        a.and(eax, 1)?;
        a.lea(eax, dword_ptr(rax + rax + cpu))?;
        a.mov(edx, eax)?;
        a.add(r13, rdx)?;
        a.xchg(dword_ptr(rbx + E), eax)?;
        a.sub(r13, rax)?;
        a.mov(qword_ptr(r15 + MORE as i32), r13)?;
        Ok(())
    })?;
    smp.p.a.mov(eax, dword_ptr(rbx + E))?;
    smp.p.a.mov(ecx, ENABLED)?;
    smp.p.a.sub(rax, rcx)?;
    for cpu in [1, 2] {
        smp.p.a.sub(rax, qword_ptr(of(cpu, MORE)))?;
    }
    smp.p.check("XCHG: what was put in came out once", 0)?;
    smp.finish()
}

/// Each uses a locality of its own; the TPM lets one in at a time.
pub(super) fn localities(mode: Mode) -> Result<Blob> {
    let mut smp = Smp::started(mode, 3)?;
    both(&mut smp, |a, cpu| {
        let (mut again, mut mine) = (a.create_label(), a.create_label());
        a.mov(rbx, TPM + LOCALITY * (cpu as u64 - 1))?;
        a.mov(byte_ptr(rbx + tpm::ACCESS), tpm::REQUEST_USE)?;
        a.set_label(&mut again)?;
        a.movzx(eax, byte_ptr(rbx + tpm::ACCESS))?;
        a.test(eax, ACTIVE as i32)?;
        a.jnz(mine)?;
        a.pause()?;
        a.jmp(again)?;
        a.set_label(&mut mine)?;
        a.mov(rax, qword_ptr(COUNTED))?;
        a.inc(rax)?;
        // Something that takes time, in L1.
        a.mov(ecx, dword_ptr(rbx + 0xF00))?;
        a.mov(qword_ptr(COUNTED), rax)?;
        a.mov(byte_ptr(rbx + tpm::ACCESS), ACTIVE)?;
        Ok(())
    })?;
    smp.check("one at a time", COUNTED, 2 * ROUNDS as u64)?;
    smp.finish()
}

/// L1 answers each its own TDVMCALL: reads of a register, and CPUID.
pub(super) fn vmcalls(mode: Mode) -> Result<Blob> {
    const MMIO: u64 = 48;
    const CPUID: u64 = 10;
    const DID_VID: u64 = 0x0001_1014;
    let mut smp = Smp::started(mode, 3)?;
    both(&mut smp, |a, cpu| {
        let call = |a: &mut CodeAssembler, number: u64, arguments: [u64; 4]| -> Assembled {
            // R12 counts rounds, R15 is the block.
            for kept in [r12, r15] {
                a.push(kept)?;
            }
            a.xor(r10, r10)?;
            a.mov(r11, number)?;
            for (register, value) in [r12, r13, r14, r15].into_iter().zip(arguments) {
                a.mov(register, value)?;
            }
            a.mov(rcx, mask::R10_TO_R15)?;
            a.xor(eax, eax)?;
            a.db(&TDCALL)?;
            a.mov(r8, r11)?;
            a.mov(r9, r13)?;
            for kept in [r15, r12] {
                a.pop(kept)?;
            }
            Ok(())
        };
        let (mut right, mut own) = (a.create_label(), a.create_label());
        let address = TPM + LOCALITY * (cpu as u64 - 1) + 0xF00;
        call(a, MMIO, [4, 0, address, 0])?;
        a.cmp(r8, DID_VID as i32)?;
        a.je(right)?;
        a.inc(qword_ptr(r15 + RESULT as i32))?;
        a.set_label(&mut right)?;
        // EBX of leaf 1 has the APIC ID.
        call(a, CPUID, [1, 0, 0, 0])?;
        a.shr(r9, 24)?;
        a.cmp(r9, cpu)?;
        a.je(own)?;
        a.inc(qword_ptr(r15 + MORE as i32))?;
        a.set_label(&mut own)?;
        a.nop()?;
        Ok(())
    })?;
    for cpu in [1, 2] {
        smp.check(
            &format!("TDVMCALL<MMIO>, processor {cpu}"),
            of(cpu, RESULT),
            0,
        )?;
        smp.check(
            &format!("TDVMCALL<CPUID>: its own, processor {cpu}"),
            of(cpu, MORE),
            0,
        )?;
    }
    smp.finish()
}
