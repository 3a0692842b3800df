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

pub(crate) use dispatch::{CONFIGURATION_CHANGES, Vector, open_window};
pub(super) use stubs::Frame;

use spin::Once;
use x86::dtables::{DescriptorTablePointer, lidt};

use super::segments;

/// Present 64-bit interrupt gate, privilege level 0: interrupts are disabled in the handler.
const INTERRUPT_GATE: u64 = 0x8E << 40;

/// All processors have one IDT: their stacks differ by their TSS.
static TABLE: Once<[[u64; 2]; 256]> = Once::new();

/// Loads the IDT.
pub(super) fn load() {
    let table = TABLE.call_once(gates);
    let pointer = DescriptorTablePointer::new_from_slice(table);
    // SAFETY: every gate leads to a stub of this image, on a stack that the TSS has.
    unsafe { lidt(&pointer) };
}

fn gates() -> [[u64; 2]; 256] {
    core::array::from_fn(|vector| {
        let handler = stubs::address(vector);
        let stack = match vector {
            20 => 2,
            2 => 3,
            8 | 18 => 4,
            32.. => 5,
            _ => 1,
        };
        [
            handler & 0xFFFF
                | u64::from(segments::CODE) << 16
                | stack << 32
                | INTERRUPT_GATE
                | (handler >> 16 & 0xFFFF) << 48,
            handler >> 32,
        ]
    })
}
