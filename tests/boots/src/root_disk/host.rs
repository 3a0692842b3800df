//! What a host can do to a disk that it stores: other bytes in the packed root, another cipher in the LUKS2 header.

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A partition's name, in the entry of the partition table: UTF-16, at this offset of 128 bytes.
const ENTRY: usize = 128;
const ENTRY_NAME: usize = 56;
/// The first entry: behind the table's header.
const ENTRIES: u64 = 2 * SECTOR;
const SECTOR: u64 = 512;

/// The binary headers of a LUKS2 volume ("LUKS2 On-Disk Format Specification" 1.1.3, 2): a primary and a secondary one,
/// each with the text (JSON) behind it, and a SHA-256 of both at this offset, over which it counts as zeros.
const HEADER: usize = 16384;
const TEXT: usize = 4096;
const CHECKSUM: Range<usize> = 0x1C0..0x200;

/// Changes a bit in the middle of the packed root.
pub(super) fn alter_root_image(disk: &Path) -> Result<()> {
    let file = open(disk)?;
    let place = partition(&file, "root-image")? + (1 << 20);
    let mut byte = [0];
    file.read_exact_at(&mut byte, place)?;
    byte[0] ^= 1;
    Ok(file.write_all_at(&byte, place)?)
}

/// Makes the header name another cipher, which takes the same key: XTS with sector numbers cut to 32 bits. Nothing in a
/// LUKS2 header is authenticated; whoever stores it can do so, or write `cipher_null`, and read what is written.
pub(super) fn name_another_cipher(disk: &Path) -> Result<()> {
    let file = open(disk)?;
    let start = partition(&file, "root")?;
    for place in [start, start + HEADER as u64] {
        let mut header = vec![0; HEADER];
        file.read_exact_at(&mut header, place)?;
        let (_, text) = header.split_at(TEXT);
        let segments = find(text, b"\"segments\"").context("no segments")?;
        let cipher = find(&text[segments..], b"\"aes-xts-plain64\"").context("no cipher")?;
        let cipher = TEXT + segments + cipher;
        let other = b"\"aes-xts-plain\"  ";
        header[cipher..cipher + other.len()].copy_from_slice(other);
        header[CHECKSUM].fill(0);
        let checksum = Sha256::digest(&header);
        header[CHECKSUM.start..CHECKSUM.start + checksum.len()].copy_from_slice(&checksum);
        file.write_all_at(&header, place)?;
    }
    Ok(())
}

fn open(disk: &Path) -> Result<File> {
    let mut options = File::options();
    let file = options.read(true).write(true).open(disk);
    file.with_context(|| disk.display().to_string())
}

/// Where a partition begins, in bytes.
fn partition(file: &File, name: &str) -> Result<u64> {
    let mut wanted: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    wanted.extend([0, 0]);
    let mut place = ENTRIES;
    let mut entry = [0; ENTRY];
    loop {
        file.read_exact_at(&mut entry, place)?;
        ensure!(entry.iter().any(|byte| *byte != 0), "no partition {name}");
        if entry[ENTRY_NAME..].starts_with(&wanted) {
            let first = entry[32..40].try_into()?;
            return Ok(u64::from_le_bytes(first) * SECTOR);
        }
        place += ENTRY as u64;
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
