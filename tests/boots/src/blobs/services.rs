//! TPM commands by `TDVMCALL<Service>`, and what a hostile guest does with it.

use super::guest::{Ends, Guest};
use super::l1_image::L1Image;
use super::msr::{enable_timer, set_deadline, wait_for_timer};
use super::program::{Assembled, Blob, Program, selector};
use super::runtime::place;
use super::tdcalls::{INVALID_OPERAND, vmcall};
use super::tpm_commands::{CREATE_PRIMARY_RSA, GET_RANDOM};
use anyhow::Result;
use iced_x86::code_asm::{
    CodeAssembler, al, dword_ptr, eax, ecx, edx, qword_ptr, r10, r13, rax, rcx, rdi, rdx,
};

const SERVICE: u64 = 0x10005;
const COMMAND: u64 = place::BUFFER;
const RESPONSE: u64 = place::BUFFER + 0x2000;
/// Bytes of the header in front of a command and a response.
const HEADER: u32 = 24;
/// A response that has room for the TPM's longest.
const ROOM: u32 = HEADER + 4 + 4096;
/// The shared bit, with GPAW 48.
const SHARED: u64 = 1 << 47;

/// The vTPM of L1.
const VTPM: [u8; 16] = [
    0x80, 0xF5, 0x6C, 0x76, 0xC3, 0x8D, 0xEA, 0x4C, 0xA9, 0x4E, 0xE5, 0x42, 0x4D, 0xA1, 0xDA, 0x56,
];
/// Execute, by locality 0.
const EXECUTE: [u8; 4] = [0, 2, 0, 0];
/// STATUS of a response.
const TOO_SMALL: u64 = 3;
const BAD_LENGTH: u64 = 4;
const INVALID_PARAMETER: u64 = 7;
const UNSUPPORTED: u64 = 0xFFFF_FFFF;

pub(super) fn guests() -> Vec<Guest> {
    vec![
        Guest::new("TPM commands by TDVMCALL<Service>", write),
        Guest {
            at_most: &[("slices", "longest", LONGEST)],
            ..Guest::new("a long TPM command by TDVMCALL<Service>", long)
        },
        Guest {
            at_most: &[("slices", "settling", SETTLING)],
            ends: Ends::Reset,
            ..Guest::new(
                "a reset in the midst of TDVMCALL<Service>",
                reset_in_the_midst,
            )
        },
    ]
}

/// A command as it lies in memory, saying that it is so long.
fn message(guid: &[u8; 16], length: u32, data: &[&[u8]]) -> Vec<u8> {
    [guid, &length.to_le_bytes()[..], &[0; 4], &data.concat()].concat()
}

/// Puts `bytes` at `gpa`.
fn put(p: &mut Program, gpa: u64, bytes: &[u8]) -> Result<()> {
    p.a.mov(rdi, gpa)?;
    for (index, part) in bytes.chunks(8).enumerate() {
        let mut word = [0; 8];
        for (to, from) in word.iter_mut().zip(part) {
            *to = *from;
        }
        p.a.mov(rax, u64::from_le_bytes(word))?;
        p.a.mov(qword_ptr(rdi + 8 * index as i32), rax)?;
    }
    Ok(())
}

/// Makes the call, with a response that has `room`. RAX is how it completed.
fn call(p: &mut Program, command: u64, response: u64, room: u32) -> Result<()> {
    put(p, RESPONSE, &message(&[0xEE; 16], room, &[]))?;
    vmcall(p, [0, SERVICE, command, response, 0, 0])?;
    p.a.mov(rax, r10)?;
    Ok(())
}

/// RAX: the 32 bits at this offset of the response.
fn response(p: &mut Program, offset: i32) -> Result<()> {
    p.a.mov(rdi, RESPONSE)?;
    p.a.mov(eax, dword_ptr(rdi + offset))?;
    Ok(())
}

fn write(l1: &L1Image) -> Result<Blob> {
    let mut p = Program::new()?;
    works(&mut p)?;
    refused(&mut p)?;
    nowhere(&mut p, l1)?;
    // After all of it.
    works(&mut p)?;
    p.power_off()?;
    p.assemble()
}

