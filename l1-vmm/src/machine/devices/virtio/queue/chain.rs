//! A request, as L1 has copied it out of L2's descriptors.

use super::fault::Fault;
use alloc::vec::Vec;
use l2_exit::{GuestMemory, MemoryError};

/// The most that a request may have, by its queue. What L2 offers beyond that is refused before it is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes for the device to read.
    pub readable: u32,
    /// Bytes for the device to write.
    pub writable: u32,
}

/// A buffer in L2's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Buffer {
    gpa: u64,
    length: u32,
}

/// Buffers of one direction, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buffers {
    parts: Vec<Buffer>,
    length: u32,
}

impl Buffers {
    /// Bytes of all of them.
    pub fn length(&self) -> u32 {
        self.length
    }

    /// Adds one, up to `most` bytes in all.
    pub(super) fn push(&mut self, gpa: u64, length: u32, most: u32) -> Result<(), Fault> {
        let sum = u64::from(self.length) + u64::from(length);
        match u32::try_from(sum) {
            Ok(sum) if sum <= most => self.length = sum,
            _ => return Err(Fault::Bytes { length: sum, most }),
        }
        self.parts.push(Buffer { gpa, length });
        Ok(())
    }

    /// Passes all bytes on, each read once, in pieces that fit into `piece`.
    pub fn read(
        &self,
        memory: &dyn GuestMemory,
        piece: &mut [u8],
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), MemoryError> {
        for part in &self.parts {
            let (mut gpa, mut left) = (part.gpa, part.length as usize);
            while left != 0 {
                let take = left.min(piece.len());
                let Some(bytes) = piece.get_mut(..take).filter(|bytes| !bytes.is_empty()) else {
                    return Err(MemoryError { gpa });
                };
                memory.read(gpa, bytes)?;
                sink(bytes);
                gpa = gpa.wrapping_add(take as u64);
                left -= take;
            }
        }
        Ok(())
    }

    /// Where bytes go that come one piece after the other.
    pub fn writer(&self) -> Writer<'_> {
        Writer {
            parts: &self.parts,
            within: 0,
        }
    }
}

/// Where in a request's buffers the next bytes go.
#[derive(Clone, Debug)]
pub struct Writer<'a> {
    parts: &'a [Buffer],
    /// Bytes of the first part that are written.
    within: u32,
}

impl Writer<'_> {
    /// Writes the next bytes; what is beyond the buffers goes nowhere.
    pub fn write(&mut self, memory: &dyn GuestMemory, from: &[u8]) -> Result<(), MemoryError> {
        let mut from = from;
        while let Some((part, behind)) = self.parts.split_first() {
            let room = part.length.saturating_sub(self.within) as usize;
            let (now, later) = from.split_at(from.len().min(room));
            memory.write(part.gpa.wrapping_add(self.within.into()), now)?;
            from = later;
            if now.len() == room {
                self.parts = behind;
                self.within = 0;
            } else {
                self.within = self.within.saturating_add(now.len() as u32);
            }
            if from.is_empty() {
                break;
            }
        }
        Ok(())
    }
}

/// A request that L2 made available. It comes back to the queue when it is done.
#[derive(Debug, PartialEq, Eq)]
pub struct Chain {
    /// The descriptor that it is known by.
    pub(super) head: u16,
    /// For the device to read.
    pub readable: Buffers,
    /// For the device to write.
    pub writable: Buffers,
}

impl Chain {
    /// The descriptor that it is known by.
    pub fn head(&self) -> u16 {
        self.head
    }
}
