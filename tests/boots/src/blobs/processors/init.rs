//! INIT and STARTUP: to one that waits, runs, halts, or has them all at once.

use super::super::program::{Assembled, Blob};
use super::apic::{self, Mode, To};
use super::deadline::arm;
use super::memory::{self, RESULT, SHARED, STARTS, TRAMPOLINES, count, of, trampoline};
use super::smp::{INIT, SETTLED, STARTUP, Smp};
use anyhow::Result;
use iced_x86::code_asm::{
    cr0, cr2, dr0, dr1, dr2, dr3, dr6, dr7, dword_ptr, eax, ebx, ecx, qword_ptr, r15, rax, rbp,
    rbx, rcx, rdi, rdx, rsi,
};
use x86_defs::apic::DELIVERY_FIXED;
use x86_defs::{cr0, efer};

const PAGES: [u8; 2] = [(TRAMPOLINES[0] >> 12) as u8, (TRAMPOLINES[1] >> 12) as u8];
const ROUNDS: i32 = 12;
/// CD.
const CACHES_OFF: u64 = cr0::CD;

/// What a processor is like after INIT, and which STARTUPs count.
pub(super) fn state(mode: Mode) -> Result<Blob> {
    const VECTOR: u8 = 0x60;
    const TIMER: u8 = 0x61;
    let mut smp = Smp::new(mode, 2)?;
    // Before INIT it waits for a STARTUP already.
    smp.start(1)?;
    smp.expect("it starts", of(1, STARTS), 1)?;
    smp.settle()?;
    smp.check("a second STARTUP is ignored", of(1, STARTS), 1)?;
    found(&mut smp, TRAMPOLINES[0], cr0::ET)?;
    smp.check("CS", of(1, memory::SEGMENT), TRAMPOLINES[0] >> 4)?;
    smp.check("SVR", of(1, memory::SPURIOUS), 0xFF)?;
    smp.p.a.mov(rax, qword_ptr(of(1, memory::APIC_BASE)))?;
    smp.p.a.and(eax, !(1 << 10))?;
    smp.p.check(
        "IA32_APIC_BASE: on, and no bootstrap processor",
        0xFEE0_0800,
    )?;
    // One that runs ignores it.
    smp.send(STARTUP, PAGES[1], To::One(1))?;
    smp.settle()?;
    smp.check("STARTUP to one that runs", of(1, STARTS), 1)?;
    // What was to come does not come after INIT: an interrupt that is held back, a deadline.
    let job = smp.job(|a, mode| {
        a.cli()?;
        arm(a, mode, TIMER, 2 * SETTLED)?;
        a.mov(rax, -1i64)?;
        a.mov(cr2, rax)?;
        a.mov(rax, 0x5555_5000u64)?;
        for register in [dr0, dr1, dr2, dr3] {
            a.mov(register, rax)?;
        }
        a.mov(rax, 0xFFFF_4FFFu64)?;
        a.mov(dr6, rax)?;
        a.mov(rax, 0x455u64)?;
        a.mov(dr7, rax)?;
        a.mov(rax, cr0)?;
        a.or(rax, CACHES_OFF as i32)?;
        a.mov(cr0, rax)?;
        for register in [rbx, rcx, rdx, rsi, rdi, rbp] {
            a.mov(register, rax)?;
        }
        a.mov(qword_ptr(SHARED), 1)?;
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        a.pause()?;
        a.jmp(again)?;
        Ok(())
    })?;
    smp.give(1, job)?;
    smp.wait_for(SHARED, 1)?;
    smp.interrupt(VECTOR, To::One(1))?;
    smp.settle()?;
    smp.send(INIT, 0, To::One(1))?;
    smp.p.a.mov(qword_ptr(of(1, memory::JOB)), 0)?;
    smp.send(STARTUP, PAGES[1], To::One(1))?;
    smp.expect("it starts again", of(1, STARTS), 2)?;
    smp.check(
        "at the other page",
        of(1, memory::SEGMENT),
        TRAMPOLINES[1] >> 4,
    )?;
    smp.settle()?;
    smp.settle()?;
    found(&mut smp, TRAMPOLINES[1], cr0::ET | CACHES_OFF)?;
    smp.check("what was pending is gone", count(1, VECTOR), 0)?;
    smp.check("so is the deadline", count(1, TIMER), 0)?;
    smp.interrupt(VECTOR, To::One(1))?;
    smp.expect("it takes interrupts", count(1, VECTOR), 1)?;
    smp.finish()
}

