//! A device as drivers use it, in the order of the specification and in any other.

mod entropy;
mod registers;
mod requests;

extern crate std;

use super::backend::{Backend, Ticket};
use super::function::Function;
use super::model::{Behind, Driver, FEATURE, Guest, L1_START, ModelBackend, WRITE};
use crate::machine::devices::ioapic::{Message, MessageSink};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;

const BARS: u64 = 0xC000_0000;
const TABLE: u64 = BARS + 0x4000;
const VERSION_1: u64 = 1 << 32;
const EVENT_IDX: u64 = 1 << 29;
const INDIRECT: u64 = 1 << 28;
const NEEDS_RESET: u8 = 64;

#[derive(Default)]
struct Apic(Vec<u8>);

impl MessageSink for Apic {
    fn deliver(&mut self, message: Message) -> bool {
        self.0.push(message.vector);
        true
    }
}

/// A function, with L2 in front of it.
struct Machine {
    function: Function,
    guest: Guest,
    apic: Apic,
    behind: Behind,
    queues: [Driver; 2],
}

impl Machine {
    /// As after a reset, with its BARs on.
    fn new() -> Self {
        let behind = Behind::default();
        let guest = Guest::new();
        let backend: Box<dyn Backend> = ModelBackend::new(&behind);
        let mut function = Function::new(backend, BARS as u32);
        function.write_configuration(4, &[6, 4]);
        Self {
            function,
            apic: Apic::default(),
            behind,
            queues: [0x1_0000, 0x2_0000].map(|base| Driver::new(&guest, base, 16)),
            guest,
        }
    }

    /// Set up by the book, with these features besides VERSION_1, and MSI-X on.
    fn running(features: u64) -> Self {
        let mut machine = Self::new();
        machine.set_up(features);
        assert_eq!(machine.status(), 15);
        machine
    }

    fn set_up(&mut self, features: u64) {
        self.write(0x14, &[0]);
        self.write(0x14, &[1]);
        self.write(0x14, &[3]);
        self.choose(features | VERSION_1);
        self.write(0x14, &[11]);
        self.msix();
        self.write(0x10, &0_u16.to_le_bytes());
        for queue in 0..2 {
            self.enable(queue);
        }
        self.write(0x14, &[15]);
    }

    fn choose(&mut self, features: u64) {
        for half in 0..2_u32 {
            self.write(8, &half.to_le_bytes());
            let bits = (features >> (32 * half)) as u32;
            self.write(0xC, &bits.to_le_bytes());
        }
    }

    fn msix(&mut self) {
        for entry in 0..3_u64 {
            self.write_at(TABLE + 16 * entry, &0xFEE0_0000_u64.to_le_bytes());
            let vector = 0x40 + entry as u32;
            self.write_at(TABLE + 16 * entry + 8, &vector.to_le_bytes());
            self.write_at(TABLE + 16 * entry + 12, &[0; 4]);
        }
        let at = self.capability(0x11, None);
        self.function
            .write_configuration(at + 2, &0x8000_u16.to_le_bytes());
    }

    fn enable(&mut self, queue: u16) {
        let places = self.queues[usize::from(queue)].places;
        self.write(0x16, &queue.to_le_bytes());
        self.write(0x18, &places.size.to_le_bytes());
        self.write(0x1A, &(queue + 1).to_le_bytes());
        for (at, gpa) in [
            (0x20, places.descriptors),
            (0x28, places.available),
            (0x30, places.used),
        ] {
            self.write(at, &(gpa as u32).to_le_bytes());
            self.write(at + 4, &((gpa >> 32) as u32).to_le_bytes());
        }
        self.write(0x1C, &1_u16.to_le_bytes());
    }

    fn capability(&mut self, id: u8, kind: Option<u8>) -> u16 {
        let mut at = self.config(0x34, 1) as u16;
        while at != 0 {
            let found = self.config(at, 1) as u8 == id;
            if found && kind.is_none_or(|kind| self.config(at + 3, 1) as u8 == kind) {
                return at;
            }
            at = self.config(at + 1, 1) as u16;
        }
        panic!("no capability {id:#x}");
    }

    fn config(&mut self, at: u16, width: usize) -> u32 {
        let mut bytes = [0; 4];
        self.function.read_configuration(at, &mut bytes[..width]);
        u32::from_le_bytes(bytes)
    }

