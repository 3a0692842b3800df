//! TDG.VP.RD and TDG.VP.WR of what belongs to an L2 VM: its VMCS, its MSR bitmaps, L2_CTLS and
//! TSC_DEADLINE (TDX Module ABI, "TD VCPU-Scope Metadata").

use super::control_registers::ControlRegister;
use super::guest::Guest;
use super::state::{MSR_BITMAP_QWORDS, NO_DEADLINE};
use super::virtual_vmx_msr::{allows, control};
use super::vmcs_table::{Check, FIELDS, Lookup, NULL_GPA, Row, Storage, full, look_up};
use crate::metadata::{ID_INCORRECT, NOT_READABLE, NOT_WRITABLE, VALUE_NOT_VALID, merge};
use crate::module::Module;
use crate::platform::{Platform, Vm};
use tdx_defs::VmIndex;
use tdx_defs::field::{FieldId, L2Ctls};
use tdx_defs::status::Status;
use tdx_defs::vmcs::VmcsField;

/// What a field identifier names, if it is something of an L2 VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// A VMCS field code, which may be none.
    Vmcs(VmIndex, u32),
    /// A quadword of the MSR bitmaps.
    MsrBitmap(VmIndex, usize),
    /// An element of L2_CTLS; `None` for a VM that is not there.
    Controls(Option<VmIndex>),
    /// An element of TSC_DEADLINE.
    Deadline(Option<VmIndex>),
    /// A class of an L2 VM, but no field of it.
    Nothing,
}

/// Elements of L2_CTLS and of TSC_DEADLINE: one for each VM, L1 included.
const PER_VM_ELEMENTS: u32 = 4;

fn target(module: &Module, id: FieldId) -> Option<Target> {
    let l2_ctls = FieldId::l2_ctls(VmIndex::FIRST);
    let deadline = FieldId::tsc_deadline(VmIndex::FIRST);
    let of_array = |first: FieldId| {
        let element = id.code().wrapping_sub(first.code() - 1);
        (id.class() == first.class() && element < PER_VM_ELEMENTS)
            .then(|| VmIndex::new(element as u8).filter(|&vm| module.td.has_l2(vm)))
    };
    if let Some(vm) = of_array(l2_ctls) {
        return Some(Target::Controls(vm));
    }
    if let Some(vm) = of_array(deadline) {
        return Some(Target::Deadline(vm));
    }
    let offset = id.class().checked_sub(FieldId::CLASS_L2_VMCS_1)?;
    let vm = VmIndex::new(offset / 8 + 1)?;
    let kind = offset % 8;
    if kind > 1 {
        return None;
    }
    if !module.td.has_l2(vm) {
        return Some(Target::Nothing);
    }
    Some(match kind {
        0 => Target::Vmcs(vm, id.code()),
        _ => match usize::try_from(id.code()) {
            Ok(qword) if qword < MSR_BITMAP_QWORDS => Target::MsrBitmap(vm, qword),
            _ => Target::Nothing,
        },
    })
}

/// TDG.VP.RD. `None` if the field is not an L2 VM's.
pub(crate) fn read_field<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    id: FieldId,
) -> Option<Result<u64, Status>> {
    Some(match target(module, id)? {
        Target::Vmcs(vm, code) => Guest::new(module, platform, vm).read_vmcs(code),
        Target::MsrBitmap(vm, qword) => Ok(module.vcpu.l2(vm).msr_bitmaps[qword]),
        Target::Controls(vm) => Ok(vm.map_or(0, |vm| module.vcpu.l2(vm).controls.into_bits())),
        Target::Deadline(vm) => Ok(vm.map_or(NO_DEADLINE, |vm| module.vcpu.l2(vm).tsc_deadline)),
        Target::Nothing => Err(ID_INCORRECT),
    })
}

/// TDG.VP.WR: writes the bits in `mask` and returns the old value. `None` if the field is not an
/// L2 VM's.
pub(crate) fn write_field<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    id: FieldId,
    value: u64,
    mask: u64,
) -> Option<Result<u64, Status>> {
    Some(match target(module, id)? {
        Target::Vmcs(vm, code) => Guest::new(module, platform, vm).write_vmcs(code, value, mask),
        Target::MsrBitmap(vm, qword) => {
            let mut guest = Guest::new(module, platform, vm);
            let old = guest.l2.msr_bitmaps[qword];
            merge(old, value, mask, u64::MAX).map(|new| {
                guest.l2.msr_bitmaps[qword] = new;
                guest.apply_msr_bitmap(qword, old ^ new);
                old
            })
        }
        Target::Controls(vm) => write_controls(module, platform, vm, value, mask),
        Target::Deadline(vm) => {
            let old = vm.map_or(NO_DEADLINE, |vm| module.vcpu.l2(vm).tsc_deadline);
            merge(old, value, mask, u64::MAX).map(|new| {
                if let Some(vm) = vm {
                    module.vcpu.l2_mut(vm).tsc_deadline = new;
                }
                old
            })
        }
        Target::Nothing => Err(ID_INCORRECT),
    })
}

/// The VMCS field that follows in the module's order; the first one after `None`.
pub(crate) fn next_vmcs_field(after: Option<VmcsField>) -> Option<VmcsField> {
    FIELDS
        .iter()
        .map(|row| row.field)
        .find(|&field| after.is_none_or(|after| field > after))
}