fn works(p: &mut Program) -> Result<()> {
    let command = message(&VTPM, HEADER + 16, &[&EXECUTE, &GET_RANDOM]);
    put(p, COMMAND, &command)?;
    call(p, COMMAND, RESPONSE, ROOM)?;
    p.check("service: GetRandom", 0)?;
    for (name, offset, value) in [
        ("service: status", 20, 0),
        ("service: length", 16, u64::from(HEADER) + 4 + 28),
        ("service: Execute is done", 24, 0x0200),
        ("service: the TPM's response", 34, 0),
    ] {
        response(p, offset)?;
        p.check(name, value)?;
    }
    // Nobody's random bytes are the same twice, or zero.
    p.a.mov(rdi, RESPONSE)?;
    p.a.mov(rcx, qword_ptr(rdi + 40))?;
    p.a.mov(rdi, place::RESULTS)?;
    p.a.xor(eax, eax)?;
    p.a.cmp(rcx, qword_ptr(rdi))?;
    p.a.sete(al)?;
    p.a.mov(qword_ptr(rdi), rcx)?;
    p.check("service: random", 0)?;
    Ok(())
}

/// What is answered with a status.
fn refused(p: &mut Program) -> Result<()> {
    let other = [0x5A; 16];
    let length = HEADER + 16;
    let long = HEADER + 4 + 4097;
    for (name, guid, length, data, room, status) in [
        ("another GUID", &other, length, EXECUTE, ROOM, UNSUPPORTED),
        (
            "another command",
            &VTPM,
            length,
            [0, 3, 0, 0],
            ROOM,
            UNSUPPORTED,
        ),
        (
            "another version",
            &VTPM,
            length,
            [1, 2, 0, 0],
            ROOM,
            UNSUPPORTED,
        ),
        (
            "locality 4",
            &VTPM,
            length,
            [0, 2, 4, 0],
            ROOM,
            INVALID_PARAMETER,
        ),
        ("length 0", &VTPM, 0, EXECUTE, ROOM, BAD_LENGTH),
        (
            "length of less than a header",
            &VTPM,
            23,
            EXECUTE,
            ROOM,
            BAD_LENGTH,
        ),
        (
            "length of a header",
            &VTPM,
            HEADER,
            EXECUTE,
            ROOM,
            BAD_LENGTH,
        ),
        (
            "length of more than a TPM command",
            &VTPM,
            long,
            EXECUTE,
            ROOM,
            BAD_LENGTH,
        ),
        ("length of all", &VTPM, u32::MAX, EXECUTE, ROOM, BAD_LENGTH),
        (
            "room for less than any response",
            &VTPM,
            length,
            EXECUTE,
            ROOM - 1,
            TOO_SMALL,
        ),
        (
            "room for a header",
            &VTPM,
            length,
            EXECUTE,
            HEADER,
            TOO_SMALL,
        ),
    ] {
        put(p, COMMAND, &message(guid, length, &[&data, &GET_RANDOM]))?;
        call(p, COMMAND, RESPONSE, room)?;
        p.check(&format!("service, {name}: the call"), 0)?;
        response(p, 20)?;
        p.check(&format!("service, {name}"), status)?;
        response(p, 16)?;
        p.check(&format!("service, {name}: no data"), HEADER.into())?;
    }
    Ok(())
}

