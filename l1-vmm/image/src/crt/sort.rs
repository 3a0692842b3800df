//! `qsort`.

use core::ffi::{c_int, c_void};
use core::ptr;

/// A heap sort: in place, and never quadratic.
///
/// # Safety
/// As C's: `base` has `count` elements of `size` bytes, and `compare` takes two of them.
#[unsafe(no_mangle)]
unsafe extern "C" fn qsort(
    base: *mut c_void,
    count: usize,
    size: usize,
    compare: unsafe extern "C" fn(*const c_void, *const c_void) -> c_int,
) {
    let at = |index: usize| base.cast::<u8>().wrapping_add(index * size);
    let less = |left: usize, right: usize| {
        // SAFETY: the caller's, both are elements.
        unsafe { compare(at(left).cast(), at(right).cast()) < 0 }
    };
    let swap = |left: usize, right: usize| {
        if left != right {
            // SAFETY: the caller's, both are elements and different ones.
            unsafe { ptr::swap_nonoverlapping(at(left), at(right), size) };
        }
    };
    // Lets the element at `root` sink until no child is greater, in a heap of `end` elements.
    let sink = |mut root: usize, end: usize| {
        while 2 * root + 1 < end {
            let mut child = 2 * root + 1;
            if child + 1 < end && less(child, child + 1) {
                child += 1;
            }
            if !less(root, child) {
                return;
            }
            swap(root, child);
            root = child;
        }
    };
    for root in (0..count / 2).rev() {
        sink(root, count);
    }
    for end in (1..count).rev() {
        swap(0, end);
        sink(0, end);
    }
}
