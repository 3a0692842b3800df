//! What L1 answers to MSRs, CPUID and string I/O, and its timer.

use super::guest::Guest;
use super::l1_image::L1Image;
use super::program::{Blob, GENERAL_PROTECTION, NO_FAULT, Program};
use super::runtime::place;
use anyhow::Result;
use iced_x86::code_asm::{
    CodeAssembler, cr4, cr8, dx, eax, ecx, edx, qword_ptr, r8d, r9d, r10d, r11d, r12, r12d, r13,
    r13d, r14, r15, rax, rcx, rdx, rsi, rsp,
};
use x86_defs::apic::Register;
use x86_defs::cr4 as control;
use x86_defs::msr::{IA32_APIC_BASE, IA32_EFER, IA32_TSC_DEADLINE};

const X2APIC_ID: u32 = Register::ID.msr();
const X2APIC_VERSION: u32 = Register::VERSION.msr();
const X2APIC_SPURIOUS: u32 = Register::SVR.msr();
const X2APIC_LVT_TIMER: u32 = Register::LVT_TIMER.msr();
const SELF_IPI: u32 = Register::SELF_IPI.msr();
/// Bits of CR4 that can be changed in 64-bit mode on the simulator's processor, which has no PCID.
const CR4_TAKEN: u64 = control::VME
    | control::PVI
    | control::TSD
    | control::DE
    | control::PSE
    | control::MCE
    | control::PGE
    | control::PCE
    | control::OSFXSR
    | control::OSXMMEXCPT
    | control::UMIP
    | control::FSGSBASE
    | control::OSXSAVE
    | control::SMEP
    | control::SMAP;
/// TSC-deadline mode.
const DEADLINE_MODE: u32 = 2 << 17;
pub(super) const TIMER_VECTOR: u32 = 0x40;
/// How often the timer's interrupt came.
pub(super) const TIMER_COUNT: u64 = place::COUNTS + TIMER_VECTOR as u64 * 8;

pub(super) fn guests() -> Vec<Guest> {
    let mut guests = vec![Guest {
        prints: &["@outs four by four, and in one go", "@outs backwards"],
        ..Guest::new("MSRs, CPUID, timer, string output", write)
    }];
    for (name, options) in [
        ("interrupt priorities", &[][..]),
        (
            "interrupt priorities, with interrupts of L1's",
            &["fault=l1-interrupt:3"],
        ),
        (
            "interrupt priorities, with an interrupt of L1's at each entry",
            &["fault=l1-interrupt:1"],
        ),
    ] {
        guests.push(Guest {
            options,
            ..Guest::new(name, priorities)
        });
    }
    guests.push(Guest::new("every bit of CR4", every_bit_of_cr4));
    guests
}

/// Two vectors wait; CR8 holds the lower one back while the higher one is taken and ended, and lets it come when it
/// is lowered. None is lost, none comes twice, a hundred times over.
fn priorities(_: &L1Image) -> Result<Blob> {
    const ROUNDS: u64 = 100;
    const LOW: u64 = 0x51;
    const HIGH: u64 = 0x61;
    let count = |vector: u64| qword_ptr(place::COUNTS + vector * 8);
    let mut p = Program::new()?;
    wrmsr(&mut p.a, X2APIC_SPURIOUS, 0x1FF)?;
    p.a.mov(r12, ROUNDS)?;
    p.a.xor(r13d, r13d)?;
    let mut again = p.a.create_label();
    p.a.set_label(&mut again)?;
    p.a.xor(eax, eax)?;
    p.a.mov(cr8, rax)?;
    for vector in [LOW, HIGH] {
        wrmsr(&mut p.a, SELF_IPI, vector)?;
    }
    p.a.mov(eax, (LOW >> 4) as u32)?;
    p.a.mov(cr8, rax)?;
    p.a.sti()?;
    // An exit, and another entry, while the lower one is held back.
    for _ in 0..2 {
        p.a.mov(ecx, IA32_APIC_BASE)?;
        p.a.rdmsr()?;
    }
    p.a.mov(rax, count(LOW))?;
    p.a.add(r13, rax)?;
    p.a.mov(qword_ptr(place::RESULTS), r13)?;
    p.a.xor(eax, eax)?;
    p.a.mov(cr8, rax)?;
    p.a.nop()?;
    p.a.cli()?;
    // What the lower one's count was, summed over the rounds: 0 + 1 + … + 99.
    p.a.dec(r12)?;
    p.a.jnz(again)?;
    p.a.mov(rax, qword_ptr(place::RESULTS))?;
    p.check("the lower one waits for CR8", ROUNDS * (ROUNDS - 1) / 2)?;
    for (name, vector) in [("the lower one", LOW), ("the higher one", HIGH)] {
        p.a.mov(rax, count(vector))?;
        p.check(&format!("{name} came once a round"), ROUNDS)?;
    }
    p.power_off()?;
    p.assemble()
}

