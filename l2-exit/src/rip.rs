//! Stepping over an instruction that L1 executed.

use crate::exit::Exit;
use crate::vcpu::{RFLAGS_RF, RFLAGS_TF, Vcpu};

/// Completes the instruction that caused `exit`, whose length the exit gives
/// ([`crate::Reason::is_instruction`]).
pub fn advance<V: Vcpu>(exit: &Exit, vcpu: &mut V) {
    complete(exit, vcpu, exit.instruction_length);
}

/// Completes an instruction of `length` bytes: RIP behind it, RFLAGS.RF clear, and a
/// single-step trap pending if RFLAGS.TF was set when it started.
///
/// Outside 64-bit code RIP wraps at 4 GiB. In 16-bit code it does not wrap at 64 KiB: the
/// processor faults at the segment limit, and so does the next entry.
pub(crate) fn complete<V: Vcpu>(exit: &Exit, vcpu: &mut V, length: u8) {
    let next = vcpu.rip().wrapping_add(u64::from(length));
    vcpu.set_rip(if exit.is_64_bit() {
        next
    } else {
        next & 0xFFFF_FFFF
    });
    let rflags = vcpu.rflags();
    if rflags & RFLAGS_RF != 0 {
        vcpu.set_rflags(rflags & !RFLAGS_RF);
    }
    if rflags & RFLAGS_TF != 0 {
        vcpu.single_step();
    }
}
