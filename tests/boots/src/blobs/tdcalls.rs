//! What a guest that knows TDX gets from L1, which stands where the module stands for a TD.

use super::guest::Guest;
use super::kernel::BASE;
use super::l1_image::L1Image;
use super::program::{Blob, GENERAL_PROTECTION, NO_FAULT, Program, TPM, selector};
use super::runtime::place;
use anyhow::Result;
use iced_x86::code_asm::{
    cr3, eax, ecx, edi, esi, qword_ptr, r8, r9, r10, r11, r12, r13, r14, r15, rax, rbx, rcx, rdi,
    rdx, rsi,
};
use simulator::{Gpaw, Window};
use tdx_defs::ghci::{CompletionStatus, mask};
use tdx_defs::status::{Code, Operand, Status};

const TDCALL: [u8; 4] = [0x66, 0x0F, 0x01, 0xCC];
/// TDX_OPERAND_INVALID with operand RAX, and RCX.
const INVALID_RAX: u64 = Status::operand_invalid(Operand::RAX).0;
const INVALID_RCX: u64 = Status::operand_invalid(Operand::RCX).0;
/// TDX_NO_VALID_VE_INFO.
const NO_VALID_VE_INFO: u64 = Status::new(Code::NoValidVeInfo, 0).0;
/// TDG.VP.VMCALL_INVALID_OPERAND.
pub(super) const INVALID_OPERAND: u64 = CompletionStatus::InvalidOperand.r10();
/// R10 to R15.
const MASK: u64 = mask::R10_TO_R15;
const DID_VID: u64 = 0x0001_1014;

pub(super) fn guests() -> Vec<Guest> {
    vec![
        Guest {
            prints: &["!"],
            ..Guest::new("TDCALLs", |l1| write(l1, 48))
        },
        Guest {
            gpaw: Gpaw::Bits52,
            prints: &["!"],
            ..Guest::new("TDCALLs, GPAW 52", |l1| write(l1, 52))
        },
        Guest {
            window: Window::Hole,
            prints: &["!"],
            ..Guest::new("TDCALLs, window host-routed", |l1| write(l1, 48))
        },
        Guest::reported(
            "TDVMCALL<ReportFatalError>",
            &["the guest reports fatal error 0x2a: OUT OF COFFEE"],
            fatal_error,
        ),
    ]
}

fn write(l1: &L1Image, gpaw: u32) -> Result<Blob> {
    let mut p = Program::new()?;
    vmcalls(&mut p, gpaw)?;
    leaves(&mut p, gpaw, l1.processors)?;
    l1_memory(&mut p, l1)?;
    user(&mut p)?;
    p.power_off()?;
    p.assemble()
}

/// TDG.VP.VMCALL with R10 to R15.
pub(super) fn vmcall(p: &mut Program, arguments: [u64; 6]) -> Result<()> {
    for (register, value) in [r10, r11, r12, r13, r14, r15].into_iter().zip(arguments) {
        p.a.mov(register, value)?;
    }
    p.a.mov(rcx, MASK)?;
    p.a.xor(eax, eax)?;
    p.a.db(&TDCALL)?;
    Ok(())
}

/// A leaf with RCX, RDX, R8.
fn leaf(p: &mut Program, number: u64, arguments: [u64; 3]) -> Result<()> {
    for (register, value) in [rcx, rdx, r8].into_iter().zip(arguments) {
        p.a.mov(register, value)?;
    }
    p.a.mov(rax, number)?;
    p.a.db(&TDCALL)?;
    Ok(())
}

