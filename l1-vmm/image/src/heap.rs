//! The heap: a part of the image, of which nothing that was freed can be read again.

use freestanding::heap::{ErasingHeap, Usage};

use crate::arch::image;

#[global_allocator]
static ALLOCATOR: ErasingHeap = ErasingHeap::empty();

/// Gives the allocator its memory, at the first call: before the first allocation.
pub(crate) fn start() {
    let (start, end) = (image::heap_start() as usize, image::heap_end() as usize);
    // SAFETY: this part of the image is for nothing else, given away once, and mapped writable by
    // td-shim's and L1's page tables.
    unsafe { ALLOCATOR.start(start, end - start) };
}

/// Blocks that were given out so far.
pub(crate) fn allocations() -> u64 {
    ALLOCATOR.allocations()
}

/// How full the heap is.
pub(crate) fn usage() -> Usage {
    ALLOCATOR.usage()
}
