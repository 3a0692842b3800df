//! The device's side of a queue.

use super::memory::Shared;
use virtio_defs::ring;

/// A request as the device has it.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) head: u16,
    pub(super) readable: Vec<(u64, u32)>,
    pub(super) writable: Vec<(u64, u32)>,
}

impl Request {
    pub(super) fn room(&self) -> u32 {
        let lengths = self.writable.iter().map(|(_, length)| *length);
        lengths.fold(0, u32::saturating_add)
    }

    pub(super) fn read(&self, memory: &Shared) -> Vec<u8> {
        let parts = self.readable.iter();
        parts
            .flat_map(|(gpa, length)| memory.get(*gpa, *length as usize))
            .collect()
    }

    /// Writes from the start of the room; returns how many bytes.
    pub(super) fn write(&self, memory: &Shared, mut from: &[u8]) -> u32 {
        let mut written = 0;
        for (gpa, length) in &self.writable {
            let (now, later) = from.split_at(from.len().min(*length as usize));
            memory.put(*gpa, now);
            written += now.len() as u32;
            from = later;
        }
        written
    }
}

/// A queue: its registers, and what the device has of it.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) size: u16,
    pub(super) vector: u16,
    pub(super) enabled: u16,
    /// Descriptors, available ring, used ring.
    pub(super) areas: [u64; 3],
    pub(super) seen: u16,
    pub(super) used: u16,
    pub(super) held: Vec<Request>,
}

impl Queue {
    /// Takes what is available.
    pub(super) fn pull(&mut self, memory: &Shared) {
        let [_, available, _] = self.areas;
        for _ in 0..self.size {
            if memory.get_u16(available + ring::AVAILABLE_INDEX as u64) == self.seen {
                break;
            }
            let slot = u64::from(self.seen % self.size);
            let head = memory.get_u16(available + ring::AVAILABLE_RING as u64 + 2 * slot);
            self.seen = self.seen.wrapping_add(1);
            if let Some(request) = self.walk(memory, head) {
                self.held.push(request);
            }
        }
    }

    /// The chain, unless the device itself has spoiled it.
    pub(super) fn walk(&self, memory: &Shared, head: u16) -> Option<Request> {
        let mut request = Request {
            head,
            readable: Vec::new(),
            writable: Vec::new(),
        };
        let mut at = head;
        for _ in 0..self.size {
            let bytes = memory.get(self.areas[0] + 16 * u64::from(at), 16);
            let all = u128::from_le_bytes(bytes.try_into().ok()?);
            let part = (all as u64, (all >> 64) as u32);
            let flags = (all >> 96) as u16;
            match flags & ring::DESCRIPTOR_WRITE {
                0 => request.readable.push(part),
                _ => request.writable.push(part),
            }
            if flags & ring::DESCRIPTOR_NEXT == 0 {
                return Some(request);
            }
            at = (all >> 112) as u16;
        }
        None
    }

    pub(super) fn push(&mut self, memory: &Shared, id: u32, length: u32) {
        let slot = u64::from(self.used % self.size.max(1));
        let element = u64::from(id) | u64::from(length) << 32;
        let place = self.areas[2] + ring::USED_RING as u64 + 8 * slot;
        memory.put(place, &element.to_le_bytes());
        self.set_used(memory, self.used.wrapping_add(1));
        let before = self.held.len();
        self.held.retain(|request| u32::from(request.head) != id);
        if self.held.len() == before {
            // It may be one that the device has not taken yet.
            memory.blurred.set(true);
        }
    }

    pub(super) fn set_used(&mut self, memory: &Shared, index: u16) {
        self.used = index;
        let place = self.areas[2] + ring::USED_INDEX as u64;
        memory.put(place, &index.to_le_bytes());
    }

    pub(super) fn set_event(&self, memory: &Shared, index: u16) {
        let elements = 8 * u64::from(self.size);
        let place = self.areas[2] + ring::USED_RING as u64 + elements;
        memory.put(place, &index.to_le_bytes());
    }
}
