//! L2 for tests: its memory, which it can change before any of L1's reads, and its driver's side of a queue.

extern crate std;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use super::backend::{Answer, Backend, Done, Lost, QueueKind, Request, Submission, Ticket};
use super::queue::{Bounds, Places};
use crate::entropy::EntropyError;
use crate::run::environment::{L2Memory, Owner};
use l2_exit::{GuestMemory, MemoryError};
use tdcall::SharedBuffer;

/// L2's memory is below, L1's from here on.
pub(crate) const L1_START: u64 = 0x10_0000;
/// The end of L1's memory.
pub(crate) const END: u64 = 0x20_0000;

/// Called before each of L1's reads, or writes, with L2's memory, and where that is.
type BeforeRead = Box<dyn FnMut(&mut [u8], u64, usize)>;

/// The memory of a machine; clones are the same.
#[derive(Clone)]
pub(crate) struct Guest {
    ram: Rc<RefCell<Vec<u8>>>,
    before_read: Rc<RefCell<Option<BeforeRead>>>,
    before_write: Rc<RefCell<Option<BeforeRead>>>,
    /// L1's reads and writes: address and bytes.
    pub(crate) reads: Rc<RefCell<Vec<(u64, usize)>>>,
    pub(crate) writes: Rc<RefCell<Vec<(u64, usize)>>>,
}

impl Guest {
    pub(crate) fn new() -> Self {
        Self {
            ram: Rc::new(RefCell::new(vec![0; L1_START as usize])),
            before_read: Rc::default(),
            before_write: Rc::default(),
            reads: Rc::default(),
            writes: Rc::default(),
        }
    }

    /// Lets L2 write before each of L1's reads.
    pub(crate) fn before_read(&self, action: impl FnMut(&mut [u8], u64, usize) + 'static) {
        *self.before_read.borrow_mut() = Some(Box::new(action));
    }

    /// Lets L2 write before each of L1's writes.
    pub(crate) fn before_write(&self, action: impl FnMut(&mut [u8], u64, usize) + 'static) {
        *self.before_write.borrow_mut() = Some(Box::new(action));
    }

    /// L2 at work on all of its memory.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut [u8]) -> R) -> R {
        work(&mut self.ram.borrow_mut())
    }

    /// L2's own write.
    pub(crate) fn put(&self, gpa: u64, bytes: &[u8]) {
        let at = gpa as usize;
        self.ram.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// L2's own read.
    pub(crate) fn get(&self, gpa: u64, length: usize) -> Vec<u8> {
        self.ram.borrow()[gpa as usize..gpa as usize + length].to_vec()
    }

    pub(crate) fn get_u16(&self, gpa: u64) -> u16 {
        u16::from_le_bytes(self.get(gpa, 2).try_into().unwrap())
    }

    fn at(gpa: u64, length: usize) -> Result<usize, MemoryError> {
        match gpa.checked_add(length as u64) {
            Some(end) if end <= L1_START => Ok(gpa as usize),
            _ => Err(MemoryError { gpa }),
        }
    }
}

impl GuestMemory for Guest {
    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        let at = Self::at(gpa, into.len())?;
        self.reads.borrow_mut().push((gpa, into.len()));
        let mut ram = self.ram.borrow_mut();
        if let Some(action) = &mut *self.before_read.borrow_mut() {
            action(&mut ram, gpa, into.len());
        }
        into.copy_from_slice(&ram[at..at + into.len()]);
        Ok(())
    }

    fn write(&self, gpa: u64, from: &[u8]) -> Result<(), MemoryError> {
        let at = Self::at(gpa, from.len())?;
        self.writes.borrow_mut().push((gpa, from.len()));
        let mut ram = self.ram.borrow_mut();
        if let Some(action) = &mut *self.before_write.borrow_mut() {
            action(&mut ram, gpa, from.len());
        }
        ram[at..at + from.len()].copy_from_slice(from);
        Ok(())
    }
}

impl L2Memory for Guest {
    fn owner(&self, gpa: u64) -> Owner {
        match gpa {
            _ if gpa < L1_START => Owner::L2,
            _ if gpa < END => Owner::L1,
            _ => Owner::Nobody,
        }
    }

