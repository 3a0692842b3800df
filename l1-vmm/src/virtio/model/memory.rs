//! Memory shared with a device that can write it between any two reads.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use core::ops::Range;

use tdcall::SharedBuffer;

/// Called before each read, or each write, with the memory, and where that is.
type BeforeRead = Box<dyn FnMut(&mut [u8], usize, usize)>;

/// A piece of memory with its address; clones are the same memory.
#[derive(Clone)]
pub(crate) struct Shared {
    gpa: u64,
    bytes: Rc<RefCell<Vec<u8>>>,
    before_read: Rc<RefCell<Option<BeforeRead>>>,
    before_write: Rc<RefCell<Option<BeforeRead>>>,
}

impl Shared {
    pub(crate) fn new(gpa: u64, length: usize) -> Self {
        Self {
            gpa,
            // What a page that becomes shared has in it is the host's choice.
            bytes: Rc::new(RefCell::new(vec![0xA5; length])),
            before_read: Rc::default(),
            before_write: Rc::default(),
        }
    }

    /// Lets the device write before each of the driver's reads.
    pub(crate) fn before_read(&self, action: impl FnMut(&mut [u8], usize, usize) + 'static) {
        *self.before_read.borrow_mut() = Some(Box::new(action));
    }

    /// Lets the device write before each of the driver's writes.
    pub(crate) fn before_write(&self, action: impl FnMut(&mut [u8], usize, usize) + 'static) {
        *self.before_write.borrow_mut() = Some(Box::new(action));
    }

    /// Where `length` bytes at `gpa` are, if all of them are here.
    fn place(&self, gpa: u64, length: usize) -> Option<Range<usize>> {
        let start = usize::try_from(gpa.checked_sub(self.gpa)?).ok()?;
        let end = start.checked_add(length)?;
        (end <= self.length()).then_some(start..end)
    }

    /// The device's read. Of what is not here it gets ones.
    pub(crate) fn device_read(&self, gpa: u64, length: usize) -> Vec<u8> {
        match self.place(gpa, length) {
            Some(place) => self.bytes.borrow()[place].to_vec(),
            None => vec![0xFF; length.min(self.length())],
        }
    }

    /// The device's write. It reaches nothing that is not here.
    pub(crate) fn device_write(&self, gpa: u64, from: &[u8]) {
        if let Some(place) = self.place(gpa, from.len()) {
            self.bytes.borrow_mut()[place].copy_from_slice(from);
        }
    }

    /// The device at work on all of the memory.
    pub(crate) fn with_device<R>(&self, work: impl FnOnce(&mut [u8]) -> R) -> R {
        work(&mut self.bytes.borrow_mut())
    }

    pub(crate) fn device_read_u16(&self, gpa: u64) -> u16 {
        u16::from_le_bytes(self.device_read(gpa, 2).try_into().unwrap())
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memory at {:#x}", self.gpa)
    }
}

impl SharedBuffer for Shared {
    fn gpa(&self) -> u64 {
        self.gpa
    }

    fn length(&self) -> usize {
        self.bytes.borrow().len()
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        let mut bytes = self.bytes.borrow_mut();
        if let Some(action) = &mut *self.before_read.borrow_mut() {
            action(&mut bytes, offset, into.len());
        }
        into.copy_from_slice(&bytes[offset..offset + into.len()]);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        let mut bytes = self.bytes.borrow_mut();
        if let Some(action) = &mut *self.before_write.borrow_mut() {
            action(&mut bytes, offset, from.len());
        }
        bytes[offset..offset + from.len()].copy_from_slice(from);
    }
}