/// Toggles each bit of CR4: it is taken and reads back, or it is #GP and nothing changes.
fn every_bit_of_cr4(_: &L1Image) -> Result<Blob> {
    let mut p = Program::new()?;
    p.a.xor(r12d, r12d)?;
    p.a.xor(r13d, r13d)?;
    for bit in 0..64u32 {
        let (mut recover, mut wrong, mut end) =
            (p.a.create_label(), p.a.create_label(), p.a.create_label());
        p.a.lea(rax, qword_ptr(recover))?;
        p.a.mov(qword_ptr(place::RECOVER), rax)?;
        p.a.mov(qword_ptr(place::RECOVER_STACK), rsp)?;
        p.a.mov(qword_ptr(place::FAULT), 0)?;
        p.a.mov(r14, cr4)?;
        p.a.mov(r15, r14)?;
        p.a.btc(r15, bit)?;
        p.a.mov(cr4, r15)?;
        p.a.set_label(&mut recover)?;
        p.a.mov(qword_ptr(place::RECOVER), 0)?;
        p.a.mov(rdx, cr4)?;
        p.a.mov(rax, qword_ptr(place::FAULT))?;
        p.a.test(rax, rax)?;
        let mut refused = p.a.create_label();
        p.a.jnz(refused)?;
        p.a.bts(r12, bit)?;
        p.a.cmp(rdx, r15)?;
        p.a.jne(wrong)?;
        p.a.mov(cr4, r14)?;
        p.a.jmp(end)?;
        p.a.set_label(&mut refused)?;
        p.a.cmp(rdx, r14)?;
        p.a.jne(wrong)?;
        p.a.mov(rcx, GENERAL_PROTECTION)?;
        p.a.cmp(rax, rcx)?;
        p.a.je(end)?;
        p.a.set_label(&mut wrong)?;
        p.a.bts(r13, bit)?;
        p.a.set_label(&mut end)?;
        p.a.nop()?;
    }
    p.a.mov(rax, r13)?;
    p.check("each is kept or refused", 0)?;
    p.a.mov(rax, r12)?;
    p.check("CR4 takes what CPUID offers", CR4_TAKEN)?;
    p.power_off()?;
    p.assemble()
}

fn write(_: &L1Image) -> Result<Blob> {
    let mut p = Program::new()?;
    msrs(&mut p)?;
    cpuid(&mut p)?;
    timer(&mut p)?;
    string_output(&mut p)?;
    p.power_off()?;
    p.assemble()
}

fn rdmsr(a: &mut CodeAssembler, msr: u32) -> Result<()> {
    a.mov(ecx, msr)?;
    a.rdmsr()?;
    a.shl(rdx, 32)?;
    a.or(rax, rdx)?;
    Ok(())
}

fn wrmsr(a: &mut CodeAssembler, msr: u32, value: u64) -> Result<()> {
    a.mov(ecx, msr)?;
    a.mov(eax, value as u32)?;
    a.mov(edx, (value >> 32) as u32)?;
    a.wrmsr()?;
    Ok(())
}

