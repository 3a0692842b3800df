//! Resets after which L2 is launched again in its TD.
//!
//! The program cannot know from anything but the TPM which of its starts it is: all else is as at first.

use super::guest::Guest;
use super::l1_image::L1Image;
use super::program::{Assembled, Blob, Program, tpm};
use super::runtime::place;
use super::tpm_commands::{CREATE_PRIMARY, GET_RANDOM};
use anyhow::Result;
use iced_x86::code_asm::{
    CodeAssembler, CodeLabel, al, ax, byte_ptr, cr2, dr0, dword_ptr, dx, eax, ecx, edx, ptr,
    qword_ptr, rax, rbx, rcx, rdi, rdx,
};
use x86_defs::msr;
use x86_defs::pc;

/// The TPM's count of resets at which the program powers off.
pub(super) const LAST: u32 = 20;
/// Memory that is neither the program's nor L1's, from 32 MiB on.
const MEMORY: u64 = 32 << 20;
const MEMORY_LENGTH: u32 = 16 << 20;
/// The UART's scratch register.
const SCRATCH: u32 = pc::COM1 as u32 + 7;
/// TPM_ACCESS after a reset: tpmRegValidSts, tpmEstablishment.
const ACCESS_AFTER_RESET: u64 = 0x81;

/// TPM2_PCR_Read of PCR 16 in the SHA-256 bank.
const PCR_READ: [u8; 20] = [
    0x80, 0x01, 0, 0, 0, 20, 0, 0, 0x01, 0x7E, 0, 0, 0, 1, 0, 0x0B, 3, 0, 0, 1,
];
/// Where its digest is in the response: behind header, counter, selection, count and size.
const DIGEST: u64 = 10 + 4 + 10 + 4 + 2;
/// TPM2_ReadClock.
const READ_CLOCK: [u8; 10] = [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x81];
/// Where resetCount is in its response: behind header, time and clock; restartCount follows.
const RESET_COUNT: u64 = 10 + 8 + 8;

/// TPM2_PCR_Extend of PCR 16 in the SHA-256 bank.
fn pcr_extend() -> Vec<u8> {
    let mut command = vec![0x80, 0x02, 0, 0, 0, 65, 0, 0, 0x01, 0x82, 0, 0, 0, 16];
    command.extend([0, 0, 0, 9, 0x40, 0, 0, 0x09, 0, 0, 0, 0, 0]);
    command.extend([0, 0, 0, 1, 0, 0x0B]);
    command.extend([0x5A; 32]);
    command
}

pub(super) fn guests() -> Vec<Guest> {
    let again = |name, write| Guest {
        restarts: true,
        ..Guest::new(name, write)
    };
    let lie = |name, options, says| Guest {
        restarts: true,
        options,
        ..Guest::reported(name, says, |_| reset_at_once())
    };
    vec![
        again("many resets in each way", many),
        lie(
            "a reset, and the host gives another kernel",
            &["fault=fwcfg-changes:0x11"],
            &["the host gives other files than L2 was launched with"],
        ),
        lie(
            "a reset, and the host gives other setup code",
            &["fault=fwcfg-changes:0x18"],
            &["the host gives other files than L2 was launched with"],
        ),
        lie(
            "a reset, and the host gives another command line",
            &["fault=fwcfg-changes:0x15"],
            &["the host's command line does not end where its size says"],
        ),
    ]
}

/// By the reset control register.
pub(super) fn reset(p: &mut Program) -> Assembled {
    write_reset(&mut p.a)
}

/// The same in other code.
pub(super) fn write_reset(a: &mut CodeAssembler) -> Assembled {
    a.mov(dx, u32::from(pc::RESET_CONTROL))?;
    for value in [2, 6] {
        a.mov(al, value)?;
        a.out(dx, al)?;
    }
    Ok(())
}

fn reset_at_once() -> Result<Blob> {
    let mut p = Program::new()?;
    reset(&mut p)?;
    p.say("@still running")?;
    p.halt()?;
    p.assemble()
}

