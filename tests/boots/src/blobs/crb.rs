//! A guest at the command response buffer, whose page it writes without exits: while a command runs, by aliases, with sizes that
//! are lies.

use super::guest::Guest;
use super::l1_image::L1Image;
use super::program::{Assembled, Blob, Program, TPM};
use super::runtime::place;
use super::tpm_commands::{GET_RANDOM, INITIALIZE, STARTUP};
use anyhow::Result;
use iced_x86::code_asm::{
    CodeAssembler, al, byte_ptr, cr3, dword_ptr, eax, ecx, edi, edx, qword_ptr, r8, r9d, rax, rbx,
    rcx, rdi, rdx, rsi,
};
use simulator::Window;
use tcg_defs::ptp::crb as register;
use x86_defs::paging::{LARGE, PAGE_2M, PRESENT, WRITABLE};

/// What a host chooses so that the registers are these.
pub(super) const CHOSEN: &str = "fwcfg=opt/org.tdp-vtpm/tpm-interface:crb";

// Offsets in locality 0's page (PTP 1.05, "CRB Interface").
pub(super) const LOC_STATE: i32 = register::LOC_STATE as i32;
pub(super) const LOC_CTRL: i32 = register::LOC_CTRL as i32;
pub(super) const CTRL_REQ: i32 = register::CTRL_REQ as i32;
pub(super) const CANCEL: i32 = register::CTRL_CANCEL as i32;
pub(super) const START: i32 = register::CTRL_START as i32;
pub(super) const CMD_SIZE: i32 = register::CTRL_CMD_SIZE as i32;
pub(super) const CMD_LADDR: i32 = register::CTRL_CMD_LADDR as i32;
pub(super) const RSP_LADDR: i32 = register::CTRL_RSP_LADDR as i32;
/// What is at the buffer's address, behind the registers.
const DATA: i32 = register::DATA_BUFFER as i32;
const ROOM: u32 = register::DATA_BUFFER_SIZE;
const _: () = assert!(ROOM.is_multiple_of(64));

pub(super) const REQUEST: u32 = 1;
pub(super) const RELINQUISH: u32 = 2;
pub(super) const COMMAND_READY: u32 = 1;
pub(super) const GO_IDLE: u32 = 2;
/// TPM_RC_COMMAND_SIZE.
const COMMAND_SIZE: u64 = 0x142;
/// TPM2_SelfTest of everything: it takes many slices.
pub(super) const SELF_TEST: [u8; 11] = [0x80, 0x01, 0, 0, 0, 11, 0, 0, 0x01, 0x43, 1];

pub(super) fn guests() -> Vec<Guest> {
    let crb = |guest| Guest {
        options: &[CHOSEN],
        ..guest
    };
    vec![
        crb(Guest::new("CRB pages", pages)),
        Guest {
            window: Window::Hole,
            counts: &["host_routed"],
            ..crb(Guest::new("CRB pages, registers host-routed", pages))
        },
    ]
}

/// Locality 0, and the TPM ready.
pub(super) fn take(a: &mut CodeAssembler) -> Assembled {
    a.mov(byte_ptr(rbx + LOC_CTRL), REQUEST)?;
    a.mov(dword_ptr(rbx + CTRL_REQ), COMMAND_READY)?;
    Ok(())
}

/// Starts what is in the buffer.
pub(super) fn start(a: &mut CodeAssembler) -> Assembled {
    a.mov(dword_ptr(rbx + START), 1)?;
    Ok(())
}

/// Polls until the command is over. A poll is no exit, and at PAUSE QEMU looks at everything that it has: there are many polls
/// for one.
pub(super) fn wait(a: &mut CodeAssembler) -> Assembled {
    const POLLS: u32 = 256;
    let (mut pause, mut poll, mut over) = (a.create_label(), a.create_label(), a.create_label());
    a.set_label(&mut pause)?;
    a.pause()?;
    a.mov(ecx, POLLS)?;
    a.set_label(&mut poll)?;
    a.test(dword_ptr(rbx + START), 1)?;
    a.jz(over)?;
    a.dec(ecx)?;
    a.jnz(poll)?;
    a.jmp(pause)?;
    a.set_label(&mut over)?;
    Ok(())
}

