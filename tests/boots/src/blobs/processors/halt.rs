//! Processors that halt, and what wakes them up.

use super::super::program::{Assembled, Blob};
use super::apic::{self, Mode, To};
use super::deadline::arm;
use super::memory::{self, IN_NMI, MORE, RESULT, SHARED, STARTS, TRAMPOLINES, count, of};
use super::smp::{INIT, STARTUP, Smp, pass, read_tsc, spin_until};
use anyhow::Result;
use iced_x86::code_asm::{CodeAssembler, qword_ptr, r13, r14, r15, rax};
use x86_defs::apic::DELIVERY_NMI;

const NMI: u8 = 2;
const ROUNDS: i32 = 40;

/// Kernels' way: interrupts off, a look at a flag, STI, HLT. A flag that is raised with an interrupt is never missed.
pub(super) fn wake_ups(mode: Mode) -> Result<Blob> {
    const VECTOR: u8 = 0x60;
    let mut smp = Smp::started(mode, 3)?;
    // The flag is a count of what was asked for; RESULT is how much of it was seen.
    let sleeper = smp.job(|a, _| {
        let (mut again, mut go) = (a.create_label(), a.create_label());
        a.set_label(&mut again)?;
        a.cli()?;
        a.mov(r13, qword_ptr(r15 + MORE as i32))?;
        a.cmp(r13, qword_ptr(r15 + RESULT as i32))?;
        a.jne(go)?;
        a.sti()?;
        a.hlt()?;
        a.jmp(again)?;
        a.set_label(&mut go)?;
        a.sti()?;
        a.mov(qword_ptr(r15 + RESULT as i32), r13)?;
        a.cmp(r13, ROUNDS)?;
        a.jb(again)?;
        Ok(())
    })?;
    for cpu in smp.others() {
        smp.give(cpu, sleeper)?;
    }
    smp.rounds(ROUNDS, |smp| {
        for cpu in smp.others() {
            smp.p.a.inc(qword_ptr(of(cpu, MORE)))?;
            smp.interrupt(VECTOR, To::One(cpu))?;
        }
        for cpu in smp.others() {
            smp.wait_for_round(of(cpu, RESULT))?;
        }
        Ok(())
    })?;
    for cpu in smp.others() {
        smp.check(
            &format!("processor {cpu} misses none"),
            of(cpu, RESULT),
            ROUNDS as u64,
        )?;
    }
    smp.finish()
}

/// Each processor's own timer.
pub(super) fn deadlines(mode: Mode) -> Result<Blob> {
    const PAST: u8 = 0x60;
    const SOON: u8 = 0x61;
    const NOW: u8 = 0x62;
    let mut smp = Smp::started(mode, 3)?;
    for (name, vector, ticks) in [
        ("in the past", PAST, -1_000),
        ("soon", SOON, 60_000),
        ("about now", NOW, 30),
    ] {
        let job = smp.job(|a, mode| {
            let mut round = a.create_label();
            a.xor(r13, r13)?;
            a.set_label(&mut round)?;
            a.inc(r13)?;
            arm(a, mode, vector, ticks)?;
            halt_until_r13(a, u64::from(vector) * 8)?;
            a.cmp(r13, ROUNDS / 4)?;
            a.jb(round)?;
            Ok(())
        })?;
        for cpu in smp.others() {
            smp.give(cpu, job)?;
        }
        for cpu in smp.others() {
            smp.wait_for_job(cpu)?;
            let name = format!("a deadline {name}, processor {cpu}");
            smp.check(&name, count(cpu, vector), ROUNDS as u64 / 4)?;
        }
    }
    smp.finish()
}

/// Halts, with interrupts held back between look and halt, until a word of this processor's is not below R13.
fn halt_until_r13(a: &mut CodeAssembler, word: u64) -> Assembled {
    let (mut again, mut end) = (a.create_label(), a.create_label());
    a.set_label(&mut again)?;
    a.cli()?;
    a.cmp(qword_ptr(r15 + word as i32), r13)?;
    a.jae(end)?;
    a.sti()?;
    a.hlt()?;
    a.jmp(again)?;
    a.set_label(&mut end)?;
    a.sti()?;
    Ok(())
}

/// Timers of processors that never halt: each interrupt comes within a millisecond of its deadline.
pub(super) fn deadlines_of_busy_ones(mode: Mode) -> Result<Blob> {
    const VECTOR: u8 = 0x60;
    const AHEAD: i32 = 300_000;
    const LATE: i32 = 1_500_000;
    let mut smp = Smp::started(mode, 2)?;
    // Where R15 is the block, as in a job.
    let spin = |a: &mut CodeAssembler, mode: Mode| {
        let (mut round, mut wait, mut soon) =
            (a.create_label(), a.create_label(), a.create_label());
        a.sti()?;
        a.xor(r13, r13)?;
        a.set_label(&mut round)?;
        a.inc(r13)?;
        read_tsc(a)?;
        a.mov(r14, rax)?;
        arm(a, mode, VECTOR, AHEAD)?;
        a.set_label(&mut wait)?;
        a.pause()?;
        a.cmp(qword_ptr(r15 + i32::from(VECTOR) * 8), r13)?;
        a.jb(wait)?;
        read_tsc(a)?;
        a.sub(rax, r14)?;
        a.cmp(rax, LATE)?;
        a.jb(soon)?;
        a.inc(qword_ptr(r15 + RESULT as i32))?;
        a.set_label(&mut soon)?;
        a.cmp(r13, ROUNDS)?;
        a.jb(round)?;
        Ok(())
    };
    let job = smp.job(spin)?;
    smp.p.a.mov(r15, of(0, 0))?;
    // The other one sleeps, then both are busy, then the first one is parked while the other is.
    let sleep = smp.job(|a, _| Ok(a.hlt()?))?;
    smp.give(1, sleep)?;
    smp.settle()?;
    smp.p.a.call(job)?;
    smp.check("while the other sleeps", of(0, RESULT), 0)?;
    smp.interrupt(VECTOR + 1, To::One(1))?;
    smp.wait_for_job(1)?;
    smp.p.a.mov(qword_ptr(count(0, VECTOR)), 0)?;
    smp.give(1, job)?;
    smp.p.a.mov(r15, of(0, 0))?;
    smp.p.a.call(job)?;
    smp.wait_for_job(1)?;
    smp.check("while the other is busy", of(0, RESULT), 0)?;
    smp.check("the other's", of(1, RESULT), 0)?;
    smp.finish()
}

