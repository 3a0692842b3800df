//! Where the parts of the image are, from the linker script.

use l1_vmm::launch::gpa_range::GpaRange;

/// Bytes that stay unmapped below each interrupt stack. All code on them is Rust, which probes the
/// stack page by page.
const GUARD: u64 = 0x1000;
/// Bytes of one interrupt stack with its guard page.
const INTERRUPT_STACK: u64 = 0x5000;
/// Number of interrupt stacks.
pub(crate) const INTERRUPT_STACKS: usize = 5;

macro_rules! symbols {
    ($($(#[$doc:meta])* $name:ident = $symbol:ident;)*) => {
        $($(#[$doc])*
        pub(crate) fn $name() -> u64 {
            unsafe extern "C" {
                static $symbol: u8;
            }
            (&raw const $symbol) as u64
        })*
    };
}

symbols! {
    /// First byte; where td-shim put the image.
    start = image_start;
    /// Behind the code.
    text_end = image_text_end;
    /// Behind what is constant once relocated.
    constant_end = image_constant_end;
    /// Before the stacks.
    stacks_start = image_stacks_start;
    /// Lowest byte of the main stack.
    stack_bottom = image_stack_bottom;
    /// Behind the main stack.
    stack_top = image_stack_top;
    /// First page table.
    page_tables_start = image_page_tables_start;
    /// Behind the page tables.
    page_tables_end = image_page_tables_end;
    /// First byte of the heap.
    heap_start = image_heap_start;
    /// Behind the heap.
    heap_end = image_heap_end;
    /// Behind everything.
    end = image_end;
}

/// The whole image in memory.
pub(crate) fn range() -> GpaRange {
    GpaRange::new(start(), end()).unwrap_or(GpaRange::EMPTY)
}

/// Top of interrupt stack `index` (0 to 4).
pub(crate) fn interrupt_stack_top(index: usize) -> u64 {
    stacks_start() + (index as u64 + 1) * INTERRUPT_STACK
}

/// The guard pages: one below each interrupt stack, and all between the last of them and the main
/// stack.
pub(crate) fn guard_pages() -> impl Iterator<Item = GpaRange> {
    let main = stacks_start() + INTERRUPT_STACKS as u64 * INTERRUPT_STACK;
    (0..INTERRUPT_STACKS as u64)
        .map(|index| GpaRange::with_length(stacks_start() + index * INTERRUPT_STACK, GUARD))
        .chain([GpaRange::new(main, stack_bottom())])
        .flatten()
}
