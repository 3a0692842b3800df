//! What needs the machine: entry, address space, handlers, state switch, raw memory, the TDCALL.
//!
//! What a processor has of its own is in its [`per_cpu`] area. The statics here are what the machine has
//! once: atomics ([`clock`]), values behind a lock ([`random`]), and the IDT, which is made once and
//! then only read.

pub(crate) mod clock;
pub(crate) mod entry;
pub(crate) mod extended_state;
pub(crate) mod image;
mod instruction;
pub(crate) mod interrupts;
pub(crate) mod memory;
pub(crate) mod paging;
pub(crate) mod random;
pub(crate) mod segments;
pub(crate) mod thread;

pub(crate) use instruction::{Instruction, td};

use crate::per_cpu::{self, ThisCpu};

/// Brings the processor, whose VCPU_INDEX is `index`, from td-shim's state to L1's own: segments, handlers, vector
/// state.
///
/// Must come first: without the #VE handler a CPUID may end the TD.
pub(crate) fn start(index: usize) -> ThisCpu {
    let this = per_cpu::start(index);
    interrupts::load();
    this.extended_state.start();
    this
}
