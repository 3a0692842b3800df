//! A second reading of the profile (TCG PC Client Platform TPM Profile for TPM 2.0, PTP 1.05), as tables: what every read must
//! give, by what was done before. Where the profile leaves it open, what the product documents.
//!
//! | file | the profile's |
//! | --- | --- |
//! | `localities` | "Locality": arbitration |
//! | `fifo` | "FIFO Interface": registers (table 12), TPM_STS_x (table 21), state transitions |
//! | `crb` | "CRB Interface": registers, state transitions |
//! | `expected` | what the engine has to be asked |

mod crb;
mod expected;
mod fifo;
mod localities;

pub use crb::Crb;
pub use fifo::Fifo;

use super::engine::Asked;

/// Localities, each with a page of registers.
pub const LOCALITIES: u32 = 5;
/// Bytes of a page.
pub const PAGE: u32 = 0x1000;
/// The platform's locality, which no guest writes to.
const PLATFORM: u32 = 4;

/// One interface, as the profile has it.
pub trait Profile {
    /// As after a platform reset, with the engine that a dynamic launch has reached or not.
    fn new(established: bool) -> Self;

    /// The bytes of a part that is read, of an access of `width` bytes.
    fn read_part(&mut self, locality: u32, part: &Part, width: usize) -> Vec<Expected>;

    /// These bytes are written at a part.
    fn write_part(&mut self, locality: u32, part: &Part, bytes: &[u8]);

    /// A guest reads `width` bytes. Behind the last page is nothing.
    fn read(&mut self, offset: u32, width: usize) -> Vec<Expected> {
        let mut bytes = Vec::new();
        for part in parts(offset, width) {
            bytes.extend(match part.locality {
                Some(locality) => self.read_part(locality, &part, width),
                None => part.ones(),
            });
        }
        bytes
    }

    /// A guest writes these.
    fn write(&mut self, offset: u32, bytes: &[u8]) {
        let mut rest = bytes;
        for part in parts(offset, bytes.len()) {
            let (these, after) = rest.split_at(part.length);
            rest = after;
            if let Some(locality) = part.locality.filter(|locality| *locality != PLATFORM) {
                self.write_part(locality, &part, these);
            }
        }
    }

    /// The command that runs, if one does, has its next slice.
    fn slice(&mut self);

    /// A platform reset.
    fn reset(&mut self);

    /// Whether the interrupt line is asserted.
    fn line(&self) -> bool;

    /// Whether a command runs.
    fn runs(&self) -> bool;

    /// What the engine must have been asked since this was last called.
    fn asked(&mut self) -> Asked;
}

/// What a byte may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// This.
    Is(u8),
    /// This, or nothing any more.
    IsOrZero(u8),
}

impl Expected {
    pub fn allows(self, byte: u8) -> bool {
        match self {
            Self::Is(value) => byte == value,
            Self::IsOrZero(value) => byte == value || byte == 0,
        }
    }
}

/// One part of an access: to bytes of one aligned double word of one page.
pub(super) struct Part {
    /// `None`: behind the last page.
    locality: Option<u32>,
    register: u32,
    /// The first of the bytes.
    first: usize,
    length: usize,
}

/// The parts of an access, from the lowest address on: a register is four bytes, and each acts by itself (section 6.3.1).
fn parts(offset: u32, width: usize) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for at in (u64::from(offset)..).take(width) {
        let (page, inside) = (at / u64::from(PAGE), (at % u64::from(PAGE)) as u32);
        let locality = (page < u64::from(LOCALITIES)).then_some(page as u32);
        let (register, first) = (inside & !3, inside as usize & 3);
        match parts.last_mut() {
            Some(last) if first != 0 && last.locality == locality => last.length += 1,
            _ => parts.push(Part {
                locality,
                register,
                first,
                length: 1,
            }),
        }
    }
    parts
}

impl Part {
    /// The bytes of `value` that are read.
    fn of(&self, value: u32) -> Vec<Expected> {
        let bytes = value.to_le_bytes().into_iter();
        let bytes = bytes.skip(self.first).take(self.length);
        bytes.map(Expected::Is).collect()
    }

    fn ones(&self) -> Vec<Expected> {
        vec![Expected::Is(0xFF); self.length]
    }

    /// What is written, in its place, and all bits of the bytes that are.
    fn written(&self, bytes: &[u8]) -> (u32, u32) {
        let (mut value, mut mask) = ([0; 4], [0; 4]);
        for (at, byte) in (self.first..).zip(bytes) {
            value[at] = *byte;
            mask[at] = 0xFF;
        }
        (u32::from_le_bytes(value), u32::from_le_bytes(mask))
    }
}
