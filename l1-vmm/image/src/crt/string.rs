//! String functions.
//!
//! Every pointer argument is a string with its NUL, or as long as the function's count.

use core::ffi::{CStr, c_char, c_int};
use core::ptr;

use super::heap::malloc;

/// # Safety
/// See the module.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(string: *const c_char) -> usize {
    let mut length = 0;
    // SAFETY: the caller's; nothing behind the NUL is read.
    while unsafe { string.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}

/// # Safety
/// See the module.
#[unsafe(no_mangle)]
unsafe extern "C" fn strcmp(left: *const c_char, right: *const c_char) -> c_int {
    // SAFETY: the caller's: a count that is never reached.
    unsafe { strncmp(left, right, usize::MAX) }
}

/// # Safety
/// See the module.
#[unsafe(no_mangle)]
unsafe extern "C" fn strncmp(left: *const c_char, right: *const c_char, count: usize) -> c_int {
    for at in 0..count {
        // SAFETY: the caller's; nothing behind the first NUL or difference is read.
        let (l, r) = unsafe { (left.add(at).read() as u8, right.add(at).read() as u8) };
        if l != r || l == 0 {
            return c_int::from(l) - c_int::from(r);
        }
    }
    0
}

/// # Safety
/// See the module.
#[unsafe(no_mangle)]
unsafe extern "C" fn strchr(string: *const c_char, wanted: c_int) -> *mut c_char {
    let mut at = string;
    loop {
        // SAFETY: the caller's; nothing behind the NUL is read.
        let character = unsafe { at.read() };
        if character == wanted as c_char {
            return at.cast_mut();
        }
        if character == 0 {
            return ptr::null_mut();
        }
        at = at.wrapping_add(1);
    }
}

/// [`strchr`] by its older name.
///
/// # Safety
/// See the module.
#[unsafe(no_mangle)]
unsafe extern "C" fn index(string: *const c_char, wanted: c_int) -> *mut c_char {
    // SAFETY: the caller's.
    unsafe { strchr(string, wanted) }
}

/// # Safety
/// See the module.
#[unsafe(no_mangle)]
unsafe extern "C" fn strstr(string: *const c_char, wanted: *const c_char) -> *mut c_char {
    // SAFETY: the caller's.
    let length = unsafe { strlen(wanted) };
    let mut at = string;
    loop {
        // SAFETY: the caller's; `strncmp` reads nothing behind the NUL.
        if unsafe { strncmp(at, wanted, length) } == 0 {
            return at.cast_mut();
        }
        // SAFETY: the caller's; nothing behind the NUL is read.
        if unsafe { at.read() } == 0 {
            return ptr::null_mut();
        }
        at = at.wrapping_add(1);
    }
}

/// # Safety
/// See the module.
#[unsafe(no_mangle)]
unsafe extern "C" fn strrchr(string: *const c_char, wanted: c_int) -> *mut c_char {
    let mut last = ptr::null_mut();
    let mut at = string;
    loop {
        // SAFETY: the caller's; nothing behind the NUL is read.
        let character = unsafe { at.read() };
        if character == wanted as c_char {
            last = at.cast_mut();
        }
        if character == 0 {
            return last;
        }
        at = at.wrapping_add(1);
    }
}

/// # Safety
/// See the module; `to` has room.
#[unsafe(no_mangle)]
unsafe extern "C" fn strcpy(to: *mut c_char, from: *const c_char) -> *mut c_char {
    // SAFETY: the caller's; the NUL is copied too.
    unsafe { ptr::copy_nonoverlapping(from, to, strlen(from) + 1) };
    to
}

/// # Safety
/// See the module; `to` has `count` bytes, all of which are written.
#[unsafe(no_mangle)]
unsafe extern "C" fn strncpy(to: *mut c_char, from: *const c_char, count: usize) -> *mut c_char {
    let mut ended = false;
    for at in 0..count {
        let mut character = 0;
        if !ended {
            // SAFETY: the caller's; nothing behind the NUL is read.
            character = unsafe { from.add(at).read() };
            ended = character == 0;
        }
        // SAFETY: the caller's.
        unsafe { to.add(at).write(character) };
    }
    to
}

/// Length of the part of `string` whose characters are all in `set`, or all not.
///
/// # Safety
/// See the module.
unsafe fn span(string: *const c_char, set: *const c_char, inside: bool) -> usize {
    // SAFETY: the caller's.
    let (string, set) = unsafe { (CStr::from_ptr(string), CStr::from_ptr(set)) };
    string
        .to_bytes()
        .iter()
        .take_while(|character| set.to_bytes().contains(character) == inside)
        .count()
}

/// # Safety
/// See the module.
#[unsafe(no_mangle)]
unsafe extern "C" fn strspn(string: *const c_char, accept: *const c_char) -> usize {
    // SAFETY: the caller's.
    unsafe { span(string, accept, true) }
}

/// # Safety
/// See the module.
#[unsafe(no_mangle)]
unsafe extern "C" fn strcspn(string: *const c_char, reject: *const c_char) -> usize {
    // SAFETY: the caller's.
    unsafe { span(string, reject, false) }
}

/// # Safety
/// See the module.
#[unsafe(no_mangle)]
unsafe extern "C" fn strdup(string: *const c_char) -> *mut c_char {
    // SAFETY: the caller's.
    unsafe { strndup(string, usize::MAX) }
}

/// # Safety
/// See the module.
#[unsafe(no_mangle)]
unsafe extern "C" fn strndup(string: *const c_char, count: usize) -> *mut c_char {
    // SAFETY: the caller's; nothing behind the NUL is read.
    let length = (0..count)
        .take_while(|at| unsafe { string.add(*at).read_volatile() } != 0)
        .count();
    let copy = malloc(length + 1).cast::<c_char>();
    if !copy.is_null() {
        // SAFETY: `string` has `length` characters, the block one more; they are different objects.
        unsafe {
            ptr::copy_nonoverlapping(string, copy, length);
            copy.add(length).write(0);
        }
    }
    copy
}
