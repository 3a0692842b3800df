//! Interrupts between processors, of every kind and to every set of them.

use super::super::program::{Assembled, Blob, GENERAL_PROTECTION, NO_FAULT, TPM};
use super::apic::{self, Mode, To};
use super::memory::{self, RESULT, SHARED, count};
use super::smp::{INIT, Smp, spin_until};
use anyhow::Result;
use iced_x86::code_asm::{
    CodeAssembler, al, cr8, dword_ptr, eax, ecx, edx, qword_ptr, r13, r14, r15, rax, rdx,
};
use x86_defs::apic::{DELIVERY_FIXED, DELIVERY_LOWEST_PRIORITY, DELIVERY_NMI, Register};

const NMI: u8 = 2;
/// How often what is a race is tried.
const ROUNDS: i32 = 40;

/// Instructions of a job.
type Code = fn(&mut CodeAssembler) -> Assembled;

/// Each kind once, and who gets it.
pub(super) fn kinds(mode: Mode) -> Result<Blob> {
    const VECTORS: [(u8, &str, To, [u64; 4]); 8] = [
        (0x41, "by APIC ID", To::One(2), [0, 0, 1, 0]),
        (0x42, "by APIC ID, to itself", To::One(0), [1, 0, 0, 0]),
        (0x43, "by logical ID", To::Set(0b1010), [0, 1, 0, 1]),
        (0x44, "broadcast", To::Broadcast, [1, 1, 1, 1]),
        (0x45, "to itself", To::Myself, [1, 0, 0, 0]),
        (0x46, "to all", To::All, [1, 1, 1, 1]),
        (0x47, "to all others", To::Others, [0, 1, 1, 1]),
        (0x48, "to nobody", To::One(77), [0; 4]),
    ];
    let mut smp = Smp::started(mode, 4)?;
    smp.p.a.sti()?;
    for (vector, _, to, _) in VECTORS {
        smp.interrupt(vector, to)?;
    }
    for (vector, name, _, counts) in VECTORS {
        for (cpu, times) in (0..).zip(counts) {
            smp.expect(
                &format!("{name}: processor {cpu}"),
                count(cpu, vector),
                times,
            )?;
        }
    }
    lowest_priority(&mut smp)?;
    for cpu in smp.others() {
        smp.send(DELIVERY_NMI, 0, To::One(cpu))?;
        smp.expect(&format!("NMI: processor {cpu}"), count(cpu, NMI), 1)?;
    }
    smp.send(DELIVERY_NMI, 0, To::Others)?;
    for cpu in smp.others() {
        smp.expect(
            &format!("NMI to all others: processor {cpu}"),
            count(cpu, NMI),
            2,
        )?;
    }
    from_others(&mut smp)?;
    // One that came twice has time to come.
    smp.settle()?;
    for (vector, name, _, counts) in VECTORS {
        for (cpu, times) in (0..).zip(counts) {
            smp.check(
                &format!("{name}, once: processor {cpu}"),
                count(cpu, vector),
                times,
            )?;
        }
    }
    smp.finish()
}

/// One of the set gets it.
fn lowest_priority(smp: &mut Smp) -> Assembled {
    const VECTOR: u8 = 0x50;
    smp.send(DELIVERY_LOWEST_PRIORITY, VECTOR, To::Set(0b1110))?;
    smp.settle()?;
    smp.p.a.xor(eax, eax)?;
    for cpu in 0..4 {
        smp.p.a.add(rax, qword_ptr(count(cpu, VECTOR)))?;
    }
    smp.p.check("lowest priority: one of the set", 1)?;
    smp.check(
        "lowest priority: none that is not in it",
        count(0, VECTOR),
        0,
    )
}

/// The others send too: to the first, to each other, to themselves.
fn from_others(smp: &mut Smp) -> Assembled {
    for (vector, cpu, to, target) in [
        (0x58, 3, To::One(0), 0),
        (0x59, 1, To::One(2), 2),
        (0x5A, 2, To::Myself, 2),
        (0x5B, 1, To::Set(0b1000), 3),
    ] {
        let job = smp
            .job(|a, mode| apic::send(a, mode, apic::command(mode, DELIVERY_FIXED, vector, to)))?;
        smp.give(cpu, job)?;
        smp.expect(
            &format!("{to:?} from processor {cpu}"),
            count(target, vector),
            1,
        )?;
        smp.wait_for_job(cpu)?;
    }
    Ok(())
}

