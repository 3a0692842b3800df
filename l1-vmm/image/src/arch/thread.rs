//! The thread block that code with stack protectors expects behind FS.

use core::cell::UnsafeCell;

use l1_vmm::entropy::EntropyError;
use x86::msr::{IA32_FS_BASE, wrmsr};

use super::random;

/// The head of glibc's `tcbhead_t` for x86-64, as far as compiled code refers to it.
#[repr(C, align(64))]
struct ThreadBlock {
    own_address: u64,
    unused: [u64; 4],
    /// At 0x28.
    stack_guard: u64,
}

struct Static(UnsafeCell<ThreadBlock>);

// SAFETY: one processor; written by `start` before code with stack protectors runs, then read only.
unsafe impl Sync for Static {}

static BLOCK: Static = Static(UnsafeCell::new(ThreadBlock {
    own_address: 0,
    unused: [0; 4],
    stack_guard: 0,
}));

const _: () = assert!(core::mem::offset_of!(ThreadBlock, stack_guard) == 0x28);

/// Sets a random stack guard and points FS at the block.
pub(crate) fn start() -> Result<(), EntropyError> {
    let mut guard = [0; 8];
    random::fill(&mut guard)?;
    let block = BLOCK.0.get();
    // SAFETY: called once, before anything reads the block; nothing else of L1 uses FS.
    unsafe {
        (*block).own_address = block as u64;
        // The lowest byte is zero so that no string function can write the guard.
        (*block).stack_guard = u64::from_le_bytes(guard) & !0xFF;
        wrmsr(IA32_FS_BASE, block as u64);
    }
    Ok(())
}
