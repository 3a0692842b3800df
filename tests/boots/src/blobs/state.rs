//! State that the TDX module does not switch between L1 and L2: L2 finds its own after every kind
//! of exit, and nothing of L1's in it.

use super::guest::Guest;
use super::kernel::BASE;
use super::l1_image::L1Image;
use super::program::{Blob, Program, tpm};
use super::runtime::place;
use super::tpm_commands::{CREATE_PRIMARY, GET_RANDOM, INITIALIZE, STARTUP};
use anyhow::Result;
use iced_x86::code_asm::{
    CodeAssembler, al, cr2, cr4, dr0, dr1, dr2, dr3, dr6, dword_ptr, dx, eax, ebx, ecx, edi, edx,
    esi, ptr, r12, r13, r14, r15, rax, rbp, rbx, rcx, rdx, rsi,
};
use simulator::Window;

/// x87, SSE and AVX, and their XSAVE area in standard format.
const COMPONENTS: u32 = 7;
const AREA: usize = 832;
/// Where the areas lie: 64-byte aligned.
const PATTERN: u64 = BASE + 0x2_0000;
const REFERENCE: u64 = place::BUFFER;
const SAVED: u64 = place::BUFFER + 0x1000;
/// In an XSAVE area: XMM0 to 15, YMM upper halves.
const XMM: u64 = 160;
const YMM: u64 = 576;

const CR2: u64 = 0x1234_5678_9ABC_D000;
const DR6: u64 = 0xFFFF_4FF5;
const DR: [u64; 4] = [0x11AA_0001, 0x22BB_0002, 0x33CC_0003, 0x44DD_0004];
const R: [u64; 5] = [
    0xB0B0_B0B0_0000_0001,
    0xC0C0_C0C0_0000_0002,
    0xD0D0_D0D0_0000_0003,
    0xE0E0_E0E0_0000_0004,
    0xF0F0_F0F0_0000_0005,
];

pub(super) fn guests() -> Vec<Guest> {
    vec![
        Guest::new("state that the module does not switch", kept),
        Guest {
            window: Window::Hole,
            ..Guest::new("state, window host-routed", kept)
        },
        Guest {
            options: &["fault=l1-interrupt:3"],
            ..Guest::new("state, with interrupts of L1's", kept)
        },
    ]
}

/// OSFXSR, OSXMMEXCPT, OSXSAVE; XCR0 with AVX.
pub(super) fn enable_avx(p: &mut Program) -> Result<()> {
    let a = &mut p.a;
    a.mov(rax, cr4)?;
    a.or(eax, 1 << 9 | 1 << 10 | 1 << 18)?;
    a.mov(cr4, rax)?;
    set_xcr0(a, COMPONENTS)
}

fn set_xcr0(a: &mut CodeAssembler, value: u32) -> Result<()> {
    a.xor(ecx, ecx)?;
    a.xor(edx, edx)?;
    a.mov(eax, value)?;
    a.xsetbv()?;
    Ok(())
}

