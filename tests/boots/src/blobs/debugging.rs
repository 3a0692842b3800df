//! Single steps and hardware breakpoints over instructions that L1 executes for L2: a debugger in the guest
//! sees each instruction once.

use super::guest::Guest;
use super::l1_image::L1Image;
use super::program::{Blob, Program, TPM, selector, tpm};
use super::runtime::place;
use anyhow::{Context, Result};
use iced_x86::code_asm::{
    CodeAssembler, CodeLabel, al, byte_ptr, cr0, cr4, dr0, dr6, dr7, dword_ptr, dx, eax, ecx, edi,
    edx, esi, qword_ptr, rax, rbx, rcx, rsp, ss,
};
use x86_defs::rflags;

/// How many debug exceptions came.
const COUNT: u64 = place::RESULTS;
/// What each came with: RIP and DR6, a quadword each.
const TRAPS: u64 = place::RESULTS + 0x10;
/// More than any check takes: then single-stepping ends.
const TRAPS_MAX: i32 = 40;

const DEBUG_EXCEPTION: u64 = 1;
/// DR6 without a condition.
const DR6_EMPTY: u64 = 0xFFFF_0FF0;
/// DR6, BS: a single step.
const BS: u64 = 1 << 14;
/// DR6, B0: the breakpoint of DR0.
const B0: u64 = 1;
/// DR7: the breakpoint of DR0 is on, for the execution of an instruction.
const BREAK_AT_DR0: u64 = 0x402;

pub(super) fn guests() -> Vec<Guest> {
    vec![
        Guest::new("single steps over what L1 executes", single_steps),
        Guest::new("breakpoints at what L1 executes", breakpoints),
        Guest::new("breakpoints at data and ports", data_breakpoints),
    ]
}

/// What a breakpoint waits for: R/W0 and LEN0 of DR7, with the breakpoint of DR0 on.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Access {
    /// A write of a byte.
    Write = BREAK_AT_DR0 as u32 | 0b01 << 16,
    /// Input or output of a byte (CR4.DE).
    Port = BREAK_AT_DR0 as u32 | 0b10 << 16,
    /// A read or write of a byte.
    ReadWrite = BREAK_AT_DR0 as u32 | 0b11 << 16,
}

/// Breakpoints that the instruction of a [`Case`] meets: its name, where, for what.
static MET: [(&str, u64, Access); 8] = [
    ("IN", LINE_STATUS as u64, Access::Port),
    ("OUT", NO_PORT as u64, Access::Port),
    (
        "MOV from the TPM window",
        TPM + tpm::STS as u64,
        Access::ReadWrite,
    ),
    (
        "MOV to the TPM window",
        TPM + tpm::INT_ENABLE as u64,
        Access::Write,
    ),
    ("REP OUTSB", place::BUFFER, Access::ReadWrite),
    ("REP OUTSB", NO_PORT as u64, Access::Port),
    ("REP INSB", place::BUFFER + 1, Access::Write),
    (
        "REP MOVSB from the TPM window",
        place::BUFFER,
        Access::Write,
    ),
];

/// An instruction that L1 executes: its name, what comes before it, itself, and how many debug exceptions a
/// single step over it takes.
struct Case {
    name: &'static str,
    before: fn(&mut CodeAssembler) -> Result<()>,
    instruction: fn(&mut CodeAssembler) -> Result<()>,
    steps: usize,
}

impl Case {
    const fn new(
        name: &'static str,
        before: fn(&mut CodeAssembler) -> Result<()>,
        instruction: fn(&mut CodeAssembler) -> Result<()>,
    ) -> Self {
        Self {
            name,
            before,
            instruction,
            steps: 1,
        }
    }
}

/// Port 0x80 takes everything.
const NO_PORT: u32 = 0x80;
/// COM1's line status.
const LINE_STATUS: u32 = 0x3FD;

/// A single step ends it; nothing else would, with interrupts off.
static HALT: Case = Case::new("HLT", |_| Ok(()), |a| Ok(a.hlt()?));

