//! Virtual-processor-scope fields: TDG.VP.RD and TDG.VP.WR.

use crate::l2;
use crate::metadata::{Field, ID_INCORRECT, NOT_READABLE, NOT_WRITABLE, find, merge, next};
use crate::module::Module;
use crate::platform::Platform;
use crate::td::sept::l2_vms;
use tdx_defs::VmIndex;
use tdx_defs::field::FieldId;
use tdx_defs::status::Status;
use tdx_defs::vmcs::VmcsField;

const VCPU_INDEX: usize = 0;
const CPUID_SUPERVISOR_VE: usize = 1;
const CPUID_USER_VE: usize = 2;
const CPUID_CONTROL: usize = 5;

/// What is not an L2 VM's own. L2_CTLS and TSC_DEADLINE have an element for each VM, L1 included.
const TABLE: [Field; 6] = [
    Field::single(FieldId::VCPU_INDEX),
    Field::single(FieldId::CPUID_SUPERVISOR_VE),
    Field::single(FieldId::CPUID_USER_VE),
    Field::array(FieldId(FieldId::l2_ctls(VmIndex::FIRST).0 - 1), 4),
    Field::array(FieldId(FieldId::tsc_deadline(VmIndex::FIRST).0 - 1), 4),
    Field::array(FieldId::cpuid_control(0), 128),
];

/// Quadwords of an L2 VM's MSR bitmaps.
const MSR_BITMAP_QWORDS: u32 = 512;

/// The first field, for a caller that walks them.
pub(crate) const FIRST: FieldId = TABLE[0].first;

/// Classes that belong to the virtual processor but not to its guest: the TD VMCS, the virtual
/// APIC page, saved registers and MSRs, and the L2 shadow MSR bitmaps.
fn is_host_only(class: u8) -> bool {
    matches!(class, 0 | 1 | 16..=19 | 38 | 46 | 54)
}

/// The value of a field, and the identifier of the next one.
pub(crate) fn read<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    id: FieldId,
) -> Result<(u64, FieldId), Status> {
    if is_host_only(id.class()) {
        return Err(NOT_READABLE);
    }
    if let Some(result) = l2::read_field(module, platform, id) {
        return Ok((result?, next_field(module, id)));
    }
    let (row, element) = find(&TABLE, id).ok_or(ID_INCORRECT)?;
    let l1 = &module.vcpu.l1;
    let value = match row {
        CPUID_SUPERVISOR_VE => l1.cpuid_supervisor_ve.into(),
        CPUID_USER_VE => l1.cpuid_user_ve.into(),
        CPUID_CONTROL => l1.cpuid_control[element as usize].into(),
        // VCPU_INDEX; the others are l2's.
        _ => 0,
    };
    Ok((value, next_field(module, id)))
}

/// Writes a field, and returns its old value.
pub(crate) fn write<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    id: FieldId,
    value: u64,
    mask: u64,
) -> Result<u64, Status> {
    if is_host_only(id.class()) {
        return Err(NOT_WRITABLE);
    }
    if let Some(result) = l2::write_field(module, platform, id, value, mask) {
        return result;
    }
    let (row, element) = find(&TABLE, id).ok_or(ID_INCORRECT)?;
    let l1 = &mut module.vcpu.l1;
    match row {
        CPUID_SUPERVISOR_VE | CPUID_USER_VE => {
            let field = if row == CPUID_USER_VE {
                &mut l1.cpuid_user_ve
            } else {
                &mut l1.cpuid_supervisor_ve
            };
            let old = u64::from(*field);
            *field = merge(old, value, mask, 1)? != 0;
            Ok(old)
        }
        CPUID_CONTROL => {
            let control = &mut l1.cpuid_control[element as usize];
            let old = u64::from(*control);
            *control = merge(old, value, mask, 3)? as u8;
            Ok(old)
        }
        _ => {
            debug_assert_eq!(row, VCPU_INDEX);
            Err(NOT_WRITABLE)
        }
    }
}

/// The field after `id`: the rest of the table, then of each L2 VM its VMCS and its MSR bitmaps.
fn next_field(module: &Module, id: FieldId) -> FieldId {
    if let Some((row, element)) = find(&TABLE, id) {
        return match next(&TABLE, row, element) {
            FieldId::NONE => first_of_l2(module, VmIndex::FIRST),
            next => next,
        };
    }
    for vm in l2_vms() {
        let bitmaps = Field::array(FieldId::l2_msr_bitmap(vm, 0), MSR_BITMAP_QWORDS);
        if id.class() + 1 == bitmaps.first.class() {
            let after = VmcsField(id.code() as u16);
            return l2::next_vmcs_field(Some(after))
                .map_or(bitmaps.first, |field| FieldId::l2_vmcs(vm, field));
        }
        if let Some(qword) = bitmaps.element(id) {
            return match (next(&[bitmaps], 0, qword), VmIndex::new(vm.get() + 1)) {
                (FieldId::NONE, Some(vm)) => first_of_l2(module, vm),
                (next, _) => next,
            };
        }
    }
    FieldId::NONE
}

fn first_of_l2(module: &Module, vm: VmIndex) -> FieldId {
    match l2::next_vmcs_field(None) {
        Some(field) if module.td.has_l2(vm) => FieldId::l2_vmcs(vm, field),
        _ => FieldId::NONE,
    }
}
