//! What every blob brings along: descriptor tables, exception and interrupt handlers, printing.

use super::kernel::BASE;
use super::program::{Assembled, selector};
use anyhow::Result;
use iced_x86::code_asm::{
    CodeAssembler, CodeLabel, al, dl, dx, eax, ecx, edx, qword_ptr, r8, r9, rax, rcx, rdx, rsi, rsp,
};

/// Fixed addresses. What is below 1 MiB is zero when the program starts.
pub(super) mod place {
    use super::BASE;

    /// Where an exception continues; 0: it is the end.
    pub(crate) const RECOVER: u64 = VARIABLES;
    /// RSP there.
    pub(crate) const RECOVER_STACK: u64 = VARIABLES + 0x08;
    /// The last exception: bit 63, vector, error code.
    pub(crate) const FAULT: u64 = VARIABLES + 0x10;
    /// Its RIP.
    pub(crate) const FAULT_RIP: u64 = VARIABLES + 0x18;
    /// A program's own results.
    pub(crate) const RESULTS: u64 = VARIABLES + 0x100;
    /// How often each interrupt came, a quadword each.
    pub(crate) const COUNTS: u64 = VARIABLES + 0x800;
    /// First of these addresses.
    pub(crate) const VARIABLES: u64 = 0x3_0000;
    /// The task-state segment.
    pub(crate) const TASK: u64 = 0x3_1000;
    /// Page tables of a program's own.
    pub(crate) const PAGE_TABLES: u64 = 0x3_2000;
    /// A TPM response.
    pub(crate) const RESPONSE: u64 = 0x3_8000;
    /// A program's own memory.
    pub(crate) const BUFFER: u64 = 0x4_0000;
    /// Stack of interrupts out of CPL 3.
    pub(crate) const INTERRUPT_STACK: u64 = 0x5_0000;
    /// Stack of CPL 3.
    pub(crate) const USER_STACK: u64 = 0x5_8000;
    /// Behind them.
    pub(crate) const END: u64 = 0x6_0000;

    /// Behind the longest program: the exception stubs, 16 bytes each, and the tables.
    pub(crate) const TABLES: u64 = BASE + 0x1_0000;
    pub(crate) const HANDLER: u64 = TABLES + 0x1000;
    pub(crate) const IDT: u64 = TABLES + 0x2000;
    pub(crate) const GDT: u64 = TABLES + 0x3000;
    pub(crate) const GDT_POINTER: u64 = TABLES + 0x3100;
    pub(crate) const IDT_POINTER: u64 = TABLES + 0x3110;
    /// Other code of a program's.
    pub(crate) const MORE_CODE: u64 = TABLES + 0x4000;
}

const COM1: u32 = x86_defs::pc::COM1 as u32;
const X2APIC_EOI: u32 = x86_defs::apic::Register::EOI.msr();
/// Exceptions that push an error code (SDM volume 3, table 6-1).
const WITH_ERROR_CODE: [usize; 8] = [8, 10, 11, 12, 13, 14, 17, 21];

/// RSI: text up to a zero.
pub(super) fn print(a: &mut CodeAssembler, entry: &mut CodeLabel) -> Assembled {
    a.set_label(entry)?;
    let (mut next, mut end) = (a.create_label(), a.create_label());
    a.mov(edx, COM1)?;
    a.set_label(&mut next)?;
    a.lodsb()?;
    a.test(al, al)?;
    a.jz(end)?;
    a.out(dx, al)?;
    a.jmp(next)?;
    a.set_label(&mut end)?;
    a.ret()?;
    Ok(())
}

/// RSI: a check's name, RAX: its result, RDX: what it must be.
pub(super) fn check(a: &mut CodeAssembler, entry: &mut CodeLabel, print: CodeLabel) -> Assembled {
    let (mut at, mut ok, mut fail, mut failed) = (
        a.create_label(),
        a.create_label(),
        a.create_label(),
        a.create_label(),
    );
    a.set_label(entry)?;
    a.mov(r8, rax)?;
    a.mov(r9, rdx)?;
    a.push(rsi)?;
    a.lea(rsi, qword_ptr(at))?;
    a.call(print)?;
    a.pop(rsi)?;
    a.call(print)?;
    a.cmp(r8, r9)?;
    a.jne(failed)?;
    a.lea(rsi, qword_ptr(ok))?;
    a.jmp(print)?;
    a.set_label(&mut failed)?;
    a.lea(rsi, qword_ptr(fail))?;
    a.call(print)?;
    print_digits(a)?;
    for (label, text) in [
        (&mut at, "@check \0"),
        (&mut ok, " ok\n\0"),
        (&mut fail, " fail \0"),
    ] {
        a.set_label(label)?;
        a.db(text.as_bytes())?;
    }
    Ok(())
}

/// RSI: the beginning of a line, RAX: a value behind it.
pub(super) fn show(a: &mut CodeAssembler, entry: &mut CodeLabel, print: CodeLabel) -> Assembled {
    a.set_label(entry)?;
    a.mov(r8, rax)?;
    a.call(print)?;
    print_digits(a)
}

/// R8, as 16 digits and the end of a line; returns.
fn print_digits(a: &mut CodeAssembler) -> Assembled {
    let mut digits = a.create_label();
    a.mov(ecx, 16)?;
    a.mov(edx, COM1)?;
    a.set_label(&mut digits)?;
    a.rol(r8, 4)?;
    a.mov(rax, r8)?;
    a.and(eax, 0xF)?;
    // '0' to '9', ':' to '?': enough for a number that nobody should see.
    a.add(eax, 0x30)?;
    a.out(dx, al)?;
    a.dec(rcx)?;
    a.jnz(digits)?;
    a.mov(al, 0x0A)?;
    a.out(dx, al)?;
    a.ret()?;
    Ok(())
}

