//! Registers of string instructions: RCX counts, RSI and RDI point, at the address size.

use crate::vcpu::{Gpr, Vcpu};
use x86_defs::rflags;

/// Iterations that one exit executes before L2 gets the vCPU back, so that a repeated
/// instruction cannot keep interrupts from it. RCX, RSI and RDI are then those of a REP that
/// an interrupt interrupted (SDM Vol. 2B, "REP").
pub(crate) const ITERATIONS: u32 = 1024;

/// A counter or pointer at the address size whose bits `mask` has.
pub(crate) fn get<V: Vcpu>(vcpu: &V, register: Gpr, mask: u64) -> u64 {
    vcpu.gpr(register) & mask
}

/// Adds to a counter or pointer: with 16 bits the rest is kept, with 32 it is cleared.
pub(crate) fn add<V: Vcpu>(vcpu: &mut V, register: Gpr, mask: u64, amount: u64) {
    let old = vcpu.gpr(register);
    let new = old.wrapping_add(amount) & mask;
    let kept = if mask == 0xFFFF { old & !mask } else { 0 };
    vcpu.set_gpr(register, kept | new);
}

/// From one element to the next: `size`, or its negative if RFLAGS.DF.
pub(crate) fn step<V: Vcpu>(vcpu: &V, size: u8) -> u64 {
    let size = u64::from(size);
    if vcpu.rflags() & rflags::DF != 0 {
        size.wrapping_neg()
    } else {
        size
    }
}