/// RDI: the buffer. RAX: the big-endian number at an offset of the response.
pub(super) fn response(a: &mut CodeAssembler, offset: i32) -> Assembled {
    a.mov(edi, dword_ptr(rbx + CMD_LADDR))?;
    a.mov(eax, dword_ptr(rdi + offset))?;
    a.bswap(eax)?;
    Ok(())
}

/// Puts bytes into the buffer.
pub(super) fn put(p: &mut Program, bytes: &[u8]) -> Assembled {
    let data = p.data(bytes);
    p.a.lea(rsi, qword_ptr(data))?;
    p.a.mov(edi, dword_ptr(rbx + CMD_LADDR))?;
    p.a.mov(ecx, bytes.len() as u32)?;
    p.a.rep().movsb()?;
    Ok(())
}

/// A command from its first byte to its response code, which RAX is.
pub(super) fn command(p: &mut Program, bytes: &[u8]) -> Assembled {
    put(p, bytes)?;
    start(&mut p.a)?;
    wait(&mut p.a)?;
    response(&mut p.a, 6)
}

/// The TPM answers as if nothing had been.
fn works(p: &mut Program, name: &str) -> Assembled {
    command(p, &GET_RANDOM)?;
    p.check(&format!("{name}: GetRandom works"), 0)?;
    response(&mut p.a, 2)?;
    p.check(&format!("{name}: and its response is whole"), 28)
}

fn pages(_: &L1Image) -> Result<Blob> {
    let mut p = Program::new()?;
    registers(&mut p)?;
    take(&mut p.a)?;
    command(&mut p, &STARTUP)?;
    p.check("Startup, of a TPM that L1 started", INITIALIZE)?;
    works(&mut p, "at first")?;
    sizes(&mut p)?;
    while_it_runs(&mut p)?;
    behind_the_registers(&mut p)?;
    aliases(&mut p)?;
    without_a_locality(&mut p)?;
    p.power_off()?;
    p.assemble()
}

/// What is told of the buffer, and that it can be written; what a write to a register's page does not.
fn registers(p: &mut Program) -> Assembled {
    p.a.mov(eax, dword_ptr(rbx + LOC_STATE))?;
    p.check("LOC_STATE", 0x81)?;
    p.a.mov(eax, dword_ptr(rbx + CMD_SIZE))?;
    p.check("room of the buffer", ROOM.into())?;
    p.a.mov(rax, qword_ptr(rbx + CMD_LADDR))?;
    p.a.sub(rax, qword_ptr(rbx + RSP_LADDR))?;
    p.check("one buffer for both", 0)?;
    p.a.mov(edi, dword_ptr(rbx + CMD_LADDR))?;
    p.a.mov(dword_ptr(rdi + ROOM as i32 - 4), 0x1234_5678)?;
    p.a.mov(eax, dword_ptr(rdi + ROOM as i32 - 4))?;
    p.check("the last bytes of it", 0x1234_5678)?;
    // Writes to what only reads: exits that change nothing.
    p.a.mov(qword_ptr(rbx + CMD_LADDR), 0)?;
    p.a.mov(dword_ptr(rbx + CMD_SIZE), 1)?;
    p.a.mov(dword_ptr(rbx + LOC_STATE), 0)?;
    p.a.mov(eax, dword_ptr(rbx + CMD_SIZE))?;
    p.check("its room is not written", ROOM.into())
}

