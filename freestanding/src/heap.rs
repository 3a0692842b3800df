//! A heap that forgets: a buddy allocator with a high-water mark, whose blocks are zeroed when they
//! are given back.
//!
//! What was in a block (keys, authorization values, the engine's state) is gone before anybody else
//! can have the block. This is the only place that erases: C's `free` and `realloc`, a `Vec` that
//! grows and a `Box` that is dropped all come here.
#![allow(unsafe_code, reason = "an allocator")]

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU64, Ordering, compiler_fence};

use buddy_system_allocator::Heap;
use buddy_system_allocator::linked_list::LinkedList;
use spin::Mutex;

/// Blocks of up to 2³¹ bytes.
const ORDERS: usize = 32;
/// Blocks of fewer than 2 to this bytes are kept when they are given back.
const KEPT_ORDERS: usize = 13;
/// So many of a size at most, and so many bytes of a size.
const MOST_KEPT: usize = 64;
const MOST_KEPT_BYTES: usize = 32 << 10;

/// What the heap holds, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// All there is.
    pub size: usize,
    /// In use now, rounded up to blocks.
    pub used: usize,
    /// The most that ever was.
    pub high_water_mark: usize,
}

struct Counted {
    heap: Heap<ORDERS>,
    /// Blocks that were given back, zeroed but for the list's word, by the logarithm of their size: the buddy allocator goes through
    /// all free blocks of a size for each that it gets, and a TPM command gives back a hundred.
    kept: [Kept; KEPT_ORDERS],
    /// All of those, in bytes.
    kept_bytes: usize,
    high_water_mark: usize,
}

struct Kept {
    blocks: LinkedList,
    count: usize,
}

impl Kept {
    const NONE: Self = Self {
        blocks: LinkedList::new(),
        count: 0,
    };
}

/// The size of the block that the buddy allocator has for a layout, as a power of two.
fn order(layout: Layout) -> usize {
    let size = layout.size().max(layout.align()).max(size_of::<usize>());
    size.next_power_of_two().trailing_zeros() as usize
}

impl Counted {
    fn alloc(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        let order = order(layout);
        if let Some(kept) = self.kept.get_mut(order)
            && let Some(block) = kept.blocks.pop()
        {
            kept.count -= 1;
            self.kept_bytes -= 1 << order;
            return NonNull::new(block.cast());
        }
        if let Ok(block) = self.heap.alloc(layout) {
            return Some(block);
        }
        self.give_back_kept();
        self.heap.alloc(layout).ok()
    }

    /// # Safety
    /// The block came from [`alloc`](Self::alloc) with this layout, and is nobody's.
    unsafe fn dealloc(&mut self, block: NonNull<u8>, layout: Layout) {
        let order = order(layout);
        let size = 1_usize.checked_shl(order as u32).unwrap_or(usize::MAX);
        match self.kept.get_mut(order) {
            Some(kept) if kept.count < MOST_KEPT.min(MOST_KEPT_BYTES / size) => {
                // SAFETY: the block is the heap's, and large and aligned enough for a word.
                unsafe { kept.blocks.push(block.as_ptr().cast()) };
                kept.count += 1;
                self.kept_bytes += size;
            }
            // SAFETY: the caller's.
            _ => unsafe { self.heap.dealloc(block, layout) },
        }
    }

    /// Small blocks become larger ones again.
    fn give_back_kept(&mut self) {
        for (order, kept) in self.kept.iter_mut().enumerate() {
            while let Some(block) = kept.blocks.pop() {
                let layout = Layout::from_size_align(1 << order, 1);
                if let (Some(block), Ok(layout)) = (NonNull::new(block.cast()), layout) {
                    // SAFETY: the buddy allocator gave a block of this size.
                    unsafe { self.heap.dealloc(block, layout) };
                }
            }
            kept.count = 0;
        }
        self.kept_bytes = 0;
    }

    fn used(&self) -> usize {
        self.heap.stats_alloc_actual() - self.kept_bytes
    }
}

/// The heap. All processors have one, behind a lock that no handler may take and that is held for no
/// other lock.
pub struct ErasingHeap {
    counted: Mutex<Counted>,
    /// Blocks that were given out so far.
    allocations: AtomicU64,
}

