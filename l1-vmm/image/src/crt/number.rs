//! Conversion of text to numbers.

use core::ffi::{c_char, c_int, c_long, c_ulong};

use super::control::set_errno;

const ERANGE: c_int = 34;

/// What a string says: magnitude (saturated), sign, whether it was too large, and characters used.
struct Parsed {
    magnitude: u64,
    negative: bool,
    overflow: bool,
    length: usize,
}

/// # Safety
/// `string` is a string with its NUL.
unsafe fn parse(string: *const c_char, base: c_int) -> Parsed {
    let mut at = 0;
    // SAFETY: the caller's; nothing behind the NUL is read, because NUL is neither space nor digit.
    let byte = |at: usize| unsafe { string.add(at).read() as u8 };
    while matches!(byte(at), b' ' | b'\t'..=b'\r') {
        at += 1;
    }
    let negative = byte(at) == b'-';
    if matches!(byte(at), b'-' | b'+') {
        at += 1;
    }
    let digit = |byte: u8, base: u32| char::from(byte).to_digit(base);
    let hexadecimal =
        byte(at) == b'0' && byte(at + 1) | 0x20 == b'x' && digit(byte(at + 2), 16).is_some();
    let base = match base {
        0 | 16 if hexadecimal => {
            at += 2;
            16
        }
        0 if byte(at) == b'0' => 8,
        0 => 10,
        2..=36 => base as u32,
        _ => {
            return Parsed {
                magnitude: 0,
                negative: false,
                overflow: false,
                length: 0,
            };
        }
    };
    let start = at;
    let mut magnitude = 0_u64;
    let mut overflow = false;
    while let Some(value) = digit(byte(at), base) {
        let next = magnitude
            .checked_mul(base.into())
            .and_then(|product| product.checked_add(value.into()));
        overflow |= next.is_none();
        magnitude = next.unwrap_or(u64::MAX);
        at += 1;
    }
    Parsed {
        magnitude,
        negative,
        overflow,
        length: if at == start { 0 } else { at },
    }
}

/// # Safety
/// `end` is null or valid.
unsafe fn set_end(end: *mut *mut c_char, string: *const c_char, length: usize) {
    if !end.is_null() {
        // SAFETY: the caller's.
        unsafe { end.write(string.wrapping_add(length).cast_mut()) };
    }
}

/// # Safety
/// `string` is a string with its NUL; `end` is null or valid.
#[unsafe(no_mangle)]
unsafe extern "C" fn strtol(string: *const c_char, end: *mut *mut c_char, base: c_int) -> c_long {
    // SAFETY: the caller's.
    let parsed = unsafe { parse(string, base) };
    // SAFETY: the caller's.
    unsafe { set_end(end, string, parsed.length) };
    let limit = if parsed.negative {
        c_long::MIN
    } else {
        c_long::MAX
    };
    if parsed.overflow || parsed.magnitude > limit.unsigned_abs() {
        set_errno(ERANGE);
        return limit;
    }
    let value = parsed.magnitude as c_long;
    if parsed.negative {
        value.wrapping_neg()
    } else {
        value
    }
}

/// # Safety
/// `string` is a string with its NUL; `end` is null or valid.
#[unsafe(no_mangle)]
unsafe extern "C" fn strtoul(string: *const c_char, end: *mut *mut c_char, base: c_int) -> c_ulong {
    // SAFETY: the caller's.
    let parsed = unsafe { parse(string, base) };
    // SAFETY: the caller's.
    unsafe { set_end(end, string, parsed.length) };
    if parsed.overflow {
        set_errno(ERANGE);
        return c_ulong::MAX;
    }
    if parsed.negative {
        parsed.magnitude.wrapping_neg()
    } else {
        parsed.magnitude
    }
}
