//! The IDT. Every vector runs on a stack of its own class (the prebuilt core library uses the red
//! zone below the stack pointer), with the vector registers saved.
//!
//! | stack | vectors |
//! | --- | --- |
//! | 1 | exceptions: all end L1 |
//! | 2 | #VE, which can also happen inside an interrupt handler |
//! | 3 | NMI, which the host can send at any time |
//! | 4 | #DF and #MC |
//! | 5 | interrupts |

mod dispatch;
mod stubs;
mod virtualization_exception;

pub(crate) use dispatch::{Vector, open_window, take};
pub(super) use stubs::Frame;

use core::cell::UnsafeCell;

use x86::dtables::{DescriptorTablePointer, lidt};

use super::segments;

/// Present 64-bit interrupt gate, privilege level 0: interrupts are disabled in the handler.
const INTERRUPT_GATE: u64 = 0x8E << 40;

struct Static(UnsafeCell<[[u64; 2]; 256]>);

// SAFETY: one processor; written by `load` before interrupts can happen, then only read by the
// processor.
unsafe impl Sync for Static {}

static TABLE: Static = Static(UnsafeCell::new([[0; 2]; 256]));

/// Loads the IDT.
pub(super) fn load() {
    // SAFETY: called once, before anything else refers to the table (see `Static`).
    let table = unsafe { &mut *TABLE.0.get() };
    for (vector, gate) in table.iter_mut().enumerate() {
        let handler = stubs::address(vector);
        let stack = match vector {
            20 => 2,
            2 => 3,
            8 | 18 => 4,
            32.. => 5,
            _ => 1,
        };
        *gate = [
            handler & 0xFFFF
                | u64::from(segments::CODE) << 16
                | stack << 32
                | INTERRUPT_GATE
                | (handler >> 16 & 0xFFFF) << 48,
            handler >> 32,
        ];
    }
    let pointer = DescriptorTablePointer::new_from_slice(table);
    // SAFETY: every gate leads to a stub of this image, on a stack that the TSS has.
    unsafe { lidt(&pointer) };
}
