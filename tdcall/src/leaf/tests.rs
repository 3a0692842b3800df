//! Every leaf's operands, side by side (TDX Module ABI, the tables "TDG.* Input Operands").

use std::vec::Vec;

use crate::leaf::{
    AcceptError, CpuidVe, GlaList, GlaPages, KeyGetError, MetadataError, PageAttrError,
    ReportError, RtmrExtendError, VmSet,
};
use crate::script::Script;
use crate::td::Td;
use tdx_defs::attributes::{AttrFlags, GpaAttributes, VmAttributes};
use tdx_defs::field::FieldId;
use tdx_defs::status::{Operand, Status};
use tdx_defs::vp_enter::TlbFlush;
use tdx_defs::{Gpa, PageLevel, Registers, VmIndex};

/// Makes the call; whether it failed as it should.
type Call = fn(&Td<&Script>) -> bool;
type Read = fn(&Td<&Script>) -> Option<u64>;

const PAGE: Gpa = Gpa(0x20_0000);
const FIELD: FieldId = FieldId(0x9110_0003_0000_0010);
/// VM 2 in RCX of the leaves that name one.
const VM_2: u64 = 2 << 52;

fn vm(number: u8) -> VmIndex {
    VmIndex::new(number).unwrap()
}

fn operands(rax: u64, rcx: u64, rdx: u64, r8: u64, r9: u64) -> Registers {
    Registers {
        rax,
        rcx,
        rdx,
        r8,
        r9,
        ..Registers::default()
    }
}

#[test]
fn each_leaf_has_its_operands_and_no_others() {
    let calls: [(&str, Call, Registers); 22] = [
        (
            "TDG.VP.INFO",
            |td| td.vp_info().is_err(),
            operands(1, 0, 0, 0, 0),
        ),
        (
            "TDG.MR.RTMR.EXTEND",
            |td| td.rtmr_extend(3, PAGE).is_err(),
            operands(2, PAGE.0, 3, 0, 0),
        ),
        (
            "TDG.VP.VEINFO.GET",
            |td| td.ve_info_get().is_err(),
            operands(3, 0, 0, 0, 0),
        ),
        (
            "TDG.MR.REPORT",
            |td| td.mr_report(PAGE, Gpa(0x40)).is_err(),
            operands(4, PAGE.0, 0x40, 0, 0),
        ),
        (
            "TDG.VP.CPUIDVE.SET, supervisor",
            |td| {
                let ve = CpuidVe {
                    supervisor: true,
                    user: false,
                };
                td.cpuid_ve_set(ve).is_err()
            },
            operands(5, 1, 0, 0, 0),
        ),
        (
            "TDG.VP.CPUIDVE.SET, user",
            |td| {
                let ve = CpuidVe {
                    supervisor: false,
                    user: true,
                };
                td.cpuid_ve_set(ve).is_err()
            },
            operands(5, 2, 0, 0, 0),
        ),
        (
            "TDG.MEM.PAGE.ACCEPT",
            |td| td.mem_page_accept(PAGE, PageLevel::Page2M).is_err(),
            operands(6, PAGE.0 | 1, 0, 0, 0),
        ),
        (
            "TDG.VM.RD",
            |td| td.vm_rd(FIELD).is_err(),
            operands(7, 0, FIELD.0, 0, 0),
        ),
        (
            "TDG.VM.RD, version 1",
            |td| td.vm_rd_next(FIELD).is_err(),
            operands(0x1_0007, 0, FIELD.0, 0, 0),
        ),
        (
            "TDG.VM.WR",
            |td| td.vm_wr(FIELD, 5, 7).is_err(),
            operands(8, 0, FIELD.0, 5, 7),
        ),
        (
            "TDG.VP.RD",
            |td| td.vp_rd(FIELD).is_err(),
            operands(9, 0, FIELD.0, 0, 0),
        ),
        (
            "TDG.VP.WR",
            |td| td.vp_wr(FIELD, 5, 7).is_err(),
            operands(10, 0, FIELD.0, 5, 7),
        ),
        (
            "TDG.SYS.RD",
            |td| td.sys_rd(FIELD).is_err(),
            operands(11, 0, FIELD.0, 0, 0),
        ),
        (
            "TDG.SYS.RDALL",
            |td| td.sys_rdall(PAGE, FIELD).is_err(),
            operands(12, 0, PAGE.0, FIELD.0, 0),
        ),
        (
            "TDG.MR.VERIFYREPORT",
            |td| td.verify_report(PAGE).is_err(),
            operands(22, PAGE.0, 0, 0, 0),
        ),
        (
            "TDG.MEM.PAGE.ATTR.RD",
            |td| td.mem_page_attr_rd(PAGE).is_err(),
            operands(23, PAGE.0, 0, 0, 0),
        ),
        (
            "TDG.MEM.PAGE.ATTR.WR",
            |td| {
                let attributes = GpaAttributes::of(vm(1), VmAttributes::RWX);
                let flags = AttrFlags::permissions(vm(1));
                td.mem_page_attr_wr(PAGE, PageLevel::Page2M, attributes, flags)
                    .is_err()
            },
            operands(24, PAGE.0 | 1, 0x8007_0000, 0xF_0000, 0),
        ),
        (
            "TDG.VP.ENTER",
            |td| td.vp_enter(vm(2), TlbFlush::Invept, PAGE).is_err(),
            operands(25, VM_2 | 1, PAGE.0, 0, 0),
        ),
        (
            "TDG.VP.INVEPT",
            |td| td.vp_invept(VmSet::of(vm(1)).with(vm(3))).is_err(),
            operands(26, 0b1010, 0, 0, 0),
        ),
        (
            "TDG.VP.INVGLA",
            |td| {
                td.vp_invgla(vm(2), GlaPages::new(0x1234, 3).unwrap())
                    .is_err()
            },
            operands(27, VM_2, 0x1002, 0, 0),
        ),
        (
            "TDG.VP.INVGLA, list",
            |td| {
                td.vp_invgla_list(vm(2), GlaList::new(PAGE, 7, 9).unwrap())
                    .is_err()
            },
            operands(27, VM_2 | 1, PAGE.0 | 7 | 9 << 52, 0, 0),
        ),
        (
            "TDG.MR.KEY.GET",
            |td| td.mr_key_get(PAGE, Gpa(0x40)).is_err(),
            operands(29, PAGE.0, 0x40, 0, 0),
        ),
    ];
    for (name, call, expected) in calls {
        // A status after which no leaf is tried again.
        let script = Script::status(Status::operand_invalid(Operand::RAX).0);
        assert!(call(&Td::new(&script)), "{name}");
        assert_eq!(script.only_call(), expected, "{name}");
    }
}