/// To one that runs, one that leaves L2 all the time, one that halts; each must come before the next is sent.
pub(super) fn busy(mode: Mode) -> Result<Blob> {
    const VECTOR: u8 = 0x60;
    let mut smp = Smp::started(mode, 2)?;
    let jobs: [(&str, Code); 4] = [
        ("that runs", |a| Ok(a.pause()?)),
        ("that leaves by CPUID", |a| {
            a.xor(eax, eax)?;
            a.xor(ecx, ecx)?;
            // It changes RBX, which nothing here needs.
            Ok(a.cpuid()?)
        }),
        ("that leaves by OUT and the TPM", |a| {
            a.out(0x80, al)?;
            a.mov(edx, (TPM + 0xF00) as u32)?;
            a.mov(eax, dword_ptr(rdx))?;
            Ok(())
        }),
        // STI holds interrupts back up to the end of HLT.
        ("that halts", |a| {
            a.sti()?;
            Ok(a.hlt()?)
        }),
    ];
    for ((name, body), vector) in jobs.into_iter().zip(VECTOR..) {
        let job = smp.job(|a, _| {
            let (mut again, mut end) = (a.create_label(), a.create_label());
            a.set_label(&mut again)?;
            // Between the look and the halt no interrupt comes.
            a.cli()?;
            a.cmp(qword_ptr(r15 + i32::from(vector) * 8), ROUNDS)?;
            a.jae(end)?;
            a.inc(qword_ptr(r15 + RESULT as i32))?;
            if name != "that halts" {
                a.sti()?;
            }
            body(a)?;
            a.jmp(again)?;
            a.set_label(&mut end)?;
            a.sti()?;
            Ok(())
        })?;
        smp.give(1, job)?;
        smp.rounds(ROUNDS, |smp| {
            smp.interrupt(vector, To::One(1))?;
            smp.wait_for_round(count(1, vector))
        })?;
        smp.expect(&format!("to one {name}"), count(1, vector), ROUNDS as u64)?;
        smp.wait_for_job(1)?;
        smp.check(
            &format!("one {name} has done its job"),
            memory::of(1, memory::JOB),
            0,
        )?;
    }
    smp.finish()
}

/// Two send each other an interrupt for each that comes, halted between.
pub(super) fn ping_pong(mode: Mode) -> Result<Blob> {
    const VECTOR: u8 = 0x70;
    let mut smp = Smp::started(mode, 3)?;
    let offset = i32::from(VECTOR) * 8;
    let player = |other: u64, begins: bool| {
        move |a: &mut CodeAssembler, mode: Mode| -> Assembled {
            let (mut round, mut wait, mut come) =
                (a.create_label(), a.create_label(), a.create_label());
            let command = apic::command(mode, DELIVERY_FIXED, VECTOR, To::One(other));
            a.xor(r13, r13)?;
            a.set_label(&mut round)?;
            if begins {
                apic::send(a, mode, command)?;
            }
            a.inc(r13)?;
            a.set_label(&mut wait)?;
            a.cli()?;
            a.cmp(qword_ptr(r15 + offset), r13)?;
            a.jae(come)?;
            a.sti()?;
            a.hlt()?;
            a.jmp(wait)?;
            a.set_label(&mut come)?;
            a.sti()?;
            if !begins {
                apic::send(a, mode, command)?;
            }
            a.cmp(r13, ROUNDS)?;
            a.jb(round)?;
            Ok(())
        }
    };
    let first = smp.job(player(2, true))?;
    let second = smp.job(player(1, false))?;
    smp.give(2, second)?;
    smp.give(1, first)?;
    for cpu in smp.others() {
        smp.wait_for_job(cpu)?;
        smp.check(
            &format!("processor {cpu}: each came"),
            count(cpu, VECTOR),
            ROUNDS as u64,
        )?;
    }
    smp.finish()
}

/// An NMI and an interrupt at once, many times: each comes, whatever the other is doing.
pub(super) fn nmi_during_injection(mode: Mode) -> Result<Blob> {
    const VECTOR: u8 = 0x78;
    let mut smp = Smp::started(mode, 2)?;
    for (round, halts) in [(0, false), (1, true)] {
        let vector = VECTOR + round;
        let job = smp.job(|a, _| {
            let (mut again, mut end) = (a.create_label(), a.create_label());
            a.set_label(&mut again)?;
            a.cmp(qword_ptr(r15 + i32::from(vector) * 8), ROUNDS)?;
            a.jae(end)?;
            if halts {
                // The NMI ends it where the interrupt came too early.
                a.hlt()?;
            } else {
                a.xor(eax, eax)?;
                a.cpuid()?;
            }
            a.jmp(again)?;
            a.set_label(&mut end)?;
            a.nop()?;
            Ok(())
        })?;
        smp.give(1, job)?;
        // R14: NMIs that must have come.
        smp.p.a.mov(r14, i64::from(round) * i64::from(ROUNDS))?;
        smp.rounds(ROUNDS, |smp| {
            smp.p.a.inc(r14)?;
            smp.interrupt(vector, To::One(1))?;
            smp.send(DELIVERY_NMI, 0, To::One(1))?;
            smp.wait_for_round(count(1, vector))?;
            smp.wait_for_register(count(1, NMI), r14)
        })?;
        let what = if halts { "halted" } else { "running" };
        smp.check(
            &format!("{what}: interrupts"),
            count(1, vector),
            ROUNDS as u64,
        )?;
        smp.check(
            &format!("{what}: NMIs"),
            count(1, NMI),
            (u64::from(round) + 1) * ROUNDS as u64,
        )?;
        // A halt that nothing ends any more.
        smp.interrupt(vector, To::One(1))?;
        smp.wait_for_job(1)?;
    }
    smp.finish()
}

