//! Entropy for the engine's own generator and for OpenSSL's functions, all of it from the owner.
//!
//! When there is none both say so and [`Fault::Entropy`](crate::Fault::Entropy) is recorded. The
//! stock engine would go on with a value made of the time and the process number.
//!
//! OpenSSL also has a generator of its own, whose strength it asks for before it makes an RSA key;
//! it seeds itself once by `getentropy`, which is the C library's (see the crate's documentation).

use core::ffi::{c_int, c_uchar, c_void};

use crate::engine::{RAND_set_rand_method, RandMethod};
use crate::host;

static METHOD: RandMethod = RandMethod {
    seed: Some(ignore_seed),
    bytes: Some(bytes),
    cleanup: None,
    add: Some(ignore_addition),
    pseudorand: Some(bytes),
    status: Some(ready),
};

/// Makes all of OpenSSL's random bytes come from here. False when OpenSSL refuses.
pub(crate) fn install() -> bool {
    // SAFETY: `METHOD` is constant, lives for ever and has the layout OpenSSL expects.
    unsafe { RAND_set_rand_method(&METHOD) == 1 }
}

/// Whether all `length` bytes could be filled.
///
/// # Safety
///
/// `into` is valid for `length` writes.
unsafe fn draw(into: *mut c_uchar, length: usize) -> bool {
    if length == 0 {
        return true;
    }
    // The slice must not hold what was never written.
    // SAFETY: by this function's contract.
    unsafe { into.write_bytes(0, length) };
    // SAFETY: by this function's contract; written just now; the engine does not touch its buffer
    // while it waits for this call.
    let into = unsafe { core::slice::from_raw_parts_mut(into, length) };
    host::with(|host| host.draw(into)) == Some(Ok(()))
}

/// Returns how many bytes were filled, negative for a failure that is not to be tried again.
#[unsafe(no_mangle)]
unsafe extern "C" fn _plat__GetEntropy(into: *mut c_uchar, length: u32) -> i32 {
    // SAFETY: the engine gives a buffer of that length.
    if unsafe { draw(into, length as usize) } {
        length as i32
    } else {
        -1
    }
}

unsafe extern "C" fn bytes(into: *mut c_uchar, length: c_int) -> c_int {
    let Ok(length) = usize::try_from(length) else {
        return 0;
    };
    // SAFETY: OpenSSL gives a buffer of that length.
    unsafe { draw(into, length) }.into()
}

unsafe extern "C" fn ignore_seed(_seed: *const c_void, _length: c_int) -> c_int {
    1
}

unsafe extern "C" fn ignore_addition(
    _addition: *const c_void,
    _length: c_int,
    _entropy: f64,
) -> c_int {
    1
}

unsafe extern "C" fn ready() -> c_int {
    1
}
