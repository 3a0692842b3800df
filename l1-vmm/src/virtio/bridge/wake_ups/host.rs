//! A host that works by itself: its side of the queue in the bytes of the memory that is shared with it, which a test may let
//! it work on between any two of L1's accesses.

use super::{NEXT, Pace, SHARED, WRITE, get, passed, put};
use crate::virtio::ring::Areas;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;

/// How far the host is with a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looking {
    No,
    /// It takes what is there.
    Takes,
    /// It asks for the next notification, and looks once more.
    Asks,
}

/// The host's side of the queue, which is in memory shared with it.
pub(super) struct Host {
    pub(super) areas: Areas,
    pub(super) events: bool,
    pub(super) pace: Pace,
    pub(super) tempo: u64,
    pub(super) numbers: Box<dyn FnMut() -> u64>,
    pub(super) bell: Rc<Cell<bool>>,
    pub(super) looking: Looking,
    pub(super) seen: u16,
    pub(super) used: u16,
    /// What the used index was when it was last decided whether to interrupt.
    pub(super) said: u16,
    pub(super) has: Vec<(u16, u32)>,
    pub(super) interrupt: bool,
}

impl Host {
    fn at(gpa: u64) -> u64 {
        gpa - SHARED
    }

    pub(super) fn busy(&self) -> bool {
        self.bell.get()
            || self.looking != Looking::No
            || !self.has.is_empty()
            || self.said != self.used
    }

    fn available(&self, memory: &[u8]) -> u16 {
        get(memory, Self::at(self.areas.available) + 2)
    }

    /// One thing that it has to do, if it has.
    pub(super) fn step(&mut self, memory: &mut [u8]) {
        if self.bell.take() {
            self.looking = Looking::Takes;
        }
        let chance = (self.numbers)();
        let size = u64::from(self.areas.size);
        match self.looking {
            Looking::Takes if chance & 1 == 0 => {
                if !self.events {
                    put(memory, Self::at(self.areas.used), &[1, 0]);
                }
                while self.available(memory) != self.seen {
                    self.take(memory);
                }
                self.looking = Looking::Asks;
            }
            Looking::Asks if chance & 1 == 0 => {
                if self.events {
                    let at = Self::at(self.areas.used) + 4 + 8 * size;
                    put(memory, at, &self.seen.to_le_bytes());
                } else {
                    put(memory, Self::at(self.areas.used), &[0, 0]);
                }
                self.looking = match self.available(memory) == self.seen {
                    true => Looking::No,
                    false => Looking::Takes,
                };
            }
            _ if !self.has.is_empty() && chance & 2 == 0 => {
                let place = (chance >> 8) as usize % self.has.len();
                let (head, length) = self.has.swap_remove(place);
                let element = u64::from(head) | u64::from(length) << 32;
                let at = Self::at(self.areas.used) + 4 + 8 * (u64::from(self.used) % size);
                put(memory, at, &element.to_le_bytes());
                self.used = self.used.wrapping_add(1);
                let at = Self::at(self.areas.used) + 2;
                put(memory, at, &self.used.to_le_bytes());
            }
            _ if self.said != self.used => {
                let old = core::mem::replace(&mut self.said, self.used);
                let available = Self::at(self.areas.available);
                self.interrupt |= match self.events {
                    true => passed(get(memory, available + 4 + 2 * size), self.used, old),
                    false => get(memory, available) & 1 == 0,
                };
            }
            _ => {}
        }
    }

    fn take(&mut self, memory: &[u8]) {
        let size = u64::from(self.areas.size);
        let slot = u64::from(self.seen) % size;
        let head = get(memory, Self::at(self.areas.available) + 4 + 2 * slot);
        self.seen = self.seen.wrapping_add(1);
        let (mut at, mut writable) = (head, 0);
        loop {
            let place = (Self::at(self.areas.descriptors) + 16 * u64::from(at)) as usize;
            let descriptor = u128::from_le_bytes(memory[place..place + 16].try_into().unwrap());
            let flags = (descriptor >> 96) as u16;
            if flags & WRITE != 0 {
                writable += (descriptor >> 64) as u32;
            }
            if flags & NEXT == 0 {
                break;
            }
            at = (descriptor >> 112) as u16;
        }
        self.has.push((head, writable));
    }

    /// L1 reads or writes.
    pub(super) fn meanwhile(&mut self, memory: &mut [u8]) {
        match self.pace {
            Pace::Apart => {}
            Pace::Any => {
                let chance = (self.numbers)();
                if (chance >> 8).is_multiple_of(self.tempo) {
                    (0..chance & 3).for_each(|_| self.step(memory));
                }
            }
            Pace::AtOnce => {
                while self.busy() {
                    self.step(memory);
                }
            }
        }
    }
}
