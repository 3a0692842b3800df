//! TD-scope fields: TDG.VM.RD and TDG.VM.WR.

use crate::metadata::{Field, VALUE_NOT_VALID, find_readable, find_writable, merge, next, qword};
use crate::module::Module;
use tdx_defs::field::{FieldId, TdCtls};
use tdx_defs::status::Status;

/// TD_UUID.
const TD_UUID: FieldId = FieldId(0x8010_0003_0000_0020);
/// MROWNER.
const MROWNER: FieldId = FieldId(0x1310_0003_0000_0018);
/// MROWNERCONFIG.
const MROWNERCONFIG: FieldId = FieldId(0x1310_0003_0000_0020);
/// SERVTD_HASH.
const SERVTD_HASH: FieldId = FieldId(0x9910_0003_0000_0000);
/// SERVTD_NUM.
const SERVTD_NUM: FieldId = FieldId(0x9910_0001_0000_0006);
/// SERVTD_BINDINGS_TABLE.
const SERVTD_BINDINGS_TABLE: FieldId = FieldId(0x9910_0003_0000_0080);
/// PRE_IMPORT_UUID.
const PRE_IMPORT_UUID: FieldId = FieldId(0x9810_0003_0000_0040);

/// What of NOTIFY_ENABLES L1 writes: notification of a suspected zero-step attack.
const NOTIFY_ENABLES_WRITABLE: u64 = 1;
/// What of TD_CTLS L1 writes.
const TD_CTLS_WRITABLE: u64 = TdCtls::new().with_pending_ve_disable(true).into_bits();

/// What of TD_CTLS L1 writes as well where there are sealing keys.
const ENABLE_HW_KEYS: u64 = TdCtls::new().with_enable_hw_keys(true).into_bits();

type Read = fn(&Module, u32) -> u64;

/// What the guest reads, in the module's order.
const ROWS: [(Field, Read); 20] = [
    (Field::array(TD_UUID, 4), |module, word| {
        module.td.uuid[word as usize]
    }),
    (Field::single(FieldId::NUM_VCPUS), |module, _| {
        module.td.num_vcpus.into()
    }),
    (Field::single(FieldId::NUM_L2_VMS), |module, _| {
        module.td.num_l2_vms().into()
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
    (
        Field::single(FieldId::NOTIFY_ENABLES).writable(NOTIFY_ENABLES_WRITABLE),
        |module, _| module.td.notify_enables,
    ),
    (Field::single(FieldId::CONFIG_FLAGS), |module, _| {
        module.td.params.config_flags
    }),
    (
        Field::single(FieldId::TD_CTLS).writable(TD_CTLS_WRITABLE),
        |module, _| module.td.td_ctls.into_bits(),
    ),
    (Field::array(FieldId::mrtd(0), 6), |module, word| {
        qword(&module.td.mrtd, word)
    }),
    (Field::array(FieldId::mrconfigid(0), 6), |module, word| {
        qword(&module.td.params.mrconfigid, word)
    }),
    (Field::array(MROWNER, 6), |module, word| {
        qword(&module.td.params.mrowner, word)
    }),
    (Field::array(MROWNERCONFIG, 6), |module, word| {
        qword(&module.td.params.mrownerconfig, word)
    }),
    (Field::array(FieldId::rtmr(0, 0), 24), rtmr),
    (Field::array(PRE_IMPORT_UUID, 4), |_, _| 0),
    (Field::array(SERVTD_HASH, 6), |_, _| 0),
    (Field::single(SERVTD_NUM), |_, _| 0),
    (Field::array(SERVTD_BINDINGS_TABLE, 16), |_, _| 0),
];

/// What only the host has.
const HIDDEN: [Field; 27] = [
    Field::hidden(0x0, 0x1, 0x2),
    Field::hidden(0x0, 0x4, 0x5),
    Field::hidden(0x0, 0x10, 0x18),
    Field::hidden(0x1, 0x1, 0x2),
    Field::hidden(0x2, 0x0, 0x5),
    Field::hidden(0x10, 0x2, 0x2),
    Field::hidden(0x10, 0x4, 0x4),
    Field::hidden(0x11, 0x4, 0x4),
    Field::hidden(0x11, 0xa, 0xb),
    Field::hidden(0x11, 0xd, 0xf),
    Field::hidden(0x11, 0x11, 0x15),
    Field::hidden(0x11, 0x80, 0xcf),
    Field::hidden(0x11, 0x800, 0x812),
    Field::hidden(0x12, 0x0, 0x2),
    Field::hidden(0x14, 0x0, 0x202),
    Field::hidden(0x16, 0x10a, 0x10a),
    Field::hidden(0x16, 0x480, 0x480),
    Field::hidden(0x16, 0x485, 0x489),
    Field::hidden(0x16, 0x48b, 0x493),
    Field::hidden(0x18, 0x1, 0x6),
    Field::hidden(0x18, 0x10, 0x21),
    Field::hidden(0x18, 0x30, 0x32),
    Field::hidden(0x18, 0x34, 0x34),
    Field::hidden(0x1a, 0x0, 0x1ff),
    Field::hidden(0x20, 0x0, 0x1ff),
    Field::hidden(0x21, 0x0, 0x1ff),
    Field::hidden(0x25, 0x0, 0x1ff),
];

const TABLE: [Field; ROWS.len() + HIDDEN.len()] = {
    let mut table = [ROWS[0].0; ROWS.len() + HIDDEN.len()];
    let mut row = 0;
    while row < ROWS.len() {
        table[row] = ROWS[row].0;
        row += 1;
    }
    while row < table.len() {
        table[row] = HIDDEN[row - ROWS.len()];
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
    let (row, element) = find_readable(&TABLE, id)?;
    let value = ROWS[row].1(module, element);
    Ok((value, next(&TABLE, row, element, id)))
}

/// Writes a field, and returns its old value.
pub(crate) fn write(
    module: &mut Module,
    id: FieldId,
    value: u64,
    mask: u64,
) -> Result<u64, Status> {
    let (row, element, mut writable) = find_writable(&TABLE, id)?;
    if id.is_same_field(FieldId::TD_CTLS) && module.configuration.sealing.is_some() {
        writable |= ENABLE_HW_KEYS;
    }
    let old = ROWS[row].1(module, element);
    let new = merge(old, value, mask, writable)?;
    if id.is_same_field(FieldId::NOTIFY_ENABLES) {
        module.td.notify_enables = new;
    } else {
        let changes_pending_ve = (new ^ old) & !ENABLE_HW_KEYS != 0;
        if changes_pending_ve && !module.td.config_flags().flexible_pending_ve() {
            return Err(VALUE_NOT_VALID);
        }
        module.td.td_ctls = TdCtls::from_bits(new);
    }
    Ok(old)
}
