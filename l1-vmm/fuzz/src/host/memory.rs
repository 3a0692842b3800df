//! The clock, and the memory that L1 shares with the host.

use super::super::input::Input;
use super::{BASE, LIES};
use l1_vmm::virtio::clock::Clock;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use tdcall::SharedBuffer;

/// A clock that goes on by 10 microseconds each time it is looked at; clones are the same clock.
#[derive(Clone, Default)]
pub struct Ticks(Rc<Cell<u64>>);

impl Clock for Ticks {
    fn now(&self) -> u64 {
        self.0.set(self.0.get() + 10_000);
        self.0.get()
    }
}

/// Shared memory, which the host may write before any read of L1's; clones are the same.
#[derive(Clone)]
pub struct Shared {
    bytes: Rc<RefCell<Vec<u8>>>,
    input: Input,
    /// Reads and writes by L1.
    pub accesses: Rc<Cell<u64>>,
    /// The host has written where it has nothing to write, so it does not know what L1 has seen.
    pub(super) blurred: Rc<Cell<bool>>,
}

impl Shared {
    /// So much of it.
    pub fn new(length: usize, input: &Input) -> Self {
        Self {
            bytes: Rc::new(RefCell::new(vec![0xA5; length])),
            input: input.clone(),
            accesses: Rc::default(),
            blurred: Rc::default(),
        }
    }

    /// The device's read: zeroes of what is not here.
    pub(super) fn get(&self, gpa: u64, length: usize) -> Vec<u8> {
        let at = usize::try_from(gpa.wrapping_sub(BASE)).unwrap_or(usize::MAX);
        let bytes = self.bytes.borrow();
        let end = at.saturating_add(length);
        bytes
            .get(at..end)
            .map_or_else(|| vec![0; length.min(bytes.len())], <[u8]>::to_vec)
    }

    pub(super) fn get_u16(&self, gpa: u64) -> u16 {
        let bytes = self.get(gpa, 2);
        u16::from_le_bytes([bytes[0], bytes[1]])
    }

    /// The device's write: it reaches nothing that is not here.
    pub(super) fn put(&self, gpa: u64, from: &[u8]) {
        let at = usize::try_from(gpa.wrapping_sub(BASE)).unwrap_or(usize::MAX);
        let end = at.saturating_add(from.len());
        if let Some(place) = self.bytes.borrow_mut().get_mut(at..end) {
            place.copy_from_slice(from);
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shared memory")
    }
}

impl SharedBuffer for Shared {
    fn gpa(&self) -> u64 {
        BASE
    }

    fn length(&self) -> usize {
        self.bytes.borrow().len()
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        self.accesses.set(self.accesses.get() + 1);
        let choice = self.input.byte();
        if choice >= LIES {
            self.blurred.set(true);
            let at = self.input.dword() as usize % self.length();
            // Of the queues rather than of the buffers.
            let at = if choice & 1 == 0 { at } else { at & 0x7FF };
            let bytes = self.input.bytes(usize::from(choice >> 1 & 7) + 1);
            self.put(BASE + at as u64, &bytes);
        }
        into.copy_from_slice(&self.bytes.borrow()[offset..offset + into.len()]);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.accesses.set(self.accesses.get() + 1);
        self.bytes.borrow_mut()[offset..offset + from.len()].copy_from_slice(from);
    }
}
