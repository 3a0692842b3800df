//! TDG.VP.RD and TDG.VP.WR of what belongs to an L2 VM: its VMCS, its MSR bitmaps, L2_CTLS and
//! TSC_DEADLINE (TDX Module ABI, "TD VCPU-Scope Metadata").

use super::control_registers::ControlRegister;
use super::guest::Guest;
use super::state::{MSR_BITMAP_QWORDS, NO_DEADLINE};
use super::virtual_vmx_msr::allows;
use super::vmcs_table::{ARRAYS, Check, FIELDS, Lookup, NULL_GPA, Row, Storage, full, look_up};
use crate::metadata::{
    self, Field, ID_INCORRECT, NOT_READABLE, NOT_WRITABLE, VALUE_NOT_VALID, merge,
};
use crate::module::Module;
use crate::platform::{Platform, Vm};
use tdx_defs::VmIndex;
use tdx_defs::field::{FieldId, L2Ctls};
use tdx_defs::status::{Code, Status};
use tdx_defs::vmcs::VmcsField;

/// What a field identifier names, if its class is an L2 VM's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// A VMCS field code, which may be none.
    Vmcs(VmIndex, u32),
    /// A quadword of the MSR bitmaps.
    MsrBitmap(VmIndex, usize),
    /// A quadword of the bitmaps that the processor uses, which are the module's own.
    ShadowBitmap,
    /// A class of an L2 VM, but no field of it.
    Nothing,
}

/// Classes from one L2 VM's VMCS to the next one's.
const CLASSES: u8 = 8;

fn target(module: &Module, id: FieldId) -> Option<Target> {
    let offset = id.class().checked_sub(FieldId::CLASS_L2_VMCS_1)?;
    let vm = VmIndex::new(offset / CLASSES + 1)?;
    let kind = offset % CLASSES;
    if kind > 2 {
        return None;
    }
    if !module.td.has_l2(vm) {
        return Some(Target::Nothing);
    }
    let qword = usize::try_from(id.code())
        .ok()
        .filter(|&qword| qword < MSR_BITMAP_QWORDS);
    Some(match (kind, qword) {
        (0, _) => Target::Vmcs(vm, id.code()),
        (1, Some(qword)) => Target::MsrBitmap(vm, qword),
        (2, Some(_)) => Target::ShadowBitmap,
        _ => Target::Nothing,
    })
}

/// TDG.VP.RD: the value, and the identifier of the next field. `None` if the class is not an L2
/// VM's.
pub(crate) fn read_field<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    id: FieldId,
) -> Option<Result<(u64, FieldId), Status>> {
    Some(match target(module, id)? {
        Target::Vmcs(vm, code) => Guest::new(module, platform, vm)
            .read_vmcs(code)
            .map(|(index, value)| (value, after_vmcs(vm, index, id))),
        Target::MsrBitmap(vm, qword) => {
            let value = module.vcpu.l2(vm).msr_bitmaps[qword];
            let next = metadata::next(&[msr_bitmaps(vm)], 0, qword as u32, id);
            let next = match (next, VmIndex::new(vm.get() + 1)) {
                (FieldId::NONE, Some(vm)) => first_field(module, vm),
                (next, _) => next,
            };
            Ok((value, next))
        }
        Target::ShadowBitmap => Err(NOT_READABLE),
        Target::Nothing => Err(ID_INCORRECT),
    })
}

/// TDG.VP.WR: writes the bits in `mask` and returns the old value. `None` if the class is not an
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
        Target::ShadowBitmap => Err(NOT_WRITABLE),
        Target::Nothing => Err(ID_INCORRECT),
    })
}

/// The MSR bitmaps of an L2 VM.
fn msr_bitmaps(vm: VmIndex) -> Field {
    Field::array(FieldId::l2_msr_bitmap(vm, 0), MSR_BITMAP_QWORDS as u32)
}

/// The identifier of a VMCS field as a walk gives it: codes are INC_SIZE apart.
fn vmcs_id(vm: VmIndex, field: VmcsField) -> FieldId {
    const INC_SIZE: u64 = 1 << 50;
    FieldId(FieldId::l2_vmcs(vm, field).0 | INC_SIZE)
}

/// The first field of an L2 VM; [`FieldId::NONE`] if the TD does not have it.
pub(crate) fn first_field(module: &Module, vm: VmIndex) -> FieldId {
    match FIELDS.first() {
        Some(row) if module.td.has_l2(vm) => vmcs_id(vm, row.field),
        _ => FieldId::NONE,
    }
}