/// With interrupts off only an NMI or an INIT ends a halt; the others go on meanwhile.
pub(super) fn parked(mode: Mode) -> Result<Blob> {
    const VECTOR: u8 = 0x60;
    let mut smp = Smp::started(mode, 3)?;
    let park = smp.job(|a, _| {
        a.cli()?;
        a.mov(qword_ptr(r15 + MORE as i32), 1)?;
        a.hlt()?;
        a.inc(qword_ptr(r15 + RESULT as i32))?;
        Ok(())
    })?;
    smp.give(1, park)?;
    smp.wait_for(of(1, MORE), 1)?;
    smp.interrupt(VECTOR, To::One(1))?;
    smp.interrupt(VECTOR, To::One(2))?;
    smp.expect("another goes on", count(2, VECTOR), 1)?;
    smp.settle()?;
    smp.check("an interrupt does not end it", of(1, RESULT), 0)?;
    smp.check("nor comes", count(1, VECTOR), 0)?;
    smp.send(DELIVERY_NMI, 0, To::One(1))?;
    smp.expect("an NMI ends it", of(1, RESULT), 1)?;
    smp.check("the NMI's handler has run", count(1, NMI), 1)?;
    smp.expect("the interrupt has waited", count(1, VECTOR), 1)?;
    smp.wait_for_job(1)?;
    smp.p.a.mov(qword_ptr(of(1, MORE)), 0)?;
    smp.give(1, park)?;
    smp.wait_for(of(1, MORE), 1)?;
    smp.send(INIT, 0, To::One(1))?;
    smp.p.a.mov(qword_ptr(of(1, memory::JOB)), 0)?;
    smp.send(STARTUP, (TRAMPOLINES[0] >> 12) as u8, To::One(1))?;
    smp.expect("an INIT ends it", of(1, STARTS), 2)?;
    smp.check("it does not go on behind the halt", of(1, RESULT), 1)?;
    // The first one parks itself; another wakes it.
    let wake = smp.job(|a, mode| {
        let (mut again, mut end) = (a.create_label(), a.create_label());
        a.set_label(&mut again)?;
        // One that comes before the halt does not end it.
        pass(a, 300_000)?;
        a.cmp(qword_ptr(SHARED), 0)?;
        a.jne(end)?;
        apic::send(a, mode, apic::command(mode, DELIVERY_NMI, 0, To::One(0)))?;
        a.jmp(again)?;
        a.set_label(&mut end)?;
        a.nop()?;
        Ok(())
    })?;
    smp.give(2, wake)?;
    smp.p.a.cli()?;
    smp.p.a.hlt()?;
    smp.p.a.mov(qword_ptr(SHARED), 1)?;
    smp.wait_for_job(2)?;
    smp.check("the first is woken by another's NMI", of(2, memory::JOB), 0)?;
    smp.finish()
}

/// In the handler of an NMI the next one waits for IRET (SDM volume 3, "Handling Multiple NMIs"), and does not end a HLT.
pub(super) fn nmi_in_handler(mode: Mode) -> Result<Blob> {
    const VECTOR: u8 = 0x60;
    let mut smp = Smp::started(mode, 2)?;
    let handler = smp.job(|a, _| {
        a.mov(qword_ptr(r15 + MORE as i32), 1)?;
        spin_until(a, MORE, 2)?;
        a.mov(r13, qword_ptr(r15 + i32::from(NMI) * 8))?;
        a.mov(qword_ptr(r15 + RESULT as i32), r13)?;
        a.sti()?;
        a.hlt()?;
        a.mov(qword_ptr(r15 + MORE as i32), 3)?;
        Ok(())
    })?;
    smp.p.a.lea(rax, qword_ptr(handler))?;
    smp.p.a.mov(qword_ptr(of(1, IN_NMI)), rax)?;
    smp.send(DELIVERY_NMI, 0, To::One(1))?;
    smp.wait_for(of(1, MORE), 1)?;
    smp.send(DELIVERY_NMI, 0, To::One(1))?;
    smp.settle()?;
    smp.p.a.mov(qword_ptr(of(1, MORE)), 2)?;
    smp.expect("the second waits", of(1, RESULT), 1)?;
    smp.settle()?;
    smp.check("nor does it end a halt", of(1, MORE), 2)?;
    smp.check("nor come in it", count(1, NMI), 1)?;
    smp.interrupt(VECTOR, To::One(1))?;
    smp.expect("an interrupt does", of(1, MORE), 3)?;
    smp.expect("it comes behind IRET", count(1, NMI), 2)?;
    smp.check("once", count(1, VECTOR), 1)?;
    smp.finish()
}
