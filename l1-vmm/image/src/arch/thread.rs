//! The thread block that code with stack protectors expects behind FS.
//!
//! Only the TPM engine is such code. It runs under the lock of its owner, so on one processor at a
//! time, and a call ends on the processor on which it began: the guard is the same all the while.

use core::sync::atomic::{AtomicU64, Ordering};

use l1_vmm::entropy::EntropyError;
use x86::msr::{IA32_FS_BASE, wrmsr};

use super::random;

/// The head of glibc's `tcbhead_t` for x86-64, as far as compiled code refers to it.
#[repr(C, align(64))]
pub(crate) struct ThreadBlock {
    own_address: AtomicU64,
    unused: [u64; 4],
    /// At 0x28.
    stack_guard: AtomicU64,
}

const _: () = assert!(core::mem::offset_of!(ThreadBlock, stack_guard) == 0x28);

impl ThreadBlock {
    /// Before [`start`](Self::start).
    pub(crate) const fn new() -> Self {
        Self {
            own_address: AtomicU64::new(0),
            unused: [0; 4],
            stack_guard: AtomicU64::new(0),
        }
    }

    /// Sets a random stack guard and points the executing processor's FS at the block.
    pub(crate) fn start(&'static self) -> Result<(), EntropyError> {
        let mut guard = [0; 8];
        random::fill(&mut guard)?;
        let address = (&raw const *self).expose_provenance() as u64;
        self.own_address.store(address, Ordering::Relaxed);
        // The lowest byte is zero so that no string function can write the guard.
        let guard = u64::from_le_bytes(guard) & !0xFF;
        self.stack_guard.store(guard, Ordering::Relaxed);
        // SAFETY: nothing else of L1 uses FS, and the block is static.
        unsafe { wrmsr(IA32_FS_BASE, address) };
        Ok(())
    }
}
