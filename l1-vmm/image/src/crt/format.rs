//! `asprintf`, with which the TPM engine writes the name of its profile.

use core::arch::naked_asm;
use core::ffi::{CStr, c_char, c_int};
use core::ptr;

use alloc::string::ToString;
use alloc::vec::Vec;

use super::heap::malloc;

/// `va_list` of the System V ABI. Only general registers were saved: nothing prints a float.
#[repr(C)]
struct Arguments {
    /// Offset of the next argument in `saved`.
    general: u32,
    _vector: u32,
    overflow: *const u64,
    saved: *const u64,
}

/// Bytes of `saved`: RDI, RSI, RDX, RCX, R8, R9.
const SAVED: u32 = 48;

impl Arguments {
    /// # Safety
    /// The caller of the variadic function passed one more integer or pointer.
    unsafe fn next(&mut self) -> u64 {
        if self.general < SAVED {
            let at = self.general as usize / size_of::<u64>();
            self.general += 8;
            // SAFETY: inside the six registers that were saved.
            return unsafe { self.saved.add(at).read() };
        }
        // SAFETY: the caller's.
        let value = unsafe { self.overflow.read() };
        self.overflow = self.overflow.wrapping_add(1);
        value
    }
}

/// Makes a `va_list` of what follows the format.
///
/// # Safety
/// As C's `asprintf` for a format of `%s`, `%d`, `%u` and `%%`; any other fails.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn __asprintf_chk(
    into: *mut *mut c_char,
    flag: c_int,
    format: *const c_char,
) -> c_int {
    naked_asm!(
        "sub rsp, 88",
        "mov [rsp + 24], rdi",
        "mov [rsp + 32], rsi",
        "mov [rsp + 40], rdx",
        "mov [rsp + 48], rcx",
        "mov [rsp + 56], r8",
        "mov [rsp + 64], r9",
        // Three of them are named arguments.
        "mov dword ptr [rsp], 24",
        "mov dword ptr [rsp + 4], 48",
        "lea rax, [rsp + 96]",
        "mov [rsp + 8], rax",
        "lea rax, [rsp + 24]",
        "mov [rsp + 16], rax",
        "mov rsi, rdx",
        "mov rdx, rsp",
        "call {print}",
        "add rsp, 88",
        "ret",
        print = sym print,
    )
}

/// # Safety
/// See [`__asprintf_chk`].
unsafe extern "C" fn print(
    into: *mut *mut c_char,
    format: *const c_char,
    arguments: *mut Arguments,
) -> c_int {
    // SAFETY: the caller's: a string, and a `va_list` of its own that fits it.
    let (format, arguments) = unsafe { (CStr::from_ptr(format), &mut *arguments) };
    // SAFETY: the caller's.
    let text = unsafe { write(format.to_bytes(), arguments) };
    let copy = text.as_ref().map_or(ptr::null_mut(), |text| {
        let copy = malloc(text.len() + 1).cast::<u8>();
        if !copy.is_null() {
            // SAFETY: a new block of that length.
            unsafe {
                ptr::copy_nonoverlapping(text.as_ptr(), copy, text.len());
                copy.add(text.len()).write(0);
            }
        }
        copy
    });
    // SAFETY: the caller's.
    unsafe { into.write(copy.cast()) };
    match text {
        Some(text) if !copy.is_null() => c_int::try_from(text.len()).unwrap_or(-1),
        _ => -1,
    }
}

/// The text, or nothing for a conversion that is not known.
///
/// # Safety
/// See [`__asprintf_chk`].
unsafe fn write(format: &[u8], arguments: &mut Arguments) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let mut rest = format.iter();
    while let Some(&character) = rest.next() {
        if character != b'%' {
            text.push(character);
            continue;
        }
        match rest.next()? {
            b'%' => text.push(b'%'),
            b's' => {
                // SAFETY: the caller's: a string.
                let string = unsafe { CStr::from_ptr(arguments.next() as *const c_char) };
                text.extend(string.to_bytes());
            }
            // SAFETY: the caller's.
            b'd' => text.extend(unsafe { arguments.next() as i32 }.to_string().bytes()),
            // SAFETY: the caller's.
            b'u' => text.extend(unsafe { arguments.next() as u32 }.to_string().bytes()),
            _ => return None,
        }
    }
    Some(text)
}

/// Regular expressions of `<regex.h>`: there are none. The engine reads a profile that is not its
/// default with them; such a profile, and a state that names one, is then refused.
#[unsafe(no_mangle)]
extern "C" fn regcomp(_into: *mut u8, _pattern: *const c_char, _flags: c_int) -> c_int {
    /// REG_ESPACE
    const NO_MEMORY: c_int = 12;
    NO_MEMORY
}

/// Never entered; matches nothing.
#[unsafe(no_mangle)]
extern "C" fn regexec(
    _expression: *const u8,
    _text: *const c_char,
    _room: usize,
    _matches: *mut u8,
    _flags: c_int,
) -> c_int {
    /// REG_NOMATCH
    const NO_MATCH: c_int = 1;
    NO_MATCH
}

/// Never entered.
#[unsafe(no_mangle)]
extern "C" fn regfree(_expression: *mut u8) {}
