//! The shim's access to memory by address: everything is identity-mapped.

use core::sync::atomic::{AtomicU32, Ordering};

/// Holding one says that the identity map is in place and that one processor has it.
#[derive(Clone, Copy)]
pub(crate) struct Ram(());

impl Ram {
    /// # Safety
    /// The addresses passed to the methods are identity-mapped private memory of the TD, none of
    /// them is the shim's own stack or data, and other processors run nothing but the loops of `reset`, which use the two
    /// mailboxes alone.
    pub(crate) const unsafe fn new() -> Self {
        Self(())
    }

    /// The bytes of a range that is not written while the slice lives: the image, the TD HOB.
    pub(crate) fn bytes(&self, address: u64, length: usize) -> &'static [u8] {
        // SAFETY: `new`'s caller vouches for the range; the shim writes neither image nor TD HOB.
        unsafe { core::slice::from_raw_parts(address as *const u8, length) }
    }

    /// Copies `bytes` to an address.
    pub(crate) fn write(&self, address: u64, bytes: &[u8]) {
        // SAFETY: `new`'s caller vouches for the range, which is no Rust object.
        unsafe {
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), address as *mut u8, bytes.len());
        }
    }

    /// Fills a range with one byte.
    pub(crate) fn fill(&self, address: u64, length: usize, byte: u8) {
        // SAFETY: as for `write`.
        unsafe { core::ptr::write_bytes(address as *mut u8, byte, length) }
    }

    /// Reads an unaligned u64.
    pub(crate) fn read_u64(&self, address: u64) -> u64 {
        // SAFETY: as for `bytes`; the value is copied out.
        unsafe { (address as *const u64).read_unaligned() }
    }

    /// Writes an aligned u32 after everything that was written before, for other processors too.
    pub(crate) fn publish(&self, address: u64, value: u32) {
        // SAFETY: as for `write`, and aligned (the caller's); other processors only read it, as a whole.
        unsafe { AtomicU32::from_ptr(address as *mut u32) }.store(value, Ordering::Release);
    }

    /// Writes an unaligned u64.
    pub(crate) fn write_u64(&self, address: u64, value: u64) {
        self.write(address, &value.to_le_bytes());
    }
}
