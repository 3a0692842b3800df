//! [`Guest`]: one L2 VM together with what it runs on.

use super::shape::Shape;
use super::state::L2;
use crate::module::Module;
use crate::platform::{Platform, Register, Segment, SegmentName, Vm};
use crate::td::sept::SecureEpt;
use tdx_defs::VmIndex;
use tdx_defs::vmcs::{
    InterruptibilityState, PrimaryControls, SecondaryControls, SegmentAccessRights, VmcsField,
};
use x86_defs::efer;

/// An L2 VM that is not running, its hardware context and the TD's memory.
pub(crate) struct Guest<'a, P> {
    pub(super) index: VmIndex,
    pub(super) l2: &'a mut L2,
    pub(super) shape: Shape,
    pub(super) platform: &'a mut P,
    pub(super) sept: &'a SecureEpt,
}

impl<'a, P: Platform> Guest<'a, P> {
    /// The L2 VM `index` of the TD's virtual processor.
    pub(super) fn new(module: &'a mut Module, platform: &'a mut P, index: VmIndex) -> Guest<'a, P> {
        let l2 = &mut module.vcpu.l2[usize::from(index.get() - 1)];
        Guest {
            index,
            shape: l2.shape,
            l2,
            platform,
            sept: &module.td.sept,
        }
    }

    pub(super) fn vm(&self) -> Vm {
        Vm::L2(self.index)
    }

    pub(super) fn register(&mut self, register: Register) -> u64 {
        self.platform.register(Vm::L2(self.index), register)
    }

    pub(super) fn set_register(&mut self, register: Register, value: u64) {
        self.platform
            .set_register(Vm::L2(self.index), register, value);
    }

    pub(super) fn segment(&mut self, name: SegmentName) -> Segment {
        self.platform.segment(Vm::L2(self.index), name)
    }

    pub(super) fn primary(&self) -> PrimaryControls {
        PrimaryControls::from_bits(self.l2.cell(VmcsField::PRIMARY_CONTROLS) as u32)
    }

    pub(super) fn secondary(&self) -> SecondaryControls {
        SecondaryControls::from_bits(self.l2.cell(VmcsField::SECONDARY_CONTROLS) as u32)
    }

    pub(super) fn interruptibility(&self) -> InterruptibilityState {
        InterruptibilityState::from_bits(self.l2.cell(VmcsField::GUEST_INTERRUPTIBILITY) as u32)
    }

    pub(super) fn set_interruptibility(&mut self, state: InterruptibilityState) {
        self.l2
            .set_cell(VmcsField::GUEST_INTERRUPTIBILITY, state.into_bits().into());
    }

    /// Whether L1 asked for exits on this exception. A page fault also depends on its error code.
    pub(super) fn exits_on_exception(&self, vector: u8, error_code: u32) -> bool {
        let bitmap = self.l2.cell(VmcsField::EXCEPTION_BITMAP) as u32;
        let selected = bitmap >> (vector & 31) & 1 != 0;
        use x86_defs::exception::PAGE_FAULT;
        if vector != PAGE_FAULT {
            return selected;
        }
        let mask = self.l2.cell(VmcsField::PAGE_FAULT_ERROR_CODE_MASK) as u32;
        let matching = self.l2.cell(VmcsField::PAGE_FAULT_ERROR_CODE_MATCH) as u32;
        selected == (error_code & mask == matching)
    }

    /// Whether the VM runs 64-bit code.
    pub(super) fn is_64_bit(&mut self) -> bool {
        self.register(Register::Efer) & efer::LMA != 0
            && SegmentAccessRights::from_bits(self.segment(SegmentName::Cs).access_rights).long()
    }

    pub(super) fn cpl(&mut self) -> u8 {
        (self.register(Register::Cpl) & 3) as u8
    }

    /// IA32_DEBUGCTL.BTF: TF traps on branches only.
    pub(super) fn traps_branches_only(&mut self) -> bool {
        self.register(Register::DebugCtl) & 1 << 1 != 0
    }
}