fn kept(_: &L1Image) -> Result<Blob> {
    let mut p = Program::new()?;
    enable_avx(&mut p)?;
    save(&mut p.a, SAVED)?;
    for (name, offset, length) in [
        ("x87 registers are empty at first", 32, 128),
        ("XMM registers are empty at first", XMM, 256),
        ("YMM registers are empty at first", YMM, 256),
    ] {
        count_differences(&mut p.a, SAVED + offset, SAVED + offset + 1, length - 1)?;
        p.a.or(al, iced_x86::code_asm::byte_ptr(SAVED + offset))?;
        p.check(name, 0)?;
    }
    p.place(PATTERN, pattern());
    load(&mut p.a)?;
    save(&mut p.a, REFERENCE)?;
    count_differences(&mut p.a, REFERENCE + XMM, PATTERN + XMM, 256)?;
    p.check("XMM registers hold what was loaded", 0)?;
    count_differences(&mut p.a, REFERENCE + YMM, PATTERN + YMM, 256)?;
    p.check("YMM registers hold what was loaded", 0)?;

    exit(&mut p, "CPUID", |p| {
        p.a.mov(eax, 1)?;
        p.a.cpuid()?;
        // The window's address.
        p.a.mov(ebx, super::program::TPM as u32)?;
        Ok(())
    })?;
    exit(&mut p, "port output", |p| {
        p.a.mov(dx, 0x80)?;
        p.a.out(dx, al)?;
        Ok(())
    })?;
    exit(&mut p, "RDMSR", |p| {
        p.a.mov(ecx, 0x1B)?;
        p.a.rdmsr()?;
        Ok(())
    })?;
    exit(&mut p, "#GP for an unknown MSR", |p| {
        p.check_fault("unknown MSR", super::program::GENERAL_PROTECTION, |a| {
            a.mov(ecx, 0x1234)?;
            a.rdmsr()?;
            Ok(())
        })
    })?;
    exit(&mut p, "a TPM register access", |p| {
        p.take_tpm()?;
        p.a.mov(eax, dword_ptr(rbx + tpm::STS))?;
        Ok(())
    })?;
    exit(&mut p, "TDCALL", |p| {
        p.a.mov(eax, 1)?;
        p.a.db(&[0x66, 0x0F, 0x01, 0xCC])?;
        Ok(())
    })?;
    exit(&mut p, "WBINVD", |p| Ok(p.a.wbinvd()?))?;
    exit(&mut p, "the timer", |p| {
        super::msr::arm_timer(&mut p.a, 200_000)?;
        super::msr::wait_for_timer(&mut p.a, true)
    })?;
    exit(&mut p, "HLT", |p| {
        super::msr::arm_timer(&mut p.a, 200_000)?;
        super::msr::wait_for_timer(&mut p.a, false)
    })?;
    for (name, command, code) in [
        (
            "TPM2_Startup, which makes L1's keys",
            &STARTUP[..],
            INITIALIZE,
        ),
        ("TPM2_GetRandom", &GET_RANDOM, 0),
        ("TPM2_CreatePrimary", &CREATE_PRIMARY, 0),
    ] {
        exit(&mut p, name, |p| {
            p.tpm_command(command)?;
            p.check(&format!("{name}: its code"), code)
        })?;
    }
    xcr0(&mut p)?;
    p.power_off()?;
    p.assemble()
}

/// XCR0 other than L1's, and one with less than what L1 saves.
fn xcr0(p: &mut Program) -> Result<()> {
    for (name, value) in [("XCR0 of x87 only", 1), ("XCR0 of SSE", 3)] {
        set_xcr0(&mut p.a, value)?;
        p.tpm_command(&GET_RANDOM)?;
        p.a.xor(ecx, ecx)?;
        p.a.xgetbv()?;
        p.check(&format!("{name} is kept"), u64::from(value))?;
        set_xcr0(&mut p.a, COMPONENTS)?;
        compare(&mut p.a)?;
        p.check(&format!("{name}: all registers are kept"), 0)?;
    }
    // No more than what the processor itself refuses: QEMU executes XSETBV without an exit.
    for (name, value) in [("AVX without SSE", 5), ("no x87", 2)] {
        p.check_fault(
            &format!("XSETBV: {name}"),
            super::program::GENERAL_PROTECTION,
            |a| set_xcr0(a, value),
        )?;
    }
    Ok(())
}