fn msrs(p: &mut Program) -> Result<()> {
    for (name, msr, value) in [
        // x2APIC mode, bootstrap processor.
        ("IA32_APIC_BASE", IA32_APIC_BASE, 0xFEE0_0D00),
        ("x2APIC: ID", X2APIC_ID, 0),
        // LMA, LME, and NXE, which TDX fixes.
        ("IA32_EFER", IA32_EFER, 0xD00),
        ("IA32_FEATURE_CONTROL: locked, no VMX", 0x3A, 1),
        ("IA32_MCG_CAP: no banks", 0x179, 0),
        ("IA32_TSC_DEADLINE", IA32_TSC_DEADLINE, 0),
    ] {
        rdmsr(&mut p.a, msr)?;
        p.check(name, value)?;
    }
    rdmsr(&mut p.a, X2APIC_VERSION)?;
    p.a.and(eax, 0xF0)?;
    p.check("x2APIC: version", 0x10)?;
    for msr in [0x1234, 0x480, 0xC001_1029, 0x4000_0000, 0x80C, 0x831] {
        p.check_fault(&format!("RDMSR {msr:#x}"), GENERAL_PROTECTION, |a| {
            rdmsr(a, msr)
        })?;
        p.check_fault(&format!("WRMSR {msr:#x}"), GENERAL_PROTECTION, |a| {
            wrmsr(a, msr, 0)
        })?;
    }
    p.check_fault("WRMSR of the x2APIC ID", GENERAL_PROTECTION, |a| {
        wrmsr(a, X2APIC_ID, 0)
    })?;
    p.check_fault("x2APIC mode cannot go to xAPIC", GENERAL_PROTECTION, |a| {
        wrmsr(a, IA32_APIC_BASE, 0xFEE0_0900)
    })?;
    p.check_fault("EFER: reserved bit", GENERAL_PROTECTION, |a| {
        wrmsr(a, IA32_EFER, 0xD02)
    })?;
    p.check_fault("EFER: LME while paging is on", GENERAL_PROTECTION, |a| {
        wrmsr(a, IA32_EFER, 0xC00)
    })?;
    p.check_fault("EFER: SCE", NO_FAULT, |a| wrmsr(a, IA32_EFER, 0xD01))?;
    rdmsr(&mut p.a, IA32_EFER)?;
    p.check("EFER: SCE is kept", 0xD01)
}

fn cpuid(p: &mut Program) -> Result<()> {
    const CHECKS: [(&str, u32, [Option<u32>; 4]); 5] = [
        (
            "0x40000000",
            0x4000_0000,
            [
                Some(0x4000_0001),
                Some(u32::from_le_bytes(*b"KVMK")),
                Some(u32::from_le_bytes(*b"VMKV")),
                Some(u32::from_le_bytes(*b"M\0\0\0")),
            ],
        ),
        ("0x40000001", 0x4000_0001, [Some(0); 4]),
        ("0x21", 0x21, [Some(0); 4]),
        (
            "0x15: a TSC of 1 GHz",
            0x15,
            [Some(1), Some(40), Some(25_000_000), Some(0)],
        ),
        ("0x12: no SGX", 0x12, [Some(0); 4]),
    ];
    for (name, leaf, registers) in CHECKS {
        read_leaf(&mut p.a, leaf)?;
        p.a.xor(eax, eax)?;
        for (register, value) in [r8d, r9d, r10d, r11d].into_iter().zip(registers) {
            if let Some(value) = value {
                p.a.xor(register, value as i32)?;
                p.a.or(eax, register)?;
            }
        }
        p.check(&format!("CPUID {name}"), 0)?;
    }
    // VMX and SMX off; x2APIC, TSC deadline and hypervisor on.
    read_leaf(&mut p.a, 1)?;
    p.a.mov(eax, r10d)?;
    p.a.and(
        eax,
        (1_u32 << 5 | 1 << 6 | 1 << 21 | 1 << 24 | 1 << 31) as i32,
    )?;
    p.check("CPUID 1: features", 1 << 21 | 1 << 24 | 1 << 31)
}

/// R8D to R11D: EAX to EDX. RBX stays.
fn read_leaf(a: &mut CodeAssembler, leaf: u32) -> Result<()> {
    use iced_x86::code_asm::{ebx, rbx};
    a.push(rbx)?;
    a.mov(eax, leaf)?;
    a.xor(ecx, ecx)?;
    a.cpuid()?;
    a.mov(r8d, eax)?;
    a.mov(r9d, ebx)?;
    a.mov(r10d, ecx)?;
    a.mov(r11d, edx)?;
    a.pop(rbx)?;
    Ok(())
}