fn many(_: &L1Image) -> Result<Blob> {
    let mut p = Program::in_apic_mode_of_reset()?;
    registers_are_fresh(&mut p)?;
    spoil_registers(&mut p)?;
    memory_is_empty(&mut p)?;
    p.a.movzx(eax, byte_ptr(rbx + tpm::ACCESS))?;
    p.check("nobody has the TPM", ACCESS_AFTER_RESET)?;
    p.take_tpm()?;
    p.tpm_command(&PCR_READ)?;
    p.check("PCR_Read", 0)?;
    p.a.mov(rax, qword_ptr(place::RESPONSE + DIGEST))?;
    p.check("PCR 16", 0)?;
    p.tpm_command(&pcr_extend())?;
    p.check("PCR_Extend", 0)?;
    count_resets_or_power_off(&mut p, LAST)?;
    in_the_midst_of_a_command(&mut p)?;
    reset_by(&mut p)?;
    p.say("@still running")?;
    p.halt()?;
    p.assemble()
}

/// ECX becomes the TPM's count of resets, unless that is `last`. The program has the TPM.
pub(super) fn count_resets_or_power_off(p: &mut Program, last: u32) -> Assembled {
    p.tpm_command(&READ_CLOCK)?;
    p.check("ReadClock", 0)?;
    p.a.mov(eax, dword_ptr(place::RESPONSE + RESET_COUNT + 4))?;
    p.check("restartCount", 0)?;
    p.a.mov(ecx, dword_ptr(place::RESPONSE + RESET_COUNT))?;
    p.a.bswap(ecx)?;
    let mut go_on = p.a.create_label();
    p.a.cmp(ecx, last)?;
    p.a.jb(go_on)?;
    p.power_off()?;
    p.a.set_label(&mut go_on)?;
    Ok(())
}

/// RCX decides, and is kept: a command is half sent, executed, or its response half read.
fn in_the_midst_of_a_command(p: &mut Program) -> Assembled {
    let (mut executed, mut answered, mut end) =
        (p.a.create_label(), p.a.create_label(), p.a.create_label());
    p.a.mov(eax, ecx)?;
    p.a.xor(edx, edx)?;
    p.a.mov(rdi, 3_u64)?;
    p.a.div(rdi)?;
    p.a.cmp(edx, 1)?;
    p.a.je(executed)?;
    p.a.ja(answered)?;
    send(p, &CREATE_PRIMARY[..40])?;
    p.a.jmp(end)?;
    p.a.set_label(&mut executed)?;
    send(p, &CREATE_PRIMARY)?;
    p.a.mov(dword_ptr(rbx + tpm::STS), tpm::GO)?;
    p.a.jmp(end)?;
    p.a.set_label(&mut answered)?;
    send(p, &GET_RANDOM)?;
    super::program::execute(&mut p.a)?;
    p.a.mov(al, byte_ptr(rbx + tpm::FIFO))?;
    p.a.set_label(&mut end)?;
    Ok(())
}

fn send(p: &mut Program, command: &[u8]) -> Assembled {
    p.a.mov(dword_ptr(rbx + tpm::STS), tpm::COMMAND_READY)?;
    for byte in command {
        p.a.mov(byte_ptr(rbx + tpm::FIFO), u32::from(*byte))?;
    }
    Ok(())
}

/// The two low bits of RCX decide.
fn reset_by(p: &mut Program) -> Assembled {
    let pointer = |p: &mut Program, limit: u16| {
        let mut pointer = limit.to_le_bytes().to_vec();
        pointer.extend([0; 8]);
        p.data(&pointer)
    };
    let (empty, useless) = (pointer(p, 0), pointer(p, 0xFFF));
    let (mut keyboard, mut without_idt, mut fault) =
        (p.a.create_label(), p.a.create_label(), p.a.create_label());
    p.a.and(ecx, 3)?;
    p.a.cmp(ecx, 1)?;
    p.a.je(keyboard)?;
    p.a.cmp(ecx, 2)?;
    p.a.je(without_idt)?;
    p.a.ja(fault)?;
    reset(p)?;
    p.a.set_label(&mut keyboard)?;
    p.a.mov(al, u32::from(pc::KEYBOARD_PULSE_RESET))?;
    p.a.out(u32::from(pc::KEYBOARD_COMMAND), al)?;
    p.a.set_label(&mut without_idt)?;
    triple_fault(p, empty)?;
    p.a.set_label(&mut fault)?;
    triple_fault(p, useless)
}

