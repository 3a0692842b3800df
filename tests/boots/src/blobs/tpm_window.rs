//! Every form of instruction that reaches the TPM's registers, by every route.

use super::guest::Guest;
use super::l1_image::L1Image;
use super::program::{Blob, Program, TPM, execute, tpm};
use super::runtime::place;
use anyhow::Result;
use iced_x86::IcedError;
use iced_x86::code_asm::{
    AsmRegister64, CodeAssembler, ah, al, ax, byte_ptr, cl, dl, dword_ptr, eax, ebp, ebx, ecx, edi,
    edx, qword_ptr, r15, r15d, rax, rbx, rcx, rdi, rdx, rsi, word_ptr,
};
use simulator::{Gpaw, Window};
use x86_defs::paging::{LARGE, PAGE_2M, PRESENT, WRITABLE};

/// DID_VID, an address whose value never changes.
const DID_VID: i32 = 0xF00;
const DID_VID_VALUE: u64 = 0x0001_1014;
/// INTF_CAPABILITY, 0x30000697: its low byte is negative.
const CAPABILITY: i32 = 0x14;
/// Writable bits of INT_ENABLE that the checks use.
const ENABLED: u32 = 0x8000_0081;
const E: i32 = tpm::INT_ENABLE;
/// Offsets in a page of 2 MiB.
const LARGE_PAGE: u64 = PAGE_2M - 1;

pub(super) fn guests() -> Vec<Guest> {
    vec![
        Guest::new("TPM window", window),
        Guest {
            counts: &["instructions_known"],
            ..Guest::new("TPM window, instructions that L1 knows", window_known)
        },
        Guest {
            gpaw: Gpaw::Bits52,
            ..Guest::new("TPM window, GPAW 52", window_52)
        },
        Guest {
            options: &["fault=busy:25:4,host-route:48:3,l1-interrupt:5"],
            counts: &["host_routed", "instructions_known"],
            ..Guest::new("TPM window, host in the way", window_known)
        },
        Guest {
            window: Window::Hole,
            counts: &["host_routed"],
            ..Guest::new("TPM window, host-routed", window)
        },
        Guest {
            window: Window::Hole,
            counts: &["host_routed"],
            gpaw: Gpaw::Bits52,
            ..Guest::new("TPM window, host-routed, GPAW 52", window_52)
        },
    ]
}

fn window(_: &L1Image) -> Result<Blob> {
    all(1 << 47, false)
}

fn window_52(_: &L1Image) -> Result<Blob> {
    all(1 << 51, false)
}

/// In the upper half of the address space, where L1 keeps what it has decoded.
fn window_known(_: &L1Image) -> Result<Blob> {
    all(1 << 47, true)
}

fn all(shared_bit: u64, upper_half: bool) -> Result<Blob> {
    let mut p = Program::new()?;
    if upper_half {
        p.move_to_upper_half()?;
    }
    p.take_tpm()?;
    for form in forms() {
        // Decoded at the first time, perhaps known at the second.
        let mut again = p.a.create_label();
        p.a.mov(ebp, 2)?;
        p.a.set_label(&mut again)?;
        p.a.mov(dword_ptr(rbx + E), ENABLED)?;
        p.a.xor(eax, eax)?;
        p.a.xor(ecx, ecx)?;
        p.a.xor(edx, edx)?;
        (form.code)(&mut p.a)?;
        p.a.dec(ebp)?;
        p.a.jnz(again)?;
        p.check(form.name, form.value)?;
    }
    strings(&mut p)?;
    borders(&mut p)?;
    shared(&mut p, shared_bit)?;
    p.power_off()?;
    p.assemble()
}

/// A few instructions and what RAX must be then. INT_ENABLE is [`ENABLED`], RAX to RDX are 0.
struct Form {
    name: &'static str,
    code: fn(&mut CodeAssembler) -> Result<(), IcedError>,
    value: u64,
}

