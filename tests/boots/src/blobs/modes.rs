//! Out of 64-bit mode and back: protected mode without paging, 32-bit paging, PAE paging.
//!
//! Real mode is not here: QEMU's TCG before 9.1 cannot run it under nested paging.

use super::guest::Guest;
use super::l1_image::L1Image;
use super::program::{Blob, Program, TPM, selector};
use super::runtime::place;
use anyhow::Result;
use iced_x86::code_asm::{
    CodeAssembler, al, cr0, cr3, cr4, ds, dword_ptr, dx, eax, ecx, edx, es, esp, qword_ptr, rax,
    rsp, ss,
};
use x86_defs::msr::IA32_EFER;
use x86_defs::{cr0, cr4, efer, paging};

const DID_VID: u64 = 0x0001_1014;
const PG: i32 = cr0::PG as i32;
const PAE: u32 = cr4::PAE as u32;
const PSE: u32 = cr4::PSE as u32;
const LME: u32 = efer::LME as u32;
/// A page directory of 4 MiB pages, and PDPTEs that lead to the boot page tables' directories.
const DIRECTORY: u32 = place::PAGE_TABLES as u32;
const PDPTES: u32 = place::PAGE_TABLES as u32 + 0x1000;

/// What the 32-bit code finds, a doubleword each.
const FOUND: [(&str, u64); 8] = [
    ("compatibility mode: DID_VID", DID_VID),
    ("no paging: EFER has no LMA", 0x800),
    ("no paging: DID_VID", DID_VID),
    ("no paging: CPUID 0x40000000", 0x4000_0001),
    ("32-bit paging: DID_VID", DID_VID),
    (
        "32-bit paging: a page that is not mapped to itself",
        DID_VID,
    ),
    ("PAE paging: DID_VID", DID_VID),
    ("PAE paging: CR4", PAE as u64),
];

pub(super) fn guests() -> Vec<Guest> {
    vec![Guest {
        prints: &["cnpe"],
        ..Guest::new("paging modes", write)
    }]
}

fn write(_: &L1Image) -> Result<Blob> {
    let mut p = Program::new()?;
    let mut back = p.a.create_label();
    p.a.mov(dx, 0x3F8)?;
    p.a.lea(rax, qword_ptr(back))?;
    p.a.mov(qword_ptr(place::RESULTS + 0x80), rax)?;
    p.a.push(selector::CODE_32 as i32)?;
    p.a.push(place::MORE_CODE as i32)?;
    // RETF with a 64-bit operand.
    p.a.db(&[0x48, 0xCB])?;
    p.a.set_label(&mut back)?;
    // The upper halves are undefined after 32-bit code.
    p.a.mov(eax, esp)?;
    p.a.mov(rsp, rax)?;
    p.a.mov(iced_x86::code_asm::rbx, TPM)?;
    for (index, (name, value)) in FOUND.into_iter().enumerate() {
        p.a.mov(eax, dword_ptr(place::RESULTS + index as u64 * 4))?;
        p.check(name, value)?;
    }
    p.a.mov(ecx, IA32_EFER)?;
    p.a.rdmsr()?;
    p.check("64-bit mode again: EFER", 0xD00)?;
    p.a.mov(eax, dword_ptr(iced_x86::code_asm::rbx + 0xF00))?;
    p.check("64-bit mode again: DID_VID", DID_VID)?;
    p.place(place::MORE_CODE, code_32()?);
    p.power_off()?;
    p.assemble()
}

/// In compatibility mode, with DX = COM1.
fn code_32() -> Result<Vec<u8>> {
    let mut a = CodeAssembler::new(32)?;
    a.mov(eax, selector::DATA as u32)?;
    a.mov(ds, eax)?;
    a.mov(es, eax)?;
    a.mov(ss, eax)?;
    print(&mut a, b'c')?;
    read_tpm(&mut a, 0)?;
    // 64-bit paging ends: LMA goes with PG.
    a.mov(eax, cr0)?;
    a.btr(eax, 31)?;
    a.mov(cr0, eax)?;
    a.mov(ecx, IA32_EFER)?;
    a.rdmsr()?;
    a.and(eax, !LME as i32)?;
    a.wrmsr()?;
    a.rdmsr()?;
    store(&mut a, 1)?;
    a.mov(edx, 0x3F8)?;
    print(&mut a, b'n')?;
    read_tpm(&mut a, 2)?;
    a.mov(eax, 0x4000_0000_u32)?;
    a.cpuid()?;
    store(&mut a, 3)?;
    a.mov(edx, 0x3F8)?;
    paging_32(&mut a)?;
    print(&mut a, b'p')?;
    paging_pae(&mut a)?;
    print(&mut a, b'e')?;
    print(&mut a, b'\n')?;
    back_to_64(&mut a)?;
    Ok(a.assemble(place::MORE_CODE)?)
}

