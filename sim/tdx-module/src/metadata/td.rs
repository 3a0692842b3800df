//! TD-scope fields: TDG.VM.RD and TDG.VM.WR.

use crate::metadata::{
    Field, ID_INCORRECT, NOT_WRITABLE, VALUE_NOT_VALID, find, merge, next, qword,
};
use crate::module::Module;
use tdx_defs::field::{FieldId, TdCtls};
use tdx_defs::status::Status;

/// TD_UUID.
const TD_UUID: FieldId = FieldId(0x8010_0003_0000_0020);
/// MRCONFIGID.
const MRCONFIGID: FieldId = FieldId(0x1310_0003_0000_0010);
/// MROWNER.
const MROWNER: FieldId = FieldId(0x1310_0003_0000_0018);
/// MROWNERCONFIG.
const MROWNERCONFIG: FieldId = FieldId(0x1310_0003_0000_0020);
/// SERVTD_HASH.
const SERVTD_HASH: FieldId = FieldId(0x9910_0003_0000_0000);
/// SERVTD_NUM.
const SERVTD_NUM: FieldId = FieldId(0x9910_0001_0000_0006);

/// What of NOTIFY_ENABLES L1 writes: notification of a suspected zero-step attack.
const NOTIFY_ENABLES_WRITABLE: u64 = 1;

type Read = fn(&Module, u32) -> u64;

const ROWS: [(Field, Read); 18] = [
    (Field::single(FieldId::NUM_VCPUS), |module, _| {
        module.td.num_vcpus.into()
    }),
    (Field::single(FieldId::NUM_L2_VMS), |module, _| {
        module.td.num_l2_vms().into()
    }),
    (Field::array(TD_UUID, 4), |module, word| {
        module.td.uuid[word as usize]
    }),
    (Field::single(FieldId::ATTRIBUTES), |module, _| {
        module.td.params.attributes
    }),
    (Field::single(FieldId::XFAM), |module, _| {
        module.td.params.xfam
    }),
    (Field::single(FieldId::MAX_VCPUS), |module, _| {
        module.td.params.max_vcpus.into()
    }),
    (Field::single(FieldId::GPAW), |module, _| {
        module.td.config_flags().gpaw().into()
    }),
    (Field::single(FieldId::TSC_FREQUENCY), |module, _| {
        module.td.params.tsc_frequency.into()
    }),
    (Field::single(FieldId::NOTIFY_ENABLES), |module, _| {
        module.td.notify_enables
    }),
    (Field::single(FieldId::CONFIG_FLAGS), |module, _| {
        module.td.params.config_flags
    }),
    (Field::single(FieldId::TD_CTLS), |module, _| {
        module.td.td_ctls.into_bits()
    }),
    (Field::array(FieldId::mrtd(0), 6), |module, word| {
        qword(&module.td.mrtd, word)
    }),
    (Field::array(MRCONFIGID, 6), |module, word| {
        qword(&module.td.params.mrconfigid, word)
    }),
    (Field::array(MROWNER, 6), |module, word| {
        qword(&module.td.params.mrowner, word)
    }),
    (Field::array(MROWNERCONFIG, 6), |module, word| {
        qword(&module.td.params.mrownerconfig, word)
    }),
    (Field::array(FieldId::rtmr(0, 0), 24), rtmr),
    (Field::array(SERVTD_HASH, 6), |_, _| 0),
    (Field::single(SERVTD_NUM), |_, _| 0),
];

const TABLE: [Field; ROWS.len()] = {
    let mut table = [ROWS[0].0; ROWS.len()];
    let mut row = 0;
    while row < ROWS.len() {
        table[row] = ROWS[row].0;
        row += 1;
    }
    table
};

fn rtmr(module: &Module, word: u32) -> u64 {
    qword(module.td.rtmrs.get(word as usize / 6), word % 6)
}

/// The first field, for a caller that walks them.
pub(crate) const FIRST: FieldId = TABLE[0].first;

/// The value of a field, and the identifier of the next one.
pub(crate) fn read(module: &Module, id: FieldId) -> Result<(u64, FieldId), Status> {
    let (row, element) = find(&TABLE, id).ok_or(ID_INCORRECT)?;
    Ok((ROWS[row].1(module, element), next(&TABLE, row, element)))
}

/// Writes a field, and returns its old value.
pub(crate) fn write(
    module: &mut Module,
    id: FieldId,
    value: u64,
    mask: u64,
) -> Result<u64, Status> {
    let (old, _) = read(module, id)?;
    if id.is_same_field(FieldId::NOTIFY_ENABLES) {
        module.td.notify_enables = merge(old, value, mask, NOTIFY_ENABLES_WRITABLE)?;
    } else if id.is_same_field(FieldId::TD_CTLS) {
        let writable = TdCtls::new().with_pending_ve_disable(true).into_bits();
        let new = merge(old, value, mask, writable)?;
        if new != old && !module.td.config_flags().flexible_pending_ve() {
            return Err(VALUE_NOT_VALID);
        }
        module.td.td_ctls = TdCtls::from_bits(new);
    } else {
        return Err(NOT_WRITABLE);
    }
    Ok(old)
}
