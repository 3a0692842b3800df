//! The cancel flag. The engine clears it when a command starts and looks at it during RSA key
//! generation for a primary key.

use core::ffi::c_int;
use core::sync::atomic::{AtomicBool, Ordering};

static CANCELED: AtomicBool = AtomicBool::new(false);

/// Asks the command that runs now to give up.
pub(crate) fn request() {
    CANCELED.store(true, Ordering::Relaxed);
}

#[unsafe(no_mangle)]
extern "C" fn _plat__IsCanceled() -> c_int {
    CANCELED.load(Ordering::Relaxed).into()
}

#[unsafe(no_mangle)]
extern "C" fn _plat__SetCancel() {
    request();
}

#[unsafe(no_mangle)]
extern "C" fn _plat__ClearCancel() {
    CANCELED.store(false, Ordering::Relaxed);
}