/// Headers that say what is not: the engine is given what there is room for.
fn sizes(p: &mut Program) -> Assembled {
    for (name, size) in [
        ("size 0", 0_u32),
        ("size 9", 9),
        ("size 3969", 3969),
        ("size 0xFFFFFFFF", u32::MAX),
    ] {
        let mut lie = GET_RANDOM;
        lie[2..6].copy_from_slice(&size.to_be_bytes());
        command(p, &lie)?;
        p.check(name, COMMAND_SIZE)?;
        response(&mut p.a, 2)?;
        p.check(&format!("{name}: the response is whole"), 10)?;
    }
    works(p, "after lies")
}

/// How often the buffer is filled while a command runs: some milliseconds, and SelfTest takes 100.
const TIMES: u32 = 1000;

/// The buffer is filled with something else while the command runs, again and again, its header each time; not up to its end, for
/// then it would be the response's. (No string instruction: QEMU looks at everything that it has for each word of one.)
fn while_it_runs(p: &mut Program) -> Assembled {
    put(p, &SELF_TEST)?;
    start(&mut p.a)?;
    let a = &mut p.a;
    let (mut again, mut over) = (a.create_label(), a.create_label());
    // How often it was seen to run.
    a.xor(r8, r8)?;
    a.mov(edi, dword_ptr(rbx + CMD_LADDR))?;
    a.mov(rax, u64::MAX)?;
    let (mut all, mut more) = (a.create_label(), a.create_label());
    a.mov(r9d, TIMES)?;
    a.set_label(&mut all)?;
    a.xor(ecx, ecx)?;
    a.set_label(&mut again)?;
    a.test(dword_ptr(rbx + START), 1)?;
    a.jz(over)?;
    a.inc(r8)?;
    a.mov(qword_ptr(rdi), rax)?;
    a.mov(qword_ptr(rdi + 8), rax)?;
    a.mov(edx, 64)?;
    a.set_label(&mut more)?;
    a.mov(qword_ptr(rdi + rcx), rax)?;
    a.add(ecx, 8)?;
    a.sub(edx, 8)?;
    a.jnz(more)?;
    a.cmp(ecx, ROOM)?;
    a.jne(again)?;
    // It is started, and starts again: nothing.
    a.mov(dword_ptr(rbx + START), 1)?;
    a.dec(r9d)?;
    a.jnz(all)?;
    wait(a)?;
    a.nop()?;
    a.set_label(&mut over)?;
    a.mov(qword_ptr(place::RESULTS), r8)?;
    response(a, 6)?;
    p.check("a command whose bytes are overwritten while it runs", 0)?;
    response(&mut p.a, 2)?;
    p.check("its response is whole", 10)?;
    p.a.xor(eax, eax)?;
    p.a.cmp(qword_ptr(place::RESULTS), 0)?;
    p.a.sete(al)?;
    p.check("it was seen to run", 0)?;
    // Given up in the midst, three ways.
    for (name, offset, value) in [
        ("goIdle", CTRL_REQ, GO_IDLE),
        ("cmdReady", CTRL_REQ, COMMAND_READY),
        ("relinquish", LOC_CTRL, RELINQUISH),
    ] {
        put(p, &SELF_TEST)?;
        start(&mut p.a)?;
        p.a.mov(dword_ptr(rbx + offset), value)?;
        p.a.mov(eax, dword_ptr(rbx + START))?;
        p.check(&format!("{name} while a command runs"), 0)?;
        take(&mut p.a)?;
        works(p, name)?;
    }
    Ok(())
}

/// Bytes behind the registers, each by an exit: the same buffer.
fn behind_the_registers(p: &mut Program) -> Assembled {
    for (at, byte) in (DATA..).zip(GET_RANDOM) {
        p.a.mov(byte_ptr(rbx + at), u32::from(byte))?;
    }
    start(&mut p.a)?;
    wait(&mut p.a)?;
    p.a.mov(eax, dword_ptr(rbx + DATA + 6))?;
    p.check("a command behind the registers", 0)?;
    p.a.mov(edi, dword_ptr(rbx + CMD_LADDR))?;
    p.a.mov(rax, qword_ptr(rdi))?;
    p.a.sub(rax, qword_ptr(rbx + DATA))?;
    p.check("its response is in the page and behind the registers", 0)
}

