use super::*;
use crate::TdParams;
use crate::test_platform::ModelTdcall;
use tdx_defs::VmIndex;
use tdx_defs::field::TdxFeatures0;

const NONE: u64 = u64::MAX;
const RCX: u64 = Status::operand_invalid(Operand::RCX).0;
const ID_INCORRECT: u64 = 0xc000_0c00_0000_0000;
const NOT_WRITABLE: u64 = 0xc000_0c01_0000_0000;
const NOT_READABLE: u64 = 0xc000_0c02_0000_0000;
const VALUE_NOT_VALID: u64 = 0xc000_0c03_0000_0000;
const FIRST_ID: u64 = 0x0000_0c0b_0000_0000;

const VERSION_1: u64 = 1 << tdg::VERSION_SHIFT;

/// (RAX, RDX, R8) after a read.
fn read(model: &ModelTdcall, rax: u64, rcx: u64, rdx: u64) -> (u64, u64, u64) {
    let after = model.call(Registers {
        rax,
        rcx,
        rdx,
        r8: 0x99,
        ..Registers::default()
    });
    let after = after.unwrap();
    (after.rax, after.rdx, after.r8)
}

/// (RAX, R8) after a write. RDX keeps its value.
fn write(model: &ModelTdcall, rax: u64, rcx: u64, id: FieldId, r8: u64, r9: u64) -> (u64, u64) {
    let after = model.call(Registers {
        rax,
        rcx,
        rdx: id.0,
        r8,
        r9,
        ..Registers::default()
    });
    let after = after.unwrap();
    assert_eq!(after.rdx, id.0);
    (after.rax, after.r8)
}

#[test]
fn a_failed_read_gives_its_leafs_defaults() {
    let model = ModelTdcall::new(&TdParams::default(), 0);
    let unknown = 0x1110_0003_0000_0077;
    let not_single = FieldId::ATTRIBUTES.0 | 1 << 38;
    for (leaf, rcx, rdx, expected) in [
        (tdg::VM_RD, 1, 5, (RCX, 5, 0)),
        (tdg::VM_RD, 0, unknown, (ID_INCORRECT, unknown, 0)),
        (tdg::VM_RD, 0, not_single, (ID_INCORRECT, not_single, 0)),
        (tdg::VM_RD, 0, NONE, (ID_INCORRECT, NONE, 0)),
        (tdg::VM_RD | VERSION_1, 1, 5, (RCX, NONE, 0)),
        (tdg::VM_RD | VERSION_1, 0, unknown, (ID_INCORRECT, NONE, 0)),
        (tdg::VP_RD, 1, 5, (RCX, NONE, 0)),
        (
            tdg::VP_RD,
            0,
            0xa020_0002_0000_0001,
            (ID_INCORRECT, NONE, 0),
        ),
        // The TD VMCS, the virtual APIC page, and saved registers are not the guest's.
        (
            tdg::VP_RD,
            0,
            0x0020_0002_0000_4002,
            (NOT_READABLE, NONE, 0),
        ),
        (
            tdg::VP_RD,
            0,
            0x0120_0003_0000_0000,
            (NOT_READABLE, NONE, 0),
        ),
        (
            tdg::VP_RD,
            0,
            0x1020_0003_0000_0000,
            (NOT_READABLE, NONE, 0),
        ),
        (tdg::SYS_RD, 1, 5, (NOT_READABLE, NONE, 0)),
        (tdg::SYS_RD, 1, 9, (ID_INCORRECT, NONE, 0)),
    ] {
        assert_eq!(read(&model, leaf, rcx, rdx), expected, "{leaf:#x} {rdx:#x}");
    }
    for leaf in [tdg::VM_RD, tdg::VP_RD] {
        model.with(|module, _| module.faults().busy(leaf, 1));
        let (rax, ..) = read(&model, leaf, 0, FieldId::ATTRIBUTES.0);
        assert_eq!(Status(rax), Status::operand_busy(Operand::OP_STATE));
    }
}

#[test]
fn a_failed_write_gives_no_old_value_and_changes_nothing() {
    let model = ModelTdcall::new(&TdParams::default(), 0);
    let all = u64::MAX;
    let unknown = FieldId(0x1110_0003_0000_0077);
    let supervisor = FieldId::CPUID_SUPERVISOR_VE;
    for (leaf, rcx, id, r8, r9, status) in [
        (tdg::VM_WR, 1, FieldId::TD_CTLS, 0, 1, RCX),
        (tdg::VM_WR, 0, unknown, 0, 1, ID_INCORRECT),
        (tdg::VM_WR, 0, FieldId::ATTRIBUTES, 0, all, NOT_WRITABLE),
        (tdg::VM_WR, 0, FieldId::NOTIFY_ENABLES, 1, 0, NOT_WRITABLE),
        (tdg::VM_WR, 0, FieldId::NOTIFY_ENABLES, 2, 2, NOT_WRITABLE),
        (
            tdg::VM_WR,
            0,
            FieldId::NOTIFY_ENABLES,
            3,
            3,
            VALUE_NOT_VALID,
        ),
        (tdg::VM_WR, 0, FieldId::TD_CTLS, 0, 1, VALUE_NOT_VALID),
        (tdg::VM_WR, 0, FieldId::TD_CTLS, 0x10, 0x10, NOT_WRITABLE),
        (tdg::VP_WR, 1, supervisor, 0, 1, RCX),
        (tdg::VP_WR, 0, FieldId::VCPU_INDEX, 0, all, NOT_WRITABLE),
        (tdg::VP_WR, 0, supervisor, 0x100, all, VALUE_NOT_VALID),
        (
            tdg::VP_WR,
            0,
            FieldId(0x0020_0002_0000_4002),
            0,
            all,
            NOT_WRITABLE,
        ),
        (
            tdg::VP_WR,
            0,
            FieldId::cpuid_control(127),
            4,
            all,
            VALUE_NOT_VALID,
        ),
        (
            tdg::VP_WR,
            0,
            FieldId::cpuid_control(128),
            0,
            all,
            ID_INCORRECT,
        ),
    ] {
        let result = write(&model, leaf, rcx, id, r8, r9);
        assert_eq!(result, (status, 0), "{leaf} {id:x?} {r8:#x} {r9:#x}");
    }
}

