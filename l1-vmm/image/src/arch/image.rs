//! Where the parts of the image are, from the linker script.

use l1_vmm::launch::gpa_range::GpaRange;
use l1_vmm::launch::processors;

/// Processors that have stacks.
pub(crate) const PROCESSORS: usize = processors::SUPPORTED as usize;

/// Bytes that stay unmapped below each interrupt stack. All code on them is Rust, which probes the
/// stack page by page.
const GUARD: u64 = 0x1000;
/// Bytes of one interrupt stack with its guard page.
const INTERRUPT_STACK: u64 = 0x5000;
/// Number of interrupt stacks of a processor.
pub(crate) const INTERRUPT_STACKS: usize = 5;
/// Bytes that stay unmapped below a processor's main stack.
const MAIN_GUARD: u64 = 0x1_0000;
/// Bytes of a processor's main stack.
pub(crate) const MAIN_STACK: u64 = 0x6_0000;
/// Where in a processor's stacks its main stack begins.
pub(super) const MAIN_BOTTOM: u64 = INTERRUPT_STACKS as u64 * INTERRUPT_STACK + MAIN_GUARD;
/// Bytes of all stacks of a processor; its main stack is at their end.
pub(super) const STACKS: u64 = MAIN_BOTTOM + MAIN_STACK;

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
    /// Before the stacks of the first processor.
    stacks_start = image_stacks_start;
    /// Behind the stacks of the last.
    stacks_end = image_stacks_end;
    /// Lowest byte of the stack of L2's commands.
    engine_stack_start = image_engine_stack_start;
    /// Behind its highest.
    engine_stack_end = image_engine_stack_end;
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

/// Where the stacks of a processor are.
fn stacks(processor: usize) -> u64 {
    stacks_start() + processor as u64 * STACKS
}

/// The main stack of a processor: lowest byte, and behind the highest.
pub(crate) fn main_stack(processor: usize) -> (u64, u64) {
    let stacks = stacks(processor);
    (stacks + MAIN_BOTTOM, stacks + STACKS)
}

/// Top of interrupt stack `index` (0 to 4) of a processor.
pub(crate) fn interrupt_stack_top(processor: usize, index: usize) -> u64 {
    stacks(processor) + (index as u64 + 1) * INTERRUPT_STACK
}

/// The guard pages of every processor: one below each interrupt stack, and all between the last of them
/// and the main stack; and those below the stack of L2's commands. `None` if the linker script has other numbers than this file.
pub(crate) fn guard_pages() -> Option<impl Iterator<Item = GpaRange>> {
    let of_one = |processor| {
        let start = stacks(processor);
        (0..INTERRUPT_STACKS as u64)
            .map(move |index| GpaRange::with_length(start + index * INTERRUPT_STACK, GUARD))
            .chain([GpaRange::with_length(
                start + MAIN_BOTTOM - MAIN_GUARD,
                MAIN_GUARD,
            )])
            .flatten()
    };
    let of_engine = GpaRange::with_length(engine_stack_start() - MAIN_GUARD, MAIN_GUARD);
    (stacks(PROCESSORS) == stacks_end() && engine_stack_start() == stacks_end() + MAIN_GUARD)
        .then(|| (0..PROCESSORS).flat_map(of_one).chain(of_engine))
}
