//! CR0 and CR4 of an L2 VM: what the module fixes, what L1 masks and shadows, what L2 sees (TDX
//! Module Base Architecture, "CR0 and CR4 Handling for L2").

use super::guest::Guest;
use super::state::MaskAndShadow;
use crate::platform::{Platform, Register};
use tdx_defs::vmcs::VmcsField;
use x86_defs::cr0;
use x86_defs::cr4;

/// What L1 can write of CR0.
pub(super) const CR0_WRITABLE: u64 =
    cr0::PE | cr0::MP | cr0::EM | cr0::TS | cr0::ET | cr0::WP | cr0::AM | cr0::PG;

/// Which of the two registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ControlRegister {
    Cr0,
    Cr4,
}

use ControlRegister::{Cr0, Cr4};

impl ControlRegister {
    fn mask_field(self) -> VmcsField {
        match self {
            Cr0 => VmcsField::CR0_GUEST_HOST_MASK,
            Cr4 => VmcsField::CR4_GUEST_HOST_MASK,
        }
    }

    fn shadow_field(self) -> VmcsField {
        match self {
            Cr0 => VmcsField::CR0_READ_SHADOW,
            Cr4 => VmcsField::CR4_READ_SHADOW,
        }
    }
}

impl<P: Platform> Guest<'_, P> {
    /// The bits that the module keeps from L1, and the value L1 sees in them.
    pub(super) fn base(&self, register: ControlRegister) -> MaskAndShadow {
        match register {
            Cr0 => MaskAndShadow {
                mask: !CR0_WRITABLE,
                shadow: cr0::NE,
            },
            Cr4 => MaskAndShadow {
                mask: !self.shape.writable_cr4(),
                shadow: cr4::MCE | cr4::VMXE,
            },
        }
    }

    /// The register as the VMCS has it.
    ///
    /// CR4.VMXE is 1 in VMX operation; a hardware context that is no VMCS has no such bit.
    pub(super) fn real(&mut self, register: ControlRegister) -> u64 {
        match register {
            Cr0 => self.register(Register::Cr0),
            Cr4 => self.register(Register::Cr4) | cr4::VMXE,
        }
    }

    pub(super) fn set_real(&mut self, register: ControlRegister, value: u64) {
        match register {
            Cr0 => self.set_register(Register::Cr0, value),
            Cr4 => self.set_register(Register::Cr4, value & !cr4::VMXE),
        }
    }

    /// The register as TDG.VP.RD shows it to L1.
    pub(super) fn as_l1_sees(&mut self, register: ControlRegister) -> u64 {
        let base = self.base(register);
        self.real(register) & !base.mask | base.shadow & base.mask
    }

    /// The register as L2 reads it.
    pub(super) fn as_l2_sees(&mut self, register: ControlRegister) -> u64 {
        let hardware = self.hardware(register);
        self.real(register) & !hardware.mask | hardware.shadow & hardware.mask
    }

    /// Guest/host mask and read shadow that the hardware applies.
    pub(super) fn hardware(&self, register: ControlRegister) -> MaskAndShadow {
        match register {
            Cr0 => self.l2.cr0,
            Cr4 => self.l2.cr4,
        }
    }

    /// L1 has written its mask or its shadow: merges them with the module's.
    pub(super) fn merge_mask_and_shadow(&mut self, register: ControlRegister) {
        let base = self.base(register);
        let mask = self.l2.cell(register.mask_field());
        let shadow = self.l2.cell(register.shadow_field());
        let merged = MaskAndShadow {
            mask: base.mask | mask,
            shadow: base.mask & !mask & base.shadow | mask & shadow,
        };
        match register {
            Cr0 => self.l2.cr0 = merged,
            Cr4 => self.l2.cr4 = merged,
        }
    }

    /// Whether a value that L2 wants to write differs, in a bit that L1 masks, from what L1 shadows.
    pub(super) fn is_masked_by_l1(&self, register: ControlRegister, value: u64) -> bool {
        let mask = self.l2.cell(register.mask_field());
        let shadow = self.l2.cell(register.shadow_field());
        (value ^ shadow) & mask != 0
    }

    /// Whether L2 reading CR0 or CR4 would see something else than the hardware context has.
    pub(super) fn needs_read_shadow(&mut self) -> bool {
        self.as_l2_sees(Cr0) != self.register(Register::Cr0)
            || self.as_l2_sees(Cr4) != self.register(Register::Cr4)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    #[test]
    fn until_l1_writes_a_mask_l2_reads_the_initial_values() {
        let mut fake = Fake::new();
        let mut guest = fake.guest();
        assert_eq!(guest.as_l2_sees(Cr0), 0x21);
        assert_eq!(guest.as_l2_sees(Cr4), 0x2040);
        assert_eq!(guest.as_l1_sees(Cr0), 0x21);
        assert_eq!(guest.as_l1_sees(Cr4), 0x2040);
    }

    #[test]
    fn l2_reads_the_shadow_in_masked_bits_and_the_register_elsewhere() {
        let mut fake = Fake::new();
        let mut guest = fake.guest();
        guest.set_real(Cr4, cr4::VMXE | cr4::MCE | cr4::PAE);
        guest
            .l2
            .set_cell(VmcsField::CR4_GUEST_HOST_MASK, cr4::VMXE | cr4::MCE);
        guest.l2.set_cell(VmcsField::CR4_READ_SHADOW, 0);
        guest.merge_mask_and_shadow(Cr4);
        assert_eq!(guest.as_l2_sees(Cr4), cr4::PAE);
        guest.l2.set_cell(VmcsField::CR4_GUEST_HOST_MASK, 0);
        guest.merge_mask_and_shadow(Cr4);
        assert_eq!(guest.as_l2_sees(Cr4), cr4::VMXE | cr4::MCE | cr4::PAE);
    }

    #[test]
    fn what_the_context_has_itself_needs_no_exit_on_reads() {
        let mut fake = Fake::new();
        let mut guest = fake.guest();
        assert!(guest.needs_read_shadow(), "VMXE is not in the context");
        guest.l2.set_cell(VmcsField::CR0_GUEST_HOST_MASK, 0);
        guest.merge_mask_and_shadow(Cr0);
        guest.l2.set_cell(VmcsField::CR4_GUEST_HOST_MASK, cr4::VMXE);
        guest.l2.set_cell(VmcsField::CR4_READ_SHADOW, 0);
        guest.merge_mask_and_shadow(Cr4);
        assert!(!guest.needs_read_shadow());
    }
}