static CASES: [Case; 17] = [
    Case::new("NOP", |_| Ok(()), |a| Ok(a.nop()?)),
    Case::new("CPUID", |a| Ok(a.xor(eax, eax)?), |a| Ok(a.cpuid()?)),
    Case::new(
        "IN",
        |a| Ok(a.mov(dx, LINE_STATUS)?),
        |a| Ok(a.in_(al, dx)?),
    ),
    Case::new("OUT", |a| Ok(a.mov(dx, NO_PORT)?), |a| Ok(a.out(dx, al)?)),
    Case::new("RDMSR", |a| Ok(a.mov(ecx, 0x1B)?), |a| Ok(a.rdmsr()?)),
    Case::new(
        "WRMSR",
        |a| {
            a.mov(ecx, x86_defs::msr::IA32_TSC_DEADLINE)?;
            a.xor(eax, eax)?;
            Ok(a.xor(edx, edx)?)
        },
        |a| Ok(a.wrmsr()?),
    ),
    Case::new(
        "MOV to SS and CPUID",
        |a| Ok(a.mov(eax, selector::DATA as u32)?),
        |a| {
            a.mov(ss, eax)?;
            Ok(a.cpuid()?)
        },
    ),
    Case::new("WBINVD", |_| Ok(()), |a| Ok(a.wbinvd()?)),
    Case::new(
        "MOV to CR0",
        |a| Ok(a.mov(rax, cr0)?),
        |a| Ok(a.mov(cr0, rax)?),
    ),
    Case::new(
        "XSETBV",
        |a| {
            a.xor(ecx, ecx)?;
            a.xor(edx, edx)?;
            Ok(a.mov(eax, 7)?)
        },
        |a| Ok(a.xsetbv()?),
    ),
    Case::new(
        "TDCALL",
        |a| Ok(a.mov(eax, 1)?),
        |a| Ok(a.db(&[0x66, 0x0F, 0x01, 0xCC])?),
    ),
    Case::new(
        "MOV from the TPM window",
        |_| Ok(()),
        |a| Ok(a.mov(eax, dword_ptr(rbx + tpm::STS))?),
    ),
    Case::new(
        "MOV to the TPM window",
        |_| Ok(()),
        |a| Ok(a.mov(dword_ptr(rbx + tpm::INT_ENABLE), 0)?),
    ),
    Case {
        steps: 3,
        ..Case::new(
            "REP OUTSB",
            |a| {
                a.mov(dx, NO_PORT)?;
                a.mov(esi, place::BUFFER as u32)?;
                Ok(a.mov(ecx, 3)?)
            },
            |a| Ok(a.rep().outsb()?),
        )
    },
    Case {
        steps: 3,
        ..Case::new(
            "REP INSB",
            |a| {
                a.mov(dx, LINE_STATUS)?;
                a.mov(edi, place::BUFFER as u32)?;
                Ok(a.mov(ecx, 3)?)
            },
            |a| Ok(a.rep().insb()?),
        )
    },
    Case {
        steps: 3,
        ..Case::new(
            "REP MOVSB from the TPM window",
            |a| {
                a.lea(iced_x86::code_asm::rsi, rbx + 0xF00)?;
                a.mov(edi, place::BUFFER as u32)?;
                Ok(a.mov(ecx, 3)?)
            },
            |a| Ok(a.rep().movsb()?),
        )
    },
    Case {
        steps: 2,
        ..Case::new(
            "REP STOSD to the TPM window",
            |a| {
                a.lea(iced_x86::code_asm::rdi, rbx + 0xFF0)?;
                a.xor(eax, eax)?;
                Ok(a.mov(ecx, 2)?)
            },
            |a| Ok(a.rep().stosd()?),
        )
    },
];

/// A program with the handler below in place of the usual one of #DB.
fn program() -> Result<Program> {
    let mut p = Program::new()?;
    super::state::enable_avx(&mut p)?;
    let gate = (u128::from(place::MORE_CODE) & 0xFFFF)
        | u128::from(selector::CODE_64) << 16
        | 0x8E00 << 32
        | (u128::from(place::MORE_CODE) >> 16) << 48;
    p.place(
        place::IDT + DEBUG_EXCEPTION * 16,
        gate.to_le_bytes().to_vec(),
    );
    p.place(place::MORE_CODE, handler()?);
    Ok(p)
}

/// Keeps RIP and DR6, and goes on behind a breakpoint (RFLAGS.RF).
fn handler() -> Result<Vec<u8>> {
    // Above the two registers that the handler pushes.
    const RIP: i32 = 16;
    const RFLAGS: i32 = 32;
    let mut a = CodeAssembler::new(64)?;
    let mut back = a.create_label();
    a.push(rax)?;
    a.push(rcx)?;
    a.mov(rcx, qword_ptr(COUNT))?;
    a.inc(qword_ptr(COUNT))?;
    a.shl(rcx, 4)?;
    a.mov(rax, qword_ptr(rsp + RIP))?;
    a.mov(qword_ptr(rcx + TRAPS as i32), rax)?;
    a.mov(rax, dr6)?;
    a.mov(qword_ptr(rcx + TRAPS as i32 + 8), rax)?;
    a.mov(rax, DR6_EMPTY)?;
    a.mov(dr6, rax)?;
    a.or(dword_ptr(rsp + RFLAGS), rflags::RF as i32)?;
    a.cmp(dword_ptr(COUNT), TRAPS_MAX)?;
    a.jb(back)?;
    a.and(dword_ptr(rsp + RFLAGS), !(rflags::TF as i32))?;
    a.mov(eax, 0x400)?;
    a.mov(dr7, rax)?;
    a.set_label(&mut back)?;
    a.pop(rcx)?;
    a.pop(rax)?;
    a.iretq()?;
    Ok(a.assemble(place::MORE_CODE)?)
}

/// That debug exception `number` came at this place, with these conditions.
fn check_trap(
    p: &mut Program,
    name: &str,
    number: usize,
    at: CodeLabel,
    conditions: u64,
) -> Result<()> {
    let trap = TRAPS + number as u64 * 16;
    p.a.lea(rcx, qword_ptr(at))?;
    p.a.mov(rax, qword_ptr(trap))?;
    p.a.sub(rax, rcx)?;
    p.check(&format!("{name}: place of exception {number}"), 0)?;
    p.a.mov(rax, qword_ptr(trap + 8))?;
    p.check(
        &format!("{name}: conditions of exception {number}"),
        DR6_EMPTY | conditions,
    )
}