/// What has no command, or nowhere to put a response.
fn nowhere(p: &mut Program, l1: &L1Image) -> Result<()> {
    const TOP: u64 = 0x000F_FFFF_FFFF_F000;
    put(
        p,
        COMMAND,
        &message(&VTPM, HEADER + 16, &[&EXECUTE, &GET_RANDOM]),
    )?;
    for (name, command, response, room) in [
        ("a command of L1's", l1.start, RESPONSE, ROOM),
        ("a response to L1", COMMAND, l1.start, ROOM),
        ("a response up to L1's", COMMAND, l1.start - 8, ROOM),
        ("a shared command", SHARED | COMMAND, RESPONSE, ROOM),
        ("a shared response", COMMAND, SHARED | RESPONSE, ROOM),
        ("a command at the top", TOP, RESPONSE, ROOM),
        ("a response at the top", COMMAND, TOP, ROOM),
        ("a command behind all", u64::MAX - 3, RESPONSE, ROOM),
        (
            "a response in the TPM's registers",
            COMMAND,
            super::program::TPM,
            ROOM,
        ),
        ("room for no header", COMMAND, RESPONSE, HEADER - 1),
        ("room for nothing", COMMAND, RESPONSE, 0),
    ] {
        call(p, command, response, room)?;
        p.check(&format!("service: {name}"), INVALID_OPERAND)?;
        self::response(p, 0)?;
        p.check(&format!("service: {name}: nothing is written"), 0xEEEE_EEEE)?;
    }
    Ok(())
}

/// The longest that interrupts may be kept away, in ticks of the TSC of 1 GHz.
const LONGEST: u64 = 2_000_000;
/// For so long the program is idle before.
const IDLE: u32 = 900_000_000;
/// The longest that a reset waits for a command, in ns: a self-test of the algorithms that a first key needs, or what is
/// made of the keys of the TPM's identity.
const SETTLING: u64 = 150_000_000;
/// From one interrupt of the timer to the next, at least.
const TICK: u32 = 200_000;
/// Where the handler of the timer's interrupt notes when it was last called, the longest time between two calls, how many
/// there were, and at which of them it does something else.
const LAST: u64 = place::RESULTS + 0x10;
const GAP: u64 = place::RESULTS + 0x18;
const TICKS: u64 = place::RESULTS + 0x20;
const DIFFERENT_AT: u64 = place::RESULTS + 0x28;
/// Another response.
const OTHER: u64 = RESPONSE + 0x2000;

/// The timer's interrupt goes to a handler of its own, which does `different` at one of the interrupts.
fn watch_the_clock(
    p: &mut Program,
    at: i32,
    different: impl FnOnce(&mut CodeAssembler) -> Assembled,
) -> Result<()> {
    let handler = place::MORE_CODE;
    // A 64-bit interrupt gate.
    let gate =
        handler & 0xFFFF | selector::CODE_64 << 16 | 0x8E00 << 32 | (handler >> 16 & 0xFFFF) << 48;
    p.a.mov(rax, gate)?;
    p.a.mov(
        qword_ptr(place::IDT + u64::from(super::msr::TIMER_VECTOR) * 16),
        rax,
    )?;
    let mut a = CodeAssembler::new(64)?;
    for register in [rax, rcx, rdx] {
        a.push(register)?;
    }
    let (mut shorter, mut same) = (a.create_label(), a.create_label());
    a.rdtsc()?;
    a.shl(rdx, 32)?;
    a.or(rax, rdx)?;
    a.mov(rcx, qword_ptr(LAST))?;
    a.mov(qword_ptr(LAST), rax)?;
    a.sub(rax, rcx)?;
    a.cmp(rax, qword_ptr(GAP))?;
    a.jbe(shorter)?;
    a.mov(qword_ptr(GAP), rax)?;
    a.set_label(&mut shorter)?;
    a.inc(qword_ptr(TICKS))?;
    a.mov(rax, qword_ptr(TICKS))?;
    a.cmp(rax, qword_ptr(DIFFERENT_AT))?;
    a.jne(same)?;
    different(&mut a)?;
    a.set_label(&mut same)?;
    set_deadline(&mut a, TICK)?;
    a.mov(ecx, x86_defs::apic::Register::EOI.msr())?;
    a.xor(eax, eax)?;
    a.xor(edx, edx)?;
    a.wrmsr()?;
    for register in [rdx, rcx, rax] {
        a.pop(register)?;
    }
    a.iretq()?;
    let code = a.assemble(handler)?;
    p.place(handler, code);
    enable_timer(&mut p.a)?;
    p.a.mov(qword_ptr(DIFFERENT_AT), at)?;
    p.a.rdtsc()?;
    p.a.shl(rdx, 32)?;
    p.a.or(rax, rdx)?;
    p.a.mov(qword_ptr(LAST), rax)?;
    set_deadline(&mut p.a, TICK)?;
    p.a.sti()?;
    Ok(())
}

