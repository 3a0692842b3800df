//! L2's registers during a burst, at hand.

use crate::register::Register;
use crate::vcpu::{Gpr, Vcpu, gpr_from_number};

/// What instructions that are executed ahead read and change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registers {
    gprs: [u64; 16],
    pub(super) rip: u64,
    pub(super) rflags: u64,
}

impl Registers {
    /// Those of `vcpu`.
    pub(super) fn of<V: Vcpu>(vcpu: &V) -> Self {
        let mut gprs = [0; 16];
        for (number, gpr) in (0..).zip(&mut gprs) {
            *gpr = vcpu.gpr(gpr_from_number(number));
        }
        Self {
            gprs,
            rip: vcpu.rip(),
            rflags: vcpu.rflags(),
        }
    }

    /// Makes them those of `vcpu`.
    pub(super) fn put<V: Vcpu>(&self, vcpu: &mut V) {
        for (number, gpr) in (0..).zip(self.gprs) {
            vcpu.set_gpr(gpr_from_number(number), gpr);
        }
        vcpu.set_rip(self.rip);
        vcpu.set_rflags(self.rflags);
    }

    /// A whole general register.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "a Gpr is below 16")]
    pub(super) const fn gpr(&self, gpr: Gpr) -> u64 {
        self.gprs[gpr as usize]
    }

    /// Replaces a whole general register.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "a Gpr is below 16")]
    pub(super) const fn set_gpr(&mut self, gpr: Gpr, value: u64) {
        self.gprs[gpr as usize] = value;
    }

    /// A register at its width, zero-extended.
    #[inline]
    pub(super) const fn get(&self, register: Register) -> u64 {
        register.of(self.gpr(register.gpr()))
    }

    /// Replaces a register at its width.
    #[inline]
    pub(super) const fn set(&mut self, register: Register, value: u64) {
        let whole = register.replaced(self.gpr(register.gpr()), value);
        self.set_gpr(register.gpr(), whole);
    }
}
