//! Who may be in the engine, and its power.

use core::cell::Cell;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::engine::{TPM2Interface, result};
use crate::host;
use crate::objects::dispatch;

/// The process-wide right to the engine. `Send`: the engine's state is its statics and its heap, nothing of a thread's.
/// Not `Sync`: it is on one thread at a time.
pub(crate) struct Ownership(PhantomData<Cell<()>>);

static OWNED: AtomicBool = AtomicBool::new(false);

impl Ownership {
    pub(crate) fn take() -> Option<Self> {
        OWNED
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .ok()
            .map(|_| Self(PhantomData))
    }
}

impl Drop for Ownership {
    fn drop(&mut self) {
        power_off();
        host::set(None);
        OWNED.store(false, Ordering::Release);
    }
}

/// _TPM_Init. Only for the holder of the [`Ownership`].
pub(crate) fn power_on() -> Result<(), u32> {
    // SAFETY: nobody else is in the engine: the callers hold the `Ownership`.
    match unsafe { (TPM2Interface.main_init)() } {
        result::SUCCESS => Ok(()),
        code => Err(code),
    }
}

/// Only for the holder of the [`Ownership`]. May be called again and before the first power-on.
pub(crate) fn power_off() {
    // SAFETY: nobody else is in the engine: the callers hold the `Ownership`.
    unsafe { (TPM2Interface.terminate)() };
    dispatch::clear();
}