#[test]
fn a_write_merges_and_returns_what_was() {
    let flexible = TdParams {
        config_flags: 1 << 1,
        ..TdParams::default()
    };
    let model = ModelTdcall::new(&flexible, 0);
    let all = u64::MAX;
    for (leaf, id, r8, r9, old) in [
        (tdg::VM_WR, FieldId::NOTIFY_ENABLES, 1, all, 0),
        (tdg::VM_WR, FieldId(0x9100_0000_0000_0010), 0, 1, 1),
        (tdg::VM_WR, FieldId::TD_CTLS, 0, 1, 1),
        (tdg::VM_WR, FieldId::TD_CTLS, 1, all, 0),
        (tdg::VP_WR, FieldId::CPUID_USER_VE, 1, all, 0),
        (tdg::VP_WR, FieldId::cpuid_control(2), 3, 2, 0),
        (tdg::VP_WR, FieldId::cpuid_control(2), 1, 1, 2),
    ] {
        assert_eq!(write(&model, leaf, 0, id, r8, r9), (0, old), "{id:x?}");
    }
    let (_, _, control) = read(&model, tdg::VP_RD, 0, FieldId::cpuid_control(2).0);
    assert_eq!(control, 3);
}

#[test]
fn td_fields_are_what_the_td_is() {
    let params = TdParams {
        num_l2_vms: 2,
        mrowner: [0x11; 48],
        ..TdParams::default()
    }
    .with_gpaw_52();
    let model = ModelTdcall::new(&params, 0);
    for (id, value) in [
        (FieldId::NUM_L2_VMS, 2),
        (FieldId::NUM_VCPUS, 1),
        (FieldId::GPAW, 1),
        (FieldId::CONFIG_FLAGS, 1),
        (FieldId::ATTRIBUTES, 1 << 28),
        (FieldId::XFAM, 7),
        (FieldId::TSC_FREQUENCY, 40),
        (FieldId::TD_CTLS, 1),
        (FieldId(0x1310_0003_0000_0018 + 5), 0x1111_1111_1111_1111),
        (FieldId::rtmr(3, 5), 0),
    ] {
        assert_eq!(
            read(&model, tdg::VM_RD, 0, id.0),
            (0, id.0, value),
            "{id:x?}"
        );
    }
    let mrtd = model.with(|module, _| module.td_info().mrtd);
    let (_, _, word) = read(&model, tdg::VM_RD, 0, FieldId::mrtd(1).0);
    assert_eq!(word.to_le_bytes(), mrtd[8..16]);
}

/// Follows RDX from -1 to -1 and returns how many fields there were.
fn walk(model: &ModelTdcall, leaf: u64) -> usize {
    let (status, mut id, _) = read(model, leaf, 0, NONE);
    assert_eq!(status, FIRST_ID);
    let mut count = 0;
    while id != NONE {
        let (status, next, _) = read(model, leaf, 0, id);
        assert_eq!(status, 0, "{id:#x}");
        assert_ne!(next, id);
        id = next;
        count += 1;
    }
    count
}

#[test]
fn every_context_is_walked_from_minus_one_to_minus_one() {
    let model = ModelTdcall::new(&TdParams::default(), 0);
    // TD_UUID, PRE_IMPORT_UUID; MRTD, MRCONFIGID, MROWNER, MROWNERCONFIG, SERVTD_HASH; RTMR0 to 3;
    // SERVTD_BINDINGS_TABLE.
    let (single, arrays) = (11, 2 * 4 + 5 * 6 + 4 * 6 + 16);
    assert_eq!(walk(&model, tdg::VM_RD | VERSION_1), single + arrays);
    assert_eq!(walk(&model, tdg::SYS_RD), 12);
    // VCPU_INDEX, two #VE controls, L2_CTLS and TSC_DEADLINE, CPUID_CONTROL; then of each L2 VM its
    // VMCS and its MSR bitmaps.
    let counts = [0, 1, 2, 3].map(|num_l2_vms| {
        let params = TdParams {
            num_l2_vms,
            ..TdParams::default()
        };
        walk(&ModelTdcall::new(&params, 0), tdg::VP_RD)
    });
    let of_l1 = 3 + 4 + 4 + 128;
    let of_l2 = counts[1] - of_l1;
    assert!(of_l2 > 512 + 100);
    assert_eq!(counts, [0, 1, 2, 3].map(|vms| of_l1 + vms * of_l2));
}

