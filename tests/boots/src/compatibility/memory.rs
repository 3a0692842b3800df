//! Sizes of memory and of initrds: what arrives is what was given.

use super::trial::{Outcome, Trial};
use crate::Setup;
use anyhow::{Context, Result, ensure};
use attestation::digest::Algorithm;
use simulator::Run;
use std::io::Write;
use std::path::PathBuf;

/// MiB of memory: too little for the file beside its archive, both sides of the last page below the hole under 4 GiB, and more.
const MEMORY_MIB: [u64; 6] = [256, 3329, 3330, 4096, 5120, 8192];
/// Bytes of the file that makes the initrd large.
const BALLAST: usize = 100 << 20;

/// A byte that has no neighbour in common with the others of its page: xorshift.
fn ballast() -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(BALLAST);
    while bytes.len() < BALLAST {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes
}

/// An archive of one file in front of the usual initrd: Linux unpacks one after the other.
fn initrd(setup: &Setup) -> Result<PathBuf> {
    let path = setup.folder.join("ballast.initrd");
    let mut file = std::fs::File::create(&path)?;
    let bytes = ballast();
    // cpio's format "newc": 13 fields, of which the size and the name's length matter.
    let name = b"ballast\0";
    let header = |size: usize, name: usize, mode: u32| {
        let fields = [1, mode, 0, 0, 1, 0, size as u32, 0, 0, 0, 0, name as u32, 0];
        let fields: String = fields.map(|field| format!("{field:08x}")).concat();
        format!("070701{fields}")
    };
    file.write_all(header(bytes.len(), name.len(), 0o100_644).as_bytes())?;
    file.write_all(name)?;
    // The header and the name end at a multiple of four.
    file.write_all(&[0; 2])?;
    file.write_all(&bytes)?;
    let end = b"TRAILER!!!\0";
    file.write_all(header(0, end.len(), 0).as_bytes())?;
    file.write_all(end)?;
    file.write_all(&[0; 3])?;
    file.write_all(&std::fs::read(&setup.initrd)?)?;
    Ok(path)
}

pub(super) fn trials(setup: &Setup) -> Result<Vec<Trial>> {
    let large = initrd(setup)?;
    Ok(MEMORY_MIB
        .iter()
        .map(|&memory_mib| Trial {
            initrd: Some(large.clone()),
            memory_mib,
            outcome: match memory_mib {
                // Linux panics.
                256 => Outcome::Ends("reboot"),
                _ => Outcome::Works,
            },
            shows: arrived,
            ..Trial::new(
                format!("100 MiB in the initrd, {memory_mib} MiB of memory"),
                "quiet tdp.mode=ballast",
            )
        })
        .collect())
}

/// The file's SHA-256 in the guest is what it is here.
fn arrived(run: &Run) -> Result<()> {
    let console = &run.transcript.console;
    let seen = console
        .iter()
        .find_map(|line| line.strip_prefix("@ballast "))
        .context("the guest does not tell of the file")?;
    let given = hex::encode(Algorithm::Sha256.digest(&ballast()).bytes());
    ensure!(seen.trim() == given, "SHA-256 {seen}, and not {given}");
    Ok(())
}
