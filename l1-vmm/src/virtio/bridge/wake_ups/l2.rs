//! L2's side of the queue in the bytes of its memory.

use super::{DIRECT, Driver, GIVEN, INDIRECT, NEXT, OWN, OWN_LENGTH, PIECE, ROOM, SIZE};
use super::{Setting, TABLE, WRITE, get, passed, put};
use crate::machine::devices::virtio::queue::Places;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// L2's driver, which does as Linux's does.
pub(super) struct L2 {
    pub(super) setting: Setting,
    /// Bytes of data in one direction at most.
    pub(super) data: u32,
    pub(super) numbers: Box<dyn FnMut() -> u64>,
    pub(super) places: Places,
    pub(super) available: u16,
    /// What that was when it was last decided whether to notify.
    pub(super) said: u16,
    pub(super) used: u16,
    pub(super) free: Vec<u16>,
    pub(super) left: u32,
    pub(super) out: u32,
    /// A notification that L1 has not had yet.
    pub(super) notification: bool,
}

impl L2 {
    /// Posts some requests, if it can.
    pub(super) fn post(&mut self, ram: &mut [u8]) {
        let most = [1, 2, 8, 128][((self.numbers)() & 3) as usize];
        for _ in 0..(self.numbers)() % most + 1 {
            if self.left == 0 {
                break;
            }
            let Some(slot) = self.free.pop() else {
                break;
            };
            self.offer(ram, slot);
        }
        let old = core::mem::replace(&mut self.said, self.available);
        let used = self.places.used;
        self.notification |= match self.setting.l2_events {
            true => {
                let event = get(ram, used + 4 + 8 * u64::from(SIZE));
                passed(event, self.available, old)
            }
            false => old != self.available && get(ram, used) & 1 == 0,
        };
    }

    fn offer(&mut self, ram: &mut [u8], slot: u16) {
        let data = self.data;
        let mut length = || {
            let chance = (self.numbers)();
            match chance % self.setting.large {
                0 => data,
                1 => (chance >> 8) as u32 % data + 1,
                _ => (chance >> 8) as u32 % 0x400,
            }
        };
        let (given, room) = (length(), length());
        let own = OWN + OWN_LENGTH * u64::from(slot);
        let cut = |gpa: u64, length: u32, flags: u16| {
            let starts = (0..length).step_by(PIECE as usize);
            starts.map(move |start| (gpa, PIECE.min(length - start), flags))
        };
        let pieces = core::iter::once((own, 16, 0))
            .chain(cut(GIVEN, given, 0))
            .chain(cut(ROOM, room, WRITE))
            .chain([(own + 0x10, 1, WRITE)]);
        let first = slot * DIRECT;
        let (head, table, base) = match self.setting.tables {
            true => (slot, own + TABLE, 0),
            false => (
                first,
                self.places.descriptors + 16 * u64::from(first),
                first,
            ),
        };
        let pieces: Vec<_> = pieces.collect();
        for (number, (gpa, length, flags)) in (1..).zip(&pieces) {
            let next = if usize::from(number) < pieces.len() {
                NEXT
            } else {
                0
            };
            let bytes = Driver::bytes(*gpa, *length, flags | next, base + number);
            put(ram, table + 16 * (u64::from(number) - 1), &bytes);
        }
        if self.setting.tables {
            let bytes = Driver::bytes(table, 16 * pieces.len() as u32, INDIRECT, 0);
            put(ram, self.places.descriptors + 16 * u64::from(slot), &bytes);
        }
        let at = self.places.available + 4 + 2 * u64::from(self.available % SIZE);
        put(ram, at, &head.to_le_bytes());
        self.available = self.available.wrapping_add(1);
        put(
            ram,
            self.places.available + 2,
            &self.available.to_le_bytes(),
        );
        self.left -= 1;
        self.out += 1;
    }

    /// It was interrupted.
    pub(super) fn interrupted(&mut self, ram: &mut [u8]) {
        let available = self.places.available;
        let event = available + 4 + 2 * u64::from(SIZE);
        loop {
            match self.setting.l2_events {
                true => put(ram, event, &[0, 0]),
                false => put(ram, available, &[1, 0]),
            }
            while get(ram, self.places.used + 2) != self.used {
                let at = self.places.used + 4 + 8 * u64::from(self.used % SIZE);
                let head = get(ram, at);
                self.free.push(match self.setting.tables {
                    true => head,
                    false => head / DIRECT,
                });
                self.used = self.used.wrapping_add(1);
                self.out -= 1;
            }
            match self.setting.l2_events {
                true => put(ram, event, &self.used.to_le_bytes()),
                false => put(ram, available, &[0, 0]),
            }
            if get(ram, self.places.used + 2) == self.used {
                break;
            }
        }
    }
}
