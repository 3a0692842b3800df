//! The thread block that code with stack protectors expects behind FS.
//!
//! Only the TPM engine is such code. It runs under the lock of its owner, so on one processor at a
//! time, but a command may end on another processor than it began on: all have the same guard.

use core::sync::atomic::{AtomicU64, Ordering};

use l1_vmm::entropy::EntropyError;
use x86::msr::{IA32_FS_BASE, wrmsr};

use super::random;

/// The guard, chosen by the boot processor before any other is started; 0 until then.
static GUARD: AtomicU64 = AtomicU64::new(0);

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

    /// Sets the stack guard, a random one, and points the executing processor's FS at the block.
    pub(crate) fn start(&'static self) -> Result<(), EntropyError> {
        let address = (&raw const *self).expose_provenance() as u64;
        self.own_address.store(address, Ordering::Relaxed);
        let mut guard = GUARD.load(Ordering::Relaxed);
        if guard == 0 {
            let mut random = [0; 8];
            random::fill(&mut random)?;
            // The lowest byte is zero so that no string function can write the guard.
            guard = u64::from_le_bytes(random) & !0xFF;
            GUARD.store(guard, Ordering::Relaxed);
        }
        self.stack_guard.store(guard, Ordering::Relaxed);
        // SAFETY: nothing else of L1 uses FS, and the block is static.
        unsafe { wrmsr(IA32_FS_BASE, address) };
        Ok(())
    }
}