impl ErasingHeap {
    /// A heap without memory, which gives nothing.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            counted: Mutex::new(Counted {
                heap: Heap::empty(),
                kept: [Kept::NONE; KEPT_ORDERS],
                kept_bytes: 0,
                high_water_mark: 0,
            }),
            allocations: AtomicU64::new(0),
        }
    }

    /// Gives the heap its memory, at the first call; further calls do nothing.
    ///
    /// # Safety
    /// The `length` bytes at `start` are writable and for nothing else, for ever.
    pub unsafe fn start(&self, start: usize, length: usize) {
        let mut counted = self.counted.lock();
        if counted.heap.stats_total_bytes() == 0 {
            // SAFETY: the caller's.
            unsafe { counted.heap.init(start, length) };
        }
    }

    /// Blocks that were given out so far, a block that moved counted again.
    pub fn allocations(&self) -> u64 {
        self.allocations.load(Ordering::Relaxed)
    }

    /// How full it is.
    pub fn usage(&self) -> Usage {
        let counted = self.counted.lock();
        Usage {
            size: counted.heap.stats_total_bytes(),
            used: counted.used(),
            high_water_mark: counted.high_water_mark,
        }
    }
}

// SAFETY: the buddy allocator gives out disjoint blocks of at least the layout's size and alignment;
// the lock is never taken by a handler, so no processor can wait for itself. `realloc` is the
// trait's own: another block, a copy, and `dealloc` of the old one, which erases it.
unsafe impl GlobalAlloc for ErasingHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.allocations.fetch_add(1, Ordering::Relaxed);
        let mut counted = self.counted.lock();
        match counted.alloc(layout) {
            Some(block) => {
                counted.high_water_mark = counted.high_water_mark.max(counted.used());
                block.as_ptr()
            }
            None => ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(block) = NonNull::new(block) else {
            return;
        };
        // SAFETY: the caller's: the block is its to give back and as long as that.
        unsafe { erase(block.as_ptr(), layout.size()) };
        // SAFETY: the caller's: `block` came from `alloc` with this layout.
        unsafe { self.counted.lock().dealloc(block, layout) };
    }
}