fn vmcalls(p: &mut Program, gpaw: u32) -> Result<()> {
    const CPUID: u64 = 10;
    const IO: u64 = 30;
    const RDMSR: u64 = 31;
    const MMIO: u64 = 48;
    const MAP_GPA: u64 = 0x10001;
    const GET_QUOTE: u64 = 0x10002;
    const SERVICE: u64 = 0x10005;
    let shared = 1 << (gpaw - 1);
    vmcall(p, [0, MMIO, 4, 0, TPM + 0xF00, 0])?;
    p.check("TDVMCALL<MMIO>: status in RAX", 0)?;
    for (name, register, address) in [
        ("TDVMCALL<MMIO>: DID_VID", r11, TPM + 0xF00),
        ("TDVMCALL<MMIO>: R10", r10, TPM + 0xF00),
        (
            "TDVMCALL<MMIO>: DID_VID by a shared address",
            r11,
            shared | (TPM + 0xF00),
        ),
    ] {
        vmcall(p, [0, MMIO, 4, 0, address, 0])?;
        p.a.mov(rax, register)?;
        p.check(name, if register == r10 { 0 } else { DID_VID })?;
    }
    vmcall(p, [0, MMIO, 1, 1, TPM, 2])?;
    p.a.movzx(eax, iced_x86::code_asm::byte_ptr(rbx))?;
    p.check("TDVMCALL<MMIO>: a write reaches the same TPM", 0xA1)?;
    vmcall(p, [0, MMIO, 1, 0, TPM, 0])?;
    p.a.mov(rax, r11)?;
    p.check("TDVMCALL<MMIO>: and is read back", 0xA1)?;
    for (name, arguments, r10_value) in [
        (
            "TDVMCALL<MMIO>: width 3",
            [0, MMIO, 3, 0, TPM, 0],
            INVALID_OPERAND,
        ),
        (
            "TDVMCALL<MMIO>: across two pages",
            [0, MMIO, 4, 0, TPM + 0xFFE, 0],
            INVALID_OPERAND,
        ),
        (
            "TDVMCALL<MMIO>: L2's memory",
            [0, MMIO, 4, 0, place::BUFFER, 0],
            INVALID_OPERAND,
        ),
        ("TDVMCALL<CPUID>", [0, CPUID, 0x4000_0000, 0, 0, 0], 0),
        (
            "TDVMCALL<RDMSR>: unknown register",
            [0, RDMSR, 0x1234_5678, 0, 0, 0],
            INVALID_OPERAND,
        ),
        (
            "TDVMCALL<MapGPA> to private",
            [0, MAP_GPA, place::BUFFER, 0x1000, 0, 0],
            0,
        ),
        (
            "TDVMCALL<MapGPA> to shared",
            [0, MAP_GPA, place::BUFFER | shared, 0x1000, 0, 0],
            INVALID_OPERAND,
        ),
        (
            "TDVMCALL<GetQuote>",
            [0, GET_QUOTE, place::BUFFER | shared, 0x1000, 0, 0],
            INVALID_OPERAND,
        ),
        (
            "TDVMCALL<Service>",
            [0, SERVICE, place::BUFFER, place::BUFFER + 0x1000, 0, 0],
            INVALID_OPERAND,
        ),
        (
            "TDVMCALL of an unknown sub-function",
            [0, 0x7777, 0, 0, 0, 0],
            INVALID_OPERAND,
        ),
        (
            "TDVMCALL of a vendor",
            [1, MMIO, 4, 0, TPM, 0],
            INVALID_OPERAND,
        ),
    ] {
        vmcall(p, arguments)?;
        p.a.mov(rax, r10)?;
        p.check(name, r10_value)?;
    }
    // Registers that are not in the mask stay as they are.
    p.a.mov(r11, MMIO)?;
    p.a.mov(rcx, 0x400_u64)?;
    p.a.mov(r10, 5_u64)?;
    p.a.xor(eax, eax)?;
    p.a.db(&TDCALL)?;
    p.a.mov(rax, r11)?;
    p.check("TDVMCALL: R11 outside the mask", MMIO)?;
    p.a.mov(rcx, MASK | 1)?;
    p.a.xor(eax, eax)?;
    p.a.db(&TDCALL)?;
    p.check("TDVMCALL: RAX in the mask", INVALID_RCX)?;
    for byte in b"\n!\n" {
        vmcall(p, [0, IO, 1, 1, 0x3F8, u64::from(*byte)])?;
    }
    p.a.mov(rax, r10)?;
    p.check("TDVMCALL<IO>", 0)
}

fn leaves(p: &mut Program, gpaw: u32, processors: u32) -> Result<()> {
    let processors = u64::from(processors);
    const VP_INFO: u64 = 1;
    leaf(p, VP_INFO, [0; 3])?;
    p.check("TDG.VP.INFO", 0)?;
    for (name, register, value) in [
        ("TDG.VP.INFO: GPAW", rcx, u64::from(gpaw)),
        ("TDG.VP.INFO: processors", r8, processors << 32 | processors),
        ("TDG.VP.INFO: its number", r9, 0),
    ] {
        leaf(p, VP_INFO, [0; 3])?;
        p.a.mov(rax, register)?;
        p.check(name, value)?;
    }
    let buffer = place::BUFFER;
    for (name, number, arguments, status) in [
        ("TDG.MR.RTMR.EXTEND", 2, [buffer, 2, 0], INVALID_RAX),
        ("TDG.VP.VEINFO.GET", 3, [0; 3], NO_VALID_VE_INFO),
        ("TDG.MR.REPORT", 4, [buffer, buffer + 0x400, 0], INVALID_RAX),
        ("TDG.MEM.PAGE.ACCEPT of L2's page", 6, [buffer, 0, 0], 0),
        (
            "TDG.MEM.PAGE.ATTR.WR",
            24,
            [buffer, 0x8007_0000, 0x8007_0000],
            INVALID_RAX,
        ),
        ("TDG.VP.ENTER", 25, [1 << 52, buffer, 0], INVALID_RAX),
        ("unknown leaf", 0x77, [0; 3], INVALID_RAX),
        ("unknown version", 1 | 5 << 16, [0; 3], INVALID_RAX),
    ] {
        leaf(p, number, arguments)?;
        p.check(name, status)?;
    }
    p.a.mov(esi, buffer as u32)?;
    p.a.mov(edi, buffer as u32 + 1)?;
    p.a.mov(ecx, 0x800)?;
    p.a.repe().cmpsb()?;
    p.a.mov(rax, rcx)?;
    p.check("no report was written", 0)
}

