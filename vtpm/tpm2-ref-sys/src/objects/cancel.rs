//! The cancel flag, and what heeds it beside libtpms.
//!
//! The engine clears it when a command starts, and looks at it before each prime of an RSA key and each algorithm that a
//! self-test tests. The search for a prime looks at it, too, by functions that the build puts between libtpms's own and
//! OpenSSL's (`build/give_up.rs`): no candidate is a prime any more, and none is looked for. libtpms says TPM_RC_FAILURE or
//! TPM_RC_NO_RESULT then, of the command and not of the TPM, in place of which the owner says TPM_RC_CANCELED.

use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicBool, Ordering};

static CANCELED: AtomicBool = AtomicBool::new(false);
/// The search was given up.
static GAVE_UP: AtomicBool = AtomicBool::new(false);
/// A candidate is tested.
static TESTS: AtomicBool = AtomicBool::new(false);

/// Asks the command that runs now to give up.
pub(crate) fn request() {
    CANCELED.store(true, Ordering::Relaxed);
}

/// Whether the search for a prime was given up since this was last asked.
pub(crate) fn gave_up() -> bool {
    GAVE_UP.swap(false, Ordering::Relaxed)
}

/// Whether it is asked, since it began.
pub(crate) fn is_requested() -> bool {
    CANCELED.load(Ordering::Relaxed)
}

#[unsafe(no_mangle)]
extern "C" fn _plat__IsCanceled() -> c_int {
    is_requested().into()
}

#[unsafe(no_mangle)]
extern "C" fn _plat__SetCancel() {
    request();
}

#[unsafe(no_mangle)]
extern "C" fn _plat__ClearCancel() {
    CANCELED.store(false, Ordering::Relaxed);
}

unsafe extern "C" {
    fn MillerRabin(number: *mut c_void, random: *mut c_void) -> c_int;
    fn EVP_PKEY_keygen_init(context: *mut c_void) -> c_int;
    fn EVP_PKEY_CTX_set_cb(
        context: *mut c_void,
        callback: unsafe extern "C" fn(*mut c_void) -> c_int,
    );
    fn RSA_generate_key_ex(
        key: *mut c_void,
        bits: c_int,
        exponent: *mut c_void,
        callback: *mut c_void,
    ) -> c_int;
    fn BN_GENCB_new() -> *mut c_void;
    fn BN_GENCB_free(callback: *mut c_void);
    fn BN_GENCB_set(
        callback: *mut c_void,
        asked: unsafe extern "C" fn(c_int, c_int, *mut c_void) -> c_int,
        argument: *mut c_void,
    );
}

// `random_integer`, by its name in this version of libtpms.
include!(concat!(env!("OUT_DIR"), "/cancel.rs"));

/// Whether `number` is probably a prime: none is for a command that is to give up, not even one whose test was cut short.
///
/// # Safety
/// As libtpms's `MillerRabin`.
#[unsafe(no_mangle)]
unsafe extern "C" fn tpm2_ref_miller_rabin(number: *mut c_void, random: *mut c_void) -> c_int {
    if is_requested() {
        return 0;
    }
    TESTS.store(true, Ordering::Relaxed);
    // SAFETY: the caller's.
    let prime = unsafe { MillerRabin(number, random) };
    TESTS.store(false, Ordering::Relaxed);
    match is_requested() {
        true => 0,
        false => prime,
    }
}

/// The first candidate for a prime: for a command that is to give up there is none. Bases of a test, for which the same is
/// called, there are to its end.
///
/// # Safety
/// As libtpms's `TpmMath_GetRandomInteger`.
#[unsafe(no_mangle)]
unsafe extern "C" fn tpm2_ref_random_integer(
    number: *mut c_void,
    bits: usize,
    random: *mut c_void,
) -> c_int {
    if is_requested() && !TESTS.load(Ordering::Relaxed) {
        GAVE_UP.store(true, Ordering::Relaxed);
        return 0;
    }
    // SAFETY: the caller's.
    unsafe { random_integer(number, bits, random) }
}

/// Whether a search goes on: OpenSSL asks for each candidate, and makes no key if the answer is 0.
fn goes_on() -> c_int {
    if is_requested() {
        GAVE_UP.store(true, Ordering::Relaxed);
        return 0;
    }
    1
}

unsafe extern "C" fn context_goes_on(_context: *mut c_void) -> c_int {
    goes_on()
}

unsafe extern "C" fn search_goes_on(_what: c_int, _count: c_int, _search: *mut c_void) -> c_int {
    goes_on()
}

/// # Safety
/// As OpenSSL's `EVP_PKEY_keygen_init`.
#[unsafe(no_mangle)]
unsafe extern "C" fn tpm2_ref_keygen_init(context: *mut c_void) -> c_int {
    // SAFETY: the caller's.
    let begun = unsafe { EVP_PKEY_keygen_init(context) };
    if begun > 0 {
        // SAFETY: the context is one, as it began; the callback is an EVP_PKEY_gen_cb that looks at nothing.
        unsafe { EVP_PKEY_CTX_set_cb(context, context_goes_on) };
    }
    begun
}

/// The same of libtpms 0.9, which gives no `callback`.
///
/// # Safety
/// As OpenSSL's `RSA_generate_key_ex`.
#[unsafe(no_mangle)]
unsafe extern "C" fn tpm2_ref_generate_key(
    key: *mut c_void,
    bits: c_int,
    exponent: *mut c_void,
    callback: *mut c_void,
) -> c_int {
    let _ = callback;
    // SAFETY: may be called at any time. Null stands for no callback below.
    let own = unsafe { BN_GENCB_new() };
    if !own.is_null() {
        // SAFETY: a new callback, and a function of the kind that OpenSSL calls through it, which looks at nothing.
        unsafe { BN_GENCB_set(own, search_goes_on, core::ptr::null_mut()) };
    }
    // SAFETY: the caller's, but for the callback, which is one or null.
    let made = unsafe { RSA_generate_key_ex(key, bits, exponent, own) };
    // SAFETY: from `BN_GENCB_new`, or null, which is none.
    unsafe { BN_GENCB_free(own) };
    made
}