/// The registers that the trampoline at `page` was started with (SDM volume 3, "IA-32 and Intel 64 Processor States
/// Following Power-up, Reset, or INIT"): CR0 is `control`, of which CD and NW are as before INIT.
fn found(smp: &mut Smp, page: u64, control: u64) -> Assembled {
    let at = |offset: u16| page + u64::from(offset);
    smp.p.a.mov(eax, 1)?;
    smp.p.a.xor(ecx, ecx)?;
    smp.p.a.cpuid()?;
    smp.p.a.mov(ebx, dword_ptr(at(trampoline::EDX_FOUND)))?;
    // The APIC id is not in it.
    smp.p.a.sub(eax, ebx)?;
    smp.p
        .check("EDX after INIT is the processor's signature", 0)?;
    for (name, offset, value) in [
        ("EAX", trampoline::EAX_FOUND, 0),
        ("the other general registers", trampoline::OTHERS_FOUND, 0),
        ("segments but CS", trampoline::SEGMENTS_FOUND, 0),
        ("CR0", trampoline::CR0_FOUND, control),
        ("CR2, CR3, CR4", trampoline::CR2_TO_4_FOUND, 0),
        ("DR0 to DR3", trampoline::DR0_TO_3_FOUND, 0),
        ("DR6", trampoline::DR6_FOUND, 0xFFFF_0FF0),
        ("DR7", trampoline::DR7_FOUND, 0x400),
        // The TDX module keeps NXE set.
        ("IA32_EFER", trampoline::EFER_FOUND, efer::NXE),
    ] {
        smp.p.a.mov(eax, dword_ptr(at(offset)))?;
        smp.p.check(&format!("{name} after INIT"), value)?;
    }
    for (name, offset) in [
        ("GDTR", trampoline::GDTR_FOUND),
        ("IDTR", trampoline::IDTR_FOUND),
    ] {
        smp.p.a.mov(rax, qword_ptr(at(offset)))?;
        smp.p.a.shl(rax, 16)?;
        smp.p.a.shr(rax, 16)?;
        smp.p.check(&format!("{name} after INIT"), 0xFFFF)?;
    }
    Ok(())
}

/// INIT and STARTUP at once, again and again, whatever the processor does.
pub(super) fn storm(mode: Mode) -> Result<Blob> {
    let mut smp = Smp::started(mode, 2)?;
    let spin = smp.job(|a, _| {
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        a.pause()?;
        a.jmp(again)?;
        Ok(())
    })?;
    let exits = smp.job(|a, _| {
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        a.xor(eax, eax)?;
        a.cpuid()?;
        a.jmp(again)?;
        Ok(())
    })?;
    let halt = smp.job(|a, _| Ok(a.hlt()?))?;
    let dead = smp.job(|a, _| {
        a.cli()?;
        Ok(a.hlt()?)
    })?;
    for (number, (name, job)) in (0..).zip([
        ("one that spins", spin),
        ("one that leaves L2", exits),
        ("one that halts", halt),
        ("one that is parked", dead),
    ]) {
        smp.p.a.mov(qword_ptr(of(1, STARTS)), 0)?;
        smp.rounds(ROUNDS, |smp| {
            smp.give(1, job)?;
            smp.pass(1_000 + 7_000 * number)?;
            smp.send(INIT, 0, To::One(1))?;
            smp.p.a.mov(qword_ptr(of(1, memory::JOB)), 0)?;
            smp.send(STARTUP, PAGES[0], To::One(1))?;
            smp.send(STARTUP, PAGES[0], To::One(1))?;
            smp.wait_for_round(of(1, STARTS))
        })?;
        smp.check(
            &format!("{name} starts each time"),
            of(1, STARTS),
            ROUNDS as u64,
        )?;
    }
    smp.p.a.mov(qword_ptr(of(1, RESULT)), 0)?;
    let works = smp.job(|a, _| {
        a.mov(qword_ptr(r15 + RESULT as i32), 5)?;
        Ok(())
    })?;
    smp.give(1, works)?;
    smp.expect("and works at the end", of(1, RESULT), 5)?;
    smp.finish()
}

/// To all others at once, by shorthands.
pub(super) fn all_at_once(mode: Mode) -> Result<Blob> {
    const VECTOR: u8 = 0x60;
    let mut smp = Smp::new(mode, 4)?;
    smp.rounds(ROUNDS, |smp| {
        smp.send(INIT, 0, To::Others)?;
        smp.send(STARTUP, PAGES[0], To::Others)?;
        smp.send(STARTUP, PAGES[0], To::Others)?;
        for cpu in smp.others() {
            smp.wait_for_round(of(cpu, STARTS))?;
        }
        Ok(())
    })?;
    for cpu in smp.others() {
        smp.check(
            &format!("processor {cpu} starts each time"),
            of(cpu, STARTS),
            ROUNDS as u64,
        )?;
        let job = smp.job(|a, mode| {
            apic::send(
                a,
                mode,
                apic::command(mode, DELIVERY_FIXED, VECTOR, To::One(0)),
            )
        })?;
        smp.give(cpu, job)?;
        smp.p.a.sti()?;
        smp.expect(&format!("processor {cpu} works"), count(0, VECTOR), cpu)?;
        smp.wait_for_job(cpu)?;
    }
    smp.finish()
}
