//! The simulator's own heap: part of the pool behind its image.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;

use buddy_system_allocator::Heap;
use spin::Mutex;

/// Bytes of the pool that the heap takes.
pub(crate) const SIZE: usize = 64 << 20;

struct Allocator(Mutex<Heap<30>>);

#[global_allocator]
static ALLOCATOR: Allocator = Allocator(Mutex::new(Heap::new()));

// SAFETY: the buddy allocator gives out disjoint blocks of the memory it was given; the lock makes
// each call atomic.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.0.lock().alloc(layout) {
            Ok(block) => block.as_ptr(),
            Err(()) => core::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller promises that `alloc` gave this block with this layout.
            unsafe { self.0.lock().dealloc(block, layout) };
        }
    }
}

/// Gives the heap its memory, once, and returns the address behind it.
///
/// # Safety
/// `start` and the [`SIZE`] bytes behind it are RAM that nothing else uses.
pub(crate) unsafe fn start(start: usize) -> u64 {
    // SAFETY: promised by the caller.
    unsafe { ALLOCATOR.0.lock().init(start, SIZE) };
    (start + SIZE) as u64
}