/// Neither accepting nor describing L1's memory gets L2 anywhere.
fn l1_memory(p: &mut Program, l1: &L1Image) -> Result<()> {
    leaf(p, 6, [l1.start, 0, 0])?;
    p.check("TDG.MEM.PAGE.ACCEPT of L1's page", INVALID_RCX)?;
    leaf(p, 6, [l1.start & !0x1F_FFFF | 1, 0, 0])?;
    p.check("TDG.MEM.PAGE.ACCEPT of L1's large page", INVALID_RCX)?;
    for (name, arguments) in [
        ("TDVMCALL<MMIO> of L1's memory", [0, 48, 8, 0, l1.start, 0]),
        (
            "TDVMCALL<MapGPA> of L1's memory",
            [0, 0x10001, l1.start, 0x1000, 0, 0],
        ),
        (
            "TDVMCALL<Service> into L1's memory",
            [0, 0x10005, l1.start, l1.start, 0, 0],
        ),
    ] {
        vmcall(p, arguments)?;
        p.a.mov(rax, r10)?;
        p.check(name, INVALID_OPERAND)?;
    }
    Ok(())
}

/// TDCALL at CPL 3, after a round trip there that must work.
fn user(p: &mut Program) -> Result<()> {
    const USER: u64 = 1 << 2;
    let a = &mut p.a;
    // The program's first 2 MiB page and the first one of all, for the stack.
    a.mov(rdx, cr3)?;
    a.or(qword_ptr(rdx), USER as i32)?;
    a.or(qword_ptr(rdx + 0x1000), USER as i32)?;
    a.or(qword_ptr(rdx + 0x2000), USER as i32)?;
    a.or(
        qword_ptr(rdx + 0x2000 + (BASE >> 21) as i32 * 8),
        USER as i32,
    )?;
    a.mov(cr3, rdx)?;
    for (name, instruction, expected) in [
        ("HLT at CPL 3", &[0xF4_u8][..], GENERAL_PROTECTION),
        ("TDCALL at CPL 3", &TDCALL, GENERAL_PROTECTION),
        (
            "CPUID and INT3 at CPL 3",
            &[0x0F, 0xA2, 0x0F, 0x0B],
            super::program::INVALID_OPCODE,
        ),
    ] {
        p.check_fault(name, expected, |a| {
            let mut user = a.create_label();
            a.push(selector::USER_DATA as i32)?;
            a.push(place::USER_STACK as i32)?;
            a.pushfq()?;
            a.push(selector::USER_CODE as i32)?;
            a.lea(rax, qword_ptr(user))?;
            a.push(rax)?;
            a.xor(eax, eax)?;
            a.iretq()?;
            a.set_label(&mut user)?;
            a.db(instruction)?;
            a.ud2()?;
            Ok(())
        })?;
    }
    p.check_fault("no exception without a cause", NO_FAULT, |a| {
        a.nop()?;
        Ok(())
    })
}

fn fatal_error(_: &L1Image) -> Result<Blob> {
    const TEXT: &[u8; 16] = b"OUT OF COFFEE\0\0\0";
    let mut p = Program::new()?;
    let half = |index: usize| {
        let bytes = TEXT[index * 8..].first_chunk().copied().unwrap_or_default();
        u64::from_le_bytes(bytes)
    };
    p.a.xor(esi, esi)?;
    p.a.mov(rdi, rsi)?;
    vmcall(&mut p, [0, 0x10003, 0x2A, 0, half(0), half(1)])?;
    p.say("@still running")?;
    p.halt()?;
    p.assemble()
}
