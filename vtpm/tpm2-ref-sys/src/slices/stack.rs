//! Memory for a stack.

use alloc::vec;
use alloc::vec::Vec;
use core::ptr::NonNull;

/// What it is filled with before it is used.
const PAINT: u64 = 0x5AA5_C33C_0FF0_9669;

/// Bytes at its lower end that must keep their paint.
const MARGIN: usize = 512;

/// Memory for the stack of a [`Fiber`](super::Fiber).
pub struct Stack {
    bottom: NonNull<u64>,
    words: usize,
    /// Where it is of the heap.
    _heap: Vec<u64>,
}

// SAFETY: the memory is the stack's alone.
unsafe impl Send for Stack {}

impl Stack {
    /// Bytes of one of the heap: many times what a command was ever seen to use, as no page below it is unmapped.
    const ON_HEAP: usize = 4 << 20;

    /// One of the heap, for programs that have no better: without a guard page.
    pub fn on_heap() -> Self {
        let mut heap = vec![0; Self::ON_HEAP / 8];
        let bottom = NonNull::from(heap.as_mut_slice()).cast();
        Self {
            bottom,
            words: heap.len(),
            _heap: heap,
        }
    }

    /// The `size` bytes from `bottom` on.
    ///
    /// # Safety
    /// They are nobody else's, for ever, aligned to 16, and the 64 KiB below them are not mapped: the engine's C code
    /// has frames of more than a page and does not probe the stack.
    pub const unsafe fn new(bottom: NonNull<u8>, size: usize) -> Self {
        Self {
            bottom: bottom.cast(),
            words: size / 8,
            _heap: Vec::new(),
        }
    }

    pub(super) fn bottom(&self) -> usize {
        self.bottom.as_ptr().expose_provenance()
    }

    pub(super) const fn size(&self) -> usize {
        self.words * 8
    }

    /// Its upper end, aligned to 16.
    pub(super) fn top(&mut self) -> *mut u64 {
        let odd = self.bottom.as_ptr().wrapping_add(self.words) as usize % 16;
        self.bottom.as_ptr().wrapping_add(self.words - odd / 8)
    }

    /// Fills it. Nothing is on it.
    pub(super) fn paint(&mut self) {
        for index in 0..self.words {
            // SAFETY: inside the memory, which is the stack's alone, and nobody runs on it.
            unsafe { self.bottom.add(index).write_volatile(PAINT) };
        }
    }

    fn painted(&self) -> usize {
        (0..self.words)
            // SAFETY: inside the memory, and written by `paint`; only looked at.
            .take_while(|index| unsafe { self.bottom.add(*index).read_volatile() } == PAINT)
            .count()
    }

    /// The most that was ever in use, in bytes.
    pub(super) fn used(&self) -> usize {
        (self.words - self.painted()) * 8
    }

    /// Ends the program if the lower end was written.
    pub(super) fn check(&self) {
        // SAFETY: as in `painted`.
        let is_painted = |index| unsafe { self.bottom.add(index).read_volatile() } == PAINT;
        assert!(
            (0..MARGIN / 8).step_by(8).all(is_painted),
            "the stack of the TPM engine has overflowed"
        );
    }
}
