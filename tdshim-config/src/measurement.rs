//! The MRTD that the TDX module computes while the host builds a TD from an image.
//!
//! Source: TDX Module Base Specification, "TD Measurement": TDH.MEM.PAGE.ADD and TDH.MR.EXTEND.

use crate::metadata::{Metadata, Section};
use sha2::{Digest, Sha384};
use x86_defs::paging::PAGE_4K;

const CHUNK: usize = 256;

/// The MRTD of a TD that a host builds from `image` as its metadata says.
pub fn mrtd(image: &[u8], metadata: &Metadata) -> [u8; 48] {
    let mut hash = Sha384::new();
    for section in metadata.sections() {
        if section.kind.has_memory() && section.attributes & Section::AUGMENT == 0 {
            add_section(&mut hash, image, section);
        }
    }
    hash.finalize().into()
}

fn add_section(hash: &mut Sha384, image: &[u8], section: &Section) {
    let start = section.data_offset as usize;
    let data = image
        .get(start..start.saturating_add(section.raw_data_size as usize))
        .unwrap_or_default();
    for page in 0..section.size / PAGE_4K {
        let address = section.address + page * PAGE_4K;
        hash.update(block(b"MEM.PAGE.ADD", address));
        if section.attributes & Section::MEASURE == 0 {
            continue;
        }
        for chunk in 0..PAGE_4K as usize / CHUNK {
            let offset = page as usize * PAGE_4K as usize + chunk * CHUNK;
            let mut bytes = [0; CHUNK];
            let present = data.get(offset..).unwrap_or_default();
            let length = present.len().min(CHUNK);
            for (to, from) in bytes.iter_mut().zip(present.iter().take(length)) {
                *to = *from;
            }
            hash.update(block(b"MR.EXTEND", address + (chunk * CHUNK) as u64));
            hash.update(bytes);
        }
    }
}

/// A 128-byte block: the operation's name, and the address at byte 16.
fn block(name: &[u8], address: u64) -> [u8; 128] {
    let mut block = [0; 128];
    let bytes = name.iter().chain([0; 16].iter()).take(16).copied();
    for (to, from) in block.iter_mut().zip(bytes.chain(address.to_le_bytes())) {
        *to = from;
    }
    block
}