/// The registers at their shared address and at another linear one, the buffer at another linear one.
fn aliases(p: &mut Program) -> Assembled {
    const SHARED: u64 = 1 << 47;
    const LARGE_PAGE: u64 = PAGE_2M - 1;
    let (pointers, directory) = (place::PAGE_TABLES, place::PAGE_TABLES + 0x1000);
    let a = &mut p.a;
    a.mov(rdx, cr3)?;
    a.mov(rax, pointers | PRESENT | WRITABLE)?;
    a.mov(qword_ptr(rdx + 8), rax)?;
    a.mov(rax, directory | PRESENT | WRITABLE)?;
    a.mov(qword_ptr(pointers), rax)?;
    for (entry, bit) in [(0, SHARED), (8, 0)] {
        a.mov(rax, bit | TPM & !LARGE_PAGE | LARGE | PRESENT | WRITABLE)?;
        a.mov(qword_ptr(directory + entry), rax)?;
    }
    // The third is the buffer's.
    a.mov(eax, dword_ptr(rbx + CMD_LADDR))?;
    a.and(eax, !(LARGE_PAGE as i32))?;
    a.or(rax, (LARGE | PRESENT | WRITABLE) as i32)?;
    a.mov(qword_ptr(directory + 16), rax)?;
    for (name, page) in [("shared", 0), ("another address", PAGE_2M)] {
        let alias = (1 << 39) + page + (TPM & LARGE_PAGE);
        p.a.mov(rdi, alias)?;
        p.a.mov(eax, dword_ptr(rdi + CMD_SIZE))?;
        p.check(&format!("{name}: read"), ROOM.into())?;
        // The command through the third mapping, START through this one.
        let data = p.data(&GET_RANDOM);
        p.a.lea(rsi, qword_ptr(data))?;
        p.a.mov(edx, dword_ptr(rbx + CMD_LADDR))?;
        p.a.and(edx, LARGE_PAGE as i32)?;
        p.a.mov(rdi, (1_u64 << 39) + 2 * PAGE_2M)?;
        p.a.add(rdi, rdx)?;
        p.a.mov(ecx, GET_RANDOM.len() as u32)?;
        p.a.rep().movsb()?;
        p.a.mov(rdi, alias)?;
        p.a.mov(dword_ptr(rdi + START), 1)?;
        wait(&mut p.a)?;
        response(&mut p.a, 6)?;
        p.check(&format!("{name}: START"), 0)?;
        response(&mut p.a, 2)?;
        p.check(&format!("{name}: the response"), 28)?;
    }
    Ok(())
}

/// Nobody has the TPM: what is written to the page is nobody's command.
fn without_a_locality(p: &mut Program) -> Assembled {
    p.a.mov(dword_ptr(rbx + LOC_CTRL), RELINQUISH)?;
    put(p, &GET_RANDOM)?;
    p.a.mov(ecx, dword_ptr(rbx + CMD_LADDR))?;
    p.a.mov(rcx, qword_ptr(rcx))?;
    p.a.mov(qword_ptr(place::RESULTS), rcx)?;
    start(&mut p.a)?;
    p.a.mov(eax, dword_ptr(rbx + START))?;
    p.check("START without a locality", 0)?;
    p.a.mov(ecx, dword_ptr(rbx + CMD_LADDR))?;
    p.a.mov(rax, qword_ptr(rcx))?;
    p.a.sub(rax, qword_ptr(place::RESULTS))?;
    p.check("and no response", 0)?;
    p.a.mov(eax, dword_ptr(rbx + DATA))?;
    p.a.add(eax, 1)?;
    p.check("nothing behind the registers", 0)?;
    take(&mut p.a)?;
    works(p, "with one again")
}
