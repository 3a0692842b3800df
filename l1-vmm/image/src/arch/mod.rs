//! What needs the machine. Together with `crt` (the engine's C runtime), `heap` and `fatal`, the
//! only `unsafe` of L1; the logic is in the library.
//!
//! One processor runs L1, so the statics here have one user: main code, and handlers that main code
//! can not interrupt.

pub(crate) mod clock;
pub(crate) mod entry;
pub(crate) mod extended_state;
pub(crate) mod image;
mod instruction;
pub(crate) mod interrupts;
pub(crate) mod memory;
pub(crate) mod paging;
pub(crate) mod random;
mod segments;
pub(crate) mod thread;

pub(crate) use instruction::{Instruction, td};

/// Brings the processor from td-shim's state to L1's own: segments, handlers, vector state.
///
/// Must come first: without the #VE handler a CPUID may end the TD.
pub(crate) fn start() {
    segments::load();
    interrupts::load();
    extended_state::start();
}