/// Sets everything, lets `body` exit, compares.
fn exit(p: &mut Program, name: &str, body: impl FnOnce(&mut Program) -> Result<()>) -> Result<()> {
    load(&mut p.a)?;
    let a = &mut p.a;
    a.mov(rax, CR2)?;
    a.mov(cr2, rax)?;
    for (register, value) in [dr0, dr1, dr2, dr3].into_iter().zip(DR) {
        a.mov(rax, value)?;
        a.mov(register, rax)?;
    }
    a.mov(rax, DR6)?;
    a.mov(dr6, rax)?;
    for (register, value) in [rbp, r12, r13, r14].into_iter().zip(R) {
        a.mov(register, value)?;
    }
    a.mov(r15, R[4])?;
    body(p)?;
    let a = &mut p.a;
    a.xor(edx, edx)?;
    for (register, value) in [rbp, r12, r13, r14, r15].into_iter().zip(R) {
        a.mov(rax, value)?;
        a.xor(rax, register)?;
        a.or(rdx, rax)?;
    }
    a.mov(rax, rdx)?;
    p.check(&format!("{name}: general registers"), 0)?;
    let a = &mut p.a;
    a.mov(rax, cr2)?;
    p.check(&format!("{name}: CR2"), CR2)?;
    let a = &mut p.a;
    a.xor(edx, edx)?;
    for (register, value) in [dr0, dr1, dr2, dr3, dr6]
        .into_iter()
        .zip(DR.into_iter().chain([DR6]))
    {
        a.mov(rax, register)?;
        a.mov(rsi, value)?;
        a.xor(rax, rsi)?;
        a.or(rdx, rax)?;
    }
    a.mov(rax, rdx)?;
    p.check(&format!("{name}: debug registers"), 0)?;
    p.a.xor(ecx, ecx)?;
    p.a.xgetbv()?;
    p.check(&format!("{name}: XCR0"), u64::from(COMPONENTS))?;
    compare(&mut p.a)?;
    p.check(&format!("{name}: x87, XMM, YMM, MXCSR"), 0)
}

fn load(a: &mut CodeAssembler) -> Result<()> {
    a.mov(eax, COMPONENTS)?;
    a.xor(edx, edx)?;
    a.xrstor64(ptr(PATTERN))?;
    Ok(())
}

fn save(a: &mut CodeAssembler, to: u64) -> Result<()> {
    a.mov(eax, COMPONENTS)?;
    a.xor(edx, edx)?;
    a.xsave64(ptr(to))?;
    Ok(())
}

/// RAX: bytes from the first difference on between the state now and the reference.
fn compare(a: &mut CodeAssembler) -> Result<()> {
    save(a, SAVED)?;
    count_differences(a, SAVED, REFERENCE, AREA as u64)
}

/// RAX: bytes from the first difference on, 0 if there is none.
fn count_differences(a: &mut CodeAssembler, one: u64, other: u64, length: u64) -> Result<()> {
    a.mov(esi, one as u32)?;
    a.mov(edi, other as u32)?;
    a.mov(ecx, length as u32 + 1)?;
    let (mut next, mut end) = (a.create_label(), a.create_label());
    a.set_label(&mut next)?;
    a.dec(rcx)?;
    a.jz(end)?;
    a.cmpsb()?;
    a.je(next)?;
    a.set_label(&mut end)?;
    a.mov(rax, rcx)?;
    Ok(())
}

/// An XSAVE area with every register different.
fn pattern() -> Vec<u8> {
    let mut area = vec![0; AREA];
    area[0..2].copy_from_slice(&0x037E_u16.to_le_bytes());
    area[24..28].copy_from_slice(&0x1F00_u32.to_le_bytes());
    for register in 0..8 {
        // 80 bits each.
        for byte in 0..10 {
            area[32 + register * 16 + byte] = (0x80 + register * 16 + byte) as u8;
        }
    }
    for (index, byte) in area[XMM as usize..XMM as usize + 256]
        .iter_mut()
        .enumerate()
    {
        *byte = (index * 7 + 1) as u8;
    }
    for (index, byte) in area[YMM as usize..].iter_mut().enumerate() {
        *byte = (index * 11 + 3) as u8;
    }
    area[512] = COMPONENTS as u8;
    area
}
