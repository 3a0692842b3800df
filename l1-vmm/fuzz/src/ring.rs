//! L1's side of a queue alone.

use super::input::Input;
use l1_vmm::virtio::ring::{Areas, Ring, Segment, Suppression};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use tdcall::SharedBuffer;

const BASE: u64 = 0x10_0000;
/// Reads that one call may make: of an index, and of an element or an event.
const READS_MAX: u32 = 2;

/// The queue's memory; clones are the same.
#[derive(Clone)]
struct Memory {
    bytes: Rc<RefCell<Vec<u8>>>,
    input: Input,
    /// Offset of the used ring, once it is known.
    used: Rc<Cell<usize>>,
    reads: Rc<Cell<u32>>,
}

impl Memory {
    fn put(&self, gpa: u64, bytes: &[u8]) {
        let at = (gpa - BASE) as usize;
        self.bytes.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn word(&self, gpa: u64) -> u16 {
        let at = (gpa - BASE) as usize;
        let bytes = self.bytes.borrow();
        u16::from_le_bytes([bytes[at], bytes[at + 1]])
    }
}

impl SharedBuffer for Memory {
    fn gpa(&self) -> u64 {
        BASE
    }

    fn length(&self) -> usize {
        self.bytes.borrow().len()
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        assert!(offset >= self.used.get(), "read back what L1 wrote");
        self.reads.set(self.reads.get() + 1);
        let mut bytes = self.bytes.borrow_mut();
        let choice = self.input.byte();
        if choice >= 0xF0 {
            let at = usize::from(self.input.word()) % bytes.len();
            bytes[at] = self.input.byte();
        }
        into.copy_from_slice(&bytes[offset..offset + into.len()]);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.bytes.borrow_mut()[offset..offset + from.len()].copy_from_slice(from);
    }
}

/// The device, which may complete what it likes.
struct Device {
    areas: Areas,
    used: u16,
}

impl Device {
    fn complete(&mut self, memory: &Memory, id: u32, length: u32) {
        let slot = u64::from(self.used % self.areas.size);
        let element = u64::from(id) | u64::from(length) << 32;
        memory.put(self.areas.used + 4 + 8 * slot, &element.to_le_bytes());
        self.used = self.used.wrapping_add(1);
        memory.put(self.areas.used + 2, &self.used.to_le_bytes());
    }
}

/// The driver's side of a queue: each request comes back exactly once, with no more bytes than it has room for.
pub fn driver_ring(data: &[u8]) {
    let input = Input::new(data);
    let form = input.byte();
    let size = 1 << (form & 7).min(6);
    let suppression = match form & 0x80 {
        0 => Suppression::EventIndex,
        _ => Suppression::Flags,
    };
    let length = Ring::<Memory, u32>::memory_length(size).unwrap_or_else(|| unreachable!());
    let memory = Memory {
        bytes: Rc::new(RefCell::new(vec![0xA5; length])),
        input: input.clone(),
        used: Rc::default(),
        reads: Rc::default(),
    };
    let mut ring = Ring::new(memory.clone(), size, suppression).unwrap_or_else(|_| unreachable!());
    let areas = ring.areas();
    memory.used.set((areas.used - BASE) as usize);
    let mut device = Device { areas, used: 0 };
    // Of each request that the device has, how many bytes it may write.
    let mut out = BTreeMap::new();
    let mut next = 0_u32;
    while !input.ended() {
        memory.reads.set(0);
        match input.byte() % 10 {
            0..=2 => {
                let shape = input.byte();
                let segment = |at: u8| Segment {
                    gpa: u64::from(at) << 12,
                    length: u32::from(input.word()),
                };
                let readable: Vec<_> = (0..shape & 3).map(segment).collect();
                let writable: Vec<_> = (0..shape >> 2 & 3).map(segment).collect();
                let room = writable.iter().map(|segment| segment.length).sum::<u32>();
                match ring.post(&readable, &writable, next) {
                    Ok(()) => assert!(out.insert(next, room).is_none()),
                    Err(refused) => assert_eq!(refused.token, next),
                }
                next += 1;
            }
            3 | 4 => {
                // What was made available last, or before.
                let place = u64::from(u16::from(input.byte()) % size);
                let head = memory.word(areas.available + 4 + 2 * place);
                device.complete(&memory, head.into(), u32::from(input.byte()));
            }
            5 => device.complete(&memory, input.dword(), input.dword()),
            6 => {
                device.used = input.word();
                memory.put(areas.used + 2, &device.used.to_le_bytes());
            }
            7 => drop(ring.notification()),
            8 if input.byte() & 1 == 0 => drop(ring.ask_for_interrupt()),
            8 => ring.ask_for_none(),
            _ => {
                if let Ok(Some(done)) = ring.take() {
                    let room = out.remove(&done.token).expect("one that the device had");
                    assert!(done.written <= room);
                }
            }
        }
        assert!(memory.reads.get() <= READS_MAX);
        assert_eq!(usize::from(ring.in_flight()), out.len());
    }
    for token in ring.reset() {
        assert!(out.remove(&token).is_some(), "{token} twice");
    }
    assert!(out.is_empty(), "lost: {out:?}");
}