fn write_controls<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    vm: Option<VmIndex>,
    value: u64,
    mask: u64,
) -> Result<u64, Status> {
    let writable = L2Ctls::new()
        .with_enable_shared_eptp(true)
        .with_enable_tdvmcall(true)
        .into_bits();
    let old = vm.map_or(0, |vm| module.vcpu.l2(vm).controls.into_bits());
    let new = merge(old, value, mask, writable)?;
    if let Some(vm) = vm {
        let controls = L2Ctls::from_bits(new);
        module.vcpu.l2_mut(vm).controls = controls;
        platform.set_shared_access(Vm::L2(vm), controls.enable_shared_eptp());
    }
    Ok(old)
}

impl Guest<'_> {
    pub(super) fn read_vmcs(&mut self, code: u32) -> Result<u64, Status> {
        match look_up(code) {
            Lookup::Found(index) => Ok(self.field(index) & FIELDS[index].read_mask),
            Lookup::Hidden => Err(NOT_READABLE),
            Lookup::Unknown => Err(ID_INCORRECT),
        }
    }

    pub(super) fn write_vmcs(&mut self, code: u32, value: u64, mask: u64) -> Result<u64, Status> {
        let index = match look_up(code) {
            Lookup::Found(index) => index,
            Lookup::Hidden => return Err(NOT_WRITABLE),
            Lookup::Unknown => return Err(ID_INCORRECT),
        };
        let row = &FIELDS[index];
        let writable = self.writable(row);
        let shown = self.field(index) & row.read_mask;
        // An address that was never written counts as zero where it can not be written.
        let current = match row.check {
            Check::PrivateGpa if shown == NULL_GPA => NULL_GPA & writable,
            _ => shown,
        };
        let new = merge(current, value, mask, writable)?;
        if !self.is_valid(row, new, writable) {
            return Err(VALUE_NOT_VALID);
        }
        self.set_field(index, new);
        self.l2.registers_accepted = false;
        Ok(shown)
    }

    fn writable(&self, row: &Row) -> u64 {
        match row.check {
            Check::Controls(_) => row.write_mask & control(&self.shape, row.field).1,
            Check::Cr4 => row.write_mask & self.shape.writable_cr4(),
            _ => row.write_mask,
        }
    }

    fn is_valid(&self, row: &Row, value: u64, writable: u64) -> bool {
        match row.check {
            Check::None => true,
            Check::PrivateGpa => self.shape.is_private(value),
            Check::Controls(msr) => allows(&self.shape, msr, value, writable),
            Check::DebugCtl => {
                const TR: u64 = 1 << 6;
                const BTS: u64 = 1 << 7;
                value & (TR | BTS) != TR || self.shape.attributes.debug()
            }
            Check::EptPointer => {
                const SUPERVISOR_SHADOW_STACK: u64 = 1 << 7;
                value & SUPERVISOR_SHADOW_STACK == 0 || self.shape.has_supervisor_shadow_stacks()
            }
            Check::Cr0 => {
                let base = self.base(ControlRegister::Cr0);
                value & base.mask == base.shadow
            }
            Check::Cr4 => {
                let base = self.base(ControlRegister::Cr4);
                value & base.mask == base.shadow
            }
        }
    }

    fn field(&mut self, index: usize) -> u64 {
        let row = &FIELDS[index];
        match row.storage {
            _ if row.field == VmcsField::GUEST_CR0 => self.as_l1_sees(ControlRegister::Cr0),
            _ if row.field == VmcsField::GUEST_CR4 => self.as_l1_sees(ControlRegister::Cr4),
            Storage::Cell(_) => self.l2.cells[index],
            Storage::Register(register) => self.register(register) & full(row.field),
            Storage::Selector(name) => self.segment(name).selector.into(),
            Storage::Limit(name) => self.segment(name).limit.into(),
            Storage::AccessRights(name) => self.segment(name).access_rights.into(),
            Storage::Base(name) => self.segment(name).base,
        }
    }

    fn set_field(&mut self, index: usize, value: u64) {
        let row = &FIELDS[index];
        match row.storage {
            _ if row.field == VmcsField::GUEST_CR0 => self.set_real(ControlRegister::Cr0, value),
            _ if row.field == VmcsField::GUEST_CR4 => self.set_real(ControlRegister::Cr4, value),
            Storage::Cell(_) => {
                self.l2.cells[index] = value;
                self.cell_was_written(row.field);
            }
            Storage::Register(register) => self.set_register(register, value),
            Storage::Selector(name) => {
                let mut segment = self.segment(name);
                segment.selector = value as u16;
                self.platform.set_segment(Vm::L2(self.index), name, segment);
            }
            Storage::Limit(name) => {
                let mut segment = self.segment(name);
                segment.limit = value as u32;
                self.platform.set_segment(Vm::L2(self.index), name, segment);
            }
            Storage::AccessRights(name) => {
                let mut segment = self.segment(name);
                segment.access_rights = value as u32;
                self.platform.set_segment(Vm::L2(self.index), name, segment);
            }
            Storage::Base(name) => {
                let mut segment = self.segment(name);
                segment.base = value;
                self.platform.set_segment(Vm::L2(self.index), name, segment);
            }
        }
    }

    /// What follows from some fields at once.
    fn cell_was_written(&mut self, field: VmcsField) {
        match field {
            VmcsField::CR0_GUEST_HOST_MASK | VmcsField::CR0_READ_SHADOW => {
                self.merge_mask_and_shadow(ControlRegister::Cr0);
            }
            VmcsField::CR4_GUEST_HOST_MASK | VmcsField::CR4_READ_SHADOW => {
                self.merge_mask_and_shadow(ControlRegister::Cr4);
            }
            _ => {}
        }
    }
}
