//! Module-scope fields: TDG.SYS.RD and TDG.SYS.RDALL.

use crate::metadata::{Field, find_readable, next};
use crate::module::Module;
use tdx_defs::field::{FieldId, TdxFeatures0};
use tdx_defs::status::Status;

const INTEL: u64 = 0x8086;
/// Attributes that an L2 alias can have: GPA_ATTR bits 6:0 and VALID.
const GUEST_L2_GPA_ATTR_MASK: u64 = 0x807f;

/// MIG_ATTRIBUTES.
const MIG_ATTRIBUTES: FieldId = FieldId(0xA000_0003_0000_0000);
/// MIN_EXPORT_VERSION.
const MIN_EXPORT_VERSION: FieldId = FieldId(0x2000_0001_0000_0001);
/// MAX_EXPORT_VERSION.
const MAX_EXPORT_VERSION: FieldId = FieldId(0x2000_0001_0000_0002);
/// MIN_IMPORT_VERSION.
const MIN_IMPORT_VERSION: FieldId = FieldId(0x2000_0001_0000_0003);
/// MAX_IMPORT_VERSION.
const MAX_IMPORT_VERSION: FieldId = FieldId(0x2000_0001_0000_0004);

/// In the module's order; at the end what is the host's.
const TABLE: &[Field] = &[
    Field::single(FieldId::VENDOR_ID),
    Field::single(FieldId::MINOR_VERSION),
    Field::single(FieldId::MAJOR_VERSION),
    Field::single(FieldId::SYS_ATTRIBUTES),
    Field::single(FieldId::NUM_TDX_FEATURES),
    Field::single(FieldId::TDX_FEATURES0),
    Field::single(MIG_ATTRIBUTES),
    Field::single(MIN_EXPORT_VERSION),
    Field::single(MAX_EXPORT_VERSION),
    Field::single(MIN_IMPORT_VERSION),
    Field::single(MAX_IMPORT_VERSION),
    Field::single(FieldId::GUEST_L2_GPA_ATTR_MASK),
    Field::hidden(0x0, 0x0, 0x8),
    Field::hidden(0x8, 0x1, 0x2),
    Field::hidden(0x8, 0x5, 0x6),
    Field::hidden(0x9, 0x0, 0x6),
    Field::hidden(0x10, 0x0, 0x0),
    Field::hidden(0x10, 0x80, 0x9f),
    Field::hidden(0x10, 0x100, 0x11f),
    Field::hidden(0x11, 0x8, 0x9),
    Field::hidden(0x11, 0x10, 0x12),
    Field::hidden(0x18, 0x0, 0x0),
    Field::hidden(0x18, 0x100, 0x101),
    Field::hidden(0x18, 0x200, 0x201),
    Field::hidden(0x19, 0x0, 0x4),
    Field::hidden(0x19, 0x6, 0x7),
    Field::hidden(0x19, 0x400, 0x41f),
    Field::hidden(0x19, 0x500, 0x53f),
    Field::hidden(0x19, 0x600, 0x600),
    Field::hidden(0x19, 0x800, 0x801),
    Field::hidden(0x19, 0x810, 0x88f),
    Field::hidden(0x20, 0x10, 0x10),
    Field::hidden(0x20, 0x20, 0x22),
    Field::hidden(0x21, 0x0, 0x2),
    Field::hidden(0x22, 0x1, 0x6),
];

/// The first field, for a caller that walks them.
pub(crate) const FIRST: FieldId = TABLE[0].first;

/// The value of a field, and the identifier of the next one.
pub(crate) fn read(module: &Module, id: FieldId) -> Result<(u64, FieldId), Status> {
    let (row, element) = find_readable(TABLE, id)?;
    let value = match TABLE[row].first {
        FieldId::VENDOR_ID => INTEL,
        FieldId::MINOR_VERSION => 5,
        FieldId::MAJOR_VERSION => 1,
        FieldId::NUM_TDX_FEATURES => 1,
        FieldId::TDX_FEATURES0 => features(module).into_bits(),
        FieldId::GUEST_L2_GPA_ATTR_MASK => GUEST_L2_GPA_ATTR_MASK,
        // SYS_ATTRIBUTES: a production module; it does not migrate TDs.
        _ => 0,
    };
    Ok((value, next(TABLE, row, element, id)))
}

/// TDX_FEATURES0 of module 1.5. What a guest cannot reach (migration, preserving) is announced as
/// the real module does.
fn features(module: &Module) -> TdxFeatures0 {
    TdxFeatures0::new()
        .with_td_migration(true)
        .with_td_preserving(true)
        .with_service_td(true)
        .with_tdg_vp_rdwr(true)
        .with_relaxed_mem_mng_concurrency(true)
        .with_cpuid_virt_ctrl(true)
        .with_td_partitioning(true)
        .with_local_attestation(module.configuration.local_attestation)
        .with_td_entry_enhancements(true)
        .with_host_priority_locks(true)
        .with_config_ia32_arch_capabilities(true)
        .with_sealing(module.configuration.sealing.is_some())
        .with_pending_ept_violation_v2(true)
        .with_fms_config(true)
        .with_no_rbp_mod(true)
        .with_l2_tlb_invd_opt(true)
}
