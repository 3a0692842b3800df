//! Names that newer glibc headers give to old functions: libtpms 0.10.2 was compiled with those of
//! glibc 2.42, and programs are linked with older ones too.

use core::ffi::{c_char, c_int, c_ulong};

unsafe extern "C" {
    fn strtoul(string: *const c_char, end: *mut *mut c_char, base: c_int) -> c_ulong;
}

/// C23's `strtoul`. It differs from the older one in a prefix `0b`, which no number of a profile has.
///
/// # Safety
/// As `strtoul`'s.
#[unsafe(no_mangle)]
unsafe extern "C" fn __isoc23_strtoul(
    string: *const c_char,
    end: *mut *mut c_char,
    base: c_int,
) -> c_ulong {
    // SAFETY: the caller's.
    unsafe { strtoul(string, end, base) }
}
