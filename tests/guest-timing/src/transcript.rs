//! Commands and responses of every kind and length, byte by byte: what goes through the driver and the TPM's registers, and must
//! not depend on how L1 serves them.
//!
//! Each is a line `@transcript {"command":…,"response":…}` in hexadecimal; with `"clock":true` where the response tells the time. The
//! TPM's random numbers and keys follow from the seed of the machine's and from what was asked for before. Behind them, as `@log`,
//! what the kernel has of the boot's and of its own measurements.

use crate::Tpm;
use crate::command::{Command, INDEX_SIZE, SigningKey, created_handle};
use attestation::digest::Algorithm;
use attestation::tpm::{PcrSelect, commands, rc, response_code};
use std::fmt::Write as _;
use std::io;

/// The kernel's files of measurements.
const LOGS: [&str; 2] = [
    "/sys/kernel/security/tpm0/binary_bios_measurements",
    "/sys/kernel/security/ima/binary_runtime_measurements",
];

/// TPM_ST_NO_SESSIONS.
const NO_SESSIONS: u16 = 0x8001;
/// TPM_CC_Hash, and one that no TPM has.
const HASH: u32 = 0x17D;
const NO_COMMAND: u32 = 0x2000;
/// TPM_RH_NULL.
const NULL: u32 = 0x4000_0007;
/// TPM_CAP_ALGS, HANDLES (the permanent ones), COMMANDS, PCRS, TPM_PROPERTIES (the fixed ones) and ECC_CURVES, whole.
const CAPABILITIES: [(u32, u32, u32); 6] = [
    (0, 0, 200),
    (1, 0x4000_0000, 50),
    (2, 0x11F, 300),
    (5, 0, 1),
    (6, 0x100, 80),
    (8, 0, 50),
];

/// Sends them, and prints all.
pub(crate) fn tell(tpm: &mut Tpm) -> io::Result<()> {
    for command in simple() {
        exchange(tpm, &command)?;
    }
    let created = exchange(tpm, &Command::create_primary(SigningKey::P256).bytes)?;
    let handle = created_handle(&created);
    let handle = handle.ok_or_else(|| io::Error::other("CreatePrimary gave no handle"))?;
    exchange(tpm, &commands::read_public(handle))?;
    exchange_with_clock(tpm, &Command::quote(handle, SigningKey::P256).bytes)?;
    exchange(tpm, &commands::flush_context(handle))?;
    exchange_with_clock(tpm, &commands::read_clock())?;
    for file in LOGS {
        let content = std::fs::read(file)?;
        println!(
            "@log {{\"file\":\"{file}\",\"content\":\"{}\"}}",
            hex(&content)
        );
    }
    Ok(())
}

/// Commands without a key: long and short ones both ways, those that fail, and all PCRs at the end.
fn simple() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = CAPABILITIES
        .into_iter()
        .map(|(capability, property, count)| commands::get_capability(capability, property, count))
        .collect();
    all.extend([1, 2, 31, 32, 48, 200].map(commands::get_random));
    for length in [0, 1, 3, 4, 63, 64, 65, 255, 256, 1000, 1024, 1025] {
        all.push(hash(length));
    }
    all.extend([
        Command::pcr_extend_sha256(16).bytes,
        commands::pcr_event(23, b"an event"),
        commands::pcr_reset(16),
        // These are refused: a PCR of another locality, too many bytes and too few, a command and a tag that there are not.
        commands::pcr_reset(0),
        Command::pcr_extend_sha256(17).bytes,
        message(NO_SESSIONS, HASH, &[0; 3]),
        message(NO_SESSIONS, NO_COMMAND, &[]),
        message(0x1234, HASH, &[]),
        Command::nv_define(INDEX_SIZE).bytes,
        Command::nv_write(INDEX_SIZE, 0xA5).bytes,
        commands::nv_read_public(0x0150_0F16),
        Command::nv_undefine().bytes,
        Command::self_test().bytes,
    ]);
    for bank in [Algorithm::Sha256, Algorithm::Sha384] {
        for first in [0, 8, 16] {
            all.push(commands::pcr_read(PcrSelect::of(bank, first..first + 8)));
        }
    }
    all
}

/// TPM2_Hash of so many bytes with SHA-256.
fn hash(length: u16) -> Vec<u8> {
    let mut parameters = length.to_be_bytes().to_vec();
    parameters.extend((0..length).map(|index| index as u8));
    parameters.extend(Algorithm::Sha256.id().to_be_bytes());
    parameters.extend(NULL.to_be_bytes());
    message(NO_SESSIONS, HASH, &parameters)
}

fn message(tag: u16, code: u32, rest: &[u8]) -> Vec<u8> {
    let mut message = tag.to_be_bytes().to_vec();
    message.extend((10 + rest.len() as u32).to_be_bytes());
    message.extend(code.to_be_bytes());
    message.extend(rest);
    message
}

/// Sends a command, and prints it with its response, whatever that says.
fn exchange(tpm: &mut Tpm, command: &[u8]) -> io::Result<Vec<u8>> {
    say(tpm, command, "")
}

/// The same for a response that tells the time.
fn exchange_with_clock(tpm: &mut Tpm, command: &[u8]) -> io::Result<Vec<u8>> {
    say(tpm, command, ",\"clock\":true")
}

fn say(tpm: &mut Tpm, command: &[u8], kind: &str) -> io::Result<Vec<u8>> {
    let response = loop {
        let response = tpm.exchange(command)?;
        if !matches!(response_code(&response), Some(rc::RETRY | rc::TESTING)) {
            break response;
        }
    };
    println!(
        "@transcript {{\"command\":\"{}\",\"response\":\"{}\"{kind}}}",
        hex(command),
        hex(&response)
    );
    Ok(response)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lengths_that_shall_be_wrong_are() {
        for command in simple() {
            let length = u32::from_be_bytes(command[2..6].try_into().unwrap());
            assert_eq!(length as usize, command.len());
        }
    }
}