const fn form(
    name: &'static str,
    value: u64,
    code: fn(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Form {
    Form { name, code, value }
}

/// The register's value after an instruction that changed it.
fn read_back(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.mov(eax, dword_ptr(rbx + E))
}

fn forms() -> Vec<Form> {
    let enabled = u64::from(ENABLED);
    vec![
        form("mov r8", 0x14, |a| a.mov(al, byte_ptr(rbx + DID_VID))),
        form("mov high r8", 0x1000, |a| {
            a.mov(ah, byte_ptr(rbx + DID_VID + 1))
        }),
        form("mov r16", 0x1014, |a| a.mov(ax, word_ptr(rbx + DID_VID))),
        form("mov r32", DID_VID_VALUE, |a| {
            a.mov(eax, dword_ptr(rbx + DID_VID))
        }),
        form("mov r32 clears the upper half", DID_VID_VALUE, |a| {
            a.mov(r15, -1_i64 as u64)?;
            a.mov(r15d, dword_ptr(rbx + DID_VID))?;
            a.mov(rax, r15)
        }),
        form("mov r64", 0x1_0001_1014, |a| {
            a.mov(rax, qword_ptr(rbx + DID_VID))
        }),
        form("mov by a 64-bit address", DID_VID_VALUE, |a| {
            a.db(&[0xA1])?;
            a.dq(&[TPM + DID_VID as u64])
        }),
        form("mov by a 32-bit base", DID_VID_VALUE, |a| {
            a.mov(eax, dword_ptr(ebx + DID_VID))
        }),
        form("mov by base, index and scale", DID_VID_VALUE, |a| {
            a.mov(rcx, 0x1E0_u64)?;
            a.mov(eax, dword_ptr(rbx + rcx * 8))
        }),
        form("movzx from a byte", 0x97, |a| {
            a.movzx(eax, byte_ptr(rbx + CAPABILITY))
        }),
        form("movzx from a word", 0x0697, |a| {
            a.movzx(rax, word_ptr(rbx + CAPABILITY))
        }),
        form("movsx from a byte", 0xFFFF_FF97, |a| {
            a.movsx(eax, byte_ptr(rbx + CAPABILITY))
        }),
        form("movsx to 64 bits", -105_i64 as u64, |a| {
            a.movsx(rax, byte_ptr(rbx + CAPABILITY))
        }),
        form("movsxd", 0xFFFF_FFFF_8000_0081, |a| {
            a.movsxd(rax, dword_ptr(rbx + E))
        }),
        form("mov from r8", enabled & !0xFF | 0x12, |a| {
            a.mov(dl, 0x12)?;
            a.mov(byte_ptr(rbx + E), dl)?;
            read_back(a)
        }),
        form("mov from r16", 0x8000_0012, |a| {
            a.mov(edx, 0xFFFF_FF12_u32)?;
            a.mov(word_ptr(rbx + E), iced_x86::code_asm::dx)?;
            read_back(a)
        }),
        form("mov from r32", 0x15, |a| {
            a.mov(edx, 0x15)?;
            a.mov(dword_ptr(rbx + E), edx)?;
            read_back(a)
        }),
        form("mov from r64", 0x8000_0003, |a| {
            a.mov(rdx, 0xFFFF_FFFF_8000_0003_u64)?;
            a.mov(qword_ptr(rbx + E), rdx)?;
            read_back(a)
        }),
        form("mov from an immediate", 0x8000_0004, |a| {
            a.mov(dword_ptr(rbx + E), 0x8000_0004_u32)?;
            read_back(a)
        }),
        form("xchg gives the old value", enabled, |a| {
            a.mov(eax, 3)?;
            a.xchg(dword_ptr(rbx + E), eax)
        }),
        form("xchg stores the new value", 3, |a| {
            a.mov(edx, 3)?;
            a.xchg(dword_ptr(rbx + E), edx)?;
            read_back(a)
        }),
        form("and", 0x81, |a| {
            a.and(dword_ptr(rbx + E), 0x7FFF_FFFF)?;
            read_back(a)
        }),
        form("or", enabled | 6, |a| {
            a.or(byte_ptr(rbx + E), 6)?;
            read_back(a)
        }),
        form("xor", 0x82, |a| {
            a.mov(edx, 0x8000_0003_u32)?;
            a.xor(dword_ptr(rbx + E), edx)?;
            read_back(a)
        }),
        form("lock or", enabled | 2, |a| {
            a.lock().or(dword_ptr(rbx + E), 2)?;
            read_back(a)
        }),
        form("add", enabled + 2, |a| {
            a.add(dword_ptr(rbx + E), 2)?;
            read_back(a)
        }),
        form("sub", enabled - 1, |a| {
            a.sub(dword_ptr(rbx + E), 1)?;
            read_back(a)
        }),
        form("not", 0x1E, |a| {
            a.not(dword_ptr(rbx + E))?;
            read_back(a)
        }),
        form("add to a register", DID_VID_VALUE + 5, |a| {
            a.mov(eax, 5)?;
            a.add(eax, dword_ptr(rbx + DID_VID))
        }),
        form("and with a register", 0x1000, |a| {
            a.mov(eax, 0xFF00)?;
            a.and(eax, dword_ptr(rbx + DID_VID))
        }),
        form("test finds a set bit", 0, |a| {
            a.test(dword_ptr(rbx + DID_VID), 0x10)?;
            a.setz(al)
        }),
        form("test finds a clear bit", 1, |a| {
            a.test(dword_ptr(rbx + DID_VID), 0x20)?;
            a.setz(al)
        }),
        form("cmp with an immediate", 1, |a| {
            a.cmp(dword_ptr(rbx + DID_VID), DID_VID_VALUE as i32)?;
            a.sete(al)
        }),
        form("cmp of a register", 1, |a| {
            a.mov(edx, 1)?;
            a.cmp(edx, dword_ptr(rbx + DID_VID))?;
            a.setb(al)
        }),
        form("lodsd", DID_VID_VALUE, |a| {
            a.lea(rsi, rbx + DID_VID)?;
            a.lodsd()
        }),
        form("stosd", 0x8000_0002, |a| {
            a.lea(rdi, rbx + E)?;
            a.mov(eax, 0x8000_0002_u32)?;
            a.stosd()?;
            read_back(a)
        }),
        form("scasd", 1, |a| {
            a.lea(rdi, rbx + DID_VID)?;
            a.mov(eax, DID_VID_VALUE as u32)?;
            a.scasd()?;
            a.sete(cl)?;
            a.mov(eax, ecx)
        }),
        form("cmpsd of two registers", 0, |a| {
            a.lea(rsi, rbx + DID_VID)?;
            a.lea(rdi, rbx + CAPABILITY)?;
            a.cmpsd()?;
            a.sete(al)
        }),
        form(
            "movsd from a register to a register",
            DID_VID_VALUE & 0x9F,
            |a| {
                a.lea(rsi, rbx + DID_VID)?;
                a.lea(rdi, rbx + E)?;
                a.movsd()?;
                read_back(a)
            },
        ),
        form("movsb backwards", 0x14, |a| {
            a.std()?;
            a.lea(rsi, rbx + DID_VID)?;
            a.mov(edi, place::BUFFER as u32)?;
            a.movsb()?;
            a.cld()?;
            a.movzx(eax, byte_ptr(place::BUFFER))
        }),
        form("a segment base is added", DID_VID_VALUE, |a| {
            a.mov(ecx, 0xC000_0100_u32)?;
            a.mov(eax, TPM as u32)?;
            a.wrmsr()?;
            a.mov(ecx, DID_VID)?;
            a.mov(eax, dword_ptr(rcx).fs())
        }),
    ]
}

/// A command in and its response out by REP MOVSB, through the FIFO's 64-byte window.
fn strings(p: &mut Program) -> Result<()> {
    const XDATA_FIFO: i32 = 0x80;
    let startup = p.data(&[0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, 0]);
    let a = &mut p.a;
    a.mov(dword_ptr(rbx + tpm::STS), tpm::COMMAND_READY)?;
    a.lea(rsi, qword_ptr(startup))?;
    a.lea(rdi, rbx + XDATA_FIFO)?;
    a.mov(ecx, 12)?;
    a.rep().movsb()?;
    a.mov(rax, rdi)?;
    a.sub(rax, rbx)?;
    a.or(rax, rcx)?;
    p.check("rep movsb to the FIFO ends behind the last byte", 0x8C)?;
    p.a.mov(eax, dword_ptr(rbx + tpm::STS))?;
    p.a.and(eax, 0x88)?;
    p.check("the TPM has the whole command", 0x80)?;
    let a = &mut p.a;
    execute(a)?;
    a.mov(edi, place::RESPONSE as u32)?;
    a.lea(rsi, rbx + XDATA_FIFO)?;
    a.mov(ecx, 10)?;
    a.rep().movsb()?;
    a.mov(rax, qword_ptr(place::RESPONSE))?;
    p.check(
        "rep movsb from the FIFO",
        u64::from_le_bytes([0x80, 1, 0, 0, 0, 10, 0, 0]),
    )?;
    p.a.mov(eax, dword_ptr(rbx + tpm::STS))?;
    p.a.and(eax, 0x90)?;
    p.check("the response is over", 0x80)
}

/// Accesses that lie across the border of two localities' pages.
fn borders(p: &mut Program) -> Result<()> {
    // Locality 0 has nothing at 0xFFE, locality 1 has its ACCESS register at 0.
    p.a.mov(eax, dword_ptr(rbx + 0xFFE))?;
    p.check("read across two pages", 0x0081_FFFF)?;
    p.a.mov(rax, qword_ptr(rbx + 0xFFC))?;
    p.check("8 bytes across two pages", 0x0000_0081_FFFF_FFFF)?;
    p.a.mov(ax, word_ptr(rbx + 0x1FFF))?;
    p.a.movzx(eax, ax)?;
    p.check("2 bytes across two pages", 0x81FF)?;
    // A write across the border: locality 1 requests the TPM, which locality 0 sees.
    p.a.mov(word_ptr(rbx + 0xFFF), 0x02FF)?;
    p.a.movzx(eax, byte_ptr(rbx + tpm::ACCESS))?;
    p.check("write across two pages", 0xA5)?;
    p.a.mov(byte_ptr(rbx + 0x1000), 0x20)?;
    // The byte before the window belongs to nobody.
    p.a.mov(ax, word_ptr(rbx - 1))?;
    p.a.movzx(eax, ax)?;
    p.check("2 bytes across the start of the window", 0xA1FF)?;
    p.a.mov(ax, word_ptr(rbx + 0x4FFF))?;
    p.a.movzx(eax, ax)?;
    p.check("2 bytes across the end of the window", 0xFFFF)
}

/// The same registers at addresses with the shared bit: it tells L2's wish, not another device.
fn shared(p: &mut Program, shared_bit: u64) -> Result<()> {
    let (pointers, directory) = (place::PAGE_TABLES, place::PAGE_TABLES + 0x1000);
    let a = &mut p.a;
    a.mov(rdx, iced_x86::code_asm::cr3)?;
    a.mov(rax, pointers | PRESENT | WRITABLE)?;
    a.mov(qword_ptr(rdx + 8), rax)?;
    a.mov(rax, directory | PRESENT | WRITABLE)?;
    a.mov(qword_ptr(pointers), rax)?;
    let page = shared_bit | TPM & !LARGE_PAGE;
    a.mov(rax, page | LARGE | PRESENT | WRITABLE)?;
    a.mov(qword_ptr(directory), rax)?;
    let base = alias(a)?;
    a.mov(eax, dword_ptr(base + DID_VID))?;
    p.check("shared bit: read", DID_VID_VALUE)?;
    let base = alias(&mut p.a)?;
    p.a.mov(dword_ptr(base + E), 0x8000_0005_u32)?;
    p.a.mov(eax, dword_ptr(rbx + E))?;
    p.check("shared bit: a write is seen without it", 0x8000_0005)?;
    let base = alias(&mut p.a)?;
    p.a.mov(eax, dword_ptr(base + 0xFFE))?;
    p.check("shared bit: across two pages", 0x0081_FFFF)?;
    let base = alias(&mut p.a)?;
    p.a.or(dword_ptr(base + E), 2)?;
    p.a.mov(eax, dword_ptr(rbx + E))?;
    p.check("shared bit: read-modify-write", 0x8000_0007)
}

/// RSI: where [`shared`] maps the window. A check uses RSI.
fn alias(a: &mut CodeAssembler) -> Result<AsmRegister64> {
    a.mov(rsi, (1_u64 << 39) + (TPM & LARGE_PAGE))?;
    Ok(rsi)
}
