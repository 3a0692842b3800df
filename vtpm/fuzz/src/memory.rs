//! The guest's page that the command response buffer lies in: guest and TPM have it in common.

use std::sync::{Arc, Mutex, PoisonError};

use vtpm::ptp::data_buffer::{DataBuffer, SIZE, Unmapped};

/// Where the guest finds it.
pub const ADDRESS: u64 = 0xFED4_5000;

/// The page; clones are the same one.
#[derive(Clone, Default)]
pub struct Page(Arc<Mutex<Unmapped>>);

impl Page {
    fn with<T>(&self, look: impl FnOnce(&mut Unmapped) -> T) -> T {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        look(&mut memory)
    }

    /// All of it.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; SIZE];
        self.with(|memory| memory.read(0, &mut bytes));
        bytes
    }

    /// The guest writes, without an exit.
    pub fn poke(&self, offset: usize, bytes: &[u8]) {
        self.with(|memory| memory.write(offset, bytes));
    }
}

impl DataBuffer for Page {
    fn address(&self) -> Option<u64> {
        Some(ADDRESS)
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        self.with(|memory| memory.read(offset, into));
    }

    fn write(&mut self, offset: usize, from: &[u8]) {
        self.poke(offset, from);
    }

    fn zero(&mut self, offset: usize, length: usize) {
        self.with(|memory| memory.zero(offset, length));
    }
}
