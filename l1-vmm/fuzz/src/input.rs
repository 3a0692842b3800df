//! The bytes that decide.

use std::cell::RefCell;
use std::rc::Rc;

/// An input; clones are the same one. Behind its end come zeroes: each choice is made so that 0 keeps the rules.
#[derive(Clone)]
pub struct Input(Rc<RefCell<(Vec<u8>, usize)>>);

impl Input {
    /// With these bytes.
    pub fn new(data: &[u8]) -> Self {
        Self(Rc::new(RefCell::new((data.to_vec(), 0))))
    }

    /// Whether no byte is left.
    pub fn ended(&self) -> bool {
        let (data, at) = &*self.0.borrow();
        *at >= data.len()
    }

    /// Leaves out all that is left.
    pub fn end(&self) {
        self.0.borrow_mut().1 = usize::MAX;
    }

    /// The next byte.
    pub fn byte(&self) -> u8 {
        let (data, at) = &mut *self.0.borrow_mut();
        let byte = data.get(*at).copied().unwrap_or(0);
        *at = at.saturating_add(1);
        byte
    }

    /// The next bytes.
    pub fn bytes(&self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }

    /// The next two bytes.
    pub fn word(&self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// The next four bytes.
    pub fn dword(&self) -> u32 {
        u32::from(self.word()) | u32::from(self.word()) << 16
    }

    /// The next eight bytes.
    pub fn qword(&self) -> u64 {
        u64::from(self.dword()) | u64::from(self.dword()) << 32
    }
}