fn single_steps(_: &L1Image) -> Result<Blob> {
    let mut p = program()?;
    p.take_tpm()?;
    for case in CASES.iter().chain([&HALT]) {
        let (mut at, mut behind, mut cleared, mut end) = (
            p.a.create_label(),
            p.a.create_label(),
            p.a.create_label(),
            p.a.create_label(),
        );
        p.a.mov(qword_ptr(COUNT), 0)?;
        // CPUID had it.
        p.a.mov(rbx, TPM)?;
        (case.before)(&mut p.a)?;
        p.a.pushfq()?;
        p.a.or(dword_ptr(rsp), rflags::TF as i32)?;
        p.a.popfq()?;
        p.a.set_label(&mut at)?;
        (case.instruction)(&mut p.a)?;
        p.a.set_label(&mut behind)?;
        p.a.pushfq()?;
        p.a.set_label(&mut cleared)?;
        p.a.and(dword_ptr(rsp), !(rflags::TF as i32))?;
        p.a.popfq()?;
        p.a.set_label(&mut end)?;
        p.a.nop()?;
        p.a.mov(rax, qword_ptr(COUNT))?;
        // PUSHFQ, AND and POPFQ trap as well.
        p.check(
            &format!("{}: debug exceptions", case.name),
            case.steps as u64 + 3,
        )?;
        for step in 1..case.steps {
            check_trap(&mut p, case.name, step - 1, at, BS)?;
        }
        check_trap(&mut p, case.name, case.steps - 1, behind, BS)?;
        check_trap(&mut p, case.name, case.steps, cleared, BS)?;
        check_trap(&mut p, case.name, case.steps + 2, end, BS)?;
    }
    p.power_off()?;
    p.assemble()
}

fn breakpoints(_: &L1Image) -> Result<Blob> {
    let mut p = program()?;
    p.take_tpm()?;
    for case in &CASES {
        let mut at = p.a.create_label();
        p.a.mov(qword_ptr(COUNT), 0)?;
        // CPUID had it.
        p.a.mov(rbx, TPM)?;
        p.a.lea(rax, qword_ptr(at))?;
        p.a.mov(dr0, rax)?;
        p.a.mov(eax, BREAK_AT_DR0 as u32)?;
        p.a.mov(dr7, rax)?;
        (case.before)(&mut p.a)?;
        p.a.set_label(&mut at)?;
        (case.instruction)(&mut p.a)?;
        p.a.mov(eax, 0x400)?;
        p.a.mov(dr7, rax)?;
        p.a.mov(rax, qword_ptr(COUNT))?;
        p.check(&format!("{}: debug exceptions", case.name), 1)?;
        check_trap(&mut p, case.name, 0, at, B0)?;
    }
    p.power_off()?;
    p.assemble()
}

/// What an access of the processor itself meets comes as ever; L1 raises no debug exception for what it accesses
/// for L2, as KVM's emulation does not: it would have to ask the module for DR7 at each access.
fn data_breakpoints(_: &L1Image) -> Result<Blob> {
    let mut p = program()?;
    p.take_tpm()?;
    p.a.mov(rax, cr4)?;
    p.a.or(eax, x86_defs::cr4::DE as i32)?;
    p.a.mov(cr4, rax)?;
    let mut behind = p.a.create_label();
    p.a.mov(qword_ptr(COUNT), 0)?;
    arm(&mut p, place::BUFFER, Access::Write)?;
    p.a.mov(byte_ptr(place::BUFFER), 0)?;
    p.a.set_label(&mut behind)?;
    p.a.mov(eax, 0x400)?;
    p.a.mov(dr7, rax)?;
    p.a.mov(rax, qword_ptr(COUNT))?;
    p.check("MOV to memory: debug exceptions", 1)?;
    check_trap(&mut p, "MOV to memory", 0, behind, B0)?;
    for (name, place, access) in MET {
        let case = CASES.iter().find(|case| case.name == name);
        let case = case.context("no such case")?;
        p.a.mov(qword_ptr(COUNT), 0)?;
        p.a.mov(rbx, TPM)?;
        arm(&mut p, place, access)?;
        (case.before)(&mut p.a)?;
        (case.instruction)(&mut p.a)?;
        p.a.mov(eax, 0x400)?;
        p.a.mov(dr7, rax)?;
        p.a.mov(rax, qword_ptr(COUNT))?;
        p.check(&format!("{name}: breakpoint at {place:#x}"), 0)?;
    }
    p.power_off()?;
    p.assemble()
}

/// Turns the breakpoint of DR0 on.
fn arm(p: &mut Program, place: u64, access: Access) -> Result<()> {
    p.a.mov(rax, place)?;
    p.a.mov(dr0, rax)?;
    p.a.mov(eax, access as u32)?;
    p.a.mov(dr7, rax)?;
    Ok(())
}
