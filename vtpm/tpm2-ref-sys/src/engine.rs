//! What the C side offers: libtpms's TPM 2 interface table and the few OpenSSL and C library
//! functions that are called directly.

use core::ffi::{CStr, c_int, c_uchar, c_uint, c_void};

/// libtpms result codes that pass between it and this crate (tpm_error.h).
pub(crate) mod result {
    pub(crate) const SUCCESS: u32 = 0;
    pub(crate) const FAIL: u32 = 9;
    pub(crate) const SIZE: u32 = 0x17;
    /// From a load: there is no such blob yet.
    pub(crate) const RETRY: u32 = 0x800;
}

/// Which blob, in libtpms's numbers (TPMLIB_STATE_*).
pub(crate) mod blob {
    use core::ffi::c_uint;

    pub(crate) const PERMANENT: c_uint = 1;
    pub(crate) const VOLATILE: c_uint = 2;
    pub(crate) const SAVE_STATE: c_uint = 4;
}

/// The name under which libtpms loads and stores the permanent state.
pub(crate) const PERMANENT_NAME: &CStr = c"permall";
pub(crate) const VOLATILE_NAME: &CStr = c"volatilestate";
pub(crate) const SAVE_STATE_NAME: &CStr = c"savestate";

/// libtpms's `struct tpm_interface`: one pointer a row, none of them null in the TPM 2 table. 0.10
/// has two more behind these, which choose a profile and tell whether the TPM was just made.
#[repr(C)]
pub(crate) struct Interface {
    pub(crate) main_init: unsafe extern "C" fn() -> u32,
    pub(crate) terminate: unsafe extern "C" fn(),
    pub(crate) set_buffer_size: unsafe extern "C" fn(u32, *mut u32, *mut u32) -> u32,
    pub(crate) process:
        unsafe extern "C" fn(*mut *mut c_uchar, *mut u32, *mut u32, *mut c_uchar, u32) -> u32,
    pub(crate) volatile_all_store: unsafe extern "C" fn(*mut *mut c_uchar, *mut u32) -> u32,
    pub(crate) cancel_command: unsafe extern "C" fn() -> u32,
    pub(crate) get_property: unsafe extern "C" fn(c_int, *mut c_int) -> u32,
    pub(crate) get_info: unsafe extern "C" fn(c_uint) -> *mut c_uchar,
    pub(crate) established_get: unsafe extern "C" fn(*mut c_uchar) -> u32,
    pub(crate) established_reset: unsafe extern "C" fn() -> u32,
    pub(crate) hash_start: unsafe extern "C" fn() -> u32,
    pub(crate) hash_data: unsafe extern "C" fn(*const c_uchar, u32) -> u32,
    pub(crate) hash_end: unsafe extern "C" fn() -> u32,
    pub(crate) validate_state: unsafe extern "C" fn(c_uint, c_uint) -> u32,
    pub(crate) set_state: unsafe extern "C" fn(c_uint, *const c_uchar, u32) -> u32,
    pub(crate) get_state: unsafe extern "C" fn(c_uint, *mut *mut c_uchar, *mut u32) -> u32,
}

/// OpenSSL's `RAND_METHOD`.
#[repr(C)]
pub(crate) struct RandMethod {
    pub(crate) seed: Option<unsafe extern "C" fn(*const c_void, c_int) -> c_int>,
    pub(crate) bytes: Option<unsafe extern "C" fn(*mut c_uchar, c_int) -> c_int>,
    pub(crate) cleanup: Option<unsafe extern "C" fn()>,
    pub(crate) add: Option<unsafe extern "C" fn(*const c_void, c_int, f64) -> c_int>,
    pub(crate) pseudorand: Option<unsafe extern "C" fn(*mut c_uchar, c_int) -> c_int>,
    pub(crate) status: Option<unsafe extern "C" fn() -> c_int>,
}

unsafe extern "C" {
    /// The TPM 2 row of libtpms's dispatcher. Constant data.
    pub(crate) safe static TPM2Interface: Interface;

    /// OpenSSL: finds out what the processor can do. A constructor calls it in a hosted program;
    /// in an image without constructors nobody does. Further calls do nothing.
    pub(crate) fn OPENSSL_cpuid_setup();
    pub(crate) fn RAND_set_rand_method(method: *const RandMethod) -> c_int;

    pub(crate) fn malloc(length: usize) -> *mut c_void;
    pub(crate) fn free(block: *mut c_void);
}

/// A copy of `data` that the engine may `free`; null when there is no memory.
pub(crate) fn malloc_copy(data: &[u8]) -> *mut c_uchar {
    // SAFETY: any length may be asked for. One byte at least, so that null means failure.
    let block = unsafe { malloc(data.len().max(1)) }.cast::<c_uchar>();
    if !block.is_null() {
        // SAFETY: the block is new, so apart from `data`, and has at least its length.
        unsafe { block.copy_from_nonoverlapping(data.as_ptr(), data.len()) };
    }
    block
}
