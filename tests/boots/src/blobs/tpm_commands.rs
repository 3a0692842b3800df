//! TPM commands that no driver sends.

use super::guest::Guest;
use super::l1_image::L1Image;
use super::program::{Blob, Program, execute, tpm};
use super::runtime::place;
use anyhow::Result;
use iced_x86::code_asm::{al, byte_ptr, dword_ptr, eax, ecx, edx, rax, rbx, rcx, rdx};

/// Response codes (TPM 2.0 Library, part 2, "TPM_RC").
const COMMAND_SIZE: u64 = 0x142;
const COMMAND_CODE: u64 = 0x143;
const BAD_TAG: u64 = 0x01E;
/// The command ends within a field.
const INSUFFICIENT: u64 = 0x09A;
/// The same, of parameter 1.
const INSUFFICIENT_PARAMETER: u64 = 0x1DA;

/// TPM_RC_INITIALIZE: L1 has started the TPM already.
pub(super) const INITIALIZE: u64 = 0x100;

/// TPM2_Startup(CLEAR).
pub(super) const STARTUP: [u8; 12] = [0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, 0];
/// TPM2_GetRandom(16).
pub(super) const GET_RANDOM: [u8; 12] = [0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7B, 0, 16];
/// TPM2_CreatePrimary in the owner hierarchy: a P-256 storage key with empty authorizations.
pub(super) const CREATE_PRIMARY: [u8; 67] = [
    0x80, 0x02, 0, 0, 0, 67, 0, 0, 0x01, 0x31, 0x40, 0, 0, 0x01, // header, TPM_RH_OWNER
    0, 0, 0, 9, 0x40, 0, 0, 0x09, 0, 0, 0, 0, 0, // TPM_RS_PW
    0, 4, 0, 0, 0, 0, // inSensitive
    0, 26, 0, 0x23, 0, 0x0B, 0, 0x03, 0, 0x72, 0, 0, // ECC, SHA-256, attributes, no policy
    0, 0x06, 0, 0x80, 0, 0x43, 0, 0x10, 0, 0x03, 0, 0x10, 0, 0, 0, 0, // AES-128-CFB, P-256
    0, 0, 0, 0, 0, 0, // outsideInfo, creationPCR
];

/// The same for an RSA-2048 key, which takes a second and more here.
pub(super) const CREATE_PRIMARY_RSA: [u8; 67] = [
    0x80, 0x02, 0, 0, 0, 67, 0, 0, 0x01, 0x31, 0x40, 0, 0, 0x01, // header, TPM_RH_OWNER
    0, 0, 0, 9, 0x40, 0, 0, 0x09, 0, 0, 0, 0, 0, // TPM_RS_PW
    0, 4, 0, 0, 0, 0, // inSensitive
    0, 26, 0, 0x01, 0, 0x0B, 0, 0x03, 0, 0x72, 0, 0, // RSA, SHA-256, attributes, no policy
    0, 0x06, 0, 0x80, 0, 0x43, 0, 0x10, 0x08, 0, 0, 0, 0, 0, 0, 0, // AES-128-CFB, 2048 bits
    0, 0, 0, 0, 0, 0, // outsideInfo, creationPCR
];

pub(super) fn guests() -> Vec<Guest> {
    vec![Guest::new("malformed TPM commands", malformed)]
}

fn malformed(_: &L1Image) -> Result<Blob> {
    let mut p = Program::new()?;
    p.take_tpm()?;
    p.tpm_command(&STARTUP)?;
    p.check("startup, of a TPM that L1 started", INITIALIZE)?;
    for (name, command, code) in [
        (
            "size 0",
            &[0x80, 0x01, 0, 0, 0, 0, 0, 0, 0x01, 0x7B, 0, 16][..],
            COMMAND_SIZE,
        ),
        (
            "size 9",
            &[0x80, 0x01, 0, 0, 0, 9, 0, 0, 0x01, 0x7B, 0, 16],
            INSUFFICIENT,
        ),
        (
            "size of the header alone",
            &[0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x7B],
            INSUFFICIENT_PARAMETER,
        ),
        (
            "no such tag",
            &[0x00, 0x00, 0, 0, 0, 12, 0, 0, 0x01, 0x7B, 0, 16],
            BAD_TAG,
        ),
        (
            "no such command",
            &[0x80, 0x01, 0, 0, 0, 12, 0xFF, 0xFF, 0xFF, 0xFF, 0, 16],
            COMMAND_CODE,
        ),
        (
            "session area without a session",
            &[0x80, 0x02, 0, 0, 0, 12, 0, 0, 0x01, 0x7B, 0, 16],
            INSUFFICIENT,
        ),
    ] {
        p.tpm_command(command)?;
        p.check(name, code)?;
    }
    for (name, size) in [("size 5000", 5000_u32), ("size 0xFFFFFFFF", u32::MAX)] {
        long(&mut p, name, size)?;
    }
    cut_off(&mut p)?;
    p.tpm_command(&GET_RANDOM)?;
    p.check("the TPM still works", 0)?;
    p.a.mov(eax, dword_ptr(place::RESPONSE + 2))?;
    p.a.bswap(eax)?;
    p.check("and gives 16 random bytes", 28)?;
    p.power_off()?;
    p.assemble()
}

/// A command as long as its header says, which is more than the TPM takes.
fn long(p: &mut Program, name: &str, size: u32) -> Result<()> {
    const BYTES: u32 = 5000;
    let mut header = [0x80, 0x01, 0, 0, 0, 0, 0, 0, 0x01, 0x7B];
    header[2..6].copy_from_slice(&size.to_be_bytes());
    p.a.mov(dword_ptr(rbx + tpm::STS), tpm::COMMAND_READY)?;
    for byte in header {
        p.a.mov(byte_ptr(rbx + tpm::FIFO), u32::from(byte))?;
    }
    let mut more = p.a.create_label();
    p.a.mov(ecx, BYTES - 10)?;
    p.a.set_label(&mut more)?;
    p.a.mov(byte_ptr(rbx + tpm::FIFO), 0)?;
    p.a.dec(rcx)?;
    p.a.jnz(more)?;
    p.a.mov(eax, dword_ptr(rbx + tpm::STS))?;
    p.a.and(eax, 0x88)?;
    p.check(&format!("{name}: no more is expected"), 0x80)?;
    execute(&mut p.a)?;
    p.a.xor(edx, edx)?;
    // Tag and size, then the response code.
    for _ in 0..6 {
        p.a.mov(al, byte_ptr(rbx + tpm::FIFO))?;
    }
    for _ in 0..4 {
        p.a.shl(rdx, 8)?;
        p.a.movzx(eax, byte_ptr(rbx + tpm::FIFO))?;
        p.a.or(rdx, rax)?;
    }
    p.a.mov(rax, rdx)?;
    p.check(&format!("{name}: error response"), COMMAND_SIZE)
}

/// tpmGo in the middle of a command does nothing.
fn cut_off(p: &mut Program) -> Result<()> {
    p.a.mov(dword_ptr(rbx + tpm::STS), tpm::COMMAND_READY)?;
    for byte in [0x80, 0x01, 0, 0] {
        p.a.mov(byte_ptr(rbx + tpm::FIFO), byte)?;
    }
    p.a.mov(dword_ptr(rbx + tpm::STS), tpm::GO)?;
    p.a.mov(eax, dword_ptr(rbx + tpm::STS))?;
    p.a.and(eax, 0x98)?;
    p.check("tpmGo in the middle of a command", 0x88)
}
