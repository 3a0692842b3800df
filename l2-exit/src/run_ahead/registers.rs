//! L2's registers during a burst, at hand.

use super::flags::Flags;
use crate::register::Register;
use crate::vcpu::{Gpr, Vcpu, gpr_from_number};

/// A register of a [`Step`](super::step::Step), by number: the general ones by theirs, and these.
pub(super) type Slot = u8;
/// Always 0: where an instruction names no register.
pub(super) const ZERO: Slot = 16;
/// The base of FS.
pub(super) const FS: Slot = 17;
/// The base of GS.
pub(super) const GS: Slot = 18;
/// Those there are; a power of two.
const SLOTS: usize = 32;

/// What instructions that are executed ahead read and change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registers {
    slots: [u64; SLOTS],
    pub(super) rip: u64,
    pub(super) flags: Flags,
}

impl Registers {
    /// Those of `vcpu`, without the bases.
    pub(super) fn of<V: Vcpu>(vcpu: &V) -> Self {
        let mut slots = [0; SLOTS];
        for (number, slot) in (0..16).zip(&mut slots) {
            *slot = vcpu.gpr(gpr_from_number(number));
        }
        Self {
            slots,
            rip: vcpu.rip(),
            flags: Flags::new(vcpu.rflags()),
        }
    }

    /// Makes them those of `vcpu`.
    pub(super) fn put<V: Vcpu>(&mut self, vcpu: &mut V) {
        for (number, slot) in (0..16).zip(self.slots) {
            vcpu.set_gpr(gpr_from_number(number), slot);
        }
        vcpu.set_rip(self.rip);
        vcpu.set_rflags(self.flags.get());
    }

    /// A register of a step.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "a remainder is below the divisor")]
    pub(super) const fn slot(&self, slot: Slot) -> u64 {
        self.slots[slot as usize % SLOTS]
    }

    /// Replaces a register of a step, but for [`ZERO`].
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "a remainder is below the divisor")]
    pub(super) const fn set_slot(&mut self, slot: Slot, value: u64) {
        self.slots[slot as usize % SLOTS] = value;
    }

    /// A whole general register.
    #[inline]
    pub(super) const fn gpr(&self, gpr: Gpr) -> u64 {
        self.slot(gpr as Slot)
    }

    /// Replaces a whole general register.
    #[inline]
    pub(super) const fn set_gpr(&mut self, gpr: Gpr, value: u64) {
        self.set_slot(gpr as Slot, value);
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
