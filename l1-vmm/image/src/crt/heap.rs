//! `malloc` and its kin over Rust's allocator, which wants to be told sizes: each block has its
//! size in front.
//!
//! Rust's allocator erases what it gets back ([`freestanding::heap`]), a block that moves included.

use alloc::alloc::{alloc, dealloc, realloc as move_block};
use core::alloc::Layout;
use core::ffi::{c_int, c_void};
use core::ptr;

/// Alignment of every block, and the room for its size in front.
const HEADER: usize = 16;
const ENOMEM: c_int = 12;

fn layout(size: usize) -> Option<Layout> {
    Layout::from_size_align(size.checked_add(HEADER)?, HEADER).ok()
}

/// Never null for size 0.
#[unsafe(no_mangle)]
pub(super) extern "C" fn malloc(size: usize) -> *mut c_void {
    let Some(layout) = layout(size) else {
        return ptr::null_mut();
    };
    // SAFETY: the layout is not of size 0.
    let block = unsafe { alloc(layout) };
    if block.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: the block has room for the header and is aligned for it.
    unsafe { block.cast::<usize>().write(size) };
    block.wrapping_add(HEADER).cast()
}

/// # Safety
/// `pointer` is null or came from `malloc` or `realloc` and was not freed.
#[unsafe(no_mangle)]
unsafe extern "C" fn free(pointer: *mut c_void) {
    if pointer.is_null() {
        return;
    }
    let block = pointer.cast::<u8>().wrapping_sub(HEADER);
    // SAFETY: by the caller's contract the header is in front.
    let size = unsafe { block.cast::<usize>().read() };
    if let Some(layout) = layout(size) {
        // SAFETY: `malloc` made it with this layout.
        unsafe { dealloc(block, layout) };
    }
}

/// # Safety
/// As [`free`].
#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(pointer: *mut c_void, size: usize) -> *mut c_void {
    if pointer.is_null() {
        return malloc(size);
    }
    let block = pointer.cast::<u8>().wrapping_sub(HEADER);
    // SAFETY: by the caller's contract the header is in front.
    let old_size = unsafe { block.cast::<usize>().read() };
    let (Some(old), Some(new)) = (layout(old_size), layout(size)) else {
        return ptr::null_mut();
    };
    // SAFETY: `malloc` made it with this layout; the new size is not 0.
    let block = unsafe { move_block(block, old, new.size()) };
    if block.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: the block has room for the header and is aligned for it.
    unsafe { block.cast::<usize>().write(size) };
    block.wrapping_add(HEADER).cast()
}

/// Always fails. libcrypto asks for cache-line aligned tables and makes do with `malloc`.
#[unsafe(no_mangle)]
extern "C" fn posix_memalign(_into: *mut *mut c_void, _alignment: usize, _size: usize) -> c_int {
    ENOMEM
}