/// Has the APIC timer interrupt in `ticks`.
pub(super) fn arm_timer(a: &mut CodeAssembler, ticks: u32) -> Result<()> {
    enable_timer(a)?;
    a.mov(qword_ptr(TIMER_COUNT), 0)?;
    set_deadline(a, ticks)
}

/// Lets the APIC timer interrupt at deadlines.
pub(super) fn enable_timer(a: &mut CodeAssembler) -> Result<()> {
    wrmsr(a, X2APIC_SPURIOUS, 0x1FF)?;
    wrmsr(a, X2APIC_LVT_TIMER, u64::from(DEADLINE_MODE | TIMER_VECTOR))
}

/// Sets the APIC timer's deadline `ticks` ahead.
pub(super) fn set_deadline(a: &mut CodeAssembler, ticks: u32) -> Result<()> {
    a.rdtsc()?;
    a.shl(rdx, 32)?;
    a.or(rax, rdx)?;
    a.add(rax, ticks as i32)?;
    a.mov(rdx, rax)?;
    a.shr(rdx, 32)?;
    a.mov(ecx, IA32_TSC_DEADLINE)?;
    a.wrmsr()?;
    Ok(())
}

/// Until its interrupt came, running or halted.
pub(super) fn wait_for_timer(a: &mut CodeAssembler, running: bool) -> Result<()> {
    let mut again = a.create_label();
    a.sti()?;
    a.set_label(&mut again)?;
    if !running {
        a.hlt()?;
    }
    a.cmp(qword_ptr(TIMER_COUNT), 0)?;
    a.je(again)?;
    a.cli()?;
    Ok(())
}

fn timer(p: &mut Program) -> Result<()> {
    for (name, running) in [("running", true), ("halted", false)] {
        arm_timer(&mut p.a, 300_000)?;
        wait_for_timer(&mut p.a, running)?;
        p.a.mov(rax, qword_ptr(TIMER_COUNT))?;
        p.check(&format!("TSC deadline comes once, {name}"), 1)?;
        rdmsr(&mut p.a, IA32_TSC_DEADLINE)?;
        p.check(&format!("TSC deadline is cleared, {name}"), 0)?;
    }
    // A deadline in the past interrupts at once.
    wrmsr(&mut p.a, IA32_TSC_DEADLINE, 1)?;
    wait_for_timer(&mut p.a, true)?;
    p.a.mov(rax, qword_ptr(TIMER_COUNT))?;
    p.check("TSC deadline in the past", 2)?;
    // Interrupts stay pending while they are off.
    arm_timer(&mut p.a, 1000)?;
    p.a.mov(ecx, 20_000)?;
    let mut again = p.a.create_label();
    p.a.set_label(&mut again)?;
    p.a.dec(rcx)?;
    p.a.jnz(again)?;
    p.a.mov(rax, qword_ptr(TIMER_COUNT))?;
    p.check("no interrupt while they are off", 0)?;
    wait_for_timer(&mut p.a, true)?;
    p.a.mov(rax, qword_ptr(TIMER_COUNT))?;
    p.check("and one when they are on", 1)
}

fn string_output(p: &mut Program) -> Result<()> {
    let text = b"@outs four by four, and in one go\n";
    let forwards = p.data(text);
    let mut reversed = b"@outs backwards\n".to_vec();
    reversed.reverse();
    let backwards = p.data(&reversed);
    p.a.lea(rsi, qword_ptr(forwards))?;
    p.a.mov(ecx, text.len() as u32)?;
    p.a.mov(dx, 0x3F8)?;
    p.a.rep().outsb()?;
    p.a.mov(rax, rcx)?;
    p.check("rep outsb counts down", 0)?;
    p.a.std()?;
    p.a.lea(rsi, qword_ptr(backwards))?;
    p.a.add(rsi, reversed.len() as i32 - 1)?;
    p.a.mov(ecx, reversed.len() as u32)?;
    p.a.mov(dx, 0x3F8)?;
    p.a.rep().outsb()?;
    p.a.cld()?;
    p.a.lea(rax, qword_ptr(backwards))?;
    p.a.sub(rax, rsi)?;
    p.check("rep outsb ends before the first byte", 1)?;
    p.a.mov(dx, 0x71)?;
    p.a.in_(eax, dx)?;
    p.a.shr(eax, 8)?;
    p.check("ports behind the clock are empty", 0xFF_FFFF)
}
