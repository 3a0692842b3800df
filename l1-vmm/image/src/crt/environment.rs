//! What a process has around it: here, entropy and nothing else.

use core::ffi::{c_char, c_int, c_long, c_void};
use core::{ptr, slice};

use super::control::set_errno;
use crate::arch::random;

const ENOENT: c_int = 2;
const EIO: c_int = 5;
const ENOSYS: c_int = 38;

/// Fails when the processor has no entropy to give; libcrypto then makes no key.
///
/// # Safety
/// `into` has `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getentropy(into: *mut c_void, length: usize) -> c_int {
    // SAFETY: the caller's; `u8` may hold anything, and is only written.
    let bytes = unsafe {
        ptr::write_bytes(into.cast::<u8>(), 0, length);
        slice::from_raw_parts_mut(into.cast::<u8>(), length)
    };
    match random::fill(bytes) {
        Ok(()) => 0,
        Err(_) => {
            bytes.fill(0);
            set_errno(EIO);
            -1
        }
    }
}

/// There is no kernel to call: libcrypto tries `getrandom` this way if `getentropy` fails.
#[unsafe(no_mangle)]
extern "C" fn syscall(_number: c_long) -> c_long {
    set_errno(ENOSYS);
    -1
}

/// There are no environment variables.
#[unsafe(no_mangle)]
extern "C" fn getenv(_name: *const c_char) -> *mut c_char {
    ptr::null_mut()
}

/// There are no environment variables.
#[unsafe(no_mangle)]
extern "C" fn secure_getenv(_name: *const c_char) -> *mut c_char {
    ptr::null_mut()
}

/// libcrypto reseeds when it changes: it never forks here.
#[unsafe(no_mangle)]
extern "C" fn getpid() -> c_int {
    1
}

/// There are no files.
#[unsafe(no_mangle)]
extern "C" fn stat(_path: *const c_char, _into: *mut c_void) -> c_int {
    set_errno(ENOENT);
    -1
}

/// There are no directories.
#[unsafe(no_mangle)]
extern "C" fn opendir(_path: *const c_char) -> *mut c_void {
    set_errno(ENOENT);
    ptr::null_mut()
}

/// There are no directories.
#[unsafe(no_mangle)]
extern "C" fn readdir(_directory: *mut c_void) -> *mut c_void {
    ptr::null_mut()
}

/// There are no directories.
#[unsafe(no_mangle)]
extern "C" fn closedir(_directory: *mut c_void) -> c_int {
    -1
}

/// Fails. The callers in the engine and in libcrypto make names of files, texts of errors and lists of
/// commands for people, none of which are used here. (The C function takes further arguments, which are ignored.)
#[unsafe(no_mangle)]
extern "C" fn __snprintf_chk(
    _into: *mut c_char,
    _count: usize,
    _flag: c_int,
    _room: usize,
    _format: *const c_char,
) -> c_int {
    -1
}
