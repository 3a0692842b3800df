//! Operands in the module's order, and what makes another key.

use super::*;
use crate::test_platform::ModelTdcall;
use crate::{Configuration, TdParams};
use tdx_defs::field::FieldId;
use tdx_defs::key_request::TdKeyRequest;
use zerocopy::IntoBytes;

const MEMORY: u64 = 0x20_0000;
const REQUEST: u64 = 0x4080;
const KEY: u64 = 0x5020;
const ENABLE: u64 = 1 << 4;

fn model(configuration: Configuration, params: &TdParams) -> ModelTdcall {
    ModelTdcall::on(configuration, params, MEMORY)
}

fn sealing() -> ModelTdcall {
    let model = model(Configuration::with_sealing(), &TdParams::default());
    assert_eq!(enable(&model), 0);
    model
}

fn enable(model: &ModelTdcall) -> u64 {
    let after = model.call(Registers {
        rax: tdg::VM_WR,
        rdx: FieldId::TD_CTLS.0,
        r8: ENABLE,
        r9: ENABLE,
        ..Registers::default()
    });
    after.unwrap().rax
}

/// What L1 asks for: bound to MRTD and DEBUG.
fn request() -> TdKeyRequest {
    let tcb = Configuration::default().tcb;
    TdKeyRequest {
        key_sizes: TdKeyRequest::SIZE_256,
        key_policy: key_policy::MRTD.to_le_bytes(),
        attributes_mask: 1_u64.to_le_bytes(),
        cpusvn: tcb.cpusvn,
        tee_tcb_svn: tcb.tee_tcb_svn,
        salt: [0x5A; 32],
        ..TdKeyRequest::new_zeroed()
    }
}

fn call(model: &ModelTdcall, rcx: u64, rdx: u64, r8: u64) -> (Status, u64) {
    let after = model.call(Registers {
        rax: tdg::MR_KEY_GET,
        rcx,
        rdx,
        r8,
        r9: 0x99,
        ..Registers::default()
    });
    let after = after.unwrap();
    (Status(after.rax), after.r9)
}

fn get(model: &ModelTdcall, request: &TdKeyRequest) -> Result<[u8; 32], Status> {
    model.write(REQUEST, request.as_bytes());
    model.write(KEY, &[0; 32]);
    let (status, bits) = call(model, REQUEST, KEY, 0);
    let mut key = [0; 32];
    model.read(KEY, &mut key);
    if status == Status::SUCCESS {
        assert_eq!(bits, 256);
        assert_ne!(key, [0; 32]);
        Ok(key)
    } else {
        assert_eq!((bits, key), (0x99, [0; 32]));
        Err(status)
    }
}

#[test]
fn a_module_without_the_leaf_answers_as_the_published_one() {
    let model = model(Configuration::default(), &TdParams::default());
    let not_writable = Status::new(Code::MetadataFieldNotWritable, 0).0;
    assert_eq!(enable(&model), not_writable);
    let refused = get(&model, &request());
    assert_eq!(refused, Err(Status::operand_invalid(Operand::RAX)));
}

#[test]
fn the_feature_is_enumerated_and_the_td_enables_it() {
    let model = model(Configuration::with_sealing(), &TdParams::default());
    let features = model.call(Registers {
        rax: tdg::SYS_RD,
        rdx: FieldId::TDX_FEATURES0.0,
        ..Registers::default()
    });
    assert_eq!(features.unwrap().r8, 0xf_1fbf);
    let refused = get(&model, &request());
    assert_eq!(refused, Err(Status::new(Code::MrKeyGetNotSupported, 0)));
    assert_eq!(enable(&model), 0);
    assert!(get(&model, &request()).is_ok());
}

#[test]
fn operands_are_checked_in_order() {
    let model = sealing();
    let bad = TdKeyRequest {
        key_name: [1, 0],
        ..request()
    };
    model.write(REQUEST, bad.as_bytes());
    let shared = 1 << 47;
    for (rcx, rdx, r8, operand) in [
        (REQUEST + 64, KEY + 16, 4, Operand::R8),
        (REQUEST, KEY, 1 << 8, Operand::R8),
        (REQUEST + 64, KEY + 16, 3, Operand::RCX),
        (REQUEST | shared, KEY + 16, 0, Operand::RCX),
        (REQUEST, KEY + 16, 0, Operand::RDX),
        (REQUEST, KEY | shared, 0, Operand::RDX),
        (REQUEST, KEY, 0, Operand::KEYNAME),
    ] {
        let (status, bits) = call(&model, rcx, rdx, r8);
        assert_eq!(status, Status::operand_invalid(operand), "{rcx:#x} {r8}");
        assert_eq!(bits, 0x99);
    }
}

