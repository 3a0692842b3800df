//! A request, as L1 has copied it out of L2's descriptors.

use super::fault::Fault;
use crate::run::environment::L2Memory;
use alloc::vec::Vec;
use l2_exit::{GuestMemory, MemoryError};
use tdcall::SharedBuffer;

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

    /// How many there are, those in a row counted once.
    #[cfg(test)]
    pub(super) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Forgets all of them, and keeps the room.
    pub(super) fn clear(&mut self) {
        self.parts.clear();
        self.length = 0;
    }

    /// Adds one, up to `most` bytes in all.
    pub(super) fn push(&mut self, gpa: u64, length: u32, most: u32) -> Result<(), Fault> {
        let sum = u64::from(self.length) + u64::from(length);
        match u32::try_from(sum) {
            Ok(sum) if sum <= most => self.length = sum,
            _ => return Err(Fault::Bytes { length: sum, most }),
        }
        match self.parts.last_mut() {
            // Buffers in a row are one: drivers cut at pages.
            Some(last) if last.gpa.checked_add(last.length.into()) == Some(gpa) => {
                last.length = last.length.saturating_add(length);
            }
            _ => self.parts.push(Buffer { gpa, length }),
        }
        Ok(())
    }

    /// Where bytes are taken from, one piece after the other.
    pub fn reader(&self) -> Reader<'_> {
        Reader(Cursor::new(&self.parts))
    }

    /// Where bytes go that come one piece after the other.
    pub fn writer(&self) -> Writer<'_> {
        Writer(Cursor::new(&self.parts))
    }
}

/// A place in a request's buffers.
#[derive(Clone, Debug)]
struct Cursor<'a> {
    parts: &'a [Buffer],
    /// Bytes of the first part that are behind.
    within: u32,
}

impl<'a> Cursor<'a> {
    fn new(parts: &'a [Buffer]) -> Self {
        Self { parts, within: 0 }
    }

    /// Address and length of the next bytes that are in one buffer, at most `most`, which is not 0; none at the end.
    fn next(&mut self, most: usize) -> Option<(u64, usize)> {
        let (part, behind) = self.parts.split_first()?;
        let gpa = part.gpa.wrapping_add(self.within.into());
        let room = part.length.saturating_sub(self.within);
        match u32::try_from(most) {
            Ok(most) if most < room => {
                self.within = self.within.saturating_add(most);
                Some((gpa, most as usize))
            }
            _ => {
                self.parts = behind;
                self.within = 0;
                Some((gpa, room as usize))
            }
        }
    }

    /// Calls `each` with address, offset and length of each of the next `length` bytes' pieces; what is beyond the
    /// buffers is left out.
    fn pieces(
        &mut self,
        length: usize,
        mut each: impl FnMut(u64, usize, usize) -> Result<(), MemoryError>,
    ) -> Result<(), MemoryError> {
        let mut done = 0;
        while done < length
            && let Some((gpa, here)) = self.next(length - done)
        {
            each(gpa, done, here)?;
            done += here;
        }
        Ok(())
    }
}

/// Where in a request's buffers the next bytes are taken from, each of them once.
#[derive(Clone, Debug)]
pub struct Reader<'a>(Cursor<'a>);

impl Reader<'_> {
    /// Reads the next bytes; of what is beyond the buffers, nothing.
    pub fn read(&mut self, memory: &dyn GuestMemory, into: &mut [u8]) -> Result<(), MemoryError> {
        self.0.pieces(into.len(), |gpa, done, length| {
            let end = done.saturating_add(length);
            memory.read(gpa, into.get_mut(done..end).unwrap_or_default())
        })
    }

    /// Copies the next `length` bytes to `offset` of `shared`; says how many bytes that took to copy.
    pub fn share(
        &mut self,
        memory: &dyn L2Memory,
        shared: &dyn SharedBuffer,
        offset: usize,
        length: usize,
    ) -> Result<u64, MemoryError> {
        let mut copied = 0_u64;
        self.0.pieces(length, |gpa, done, length| {
            let at = offset.saturating_add(done);
            let took = memory.copy_to_shared(gpa, shared, at, length)?;
            copied = copied.saturating_add(took);
            Ok(())
        })?;
        Ok(copied)
    }
}

/// Where in a request's buffers the next bytes go.
#[derive(Clone, Debug)]
pub struct Writer<'a>(Cursor<'a>);

impl Writer<'_> {
    /// Writes the next bytes; what is beyond the buffers goes nowhere.
    pub fn write(&mut self, memory: &dyn GuestMemory, from: &[u8]) -> Result<(), MemoryError> {
        self.0.pieces(from.len(), |gpa, done, length| {
            let end = done.saturating_add(length);
            memory.write(gpa, from.get(done..end).unwrap_or_default())
        })
    }

    /// Copies the next `length` bytes from `offset` of `shared`; says how many bytes that took to copy.
    pub fn write_shared(
        &mut self,
        memory: &dyn L2Memory,
        shared: &dyn SharedBuffer,
        offset: usize,
        length: usize,
    ) -> Result<u64, MemoryError> {
        let mut copied = 0_u64;
        self.0.pieces(length, |gpa, done, length| {
            let at = offset.saturating_add(done);
            let took = memory.copy_from_shared(gpa, shared, at, length)?;
            copied = copied.saturating_add(took);
            Ok(())
        })?;
        Ok(copied)
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
