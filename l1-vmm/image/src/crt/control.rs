//! The ways C code ends, and `errno`.

use core::ffi::{CStr, c_char, c_int, c_uint};
use core::sync::atomic::{AtomicI32, Ordering};

use crate::fatal::{FatalCode, fatal};

/// One for all processors: only the TPM engine's code uses it (see the module `crt`).
static ERRNO: AtomicI32 = AtomicI32::new(0);

/// Sets `errno`.
pub(super) fn set_errno(number: c_int) {
    ERRNO.store(number, Ordering::Relaxed);
}

/// Where `errno` is.
#[unsafe(no_mangle)]
extern "C" fn __errno_location() -> *mut c_int {
    ERRNO.as_ptr()
}

/// Ends L1.
#[unsafe(no_mangle)]
extern "C" fn abort() -> ! {
    fatal(FatalCode::Panic, format_args!("the TPM engine aborts"))
}

/// Ends L1: a buffer on the stack was overrun.
#[unsafe(no_mangle)]
extern "C" fn __stack_chk_fail() -> ! {
    fatal(
        FatalCode::Panic,
        format_args!("the TPM engine overran a buffer on the stack"),
    )
}

/// Ends L1.
///
/// # Safety
/// `expression` and `file` are strings.
#[unsafe(no_mangle)]
unsafe extern "C" fn __assert_fail(
    expression: *const c_char,
    file: *const c_char,
    line: c_uint,
    _function: *const c_char,
) -> ! {
    // SAFETY: the caller's.
    let (expression, file) = unsafe { (CStr::from_ptr(expression), CStr::from_ptr(file)) };
    let expression = expression.to_str().unwrap_or("?");
    let file = file.to_str().unwrap_or("?");
    fatal(
        FatalCode::Panic,
        format_args!("the TPM engine's assertion {expression} at {file}:{line}"),
    )
}
