//! What must hold of the CRB interface whatever the engine, by the profile (PTP 1.05 revision 14, "CRB Interface") and by what the
//! drivers of Linux (tpm_crb), EDK2, SeaBIOS and FreeBSD rely on. `docs/conformance.md` has the section or table of each.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use std::sync::{Mutex, PoisonError};

use tcg_defs::ptp::crb as offset;

use crate::Locality;
use crate::message::FAILURE;
use crate::ptp::Interface;
use crate::ptp::conformance::{Accesses, Echo, message};
use crate::ptp::data_buffer::{DataBuffer, SIZE, Unmapped};
use crate::ptp::window::PAGE;

mod execution;
mod firmware;
mod flow;
mod interrupts;
mod localities;
mod pages;
mod registers;
mod robustness;

const REQUEST: u32 = 1 << 0;
const RELINQUISH: u32 = 1 << 1;
const SEIZE: u32 = 1 << 2;

const COMMAND_READY: u32 = 1 << 0;
const GO_IDLE: u32 = 1 << 1;
const IDLE: u32 = 1 << 1;

const GRANTED: u32 = 1 << 0;
const BEEN_SEIZED: u32 = 1 << 1;

/// Where the guest finds the pages that it reaches without exits.
const ADDRESS: u64 = 0x1_2345_6000;

/// A buffer that guest and TPM have in common, and how often each of its bytes was read by the TPM.
#[derive(Clone)]
struct Shared(Arc<Mutex<Memory>>);

struct Memory {
    bytes: Unmapped,
    reads: Vec<u32>,
}

impl Shared {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Memory {
            bytes: Unmapped::default(),
            reads: vec![0; SIZE],
        })))
    }

    fn with<T>(&self, look: impl FnOnce(&mut Memory) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The guest writes where no exit is.
    fn set(&self, offset: usize, bytes: &[u8]) {
        self.with(|memory| memory.bytes.write(offset, bytes));
    }

    fn get(&self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0xcc; length];
        self.with(|memory| memory.bytes.read(0, &mut bytes));
        bytes
    }
}

impl DataBuffer for Shared {
    fn address(&self) -> Option<u64> {
        Some(ADDRESS)
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        self.with(|memory| {
            for count in memory.reads.iter_mut().skip(offset).take(into.len()) {
                *count += 1;
            }
            memory.bytes.read(offset, into);
        });
    }

    fn write(&mut self, offset: usize, from: &[u8]) {
        self.set(offset, from);
    }

    fn zero(&mut self, offset: usize, length: usize) {
        self.with(|memory| memory.bytes.zero(offset, length));
    }
}

/// A guest at the interface.
struct Guest(Interface<Echo>);

impl Accesses for Guest {
    fn interface(&mut self) -> &mut Interface<Echo> {
        &mut self.0
    }
}

impl Guest {
    fn new() -> Self {
        Self(Interface::crb(
            Echo::default(),
            Box::new(Unmapped::default()),
        ))
    }

    /// Locality 0 has the TPM, which is idle.
    fn granted() -> Self {
        let mut guest = Self::new();
        guest.control_locality(0, REQUEST);
        guest
    }

    /// And is ready for a command.
    fn ready() -> Self {
        let mut guest = Self::granted();
        guest.write32(0, offset::CTRL_REQ, COMMAND_READY);
        guest
    }

    /// As [`ready`](Self::ready), with a buffer that the guest reaches itself.
    fn with_pages() -> (Self, Shared) {
        let shared = Shared::new();
        let mut guest = Self(Interface::crb(Echo::default(), Box::new(shared.clone())));
        guest.control_locality(0, REQUEST);
        guest.write32(0, offset::CTRL_REQ, COMMAND_READY);
        (guest, shared)
    }

    fn read64(&mut self, locality: u32, register: u32) -> u64 {
        u64::from_le_bytes(self.read(locality, register))
    }

    fn control_locality(&mut self, locality: u32, value: u32) {
        self.write32(locality, offset::LOC_CTRL, value);
    }

    fn start(&mut self, locality: u32) {
        self.write32(locality, offset::CTRL_START, 1);
    }

    /// Writes a command behind the registers, as bytes.
    fn put(&mut self, locality: u32, bytes: &[u8]) {
        for (at, byte) in (offset::DATA_BUFFER..).zip(bytes) {
            self.write(locality, at, &[*byte]);
        }
    }

    fn take(&mut self, locality: u32, length: usize) -> Vec<u8> {
        (offset::DATA_BUFFER..)
            .take(length)
            .map(|at| self.read8(locality, at))
            .collect()
    }

    fn commands(&self) -> &[(Locality, Vec<u8>)] {
        &self.0.engine().commands
    }
}
