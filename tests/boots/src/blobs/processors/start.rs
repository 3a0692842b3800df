//! How a processor gets from a STARTUP IPI to 64-bit mode, and what it does there.

use super::super::program::{Assembled, TPM, selector};
use super::super::runtime::{self, place};
use super::apic::{self, Mode};
use super::memory::{self, BLOCK, trampoline};
use anyhow::Result;
use iced_x86::code_asm::{
    CodeAssembler, ax, cr0, cr2, cr3, cr4, cs, dr0, dr1, dr2, dr3, dr6, dr7, ds, dword_ptr, eax,
    ebp, ebx, ecx, edi, edx, es, esi, esp, fs, gs, ptr, qword_ptr, r15, rax, rbx, rcx, rdx, rsp,
    ss,
};
use x86_defs::apic::Register;
use x86_defs::msr::{IA32_APIC_BASE, IA32_EFER};
use x86_defs::{cr0, efer};

/// The code of the trampoline at this address.
pub(super) fn code_16(at: u64) -> Result<Vec<u8>> {
    let mut a = CodeAssembler::new(16)?;
    found(&mut a)?;
    a.cli()?;
    a.mov(ax, cs)?;
    a.mov(ds, ax)?;
    // LGDT with a 32-bit operand.
    a.db(&[0x66, 0x0F, 0x01, 0x16])?;
    a.dw(&[trampoline::GDT_POINTER])?;
    // Caches on, protection on, paging off.
    a.mov(eax, (cr0::ET | cr0::NE | cr0::PE) as u32)?;
    a.mov(cr0, eax)?;
    let mut code = a.assemble(0)?;
    // A far jump with a 32-bit offset, behind itself.
    const JUMP: u64 = 8;
    let next = at + code.len() as u64 + JUMP;
    code.extend([0x66, 0xEA]);
    code.extend((next as u32).to_le_bytes());
    code.extend((selector::CODE_32 as u16).to_le_bytes());
    code.extend(code_32(at, next)?);
    Ok(code)
}

/// Notes what the processor starts with. Nothing is changed before it is noted.
fn found(a: &mut CodeAssembler) -> Assembled {
    let word = |offset: u16| dword_ptr(u32::from(offset)).cs();
    a.mov(word(trampoline::EAX_FOUND), eax)?;
    a.mov(word(trampoline::EDX_FOUND), edx)?;
    for register in [ecx, esp, ebp, esi, edi] {
        a.or(ebx, register)?;
    }
    a.mov(word(trampoline::OTHERS_FOUND), ebx)?;
    a.xor(ebx, ebx)?;
    for register in [ds, es, ss, fs, gs] {
        a.xor(eax, eax)?;
        a.mov(ax, register)?;
        a.or(ebx, eax)?;
    }
    a.mov(word(trampoline::SEGMENTS_FOUND), ebx)?;
    a.mov(eax, cr0)?;
    a.mov(word(trampoline::CR0_FOUND), eax)?;
    a.mov(ebx, cr2)?;
    for register in [cr3, cr4] {
        a.mov(eax, register)?;
        a.or(ebx, eax)?;
    }
    a.mov(word(trampoline::CR2_TO_4_FOUND), ebx)?;
    a.mov(ebx, dr0)?;
    for register in [dr1, dr2, dr3] {
        a.mov(eax, register)?;
        a.or(ebx, eax)?;
    }
    a.mov(word(trampoline::DR0_TO_3_FOUND), ebx)?;
    a.mov(eax, dr6)?;
    a.mov(word(trampoline::DR6_FOUND), eax)?;
    a.mov(eax, dr7)?;
    a.mov(word(trampoline::DR7_FOUND), eax)?;
    a.mov(ecx, IA32_EFER)?;
    a.rdmsr()?;
    a.mov(word(trampoline::EFER_FOUND), eax)?;
    // SGDT and SIDT with a 32-bit operand, behind CS.
    for (modrm, offset) in [
        (0x06, trampoline::GDTR_FOUND),
        (0x0E, trampoline::IDTR_FOUND),
    ] {
        a.db(&[0x2E, 0x66, 0x0F, 0x01, modrm])?;
        a.dw(&[offset])?;
    }
    Ok(())
}

/// Paging on, in long mode.
fn code_32(at: u64, here: u64) -> Result<Vec<u8>> {
    let kept = |offset: u16| dword_ptr(at as u32 + u32::from(offset));
    let mut a = CodeAssembler::new(32)?;
    a.mov(eax, selector::DATA as u32)?;
    for register in [ds, es, ss] {
        a.mov(register, eax)?;
    }
    a.mov(eax, kept(trampoline::CR4))?;
    a.mov(cr4, eax)?;
    a.mov(eax, kept(trampoline::CR3))?;
    a.mov(cr3, eax)?;
    a.mov(ecx, IA32_EFER)?;
    a.xor(edx, edx)?;
    a.mov(eax, kept(trampoline::EFER))?;
    a.wrmsr()?;
    // Said in 64-bit mode.
    a.mov(ebx, (at >> 4) as u32)?;
    a.mov(eax, kept(trampoline::CR0))?;
    a.mov(cr0, eax)?;
    let mut code = a.assemble(here)?;
    code.push(0xEA);
    code.extend((memory::ENTRY as u32).to_le_bytes());
    code.extend((selector::CODE_64 as u16).to_le_bytes());
    Ok(code)
}