fn print(a: &mut CodeAssembler, character: u8) -> Result<()> {
    a.mov(al, u32::from(character))?;
    a.out(dx, al)?;
    Ok(())
}

fn store(a: &mut CodeAssembler, index: u32) -> Result<()> {
    a.mov(dword_ptr(place::RESULTS as u32 + index * 4), eax)?;
    Ok(())
}

fn read_tpm(a: &mut CodeAssembler, index: u32) -> Result<()> {
    a.mov(eax, dword_ptr(TPM as u32 + 0xF00))?;
    store(a, index)
}

/// Everything mapped to itself but 0xC0000000, which is the TPM's 4 MiB.
fn paging_32(a: &mut CodeAssembler) -> Result<()> {
    const LARGE: u32 = (paging::LARGE | paging::PRESENT | paging::WRITABLE) as u32;
    let mut next = a.create_label();
    a.xor(ecx, ecx)?;
    a.set_label(&mut next)?;
    a.mov(eax, ecx)?;
    a.shl(eax, 22)?;
    a.or(eax, LARGE as i32)?;
    a.mov(dword_ptr(ecx * 4 + DIRECTORY), eax)?;
    a.inc(ecx)?;
    a.cmp(ecx, 1024)?;
    a.jne(next)?;
    a.mov(
        dword_ptr(DIRECTORY + (0xC000_0000_u32 >> 22) * 4),
        TPM as u32 & 0xFFC0_0000 | LARGE,
    )?;
    a.mov(eax, cr4)?;
    a.and(eax, !PAE as i32)?;
    a.or(eax, PSE as i32)?;
    a.mov(cr4, eax)?;
    a.mov(eax, DIRECTORY)?;
    a.mov(cr3, eax)?;
    set_paging(a, true)?;
    read_tpm(a, 4)?;
    a.mov(eax, dword_ptr(0xC000_0F00 + (TPM as u32 & 0x3F_FFFF)))?;
    store(a, 5)?;
    set_paging(a, false)
}

fn paging_pae(a: &mut CodeAssembler) -> Result<()> {
    /// The boot page tables' four directories.
    const BOOT_DIRECTORIES: u32 = 0x1_4000;
    for gib in 0..4 {
        a.mov(
            dword_ptr(PDPTES + gib * 8),
            (BOOT_DIRECTORIES + gib * 0x1000) | 1,
        )?;
        a.mov(dword_ptr(PDPTES + gib * 8 + 4), 0)?;
    }
    a.mov(eax, cr4)?;
    a.and(eax, !PSE as i32)?;
    a.or(eax, PAE as i32)?;
    a.mov(cr4, eax)?;
    a.mov(eax, PDPTES)?;
    a.mov(cr3, eax)?;
    set_paging(a, true)?;
    read_tpm(a, 6)?;
    a.mov(eax, cr4)?;
    store(a, 7)?;
    set_paging(a, false)
}

fn set_paging(a: &mut CodeAssembler, on: bool) -> Result<()> {
    a.mov(eax, cr0)?;
    if on {
        a.or(eax, PG)?;
    } else {
        a.and(eax, !PG)?;
    }
    a.mov(cr0, eax)?;
    Ok(())
}

/// With the boot page tables, to the address that was left in [`place::RESULTS`].
fn back_to_64(a: &mut CodeAssembler) -> Result<()> {
    const BOOT_PAGE_TABLES: u32 = 0x1_2000;
    a.mov(eax, BOOT_PAGE_TABLES)?;
    a.mov(cr3, eax)?;
    a.mov(ecx, IA32_EFER)?;
    a.rdmsr()?;
    a.or(eax, LME as i32)?;
    a.wrmsr()?;
    set_paging(a, true)?;
    a.push(selector::CODE_64 as i32)?;
    a.push(dword_ptr(place::RESULTS as u32 + 0x80))?;
    a.retf()?;
    Ok(())
}