/// Commands that name nothing: refused or without effect, and the machine goes on.
pub(super) fn odd_commands(mode: Mode) -> Result<Blob> {
    const VECTOR: u8 = 0x60;
    let mut smp = Smp::started(mode, 2)?;
    if mode == Mode::X2Apic {
        for (name, low, high) in [
            ("reserved bit 13", 1 << 13 | 0x4060, 1),
            ("reserved bits 16 and 17", 3 << 16 | 0x4060, 1),
            ("reserved bit 20", 1 << 20 | 0x4060, 1),
            ("reserved bit 31", 1 << 31 | 0x4060, 1),
        ] {
            smp.p.check_fault(name, GENERAL_PROTECTION, |a| {
                apic::send(a, mode, (low, high))
            })?;
        }
        smp.p
            .check_fault("a read of SELF IPI", GENERAL_PROTECTION, |a| {
                apic::read(a, mode, Register::SELF_IPI)
            })?;
        smp.p.a.sti()?;
        apic::write(
            &mut smp.p.a,
            mode,
            Register::SELF_IPI,
            u32::from(VECTOR) + 1,
        )?;
        smp.expect("SELF IPI", count(0, VECTOR + 1), 1)?;
        smp.p.a.cli()?;
    }
    for (name, delivery, vector) in [
        ("fixed, vector 0", DELIVERY_FIXED, 0),
        ("fixed, vector 15", DELIVERY_FIXED, 15),
        ("lowest priority, vector 3", DELIVERY_LOWEST_PRIORITY, 3),
        ("reserved delivery mode 3", 3, VECTOR),
        ("reserved delivery mode 7", 7, VECTOR),
        ("SMI", 2, 0),
    ] {
        let command = apic::command(mode, delivery, vector, To::One(1));
        smp.p
            .check_fault(name, NO_FAULT, |a| apic::send(a, mode, command))?;
    }
    // INIT level de-assert, which processors since the Pentium 4 ignore.
    let (low, high) = apic::command(mode, INIT, 0, To::One(1));
    let low = low & !(1 << 14) | 1 << 15;
    apic::send(&mut smp.p.a, mode, (low, high))?;
    smp.settle()?;
    smp.check("nothing came", count(1, VECTOR), 0)?;
    for vector in [0, 3, 15] {
        smp.check(&format!("no vector {vector}"), count(1, vector), 0)?;
    }
    smp.interrupt(VECTOR + 2, To::One(1))?;
    smp.expect("the processor goes on", count(1, VECTOR + 2), 1)?;
    smp.check("it was started once", memory::of(1, memory::STARTS), 1)?;
    smp.finish()
}

/// While TPR is high an IPI waits.
pub(super) fn priorities(mode: Mode) -> Result<Blob> {
    const LOW: u8 = 0x60;
    const HIGH: u8 = 0x90;
    let mut smp = Smp::started(mode, 2)?;
    let job = smp.job(|a, _| {
        a.mov(eax, 8)?;
        a.mov(cr8, rax)?;
        a.mov(qword_ptr(SHARED), 1)?;
        spin_until(a, u64::from(HIGH) * 8, 1)?;
        a.mov(rax, qword_ptr(r15 + i32::from(LOW) * 8))?;
        a.mov(qword_ptr(r15 + RESULT as i32), rax)?;
        a.xor(eax, eax)?;
        a.mov(cr8, rax)?;
        Ok(())
    })?;
    smp.give(1, job)?;
    smp.wait_for(SHARED, 1)?;
    smp.interrupt(LOW, To::One(1))?;
    smp.interrupt(HIGH, To::One(1))?;
    smp.expect("the higher comes", count(1, HIGH), 1)?;
    smp.wait_for_job(1)?;
    smp.check("the lower has waited", memory::of(1, RESULT), 0)?;
    smp.expect("the lower comes then", count(1, LOW), 1)?;
    smp.finish()
}