/// A lock that another holds all the time is an error of its own, after the last attempt.
#[test]
fn a_leaf_that_stays_busy_says_so() {
    let calls: [Call; 8] = [
        |td| td.rtmr_extend(0, PAGE) == Err(RtmrExtendError::Busy),
        |td| td.mr_report(PAGE, PAGE) == Err(ReportError::Busy),
        |td| td.mr_key_get(PAGE, PAGE) == Err(KeyGetError::Busy),
        |td| td.mem_page_accept(PAGE, PageLevel::Page4K) == Err(AcceptError::Busy),
        |td| td.vp_rd(FIELD) == Err(MetadataError::Busy(Operand::RDX)),
        |td| td.vm_wr(FIELD, 0, 0) == Err(MetadataError::Busy(Operand::RDX)),
        |td| td.sys_rdall(PAGE, FIELD) == Err(MetadataError::Busy(Operand::RDX)),
        |td| td.mem_page_attr_rd(PAGE) == Err(PageAttrError::Busy),
    ];
    for (number, call) in calls.into_iter().enumerate() {
        let busy = Registers {
            rax: Status::operand_busy(Operand::RDX).0,
            ..Registers::default()
        };
        let script = Script::forever(busy);
        assert!(call(&Td::new(&script)), "call {number}");
        assert_eq!(script.count(), Td::<&Script>::ATTEMPTS as usize);
    }
}

/// What the reads return is in R8, whatever else the module leaves in the registers.
#[test]
fn reads_return_r8() {
    let answer = Registers {
        rcx: 1,
        rdx: 2,
        r8: 0x55,
        r9: 3,
        ..Registers::default()
    };
    let reads: [Read; 6] = [
        |td| td.vm_rd(FIELD).ok(),
        |td| td.vp_rd(FIELD).ok(),
        |td| td.sys_rd(FIELD).ok(),
        |td| td.vm_rd_next(FIELD).ok().map(|field| field.value),
        |td| td.vp_rd_next(FIELD).ok().map(|field| field.value),
        |td| td.sys_rd_next(FIELD).ok().map(|field| field.value),
    ];
    let script = Script::new([answer; 6]);
    let td = Td::new(&script);
    let values: Vec<_> = reads.into_iter().map(|read| read(&td)).collect();
    assert_eq!(values, [Some(0x55); 6]);
}
