//! The device's side of a split virtqueue, as the specification has it, with room to lie.

use alloc::vec::Vec;

use super::memory::Shared;
use crate::virtio::ring::{Areas, Segment};

/// A request as the device sees it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) head: u16,
    pub(crate) readable: Vec<Segment>,
    pub(crate) writable: Vec<Segment>,
}

impl Request {
    /// All bytes that the driver gave.
    pub(crate) fn read(&self, memory: &Shared) -> Vec<u8> {
        let parts = self.readable.iter();
        parts
            .flat_map(|part| memory.device_read(part.gpa, part.length as usize))
            .collect()
    }

    /// Writes from the start of the writable part; returns how many bytes.
    pub(crate) fn write(&self, memory: &Shared, mut from: &[u8]) -> u32 {
        let mut written = 0;
        for part in &self.writable {
            let (now, later) = from.split_at(from.len().min(part.length as usize));
            memory.device_write(part.gpa, now);
            written += now.len() as u32;
            from = later;
        }
        written
    }

    pub(crate) fn writable_length(&self) -> u32 {
        let lengths = self.writable.iter().map(|part| part.length);
        lengths.fold(0, u32::saturating_add)
    }
}

/// One queue of a device.
#[derive(Clone)]
pub(crate) struct DeviceQueue {
    pub(crate) memory: Shared,
    pub(crate) areas: Areas,
    seen: u16,
    pub(crate) used: u16,
}

impl DeviceQueue {
    pub(crate) fn new(memory: Shared, areas: Areas) -> Self {
        Self {
            memory,
            areas,
            seen: 0,
            used: 0,
        }
    }

    /// The next request that the driver made available; none if its descriptors make no sense, which only the
    /// device itself can have done.
    pub(crate) fn pop(&mut self) -> Option<Request> {
        let index = self.memory.device_read_u16(self.areas.available + 2);
        if index == self.seen {
            return None;
        }
        let slot = u64::from(self.seen % self.areas.size);
        let head = self
            .memory
            .device_read_u16(self.areas.available + 4 + 2 * slot);
        self.seen = self.seen.wrapping_add(1);
        let (mut readable, mut writable) = (Vec::new(), Vec::new());
        let mut at = head;
        for _ in 0..self.areas.size {
            if at >= self.areas.size {
                return None;
            }
            let gpa = self.areas.descriptors + 16 * u64::from(at);
            let bytes = self.memory.device_read(gpa, 16);
            let segment = Segment {
                gpa: u64::from_le_bytes(bytes[..8].try_into().unwrap()),
                length: u32::from_le_bytes(bytes[8..12].try_into().unwrap()),
            };
            let flags = u16::from_le_bytes(bytes[12..14].try_into().unwrap());
            match flags & 2 {
                0 if !writable.is_empty() => return None,
                0 => readable.push(segment),
                _ => writable.push(segment),
            }
            if flags & 1 == 0 {
                return Some(Request {
                    head,
                    readable,
                    writable,
                });
            }
            at = u16::from_le_bytes(bytes[14..].try_into().unwrap());
        }
        None
    }

    /// Says that a request is done: any id and length.
    pub(crate) fn push(&mut self, id: u32, length: u32) {
        let slot = u64::from(self.used % self.areas.size);
        let element = u64::from(id) | u64::from(length) << 32;
        let gpa = self.areas.used + 4 + 8 * slot;
        self.memory.device_write(gpa, &element.to_le_bytes());
        self.set_used_index(self.used.wrapping_add(1));
    }

    /// Writes the used ring's index.
    pub(crate) fn set_used_index(&mut self, index: u16) {
        self.used = index;
        let gpa = self.areas.used + 2;
        self.memory.device_write(gpa, &index.to_le_bytes());
    }

    /// used_event, behind the available ring.
    pub(crate) fn used_event(&self) -> u16 {
        let gpa = self.areas.available + 4 + 2 * u64::from(self.areas.size);
        self.memory.device_read_u16(gpa)
    }

    /// Asks to be notified of the next request.
    pub(crate) fn ask(&self) {
        self.set_available_event(self.seen);
    }

    /// Writes avail_event, behind the used ring.
    pub(crate) fn set_available_event(&self, index: u16) {
        let gpa = self.areas.used + 4 + 8 * u64::from(self.areas.size);
        self.memory.device_write(gpa, &index.to_le_bytes());
    }
}
