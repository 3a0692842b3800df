//! Virtual-processor-scope fields: TDG.VP.RD and TDG.VP.WR.

use crate::l2;
use crate::metadata::{Field, ID_INCORRECT, find_readable, find_writable, merge, next};
use crate::module::Module;
use crate::platform::Platform;
use tdx_defs::VmIndex;
use tdx_defs::field::FieldId;
use tdx_defs::status::Status;

const CPUID_SUPERVISOR_VE: usize = 1;
const CPUID_USER_VE: usize = 2;
const L2_CTLS: usize = 3;
const TSC_DEADLINE: usize = 4;
const CPUID_CONTROL: usize = 5;

/// What is not an L2 VM's own, in the module's order; at the end what is the host's. L2_CTLS and
/// TSC_DEADLINE have an element for each VM, L1 included, whether or not the VM is there.
#[rustfmt::skip]
const TABLE: &[Field] = &[
    Field::single(FieldId::VCPU_INDEX),
    Field::single(FieldId::CPUID_SUPERVISOR_VE).writable(0xff),
    Field::single(FieldId::CPUID_USER_VE).writable(0xff),
    Field::array(FieldId(FieldId::l2_ctls(VmIndex::FIRST).0 - 1), 4).writable(0b111),
    Field::array(FieldId(FieldId::tsc_deadline(VmIndex::FIRST).0 - 1), 4).writable(u64::MAX),
    Field::array(FieldId::cpuid_control(0), 128).writable(0b11),
    // The TD VMCS.
    Field::hidden_even(0, 0x0, 0x6),
    Field::hidden_even(0, 0x800, 0x814),
    Field::hidden_even(0, 0x2000, 0x202e),
    Field::hidden_even(0, 0x2032, 0x2040),
    Field::hidden_even(0, 0x204a, 0x204c),
    Field::hidden_even(0, 0x2400, 0x2400),
    Field::hidden_even(0, 0x2800, 0x2818),
    Field::hidden_even(0, 0x4000, 0x4026),
    Field::hidden_even(0, 0x4400, 0x440e),
    Field::hidden_even(0, 0x4800, 0x482a),
    Field::hidden_even(0, 0x482e, 0x482e),
    Field::hidden_even(0, 0x6000, 0x600e),
    Field::hidden_even(0, 0x6400, 0x640a),
    Field::hidden_even(0, 0x6800, 0x682c),
    Field::hidden_even(0, 0x6c08, 0x6c08),
    Field::hidden_even(0, 0x6c14, 0x6c16),
    Field::hidden_even(0, 0x6c1a, 0x6c1a),
    // The virtual APIC page.
    Field::hidden(1, 0x0, 0x7f),
    // The #VE information area and the L2 virtual APIC pages.
    Field::hidden(2, 0x0, 0x5),
    Field::hidden(2, 0x10, 0x11),
    // General registers.
    Field::hidden(16, 0x0, 0xf),
    // Other registers.
    Field::hidden(17, 0x0, 0x3),
    Field::hidden(17, 0x6, 0x6),
    Field::hidden(17, 0x20, 0x20),
    Field::hidden(17, 0x28, 0x28),
    Field::hidden(17, 0x100, 0x100),
    // Extended state.
    Field::hidden(18, 0x0, 0x5ff),
    // MSRs.
    Field::hidden(19, 0x48, 0x48),
    Field::hidden(19, 0xe1, 0xe1),
    Field::hidden(19, 0x122, 0x122),
    Field::hidden(19, 0x186, 0x18d),
    Field::hidden(19, 0x1a6, 0x1a7),
    Field::hidden(19, 0x1c4, 0x1c5),
    Field::hidden(19, 0x309, 0x30f),
    Field::hidden(19, 0x329, 0x329),
    Field::hidden(19, 0x38d, 0x38e),
    Field::hidden(19, 0x3f1, 0x3f2),
    Field::hidden(19, 0x3f6, 0x3f7),
    Field::hidden(19, 0x4c1, 0x4c8),
    Field::hidden(19, 0x600, 0x600),
    Field::hidden(19, 0xda0, 0xda0),
    Field::hidden(19, 0x14cf, 0x14cf),
    Field::hidden(19, 0x1b01, 0x1b01),
    Field::hidden(19, 0x2081, 0x2082),
    Field::hidden(19, 0x2084, 0x2084),
    Field::hidden(19, 0x2102, 0x2103),
    // Management.
    Field::hidden(32, 0x0, 0x0),
    Field::hidden(32, 0x3, 0x4),
    Field::hidden(32, 0x6, 0x6),
    Field::hidden(32, 0xa, 0x1e),
    Field::hidden(32, 0x30, 0x32),
    Field::hidden(32, 0x40, 0x42),
    Field::hidden(32, 0x44, 0x4f),
    Field::hidden(32, 0x54, 0x57),
    Field::hidden(32, 0x5c, 0x5f),
    Field::hidden(32, 0x80, 0x9f),
    Field::hidden(32, 0xa4, 0xb7),
    Field::hidden(32, 0x100, 0x117),
    // Keys and hashes.
    Field::hidden(34, 0x200, 0x21f),
];

/// The first field, for a caller that walks them.
pub(crate) const FIRST: FieldId = TABLE[0].first;

/// The value of a field, and the identifier of the next one.
pub(crate) fn read<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    id: FieldId,
) -> Result<(u64, FieldId), Status> {
    if let Some(result) = l2::read_field(module, platform, id) {
        return result;
    }
    let (row, element) = find_readable(TABLE, id)?;
    let next = match next(TABLE, row, element, id) {
        FieldId::NONE => l2::first_field(module, VmIndex::FIRST),
        next => next,
    };
    Ok((value(module, row, element), next))
}

fn value(module: &Module, row: usize, element: u32) -> u64 {
    let l1 = &module.vcpu.l1;
    match row {
        CPUID_SUPERVISOR_VE => l1.cpuid_supervisor_ve.into(),
        CPUID_USER_VE => l1.cpuid_user_ve.into(),
        L2_CTLS => l2::controls(module, element),
        TSC_DEADLINE => l2::deadline(module, element),
        CPUID_CONTROL => l1.cpuid_control[element as usize].into(),
        // VCPU_INDEX: of the one that runs.
        _ => module.vcpu.index.into(),
    }
}

/// Writes a field, and returns its old value.
pub(crate) fn write<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    id: FieldId,
    value: u64,
    mask: u64,
) -> Result<u64, Status> {
    if let Some(result) = l2::write_field(module, platform, id, value, mask) {
        return result;
    }
    let (row, element, writable) = find_writable(TABLE, id)?;
    let old = self::value(module, row, element);
    let new = merge(old, value, mask, writable)?;
    let l1 = &mut module.vcpu.l1;
    match row {
        CPUID_SUPERVISOR_VE => l1.cpuid_supervisor_ve = new as u8,
        CPUID_USER_VE => l1.cpuid_user_ve = new as u8,
        L2_CTLS => l2::set_controls(module, platform, element, new)?,
        TSC_DEADLINE => l2::set_deadline(module, platform, element, new)?,
        CPUID_CONTROL => l1.cpuid_control[element as usize] = new as u8,
        _ => return Err(ID_INCORRECT),
    }
    Ok(old)
}