    fn is_l2(&self, gpa: u64, length: u64) -> bool {
        gpa.checked_add(length).is_some_and(|end| end <= L1_START)
    }
}

/// A piece of L2's memory as L2's driver uses it.
#[derive(Clone)]
pub(crate) struct Own {
    pub(crate) guest: Guest,
    pub(crate) gpa: u64,
    pub(crate) length: usize,
}

impl SharedBuffer for Own {
    fn gpa(&self) -> u64 {
        self.gpa
    }

    fn length(&self) -> usize {
        self.length
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        into.copy_from_slice(&self.guest.get(self.gpa + offset as u64, into.len()));
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.guest.put(self.gpa + offset as u64, from);
    }
}

/// A driver that writes its queue by hand, and so can write anything.
#[derive(Clone)]
pub(crate) struct Driver {
    pub(crate) guest: Guest,
    pub(crate) places: Places,
    pub(crate) available: u16,
    pub(crate) used: u16,
}

/// Descriptor flags.
pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

impl Driver {
    /// A queue whose areas begin at `base`, each in a page of its own.
    pub(crate) fn new(guest: &Guest, base: u64, size: u16) -> Self {
        Self {
            guest: guest.clone(),
            places: Places {
                size,
                descriptors: base,
                available: base + 0x1000,
                used: base + 0x2000,
            },
            available: 0,
            used: 0,
        }
    }

    /// A descriptor's bytes.
    pub(crate) fn bytes(gpa: u64, length: u32, flags: u16, next: u16) -> [u8; 16] {
        let all = u128::from(gpa)
            | u128::from(length) << 64
            | u128::from(flags) << 96
            | u128::from(next) << 112;
        all.to_le_bytes()
    }

    pub(crate) fn describe(&self, index: u16, gpa: u64, length: u32, flags: u16, next: u16) {
        let at = self.places.descriptors + 16 * u64::from(index);
        self.guest.put(at, &Self::bytes(gpa, length, flags, next));
    }

    /// Makes a head available.
    pub(crate) fn offer(&mut self, head: u16) {
        let slot = u64::from(self.available % self.places.size);
        let at = self.places.available + 4 + 2 * slot;
        self.guest.put(at, &head.to_le_bytes());
        self.set_available(self.available.wrapping_add(1));
    }

    pub(crate) fn set_available(&mut self, index: u16) {
        self.available = index;
        self.guest
            .put(self.places.available + 2, &index.to_le_bytes());
    }

    /// The next element of the used ring: head and bytes written.
    pub(crate) fn done(&mut self) -> Option<(u32, u32)> {
        if self.guest.get_u16(self.places.used + 2) == self.used {
            return None;
        }
        let slot = u64::from(self.used % self.places.size);
        let bytes = self.guest.get(self.places.used + 4 + 8 * slot, 8);
        self.used = self.used.wrapping_add(1);
        let element = u64::from_le_bytes(bytes.try_into().unwrap());
        Some((element as u32, (element >> 32) as u32))
    }

    /// Says when to be interrupted: used_event.
    pub(crate) fn set_used_event(&self, index: u16) {
        let at = self.places.available + 4 + 2 * u64::from(self.places.size);
        self.guest.put(at, &index.to_le_bytes());
    }

    /// When the device wants to be notified: avail_event.
    pub(crate) fn available_event(&self) -> u16 {
        let size = u64::from(self.places.size);
        self.guest.get_u16(self.places.used + 4 + 8 * size)
    }
}

/// What a [`ModelBackend`] has seen and is told to do; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Behind(pub(crate) Rc<RefCell<State>>);

#[derive(Default)]
pub(crate) struct State {
    /// Features that were settled, of each start.
    pub(crate) starts: Vec<u64>,
    pub(crate) resets: u32,
    pub(crate) flushes: u32,
    /// Requests: ticket, bytes that L2 gave, room that it has.
    pub(crate) requests: Vec<(Ticket, Vec<u8>, u32)>,
    /// What is to be told: ticket, and bytes for L2.
    pub(crate) done: VecDeque<(Ticket, Vec<u8>)>,
    /// Bytes that are said to be written, if not as many as there are.
    pub(crate) says: Option<u32>,
    /// How many requests there is room for.
    pub(crate) room: usize,
    /// What each request is answered with by the next flush, if it is.
    pub(crate) at_once: Option<Vec<u8>>,
    pub(crate) lost: bool,
    pub(crate) changed: bool,
    pub(crate) configuration: Vec<u8>,
    pub(crate) configured: Vec<(usize, Vec<u8>)>,
}

