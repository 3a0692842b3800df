//! Memory operands whose bytes are a device's, or partly L2's memory.

use crate::guest::{Part, Span};
use crate::memory::{GuestMemory, MmioBus};
use crate::outcome::EmulationError;

/// A memory operand that has been translated and checked.
pub(super) trait Operand {
    /// Why it cannot be reached after all.
    type Error;

    /// Its value, zero-extended.
    fn read(&mut self) -> Result<u64, Self::Error>;

    /// Replaces it by the low bytes of `value`.
    fn write(&mut self, value: u64) -> Result<(), Self::Error>;
}

/// An operand inside one page of a device's.
pub(super) struct Register<'a, B> {
    pub(super) bus: &'a mut B,
    pub(super) gpa: u64,
    pub(super) size: u8,
}

impl<B: MmioBus> Operand for Register<'_, B> {
    type Error = core::convert::Infallible;

    #[inline]
    fn read(&mut self) -> Result<u64, Self::Error> {
        let mut bytes = [0; 8];
        if let Some(into) = bytes.get_mut(..usize::from(self.size)) {
            self.bus.read(self.gpa, into);
        }
        Ok(u64::from_le_bytes(bytes))
    }

    #[inline]
    fn write(&mut self, value: u64) -> Result<(), Self::Error> {
        if let Some(from) = value.to_le_bytes().get(..usize::from(self.size)) {
            self.bus.write(self.gpa, from);
        }
        Ok(())
    }
}

/// Any operand: each byte is a device's or memory.
pub(super) struct Bytes<'a, M, B> {
    pub(super) memory: &'a M,
    pub(super) bus: &'a mut B,
    pub(super) span: Span,
}

impl<M: GuestMemory, B: MmioBus> Bytes<'_, M, B> {
    fn read_part(&mut self, part: Part, into: &mut [u8]) -> Result<(), EmulationError> {
        if self.bus.claims(part.gpa) {
            for (gpa, chunk) in chunks(part.gpa, into) {
                self.bus.read(gpa, chunk);
            }
            return Ok(());
        }
        self.memory
            .read(part.gpa, into)
            .map_err(|error| EmulationError::Unclaimed {
                gpa: error.gpa,
                write: false,
            })
    }

    fn write_part(&mut self, part: Part, from: &mut [u8]) -> Result<(), EmulationError> {
        if self.bus.claims(part.gpa) {
            for (gpa, chunk) in chunks(part.gpa, from) {
                self.bus.write(gpa, chunk);
            }
            return Ok(());
        }
        self.memory
            .write(part.gpa, from)
            .map_err(|error| EmulationError::Unclaimed {
                gpa: error.gpa,
                write: true,
            })
    }
}

impl<M: GuestMemory, B: MmioBus> Operand for Bytes<'_, M, B> {
    type Error = EmulationError;

    fn read(&mut self) -> Result<u64, EmulationError> {
        let mut bytes = [0; 8];
        let [first, second] = self.span;
        let (head, rest) = bytes.split_at_mut(usize::from(first.length).min(8));
        self.read_part(first, head)?;
        if second.length != 0
            && let Some(tail) = rest.get_mut(..usize::from(second.length))
        {
            self.read_part(second, tail)?;
        }
        Ok(u64::from_le_bytes(bytes))
    }

    fn write(&mut self, value: u64) -> Result<(), EmulationError> {
        let mut bytes = value.to_le_bytes();
        let [first, second] = self.span;
        let (head, rest) = bytes.split_at_mut(usize::from(first.length).min(8));
        self.write_part(first, head)?;
        if second.length != 0
            && let Some(tail) = rest.get_mut(..usize::from(second.length))
        {
            self.write_part(second, tail)?;
        }
        Ok(())
    }
}

/// Cuts the bytes at `gpa` into accesses that a bus knows: 1, 2, 4 or 8 bytes. Only an operand
/// that crosses a page has more than one.
fn chunks(gpa: u64, bytes: &mut [u8]) -> impl Iterator<Item = (u64, &mut [u8])> {
    let mut left = bytes;
    let mut at = gpa;
    core::iter::from_fn(move || {
        let size = match left.len() {
            0 => return None,
            1 => 1,
            2 | 3 => 2,
            4..8 => 4,
            _ => 8,
        };
        let (chunk, rest) = core::mem::take(&mut left).split_at_mut_checked(size)?;
        left = rest;
        let here = at;
        at = at.wrapping_add(size as u64);
        Some((here, chunk))
    })
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;

    #[test]
    fn every_length_is_cut_into_bus_widths() {
        for (length, widths) in [
            (1, &[1][..]),
            (2, &[2]),
            (3, &[2, 1]),
            (4, &[4]),
            (5, &[4, 1]),
            (6, &[4, 2]),
            (7, &[4, 2, 1]),
            (8, &[8]),
        ] {
            let mut bytes = [0; 8];
            let mut end = 0x1000;
            let mut cut = Vec::new();
            for (gpa, chunk) in chunks(0x1000, &mut bytes[..length]) {
                assert_eq!(gpa, end);
                end += chunk.len() as u64;
                cut.push(chunk.len());
            }
            assert_eq!(cut, widths);
        }
    }
}