#[test]
fn each_part_of_a_request_is_checked_in_order() {
    type Spoil = fn(&mut TdKeyRequest);
    let rows: [(Spoil, Status); 13] = [
        (
            |r| r.key_name[1] = 1,
            Status::operand_invalid(Operand::KEYNAME),
        ),
        (
            |r| r.reserved_4[3] = 1,
            Status::operand_invalid(Operand::RCX),
        ),
        (
            |r| r.reserved_102[25] = 1,
            Status::operand_invalid(Operand::RCX),
        ),
        (
            |r| r.key_policy[0] |= 1 << 4,
            Status::operand_invalid(Operand::RCX),
        ),
        (
            |r| r.key_policy[4] |= 1 << 4,
            Status::operand_invalid(Operand::RCX),
        ),
        (
            |r| r.attributes_mask[0] |= 2,
            Status::operand_invalid(Operand::RCX),
        ),
        (
            |r| r.xfam_mask[7] |= 0x80,
            Status::operand_invalid(Operand::RCX),
        ),
        (
            |r| r.tee_tcb_svn[3] = 1,
            Status::operand_invalid(Operand::RCX),
        ),
        (
            |r| r.key_sizes = 1,
            Status::operand_invalid(Operand::KEYSIZE_BITMAP),
        ),
        (|r| r.cpusvn[15] += 1, Status::new(Code::SvnInvalid, 0)),
        (|r| r.tee_tcb_svn[0] += 1, Status::new(Code::SvnInvalid, 0)),
        (|r| r.tee_tcb_svn[2] += 1, Status::new(Code::SvnInvalid, 0)),
        (
            |r| r.tee_tcb_svn = [0; 16],
            Status::new(Code::SvnInvalid, 0),
        ),
    ];
    let model = sealing();
    for (row, (spoil, status)) in rows.iter().enumerate() {
        let mut one = request();
        spoil(&mut one);
        assert_eq!(get(&model, &one), Err(*status), "row {row}");
    }
    // Of two faults the first one counts.
    for (row, pair) in rows.windows(2).enumerate() {
        let mut both = request();
        (pair[1].0)(&mut both);
        (pair[0].0)(&mut both);
        assert_eq!(get(&model, &both), Err(pair[0].1), "rows {row} and next");
    }
    model.with(|module, _| module.faults().busy(tdg::MR_KEY_GET, 1));
    let busy = Status::operand_busy(Operand::RTMR);
    assert_eq!(get(&model, &request()), Err(busy));
    assert!(get(&model, &request()).is_ok());
}

#[test]
fn the_same_td_gets_the_same_key_and_an_older_tcbs_where_it_asks() {
    let key = get(&sealing(), &request()).unwrap();
    assert_eq!(get(&sealing(), &request()), Ok(key));
    let mut older = request();
    older.cpusvn[0] -= 1;
    let of_older = get(&sealing(), &older).unwrap();
    assert_ne!(of_older, key);
    // After an update of the platform: what was sealed before is still there for who says so.
    let mut configuration = Configuration::with_sealing();
    configuration.tcb.cpusvn[0] += 1;
    let updated = model(configuration, &TdParams::default());
    assert_eq!(enable(&updated), 0);
    assert_eq!(get(&updated, &request()), Ok(key));
}

#[test]
fn another_td_platform_or_request_gets_another_key() {
    let key = get(&sealing(), &request()).unwrap();
    let debug = TdParams {
        attributes: TdParams::default().attributes | 1,
        ..TdParams::default()
    };
    let built = |configuration, params: &TdParams| {
        let model = model(configuration, params);
        assert_eq!(enable(&model), 0);
        model
    };
    let debug_td = built(Configuration::with_sealing(), &debug);
    assert_ne!(get(&debug_td, &request()), Ok(key), "a debug TD");
    let mut unbound = request();
    unbound.attributes_mask = [0; 8];
    assert_eq!(
        get(&debug_td, &unbound),
        get(&sealing(), &unbound),
        "nobody asked for DEBUG to count"
    );
    let mut configuration = Configuration::with_sealing();
    configuration.sealing = Some([1; 32]);
    let elsewhere = built(configuration, &TdParams::default());
    assert_ne!(get(&elsewhere, &request()), Ok(key), "another platform");
    let other = TdParams {
        mrconfigid: [1; 48],
        ..TdParams::default()
    };
    let other = built(Configuration::with_sealing(), &other);
    assert_eq!(get(&other, &request()), Ok(key), "MRCONFIGID is left out");

    type Change = fn(&mut TdKeyRequest);
    let changes: [Change; 6] = [
        |r| r.salt[31] ^= 1,
        |r| r.sw_key_name = 1,
        |r| r.key_policy = [0; 8],
        |r| r.attributes_mask = [0; 8],
        |r| r.xfam_mask[0] = 1,
        |r| r.key_policy[0] |= 2,
    ];
    for (row, change) in changes.into_iter().enumerate() {
        let mut one = request();
        change(&mut one);
        let same = get(&sealing(), &one) == Ok(key);
        // MROWNER is zero here, and what is not selected is zero as well.
        assert_eq!(same, row == 5, "change {row}");
    }
}

#[test]
fn an_rtmr_that_the_policy_selects_is_part_of_the_key() {
    let model = sealing();
    let mut bound = request();
    bound.key_policy[4] = 1 << 3;
    let keys = |model: &ModelTdcall| (get(model, &request()).unwrap(), get(model, &bound).unwrap());
    let before = keys(&model);
    model.write(0x1040, &[1; 48]);
    let extended = model.call(Registers {
        rax: tdg::MR_RTMR_EXTEND,
        rcx: 0x1040,
        rdx: 3,
        ..Registers::default()
    });
    assert_eq!(extended.unwrap().rax, 0);
    let after = keys(&model);
    assert_eq!(before.0, after.0);
    assert_ne!(before.1, after.1);
}

#[test]
fn the_label_has_the_length_of_the_published_one() {
    let label = Module::new(Configuration::with_sealing()).key_label(&request(), 0);
    assert_eq!(label.len(), 704);
    assert_eq!(label[608..640], [0x5A; 32]);
}