/// Base-address fields that have an element for each VM begin with L1's.
#[test]
fn elements_are_counted_from_l1() {
    let model = ModelTdcall::new(&TdParams::default(), 0);
    let vm = VmIndex::FIRST;
    for first in [FieldId::l2_ctls(vm).0 - 1, FieldId::tsc_deadline(vm).0 - 1] {
        let (status, next, _) = read(&model, tdg::VP_RD, 0, first);
        assert_eq!((status, next), (0, first + 1), "{first:#x}");
        assert_eq!(read(&model, tdg::VP_RD, 0, first - 1).0, NOT_READABLE);
    }
}

#[test]
fn each_ve_control_is_its_own() {
    let fields = [FieldId::CPUID_SUPERVISOR_VE, FieldId::CPUID_USER_VE];
    for (one, other) in [(0, 1), (1, 0)] {
        let model = ModelTdcall::new(&TdParams::default(), 0);
        let value = |field: FieldId| read(&model, tdg::VP_RD, 0, field.0).2;
        assert_eq!(write(&model, tdg::VP_WR, 0, fields[one], 1, 1), (0, 0));
        assert_eq!((value(fields[one]), value(fields[other])), (1, 0));
        assert_eq!(write(&model, tdg::VP_WR, 0, fields[one], 0, 1), (0, 1));
        assert_eq!((value(fields[one]), value(fields[other])), (0, 0));
    }
}

#[test]
fn the_module_says_what_it_is() {
    let model = ModelTdcall::new(&TdParams::default(), 0);
    for (field, value) in [
        (FieldId::VENDOR_ID, 0x8086),
        (FieldId::MAJOR_VERSION, 1),
        (FieldId::MINOR_VERSION, 5),
        (FieldId::SYS_ATTRIBUTES, 0),
        (FieldId::NUM_TDX_FEATURES, 1),
        (FieldId::GUEST_L2_GPA_ATTR_MASK, 0x807f),
    ] {
        let (status, _, found) = read(&model, tdg::SYS_RD, 0, field.0);
        assert_eq!((status, found), (0, value), "{field:x?}");
    }
}

#[test]
fn features_are_those_of_a_partitioning_module() {
    let model = ModelTdcall::new(&TdParams::default(), 0);
    let (status, _, value) = read(&model, tdg::SYS_RD, 0, FieldId::TDX_FEATURES0.0);
    assert_eq!((status, value), (0, 0xf_0fbf));
    assert!(TdxFeatures0::from_bits(value).td_partitioning());
}

#[test]
fn rdall_lists_what_rd_gives() {
    const LIST: u64 = 0x3000;
    let model = ModelTdcall::new(&TdParams::default(), 0x20_0000);
    let rdall = |rdx, r8| {
        let after = model.call(Registers {
            rax: tdg::SYS_RDALL,
            rdx,
            r8,
            ..Registers::default()
        });
        let after = after.unwrap();
        (after.rax, after.r8)
    };
    let invalid_rdx = Status::operand_invalid(Operand::RDX).0;
    assert_eq!(rdall(LIST + 8, NONE), (invalid_rdx, NONE));
    assert_eq!(rdall(1 << 47, NONE), (invalid_rdx, NONE));
    assert_eq!(
        rdall(LIST, 5),
        (ID_INCORRECT, NONE),
        "a field that is not the guest's"
    );
    assert_eq!(rdall(LIST, 9), (ID_INCORRECT, NONE), "no field");
    assert_eq!(rdall(LIST, NONE), (0, NONE));
    let mut list = [0; 8 + 16];
    model.read(LIST, &mut list);
    assert_eq!(u16::from_le_bytes([list[0], list[1]]), 8 + 8 * 8 + 12 * 8);
    assert_eq!(u16::from_le_bytes([list[2], list[3]]), 8);
    assert_eq!(list[8..16], FieldId::VENDOR_ID.0.to_le_bytes());
    assert_eq!(list[16..24], 0x8086_u64.to_le_bytes());
    // Every sequence, by its header: fields that follow each other share one.
    let mut bytes = [0; 0xa8];
    model.read(LIST, &mut bytes);
    let words = bytes
        .as_chunks::<8>()
        .0
        .iter()
        .copied()
        .map(u64::from_le_bytes);
    let mut words = words.skip(1);
    let mut fields = 0;
    while let Some(header) = words.next() {
        let count = (header >> 38 & 0x1ff) + 1;
        for field in 0..count {
            let id = (header & !(0x1ff << 38)) + field;
            let value = words.next().unwrap();
            assert_eq!(read(&model, tdg::SYS_RD, 0, id).2, value, "{id:#x}");
            fields += 1;
        }
    }
    assert_eq!(fields, 12);
}