/// A backend that does what it is told.
pub(crate) struct ModelBackend {
    behind: Behind,
    configuration: Vec<u8>,
}

/// A feature of the model's own.
pub(crate) const FEATURE: u64 = 1 << 5;
const LOST: Lost = Lost::Entropy(EntropyError::Exhausted);

impl ModelBackend {
    pub(crate) fn new(behind: &Behind) -> Box<Self> {
        behind.0.borrow_mut().room = 100;
        behind.0.borrow_mut().configuration = vec![1, 2, 3, 4, 5, 6, 7, 8];
        Box::new(Self {
            behind: behind.clone(),
            configuration: vec![1, 2, 3, 4, 5, 6, 7, 8],
        })
    }
}

impl Backend for ModelBackend {
    fn kind(&self) -> u16 {
        2
    }

    fn class(&self) -> u32 {
        0x01_8000
    }

    fn features(&self) -> u64 {
        FEATURE
    }

    fn queues(&self) -> &[QueueKind] {
        const KIND: QueueKind = QueueKind {
            size: 16,
            bounds: Bounds {
                readable: 0x2000,
                writable: 0x2000,
            },
        };
        &[KIND; 2]
    }

    fn configuration(&self) -> &[u8] {
        &self.configuration
    }

    fn configure(&mut self, offset: usize, from: &[u8]) {
        let mut state = self.behind.0.borrow_mut();
        state.configured.push((offset, from.to_vec()));
    }

    fn changed(&mut self) -> Result<bool, Lost> {
        let mut state = self.behind.0.borrow_mut();
        self.configuration.clone_from(&state.configuration);
        Ok(core::mem::take(&mut state.changed))
    }

    fn start(&mut self, features: u64) -> Result<(), Lost> {
        let mut state = self.behind.0.borrow_mut();
        state.starts.push(features);
        if state.lost { Err(LOST) } else { Ok(()) }
    }

    fn submit(&mut self, request: &Request<'_>) -> Result<Submission, Lost> {
        let mut state = self.behind.0.borrow_mut();
        if state.room == 0 {
            return Ok(Submission::Full);
        }
        state.room -= 1;
        let mut bytes = vec![0; request.readable() as usize];
        let mut given = request.given();
        for piece in bytes.chunks_mut(100) {
            given.read(piece)?;
        }
        state
            .requests
            .push((request.ticket(), bytes, request.writable()));
        Ok(Submission::Taken)
    }

    fn flush(&mut self) -> Result<(), Lost> {
        let mut state = self.behind.0.borrow_mut();
        state.flushes += 1;
        if let Some(bytes) = state.at_once.clone() {
            let tickets: Vec<_> = state.requests.iter().map(|(ticket, ..)| *ticket).collect();
            let done = tickets.into_iter().map(|ticket| (ticket, bytes.clone()));
            state.done.extend(done);
        }
        Ok(())
    }

    fn take(&mut self) -> Result<Option<Done>, Lost> {
        let state = self.behind.0.borrow_mut();
        if state.lost {
            return Err(LOST);
        }
        Ok(state.done.front().map(|(ticket, bytes)| Done {
            ticket: *ticket,
            written: state.says.unwrap_or(bytes.len() as u32),
        }))
    }

    fn give(&mut self, _: &Done, answer: &mut Answer<'_>) -> Result<(), Lost> {
        let (_, bytes) = self.behind.0.borrow_mut().done.pop_front().unwrap();
        for piece in bytes.chunks(7) {
            answer.write(piece)?;
        }
        Ok(())
    }

    fn reset(&mut self) {
        let mut state = self.behind.0.borrow_mut();
        state.resets += 1;
        state.done.clear();
    }
}
