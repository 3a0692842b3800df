//! Module-scope fields: TDG.SYS.RD and TDG.SYS.RDALL.

use crate::metadata::{Field, ID_INCORRECT, find, next};
use crate::module::Module;
use tdx_defs::field::{FieldId, TdxFeatures0};
use tdx_defs::status::Status;

const INTEL: u64 = 0x8086;
/// Attributes that an L2 alias can have: GPA_ATTR bits 6:0 and VALID.
const GUEST_L2_GPA_ATTR_MASK: u64 = 0x807f;

const TABLE: [Field; 7] = [
    Field::single(FieldId::VENDOR_ID),
    Field::single(FieldId::MINOR_VERSION),
    Field::single(FieldId::MAJOR_VERSION),
    Field::single(FieldId::SYS_ATTRIBUTES),
    Field::single(FieldId::NUM_TDX_FEATURES),
    Field::single(FieldId::TDX_FEATURES0),
    Field::single(FieldId::GUEST_L2_GPA_ATTR_MASK),
];

/// The first field, for a caller that walks them.
pub(crate) const FIRST: FieldId = TABLE[0].first;

/// The value of a field, and the identifier of the next one.
pub(crate) fn read(module: &Module, id: FieldId) -> Result<(u64, FieldId), Status> {
    let (row, element) = find(&TABLE, id).ok_or(ID_INCORRECT)?;
    let value = match TABLE[row].first {
        FieldId::VENDOR_ID => INTEL,
        FieldId::MINOR_VERSION => 5,
        FieldId::MAJOR_VERSION => 1,
        FieldId::NUM_TDX_FEATURES => 1,
        FieldId::TDX_FEATURES0 => features(module).into_bits(),
        FieldId::GUEST_L2_GPA_ATTR_MASK => GUEST_L2_GPA_ATTR_MASK,
        // SYS_ATTRIBUTES: a production module.
        _ => 0,
    };
    Ok((value, next(&TABLE, row, element)))
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
        .with_pending_ept_violation_v2(true)
        .with_fms_config(true)
        .with_no_rbp_mod(true)
        .with_l2_tlb_invd_opt(true)
}