/// What follows `id`, which names the field at `index` of a VMCS: within an array the caller's own
/// identifier plus 2.
fn after_vmcs(vm: VmIndex, index: usize, id: FieldId) -> FieldId {
    let field = FIELDS[index].field;
    let array = ARRAYS
        .iter()
        .map(|&(first, count)| Field {
            count,
            step: 2,
            ..Field::single(FieldId::l2_vmcs(vm, first))
        })
        .find_map(|array| Some((array, array.element(FieldId::l2_vmcs(vm, field))?)));
    match array.map(|(array, element)| metadata::next(&[array], 0, element, id)) {
        Some(FieldId::NONE) | None => FIELDS
            .get(index + 1)
            .map_or(msr_bitmaps(vm).first, |row| vmcs_id(vm, row.field)),
        Some(next) => next,
    }
}

/// The L2 VM of an element of L2_CTLS and TSC_DEADLINE, in which L1 is first.
fn vm_of(element: u32) -> Option<VmIndex> {
    u8::try_from(element).ok().and_then(VmIndex::new)
}

/// An element of L2_CTLS.
pub(crate) fn controls(module: &Module, element: u32) -> u64 {
    vm_of(element).map_or(module.vcpu.l1.l2_ctls, |vm| {
        module.vcpu.l2(vm).controls.into_bits()
    })
}

/// Sets an element of L2_CTLS. The bit without effect stays 0 for a VM that is there.
pub(crate) fn set_controls<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    element: u32,
    value: u64,
) -> Result<(), Status> {
    let Some(vm) = vm_of(element) else {
        module.vcpu.l1.l2_ctls = value;
        return Ok(());
    };
    let controls = L2Ctls::from_bits(value);
    if module.td.has_l2(vm) {
        if controls.enable_extended_ve() {
            return Err(VALUE_NOT_VALID);
        }
        platform.set_shared_access(Vm::L2(vm), controls.enable_shared_eptp());
    }
    module.vcpu.l2_mut(vm).controls = controls;
    Ok(())
}

/// An element of TSC_DEADLINE.
pub(crate) fn deadline(module: &Module, element: u32) -> u64 {
    vm_of(element).map_or(module.vcpu.l1.tsc_deadline, |vm| {
        module.vcpu.l2(vm).tsc_deadline
    })
}

/// Sets an element of TSC_DEADLINE. A VM that is there takes none further away than 2^63 ticks,
/// but all ones, which is none at all.
pub(crate) fn set_deadline<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    element: u32,
    value: u64,
) -> Result<(), Status> {
    const FURTHEST: u64 = 1 << 63;
    let Some(vm) = vm_of(element) else {
        module.vcpu.l1.tsc_deadline = value;
        return Ok(());
    };
    let too_far = value != NO_DEADLINE && value.saturating_sub(platform.tsc()) > FURTHEST;
    if too_far && module.td.has_l2(vm) {
        return Err(Status::new(Code::OperandInvalid, 0));
    }
    module.vcpu.l2_mut(vm).tsc_deadline = value;
    Ok(())
}

impl<P: Platform> Guest<'_, P> {
    /// The place of a field in the table, and its value.
    pub(super) fn read_vmcs(&mut self, code: u32) -> Result<(usize, u64), Status> {
        match look_up(code) {
            Lookup::Found(index) => Ok((index, self.field(index) & FIELDS[index].read_mask)),
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
        let shown = self.field(index) & row.read_mask;
        // An address that was never written counts as zero where it can not be written.
        let current = match row.check {
            Check::PrivateGpa if shown == NULL_GPA => NULL_GPA & row.write_mask,
            _ => shown,
        };
        let new = merge(current, value, mask, row.write_mask)?;
        if !self.is_valid(row, new) {
            return Err(VALUE_NOT_VALID);
        }
        self.set_field(index, new);
        self.l2.registers_accepted = false;
        Ok(shown)
    }

    /// Whether a field may have a value that the write mask lets it have.
    fn is_valid(&self, row: &Row, value: u64) -> bool {
        match row.check {
            Check::None => true,
            Check::PrivateGpa => self.shape.is_private(value),
            Check::Controls(msr) => allows(&self.shape, msr, value, row.write_mask),
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