/// Zeroes `length` bytes in a way that no optimiser may leave out, although nothing reads them again.
///
/// # Safety
/// `block` is valid for `length` writes.
#[inline(never)]
unsafe fn erase(block: *mut u8, length: usize) {
    // SAFETY: the caller's.
    unsafe { ptr::write_bytes(block, 0, length) };
    // Assembly that may read all memory reached from the pointer: what was written has to be there.
    // SAFETY: no instruction.
    unsafe {
        core::arch::asm!("/* {0} */", in(reg) block, options(nostack, preserves_flags, readonly));
    }
    compiler_fence(Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    const SECRET: u8 = 0xa5;
    const SECRET_WORD: u64 = u64::from_ne_bytes([SECRET; 8]);

    /// A heap over memory that outlives it, and that memory.
    struct Arena {
        heap: ErasingHeap,
        memory: Vec<u64>,
    }

    impl Arena {
        fn new() -> Self {
            let mut memory = vec![0_u64; 1 << 13];
            let heap = ErasingHeap::empty();
            // SAFETY: lives as long as the heap and is only looked at through raw pointers.
            unsafe { heap.start(memory.as_mut_ptr() as usize, memory.len() * 8) };
            Self { heap, memory }
        }

        /// How many words of the whole memory are the secret's. (A single byte of that value may be
        /// part of the allocator's own pointers.)
        fn secrets(&self) -> usize {
            let words = self.memory.as_ptr();
            (0..self.memory.len())
                // SAFETY: inside the memory.
                .filter(|at| unsafe { words.add(*at).read_volatile() } == SECRET_WORD)
                .count()
        }

        fn secret(&self, layout: Layout) -> *mut u8 {
            // SAFETY: the layout has a size.
            let block = unsafe { self.heap.alloc(layout) };
            assert!(!block.is_null());
            // SAFETY: the block has that size.
            unsafe { block.write_bytes(SECRET, layout.size()) };
            block
        }
    }

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 16).unwrap()
    }

    #[test]
    fn a_block_that_was_freed_is_zero() {
        let arena = Arena::new();
        for size in [8, 16, 17, 100, 4096, 5000] {
            let block = arena.secret(layout(size));
            assert_eq!(arena.secrets(), size / 8);
            // SAFETY: made with this layout, not used as a block again.
            unsafe { arena.heap.dealloc(block, layout(size)) };
            assert_eq!(arena.secrets(), 0, "{size}");
            // The first words are the allocator's list.
            for at in 16..size {
                // SAFETY: inside the memory.
                let byte = unsafe { block.add(at).read_volatile() };
                assert_eq!(byte, 0, "{at} of {size}");
            }
        }
    }

    #[test]
    fn a_block_that_moves_leaves_nothing_behind() {
        let arena = Arena::new();
        for (from, to) in [(96, 5000), (5000, 96), (64, 64)] {
            let block = arena.secret(layout(from));
            // SAFETY: made with this layout, not used again.
            let moved = unsafe { arena.heap.realloc(block, layout(from), to) };
            assert_eq!(arena.secrets(), from.min(to) / 8, "{from} to {to}");
            // SAFETY: has that size and alignment.
            unsafe { arena.heap.dealloc(moved, layout(to)) };
            assert_eq!(arena.secrets(), 0);
        }
    }

    #[test]
    fn the_mark_stays_and_what_is_used_does_not() {
        let arena = Arena::new();
        let block = arena.secret(layout(3000));
        // SAFETY: made with this layout, not used again.
        unsafe { arena.heap.dealloc(block, layout(3000)) };
        let usage = arena.heap.usage();
        assert_eq!((usage.used, usage.high_water_mark), (0, 4096));
        // SAFETY: does nothing the second time.
        unsafe { arena.heap.start(16, 1 << 20) };
        assert_eq!(arena.heap.usage().size, usage.size);
    }

    #[test]
    fn blocks_that_are_kept_become_large_ones_again() {
        let arena = &Arena::new();
        let all = |size| {
            // SAFETY: the layout has a size.
            core::iter::repeat_with(move || unsafe { arena.heap.alloc(layout(size)) })
                .take_while(|block| !block.is_null())
                .collect::<Vec<_>>()
        };
        let pages = all(4096);
        for &block in &pages {
            // SAFETY: made with this layout, not used again.
            unsafe { arena.heap.dealloc(block, layout(4096)) };
        }
        for block in all(256) {
            // SAFETY: made with this layout, not used again.
            unsafe { arena.heap.dealloc(block, layout(256)) };
        }
        assert_eq!(arena.heap.usage().used, 0);
        assert_eq!(arena.heap.counted.lock().kept_bytes, 64 * 256);
        assert_eq!(all(4096).len(), pages.len());
        assert_eq!(arena.heap.counted.lock().kept_bytes, 0);
    }

    #[test]
    fn a_block_that_was_kept_is_the_next_of_its_size() {
        let arena = Arena::new();
        let block = arena.secret(layout(100));
        // SAFETY: made with this layout, not used again.
        unsafe { arena.heap.dealloc(block, layout(100)) };
        // SAFETY: the layouts have a size.
        let [larger, same] = [129, 128].map(|size| unsafe { arena.heap.alloc(layout(size)) });
        assert!(larger != block && same == block);
        // Aligned as asked for, whatever the size.
        let aligned = Layout::from_size_align(8, 512).unwrap();
        // SAFETY: the layout has a size.
        let block = unsafe { arena.heap.alloc(aligned) };
        assert_eq!(block as usize % 512, 0);
        // SAFETY: made with this layout, not used again.
        unsafe { arena.heap.dealloc(block, aligned) };
        // SAFETY: the layout has a size.
        assert_eq!(unsafe { arena.heap.alloc(layout(512)) }, block);
    }

    #[test]
    fn a_heap_that_is_full_gives_null() {
        let arena = Arena::new();
        // SAFETY: the layout has a size.
        assert!(unsafe { arena.heap.alloc(layout(1 << 20)) }.is_null());
    }
}
