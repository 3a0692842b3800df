//! Interrupts of L1's that are pending when L1 enters L2: the entry does not happen, and what it was to bring (an
//! interrupt of L2's, the result of an access) comes with the next one, once.

use super::guest::Guest;
use super::l1_image::L1Image;
use super::msr::{TIMER_COUNT, enable_timer, set_deadline};
use super::program::{Blob, Program, tpm};
use super::runtime::place;
use anyhow::Result;
use attestation::digest::Algorithm;
use iced_x86::code_asm::{
    CodeAssembler, al, dword_ptr, dx, eax, ecx, qword_ptr, r12, r13, r14, r15, rax, rbx, rdi, rsi,
};

/// How often everything is done.
const ROUNDS: u64 = 40;
/// Ticks of the TSC from the start of a round to the APIC timer's interrupt; of the 8254 to its own. Both come while
/// the program writes a command to the TPM byte by byte.
const DEADLINE: u32 = 150_000;
const PIT_COUNT: u16 = 240;
/// How often the program looks for an interrupt that should have come already.
const PATIENCE: u32 = 1_000_000;
/// Vector of the 8254's interrupt.
const PIT_VECTOR: u8 = 0x30;
const PIT_INTERRUPTS: u64 = place::COUNTS + PIT_VECTOR as u64 * 8;
/// TPM_STS_x.dataAvail.
const DATA_AVAILABLE: i32 = 1 << 4;

pub(super) fn guests() -> Vec<Guest> {
    let seeds: [(&str, &[&str]); 2] = [
        (
            "interrupts pending at random entries, seed 1",
            &["fault=l1-interrupt:random:1"],
        ),
        (
            "interrupts pending at random entries, seed 2, and at exits",
            &["fault=l1-interrupt:random:2,l1-interrupt:3"],
        ),
    ];
    seeds
        .into_iter()
        .map(|(name, options)| Guest {
            options,
            counts: &["interrupted"],
            ..Guest::new(name, count)
        })
        .collect()
}

/// TPM2_Hash of `data`, without a ticket, and its response (TPM 2.0 Library, part 3).
fn hash(data: &[u8]) -> (Vec<u8>, Vec<u8>) {
    const SHA256: [u8; 2] = [0x00, 0x0B];
    const HIERARCHY_NULL: [u8; 4] = [0x40, 0, 0, 0x07];
    const HASH: [u8; 4] = [0, 0, 0x01, 0x7D];
    const SUCCESS: [u8; 4] = [0; 4];
    let sized = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes(), bytes].concat();
    let message = |code: [u8; 4], body: &[u8]| {
        let size = (10 + body.len() as u32).to_be_bytes();
        [&[0x80, 0x01], &size[..], &code, body].concat()
    };
    let digest = Algorithm::Sha256.digest(data);
    let ticket = [&[0x80, 0x24], &HIERARCHY_NULL[..], &[0, 0]].concat();
    (
        message(HASH, &[&sized(data)[..], &SHA256, &HIERARCHY_NULL].concat()),
        message(SUCCESS, &[sized(digest.bytes()), ticket].concat()),
    )
}

/// In each round the APIC timer and the 8254 interrupt once, and a command goes to the TPM whose response shows each
/// of its bytes.
fn count(_: &L1Image) -> Result<Blob> {
    let data: Vec<u8> = (0..200u8).map(|byte| byte.wrapping_mul(151)).collect();
    let (command, response) = hash(&data);
    let mut p = Program::new()?;
    p.take_tpm()?;
    enable_timer(&mut p.a)?;
    set_up_8259(&mut p.a)?;
    let expected = p.data(&response);
    // R12: rounds so far; R13: responses that were right; R14: bytes left behind them.
    for register in [r12, r13, r14] {
        p.a.xor(register, register)?;
    }
    let mut round = p.a.create_label();
    p.a.set_label(&mut round)?;
    p.a.inc(r12)?;
    set_deadline(&mut p.a, DEADLINE)?;
    let [low, high] = PIT_COUNT.to_le_bytes();
    // Counter 0, low and high byte, mode 0: one interrupt.
    for (port, value) in [(0x43, 0x30), (0x40, low), (0x40, high)] {
        out(&mut p.a, port, value)?;
    }
    p.a.sti()?;
    p.tpm_command(&command)?;
    let mut wrong = p.a.create_label();
    p.a.lea(rsi, qword_ptr(expected))?;
    p.a.mov(rdi, place::RESPONSE)?;
    p.a.mov(ecx, response.len() as u32)?;
    p.a.repe().cmpsb()?;
    p.a.jne(wrong)?;
    p.a.inc(r13)?;
    p.a.set_label(&mut wrong)?;
    p.a.mov(eax, dword_ptr(rbx + tpm::STS))?;
    p.a.and(eax, DATA_AVAILABLE)?;
    p.a.add(r14, rax)?;
    for counter in [TIMER_COUNT, PIT_INTERRUPTS] {
        let (mut again, mut came) = (p.a.create_label(), p.a.create_label());
        p.a.mov(ecx, PATIENCE)?;
        p.a.set_label(&mut again)?;
        p.a.mov(r15, qword_ptr(counter))?;
        p.a.cmp(r15, r12)?;
        p.a.jae(came)?;
        p.a.dec(ecx)?;
        p.a.jnz(again)?;
        p.a.set_label(&mut came)?;
    }
    p.a.cli()?;
    p.a.cmp(r12, ROUNDS as i32)?;
    p.a.jb(round)?;
    // One that came twice has time to come.
    p.a.sti()?;
    for _ in 0..20 {
        p.a.mov(eax, dword_ptr(rbx + tpm::STS))?;
    }
    p.a.cli()?;
    for (name, counter) in [
        ("the APIC timer interrupts once a round", TIMER_COUNT),
        ("the 8254 interrupts once a round", PIT_INTERRUPTS),
    ] {
        p.a.mov(rax, qword_ptr(counter))?;
        p.check(name, ROUNDS)?;
    }
    p.a.mov(rax, r13)?;
    p.check("each byte of the TPM's goes and comes once", ROUNDS)?;
    p.a.mov(rax, r14)?;
    p.check("no response is longer than it says", 0)?;
    p.power_off()?;
    p.assemble()
}

fn out(a: &mut CodeAssembler, port: u16, value: u8) -> Result<()> {
    a.mov(dx, i32::from(port))?;
    a.mov(al, i32::from(value))?;
    a.out(dx, al)?;
    Ok(())
}

/// The 8254's interrupt alone, ended by itself: the handler knows of no 8259A.
fn set_up_8259(a: &mut CodeAssembler) -> Result<()> {
    const AUTO_EOI: u8 = 0x03;
    const ALL_BUT_TIMER: u8 = 0xFE;
    for (port, value) in [
        (0x20, 0x11),
        (0x21, PIT_VECTOR),
        (0x21, 0x04),
        (0x21, AUTO_EOI),
        (0x21, ALL_BUT_TIMER),
    ] {
        out(a, port, value)?;
    }
    Ok(())
}
