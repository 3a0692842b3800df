//! The heap: a buddy allocator over a part of the image, with a high-water mark. All processors have
//! one, behind a lock that no handler takes and that is held for no other lock.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};

use buddy_system_allocator::Heap;
use spin::Mutex;

use crate::arch::image;

/// Blocks of up to 2³¹ bytes.
const ORDERS: usize = 32;

struct Counted {
    heap: Heap<ORDERS>,
    high_water_mark: usize,
}

struct Allocator(Mutex<Counted>);

#[global_allocator]
static ALLOCATOR: Allocator = Allocator(Mutex::new(Counted {
    heap: Heap::empty(),
    high_water_mark: 0,
}));

/// Gives the allocator its memory, at the first call: before the first allocation.
pub(crate) fn start() {
    let (start, end) = (image::heap_start() as usize, image::heap_end() as usize);
    let mut counted = ALLOCATOR.0.lock();
    if counted.heap.stats_total_bytes() == 0 {
        // SAFETY: this part of the image is for nothing else, given away once, and mapped writable by
        // td-shim's and L1's page tables.
        unsafe { counted.heap.init(start, end - start) };
    }
}

/// What the heap holds, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// All there is.
    pub(crate) size: usize,
    /// In use now, rounded up to blocks.
    pub(crate) used: usize,
    /// The most that ever was.
    pub(crate) high_water_mark: usize,
}

/// How full the heap is.
pub(crate) fn usage() -> Usage {
    let counted = ALLOCATOR.0.lock();
    Usage {
        size: counted.heap.stats_total_bytes(),
        used: counted.heap.stats_alloc_actual(),
        high_water_mark: counted.high_water_mark,
    }
}

// SAFETY: the buddy allocator gives out disjoint blocks of at least the layout's size and alignment;
// the lock is never taken by a handler, so no processor can wait for itself.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut counted = self.0.lock();
        match counted.heap.alloc(layout) {
            Ok(block) => {
                let used = counted.heap.stats_alloc_actual();
                counted.high_water_mark = counted.high_water_mark.max(used);
                block.as_ptr()
            }
            Err(()) => ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller's: `block` came from `alloc` with this layout.
            unsafe { self.0.lock().heap.dealloc(block, layout) };
        }
    }
}