/// A stub for each vector, which pushes the vector and goes on at `handler`, 16 bytes each from `address` on; and the
/// interrupt descriptor table that leads to them.
pub(super) fn stubs(address: u64, handler: u64) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut stubs = Vec::new();
    let mut idt = Vec::new();
    for vector in 0..256_usize {
        let address = address + vector as u64 * 16;
        let mut a = CodeAssembler::new(64)?;
        if !WITH_ERROR_CODE.contains(&vector) {
            a.push(0)?;
        }
        a.push(vector as i32)?;
        a.jmp(handler)?;
        let mut stub = a.assemble(address)?;
        stub.resize(16, 0x90);
        stubs.extend_from_slice(&stub);
        // A 64-bit interrupt gate.
        let gate = (address as u128 & 0xFFFF)
            | u128::from(selector::CODE_64) << 16
            | 0x8E00 << 32
            | (address as u128 >> 16) << 48;
        idt.extend_from_slice(&gate.to_le_bytes());
    }
    Ok((stubs, idt))
}

/// What LGDT and LIDT take.
pub(super) fn pointer(base: u64, table: &[u8]) -> Vec<u8> {
    let mut bytes = (table.len() as u16 - 1).to_le_bytes().to_vec();
    bytes.extend_from_slice(&base.to_le_bytes());
    bytes
}

/// Exception stubs, their common handler, GDT and IDT, with their addresses.
pub(super) fn tables() -> Result<Vec<(u64, Vec<u8>)>> {
    let (stubs, idt) = stubs(place::TABLES, place::HANDLER)?;
    let task = place::TASK;
    let gdt: [u64; 9] = [
        0,
        0,
        0x00AF_9B00_0000_FFFF,
        0x00CF_9300_0000_FFFF,
        0x00CF_F300_0000_FFFF,
        0x00AF_FB00_0000_FFFF,
        0x0000_8900_0000_0067 | (task & 0xFF_FFFF) << 16 | (task >> 24 & 0xFF) << 56,
        task >> 32,
        0x00CF_9B00_0000_FFFF,
    ];
    let gdt: Vec<u8> = gdt.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    Ok(vec![
        (place::GDT_POINTER, pointer(place::GDT, &gdt)),
        (place::IDT_POINTER, pointer(place::IDT, &idt)),
        (place::TABLES, stubs),
        (place::HANDLER, handler()?),
        (place::IDT, idt),
        (place::GDT, gdt),
    ])
}

/// An exception continues at [`place::RECOVER`] with CPL 0; an interrupt is counted and over.
fn handler() -> Result<Vec<u8>> {
    // Above the three registers that the handler pushes.
    const VECTOR: i32 = 24;
    const ERROR: i32 = 32;
    const RIP: i32 = 40;
    const CS: i32 = 48;
    const RSP: i32 = 64;
    const SS: i32 = 72;
    let mut a = CodeAssembler::new(64)?;
    let (mut interrupt, mut back, mut unexpected) =
        (a.create_label(), a.create_label(), a.create_label());
    let (mut text, mut next) = (a.create_label(), a.create_label());
    for register in [rax, rcx, rdx] {
        a.push(register)?;
    }
    a.cmp(qword_ptr(rsp + VECTOR), 32)?;
    a.jae(interrupt)?;
    a.mov(rax, qword_ptr(rsp + RIP))?;
    a.mov(qword_ptr(place::FAULT_RIP), rax)?;
    a.mov(rax, qword_ptr(rsp + VECTOR))?;
    a.shl(rax, 32)?;
    a.or(rax, qword_ptr(rsp + ERROR))?;
    a.bts(rax, 63)?;
    a.mov(qword_ptr(place::FAULT), rax)?;
    a.mov(rax, qword_ptr(place::RECOVER))?;
    a.test(rax, rax)?;
    a.jz(unexpected)?;
    a.mov(qword_ptr(rsp + RIP), rax)?;
    a.mov(qword_ptr(place::RECOVER), 0)?;
    a.mov(qword_ptr(rsp + CS), selector::CODE_64 as i32)?;
    a.mov(qword_ptr(rsp + SS), selector::DATA as i32)?;
    a.mov(rax, qword_ptr(place::RECOVER_STACK))?;
    a.mov(qword_ptr(rsp + RSP), rax)?;
    a.jmp(back)?;
    a.set_label(&mut interrupt)?;
    a.mov(rcx, qword_ptr(rsp + VECTOR))?;
    a.inc(qword_ptr(rcx * 8 + place::COUNTS as i32))?;
    a.mov(ecx, X2APIC_EOI)?;
    a.xor(eax, eax)?;
    a.xor(edx, edx)?;
    a.wrmsr()?;
    a.set_label(&mut back)?;
    for register in [rdx, rcx, rax] {
        a.pop(register)?;
    }
    a.add(rsp, 16)?;
    a.iretq()?;
    a.set_label(&mut unexpected)?;
    a.lea(rsi, qword_ptr(text))?;
    a.mov(edx, COM1)?;
    a.set_label(&mut next)?;
    a.lodsb()?;
    a.out(dx, al)?;
    a.cmp(al, 0x0A)?;
    a.jne(next)?;
    // Registers for L1's report.
    a.mov(rax, qword_ptr(place::FAULT))?;
    a.mov(rcx, qword_ptr(place::FAULT_RIP))?;
    a.xor(dl, dl)?;
    a.cli()?;
    a.hlt()?;
    a.set_label(&mut text)?;
    a.db(b"@unexpected exception: RAX is vector and error code, RCX is RIP\n")?;
    Ok(a.assemble(place::HANDLER)?)
}
