//! The files for the simulator in one: QEMU hands a PVH kernel a single module.

use anyhow::{Result, bail};

const PAGE: usize = 4096;
const MAGIC: &[u8; 8] = b"TDXPACK\0";
const NAME_SIZE: usize = 32;

/// Packs named files: header, then each body at a 4 KiB boundary.
pub(crate) fn pack(files: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let mut out = MAGIC.to_vec();
    out.extend((files.len() as u64).to_le_bytes());
    let header = 16 + files.len() * (NAME_SIZE + 16);
    let mut offset = header.next_multiple_of(PAGE);
    for (name, data) in files {
        let mut field = [0; NAME_SIZE];
        // One byte at least stays 0: the name's end.
        match field.get_mut(..name.len()) {
            Some(place) if name.len() < NAME_SIZE => place.copy_from_slice(name.as_bytes()),
            _ => bail!("the name {name} is too long for the pack file"),
        }
        out.extend(field);
        out.extend((offset as u64).to_le_bytes());
        out.extend((data.len() as u64).to_le_bytes());
        offset = (offset + data.len()).next_multiple_of(PAGE);
    }
    for (_, data) in files {
        out.resize(out.len().next_multiple_of(PAGE), 0);
        out.extend_from_slice(data);
    }
    out.resize(out.len().next_multiple_of(PAGE), 0);
    Ok(out)
}