/// Interrupts come while the TPM makes a key. The handler of one of them changes a register of the call, which is another
/// call then: both are executed, and each has its response.
fn long(_: &L1Image) -> Result<Blob> {
    let mut p = Program::new()?;
    // Meanwhile L1 makes what every key needs, with a quote, which the simulated host makes in one piece.
    enable_timer(&mut p.a)?;
    set_deadline(&mut p.a, IDLE)?;
    wait_for_timer(&mut p.a, false)?;
    put(
        &mut p,
        COMMAND,
        &message(&VTPM, HEADER + 4 + 67, &[&EXECUTE, &CREATE_PRIMARY_RSA]),
    )?;
    put(&mut p, OTHER, &message(&[0xEE; 16], ROOM, &[]))?;
    watch_the_clock(&mut p, 50, |a| Ok(a.mov(r13, OTHER)?))?;
    call(&mut p, COMMAND, RESPONSE, ROOM)?;
    p.a.cli()?;
    p.check("a key by the service", 0)?;
    within_bounds(&mut p, "a key by the service", 500)?;
    response(&mut p, 0)?;
    p.check(
        "the call that became another one has no response",
        0xEEEE_EEEE,
    )?;
    for (name, offset, value) in [
        ("status", 20, 0),
        ("TPM_RC_SUCCESS", 34, 0),
        ("handle", 38, 0x0100_0080),
    ] {
        p.a.mov(rdi, OTHER)?;
        p.a.mov(eax, dword_ptr(rdi + offset))?;
        p.check(&format!("the other one: {name}"), value)?;
    }
    // It was executed meanwhile, so that there is nothing to wait for.
    p.a.mov(qword_ptr(TICKS), 0)?;
    p.a.sti()?;
    call(&mut p, COMMAND, RESPONSE, ROOM)?;
    p.a.cli()?;
    p.check("the call that became another one, made again", 0)?;
    for (name, offset, value) in [
        ("status", 20, 0),
        ("TPM_RC_SUCCESS", 34, 0),
        ("handle", 38, 0x0000_0080),
    ] {
        response(&mut p, offset)?;
        p.check(&format!("the call that became another one: {name}"), value)?;
    }
    p.a.xor(eax, eax)?;
    p.a.cmp(qword_ptr(TICKS), 20)?;
    p.a.seta(al)?;
    p.check("it was there at once", 0)?;
    works(&mut p)?;
    p.power_off()?;
    p.assemble()
}

/// The interrupts since the handler was made came often enough, and never late.
fn within_bounds(p: &mut Program, name: &str, least: i32) -> Result<()> {
    p.a.xor(eax, eax)?;
    p.a.cmp(qword_ptr(TICKS), least)?;
    p.a.setb(al)?;
    p.check(&format!("{name}: interrupts come meanwhile"), 0)?;
    p.a.mov(rax, qword_ptr(GAP))?;
    p.show(&format!("{name}: longest time without an interrupt"))?;
    p.a.xor(eax, eax)?;
    p.a.mov(rcx, LONGEST)?;
    p.a.cmp(qword_ptr(GAP), rcx)?;
    p.a.seta(al)?;
    p.check(&format!("{name}: none is kept away for long"), 0)
}

/// The handler of an interrupt resets the machine while the TPM makes a key.
fn reset_in_the_midst(_: &L1Image) -> Result<Blob> {
    let mut p = Program::new()?;
    put(
        &mut p,
        COMMAND,
        &message(&VTPM, HEADER + 4 + 67, &[&EXECUTE, &CREATE_PRIMARY_RSA]),
    )?;
    watch_the_clock(&mut p, 500, super::resets::write_reset)?;
    call(&mut p, COMMAND, RESPONSE, ROOM)?;
    p.say("@still running")?;
    p.halt()?;
    p.assemble()
}