/// Puts what the trampoline's copies read into them. RBX is kept.
pub(super) fn fill(a: &mut CodeAssembler) -> Assembled {
    for at in memory::TRAMPOLINES {
        let word = |offset: u16| dword_ptr(at + u64::from(offset));
        a.mov(rax, qword_ptr(place::GDT_POINTER))?;
        a.mov(qword_ptr(at + u64::from(trampoline::GDT_POINTER)), rax)?;
        a.mov(rax, cr3)?;
        a.mov(word(trampoline::CR3), eax)?;
        a.mov(rax, cr4)?;
        a.mov(word(trampoline::CR4), eax)?;
        a.mov(rax, cr0)?;
        a.mov(word(trampoline::CR0), eax)?;
        a.mov(ecx, IA32_EFER)?;
        a.rdmsr()?;
        // LMA is the processor's to set.
        a.and(eax, !(efer::LMA as i32))?;
        a.mov(word(trampoline::EFER), eax)?;
    }
    Ok(())
}

/// In 64-bit mode, with the trampoline's segment in EBX: becomes what its APIC ID says, and does jobs.
pub(super) fn entry(mode: Mode) -> Result<Vec<u8>> {
    let mut a = CodeAssembler::new(64)?;
    let (mut next, mut wait) = (a.create_label(), a.create_label());
    a.mov(eax, selector::DATA as u32)?;
    for register in [ds, es, ss] {
        a.mov(register, eax)?;
    }
    a.mov(eax, ebx)?;
    // CPUID changes RBX.
    a.mov(r15, rax)?;
    a.mov(eax, 1)?;
    a.xor(ecx, ecx)?;
    a.cpuid()?;
    a.shr(ebx, 24)?;
    a.imul_3(ebx, ebx, BLOCK as i32)?;
    a.lea(rsp, qword_ptr(rbx + memory::of(1, 0) as i32))?;
    a.mov(rax, r15)?;
    a.lea(r15, qword_ptr(rsp - BLOCK as i32))?;
    a.mov(qword_ptr(r15 + memory::SEGMENT as i32), rax)?;
    a.lidt(ptr(memory::IDT_POINTER))?;
    a.mov(ecx, IA32_APIC_BASE)?;
    a.rdmsr()?;
    a.shl(rdx, 32)?;
    a.or(rax, rdx)?;
    a.mov(qword_ptr(r15 + memory::APIC_BASE as i32), rax)?;
    apic::enter(&mut a, mode)?;
    apic::read(&mut a, mode, Register::SVR)?;
    a.mov(qword_ptr(r15 + memory::SPURIOUS as i32), rax)?;
    apic::enable(&mut a, mode)?;
    a.mov(rbx, TPM)?;
    a.lock().inc(qword_ptr(r15 + memory::STARTS as i32))?;
    a.set_label(&mut next)?;
    a.sti()?;
    a.set_label(&mut wait)?;
    a.pause()?;
    a.mov(rax, qword_ptr(r15 + memory::JOB as i32))?;
    a.test(rax, rax)?;
    a.jz(wait)?;
    a.call(rax)?;
    a.mov(qword_ptr(r15 + memory::JOB as i32), 0)?;
    a.jmp(next)?;
    Ok(a.assemble(memory::ENTRY)?)
}

/// An interrupt or an NMI is counted in the processor's block, and over; an exception is as in every blob.
pub(super) fn handler(mode: Mode) -> Result<Vec<u8>> {
    // Above the three registers that the handler pushes.
    const VECTOR: i32 = 24;
    let mut a = CodeAssembler::new(64)?;
    let (mut counted, mut over, mut exception) =
        (a.create_label(), a.create_label(), a.create_label());
    let mut nmi = a.create_label();
    for register in [rax, rcx, rdx] {
        a.push(register)?;
    }
    a.mov(rcx, qword_ptr(rsp + VECTOR))?;
    a.cmp(rcx, 2)?;
    a.je(counted)?;
    a.cmp(rcx, 32)?;
    a.jb(exception)?;
    a.set_label(&mut counted)?;
    a.mov(rax, rsp)?;
    a.and(rax, -(BLOCK as i32))?;
    a.inc(qword_ptr(rax + rcx * 8))?;
    a.cmp(rcx, 2)?;
    a.je(nmi)?;
    apic::end_of_interrupt(&mut a, mode)?;
    a.jmp(over)?;
    a.set_label(&mut nmi)?;
    a.xor(edx, edx)?;
    a.xchg(qword_ptr(rax + memory::IN_NMI as i32), rdx)?;
    a.test(rdx, rdx)?;
    a.jz(over)?;
    a.call(rdx)?;
    a.set_label(&mut over)?;
    for register in [rdx, rcx, rax] {
        a.pop(register)?;
    }
    a.add(rsp, 16)?;
    a.iretq()?;
    a.set_label(&mut exception)?;
    for register in [rdx, rcx, rax] {
        a.pop(register)?;
    }
    a.jmp(place::HANDLER)?;
    Ok(a.assemble(memory::HANDLER)?)
}

/// All that has a fixed address behind the program.
pub(super) fn parts(mode: Mode) -> Result<Vec<(u64, Vec<u8>)>> {
    let (stubs, idt) = runtime::stubs(memory::STUBS, memory::HANDLER)?;
    Ok(vec![
        (memory::ENTRY, entry(mode)?),
        (memory::HANDLER, handler(mode)?),
        (memory::STUBS, stubs),
        (memory::IDT_POINTER, runtime::pointer(memory::IDT, &idt)),
        (memory::IDT, idt),
    ])
}
