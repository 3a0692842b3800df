//! Memory functions that the `freestanding` crate does not have.

use core::ffi::{c_int, c_void};
use core::ptr;

/// # Safety
/// `block` has `count` bytes, or a byte equal to `wanted` before its end.
#[unsafe(no_mangle)]
unsafe extern "C" fn memchr(block: *const c_void, wanted: c_int, count: usize) -> *mut c_void {
    let block = block.cast::<u8>();
    for at in 0..count {
        // SAFETY: the caller's; no byte behind the wanted one is read.
        if unsafe { block.add(at).read() } == wanted as u8 {
            return block.wrapping_add(at).cast_mut().cast();
        }
    }
    ptr::null_mut()
}

/// `memset` as `_FORTIFY_SOURCE` calls it: `room` is the size of the object.
///
/// # Safety
/// As `memset` for `room` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn __memset_chk(
    to: *mut c_void,
    byte: c_int,
    count: usize,
    room: usize,
) -> *mut c_void {
    assert!(
        count <= room,
        "memset of {count} bytes to an object of {room}"
    );
    // SAFETY: the caller's.
    unsafe { ptr::write_bytes(to.cast::<u8>(), byte as u8, count) };
    to
}