fn triple_fault(p: &mut Program, idt: CodeLabel) -> Assembled {
    p.a.lidt(ptr(idt))?;
    p.a.ud2()?;
    Ok(())
}

fn memory_is_empty(p: &mut Program) -> Assembled {
    p.a.xor(eax, eax)?;
    p.a.mov(rdi, MEMORY)?;
    p.a.mov(ecx, MEMORY_LENGTH / 8)?;
    p.a.repe().scasq()?;
    p.a.setne(al)?;
    p.a.movzx(eax, al)?;
    p.check("memory holds nothing of before", 0)?;
    p.a.mov(rax, u64::MAX)?;
    p.a.mov(rdi, MEMORY)?;
    p.a.mov(ecx, MEMORY_LENGTH / 8)?;
    p.a.rep().stosq()?;
    Ok(())
}

/// Registers that are L2's own: each with what it is after a reset, and something else that it takes.
const MSRS: [(&str, u32, u64, u64); 11] = [
    (
        "IA32_APIC_BASE",
        msr::IA32_APIC_BASE,
        0xFEE0_0900,
        0xFEE0_0D00,
    ),
    (
        "IA32_PAT",
        msr::IA32_PAT,
        0x0007_0406_0007_0406,
        0x0007_0106_0007_0106,
    ),
    ("IA32_SYSENTER_CS", msr::IA32_SYSENTER_CS, 0, 0x10),
    ("IA32_SYSENTER_EIP", msr::IA32_SYSENTER_EIP, 0, 0x1000),
    ("IA32_DEBUGCTL", msr::IA32_DEBUGCTL, 0, 1),
    ("IA32_STAR", msr::IA32_STAR, 0, 0x10 << 32),
    ("IA32_LSTAR", msr::IA32_LSTAR, 0, 0x2000),
    ("IA32_CSTAR", msr::IA32_CSTAR, 0, 0x3000),
    ("IA32_FMASK", msr::IA32_FMASK, 0x2_0200, 0x700),
    ("IA32_KERNEL_GS_BASE", msr::IA32_KERNEL_GS_BASE, 0, 0x4000),
    ("IA32_TSC_AUX", msr::IA32_TSC_AUX, 0, 5),
];

fn registers_are_fresh(p: &mut Program) -> Assembled {
    for (name, number, fresh, _) in MSRS {
        p.a.mov(ecx, number)?;
        p.a.rdmsr()?;
        p.a.shl(rdx, 32)?;
        p.a.or(rax, rdx)?;
        p.check(name, fresh)?;
    }
    p.a.mov(rax, cr2)?;
    p.check("CR2", 0)?;
    p.a.mov(rax, dr0)?;
    p.check("DR0", 0)?;
    p.a.xor(eax, eax)?;
    p.a.fnstcw(iced_x86::code_asm::word_ptr(place::RESPONSE))?;
    p.a.mov(ax, iced_x86::code_asm::word_ptr(place::RESPONSE))?;
    p.check("FCW", 0x37F)?;
    p.a.mov(dx, SCRATCH)?;
    p.a.xor(eax, eax)?;
    p.a.in_(al, dx)?;
    p.check("the UART's scratch register", 0)
}

fn spoil_registers(p: &mut Program) -> Assembled {
    for (_, number, _, other) in MSRS {
        p.a.mov(ecx, number)?;
        p.a.mov(eax, other as u32)?;
        p.a.mov(edx, (other >> 32) as u32)?;
        p.a.wrmsr()?;
    }
    p.a.mov(rax, 0x5A5A_u64)?;
    p.a.mov(cr2, rax)?;
    p.a.mov(dr0, rax)?;
    p.a.fninit()?;
    let word = p.data(&0x027F_u16.to_le_bytes());
    p.a.fldcw(iced_x86::code_asm::word_ptr(word))?;
    p.a.mov(dx, SCRATCH)?;
    p.a.out(dx, al)?;
    p.a.mov(rcx, 0_u64)?;
    Ok(())
}