    /// An exit of L2's for a write at `gpa`.
    fn write_at(&mut self, gpa: u64, bytes: &[u8]) {
        if let Some(place) = self.function.place(gpa, bytes.len()) {
            self.function.write(place, bytes);
        }
        self.serve();
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.write_at(BARS + offset, bytes);
    }

    fn read(&mut self, offset: u64, width: usize) -> u64 {
        let mut bytes = [0; 8];
        if let Some(place) = self.function.place(BARS + offset, width) {
            self.function.read(place, &mut bytes[..width]);
        }
        u64::from_le_bytes(bytes)
    }

    /// L2's driver begins anew: its rings are empty.
    fn clear(&mut self) {
        let mut state = self.behind.0.borrow_mut();
        state.done.clear();
        state.requests.clear();
        state.room = 9;
        self.queues = [0x1_0000, 0x2_0000].map(|base| {
            self.guest.put(base, &[0; 0x8000]);
            Driver::new(&self.guest, base, 16)
        });
    }

    fn serve(&mut self) {
        self.function.serve(&self.guest, &mut self.apic);
    }

    fn status(&mut self) -> u8 {
        self.read(0x14, 1) as u8
    }

    fn notify(&mut self, queue: u16) {
        self.write(0x3000 + 4 * u64::from(queue), &queue.to_le_bytes());
    }

    /// One request of 16 bytes to read and 32 to write, by the descriptors 2 `number` and 2 `number` + 1.
    fn request(&mut self, queue: u16, number: u16) {
        let driver = &mut self.queues[usize::from(queue)];
        let (head, base) = (2 * number, 0x4_0000 + 0x100 * u64::from(number));
        driver.guest.put(base, &[number as u8; 16]);
        driver.describe(head, base, 16, 1, head + 1);
        driver.describe(head + 1, base + 0x80, 32, WRITE, 0);
        driver.offer(head);
    }

    fn answer(&mut self, queue: u16, head: u16, bytes: &[u8]) {
        let ticket = Ticket { queue, head };
        let mut state = self.behind.0.borrow_mut();
        state.done.push_back((ticket, bytes.to_vec()));
    }

    /// Vectors that were delivered since the last call.
    fn vectors(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.apic.0)
    }

    fn submitted(&self) -> Vec<u16> {
        let state = self.behind.0.borrow();
        state
            .requests
            .iter()
            .map(|(ticket, ..)| ticket.head)
            .collect()
    }
}

proptest! {
    /// Any accesses of any registers, notifications, requests and completions: no panic, nothing outside of L2's
    /// memory, and after a reset the device works.
    #[test]
    fn no_sequence_of_accesses_breaks_the_device(
        steps in proptest::collection::vec((0_u8..10, any::<u16>(), any::<u64>()), 0..200), running: bool,
    ) {
        let mut machine = Machine::new();
        if running {
            machine.set_up(EVENT_IDX);
        }
        for (step, place, value) in steps {
            let width = [1, 2, 4, 8][usize::from(place & 3)];
            let bytes = value.to_le_bytes();
            match step {
                0 => machine.write(u64::from(place % 0x40), &bytes[..width]),
                1 => machine.write(0x14, &bytes[..1]),
                2 => machine.write(u64::from(place), &bytes[..width]),
                3 => {
                    let at = (place >> 2) % 260;
                    // The BARs stay, or nothing else would be reached.
                    if !(4..0x18).contains(&at) {
                        machine.function.write_configuration(at, &bytes[..width]);
                    }
                }
                4 => machine.request(place & 1, place >> 1 & 7),
                5 | 6 => machine.notify(place & 3),
                7 => machine.answer(place & 1, (place >> 1) & 14, &bytes),
                8 => machine.guest.put(0x1_0000 + u64::from(place), &bytes),
                _ => {
                    machine.read(u64::from(place % 0x3FF8), width);
                    machine.behind.0.borrow_mut().room = usize::from(place & 7);
                }
            }
        }
        machine.clear();
        machine.function.reset();
        machine.function.write_configuration(4, &[6, 4]);
        machine.set_up(0);
        machine.request(0, 2);
        machine.notify(0);
        prop_assert_eq!(machine.submitted(), [4]);
    }
}
