//! Buffers for requests, in memory shared with the host.

use alloc::vec::Vec;

use super::ring::Segment;
use tdcall::SharedBuffer;

/// One of the buffers. Who holds it may use it; there is one of each.
#[derive(Debug, PartialEq, Eq)]
pub struct Slot(u32);

/// Buffers of one length.
#[derive(Debug)]
pub struct Slots<B> {
    memory: B,
    length: u32,
    free: Vec<Slot>,
}

impl<B: SharedBuffer> Slots<B> {
    /// As many buffers of `length` bytes as `memory` holds, but not more than `most`.
    pub fn new(memory: B, length: u32, most: u32) -> Self {
        let room = memory.length().checked_div(length as usize).unwrap_or(0);
        let count = u32::try_from(room).unwrap_or(most).min(most);
        Self {
            memory,
            length,
            free: (0..count).rev().map(Slot).collect(),
        }
    }

    /// Buffers that nobody holds.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// A buffer, if there is one.
    pub fn take(&mut self) -> Option<Slot> {
        self.free.pop()
    }

    /// Takes a buffer back.
    pub fn give_back(&mut self, slot: Slot) {
        self.free.push(slot);
    }

    /// What the device is told of `length` bytes at `offset`, which are inside of a buffer.
    pub fn segment(&self, slot: &Slot, offset: u32, length: u32) -> Segment {
        let start = u64::from(slot.0) * u64::from(self.length);
        Segment {
            gpa: self.memory.gpa() + start + u64::from(offset),
            length: length.min(self.length.saturating_sub(offset)),
        }
    }

    /// Copies out of a buffer. An access that leaves it does nothing.
    pub fn read(&self, slot: &Slot, offset: u32, into: &mut [u8]) {
        if let Some(place) = self.place(slot, offset, into.len()) {
            self.memory.read(place, into);
        }
    }

    /// Copies into a buffer. An access that leaves it does nothing.
    pub fn write(&self, slot: &Slot, offset: u32, from: &[u8]) {
        if let Some(place) = self.place(slot, offset, from.len()) {
            self.memory.write(place, from);
        }
    }

    fn place(&self, slot: &Slot, offset: u32, length: usize) -> Option<usize> {
        let start = slot.0 as usize * self.length as usize;
        let end = (offset as usize).checked_add(length)?;
        (end <= self.length as usize).then(|| start + offset as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::model::memory::Shared;

    #[test]
    fn buffers_are_apart_and_there_once() {
        let memory = Shared::new(0x1000, 100);
        let mut slots = Slots::new(memory.clone(), 30, 16);
        assert_eq!(slots.free(), 3);
        let (first, second) = (slots.take().unwrap(), slots.take().unwrap());
        assert_ne!(first, second);
        slots.write(&first, 0, &[1; 30]);
        slots.write(&second, 0, &[2; 30]);
        slots.write(&first, 1, &[3; 30]);
        slots.write(&first, u32::MAX, &[3; 2]);
        let mut read = [0; 30];
        slots.read(&second, 0, &mut read);
        assert_eq!(read, [2; 30]);
        let segment = slots.segment(&second, 10, 50);
        assert_eq!((segment.gpa, segment.length), (0x1000 + 30 + 10, 20));
        assert!(slots.take().is_some() && slots.take().is_none());
        slots.give_back(first);
        assert_eq!(slots.free(), 1);
        assert_eq!(Slots::new(memory.clone(), 30, 2).free(), 2);
        assert_eq!(Slots::new(memory, 0, 2).free(), 0);
    }
}
