//! TDCALLs: what they give, and how each refuses what it is not to take.

use alloc::vec::Vec;

use tdx_defs::field::FieldId;
use tdx_defs::status::{Code as StatusCode, Operand, Status};
use tdx_defs::tdg;
use tdx_defs::vmcs::VmcsField;
use tdx_defs::vp_enter::Gpr;

use super::firmware::Code;
use super::l2;
use super::layout;
use super::script::Step;
use super::{Setup, Test};
use crate::options::Fault;

/// A call that must be refused.
struct Refusal {
    what: &'static str,
    leaf: u64,
    set: &'static [(Gpr, u64)],
    status: Status,
}

const fn invalid(
    what: &'static str,
    leaf: u64,
    set: &'static [(Gpr, u64)],
    operand: Operand,
) -> Refusal {
    Refusal {
        what,
        leaf,
        set,
        status: Status::operand_invalid(operand),
    }
}

const fn refused(
    what: &'static str,
    leaf: u64,
    set: &'static [(Gpr, u64)],
    code: StatusCode,
    details: u32,
) -> Refusal {
    Refusal {
        what,
        leaf,
        set,
        status: Status::new(code, details),
    }
}

/// RCX of VP.ENTER for VM 1.
const VM1: u64 = 1 << 52;
const CODE_PAGE: u64 = layout::CODE;
const DATA: u64 = layout::DATA;

/// TDX Module ABI, "TDCALL Leaf Functions": operands out of range, leaf by leaf.
const REFUSALS: [Refusal; 31] = [
    invalid("no such leaf", 13, &[], Operand::RAX),
    invalid("no such leaf", 200, &[], Operand::RAX),
    invalid("a version the leaf has not", 1 << 16 | 1, &[], Operand::RAX),
    invalid("a reserved bit of RAX", 1 << 32 | 1, &[], Operand::RAX),
    invalid(
        "RTMR 4",
        tdg::MR_RTMR_EXTEND,
        &[(Gpr::Rcx, DATA), (Gpr::Rdx, 4)],
        Operand::RDX,
    ),
    invalid(
        "data not aligned",
        tdg::MR_RTMR_EXTEND,
        &[(Gpr::Rcx, DATA + 32), (Gpr::Rdx, 0)],
        Operand::RCX,
    ),
    invalid(
        "a GPA too wide",
        tdg::MR_RTMR_EXTEND,
        &[(Gpr::Rcx, 1 << 52), (Gpr::Rdx, 0)],
        Operand::RCX,
    ),
    refused(
        "no #VE",
        tdg::VP_VEINFO_GET,
        &[],
        StatusCode::NoValidVeInfo,
        0,
    ),
    invalid(
        "report not aligned",
        tdg::MR_REPORT,
        &[(Gpr::Rcx, DATA + 64), (Gpr::Rdx, DATA), (Gpr::R8, 0)],
        Operand::RCX,
    ),
    invalid(
        "report data not aligned",
        tdg::MR_REPORT,
        &[(Gpr::Rcx, DATA), (Gpr::Rdx, DATA + 8), (Gpr::R8, 0)],
        Operand::RDX,
    ),
    invalid(
        "report subtype",
        tdg::MR_REPORT,
        &[(Gpr::Rcx, DATA), (Gpr::Rdx, DATA), (Gpr::R8, 1)],
        Operand::R8,
    ),
    invalid(
        "CPUIDVE reserved bit",
        tdg::VP_CPUIDVE_SET,
        &[(Gpr::Rcx, 4)],
        Operand::RCX,
    ),
    invalid(
        "accept level 2",
        tdg::MEM_PAGE_ACCEPT,
        &[(Gpr::Rcx, 2)],
        Operand::RCX,
    ),
    invalid(
        "accept not aligned",
        tdg::MEM_PAGE_ACCEPT,
        &[(Gpr::Rcx, 0x1000 | 1)],
        Operand::RCX,
    ),
    invalid(
        "accept reserved bit",
        tdg::MEM_PAGE_ACCEPT,
        &[(Gpr::Rcx, 1 << 3)],
        Operand::RCX,
    ),
    refused(
        "accept again",
        tdg::MEM_PAGE_ACCEPT,
        &[(Gpr::Rcx, CODE_PAGE)],
        StatusCode::PageAlreadyAccepted,
        0,
    ),
    refused(
        "accept 2 MiB of small pages",
        tdg::MEM_PAGE_ACCEPT,
        &[(Gpr::Rcx, 1)],
        StatusCode::PageSizeMismatch,
        1,
    ),
    invalid(
        "VM.RD with RCX",
        tdg::VM_RD,
        &[(Gpr::Rcx, 1), (Gpr::Rdx, FieldId::ATTRIBUTES.0)],
        Operand::RCX,
    ),
    refused(
        "VM.RD of nothing",
        tdg::VM_RD,
        &[(Gpr::Rcx, 0), (Gpr::Rdx, 0x3F << 56 | 1 << 52)],
        StatusCode::MetadataFieldIdIncorrect,
        0,
    ),
    refused(
        "VM.WR of ATTRIBUTES",
        tdg::VM_WR,
        &[
            (Gpr::Rcx, 0),
            (Gpr::Rdx, FieldId::ATTRIBUTES.0),
            (Gpr::R8, 0),
            (Gpr::R9, u64::MAX),
        ],
        StatusCode::MetadataFieldNotWritable,
        0,
    ),
    invalid(
        "VP.RD with RCX",
        tdg::VP_RD,
        &[(Gpr::Rcx, 1), (Gpr::Rdx, 0)],
        Operand::RCX,
    ),
    refused(
        "pin-based controls are not L1's",
        tdg::VP_WR,
        &[
            (Gpr::Rcx, 0),
            (
                Gpr::Rdx,
                FieldId::l2_vmcs(l2::VM, VmcsField::PIN_BASED_CONTROLS).0,
            ),
            (Gpr::R8, 0),
            (Gpr::R9, u64::MAX),
        ],
        StatusCode::MetadataFieldNotWritable,
        0,
    ),
    refused(
        "#MC stays intercepted",
        tdg::VP_WR,
        &[
            (Gpr::Rcx, 0),
            (
                Gpr::Rdx,
                FieldId::l2_vmcs(l2::VM, VmcsField::EXCEPTION_BITMAP).0,
            ),
            (Gpr::R8, 0),
            (Gpr::R9, u64::MAX),
        ],
        StatusCode::MetadataFieldValueNotValid,
        0,
    ),
    invalid(
        "ATTR.RD of a GPA too wide",
        tdg::MEM_PAGE_ATTR_RD,
        &[(Gpr::Rcx, 1 << 53)],
        Operand::RCX,
    ),
    invalid(
        "ATTR.WR for L1",
        tdg::MEM_PAGE_ATTR_WR,
        &[(Gpr::Rcx, DATA), (Gpr::Rdx, 0x8007), (Gpr::R8, 7)],
        Operand::RDX,
    ),
    invalid(
        "ATTR.WR for a VM that is not",
        tdg::MEM_PAGE_ATTR_WR,
        &[
            (Gpr::Rcx, DATA),
            (Gpr::Rdx, 0x8007 << 32),
            (Gpr::R8, 7 << 32),
        ],
        Operand::RDX,
    ),
    invalid(
        "VP.ENTER not aligned",
        tdg::VP_ENTER,
        &[(Gpr::Rcx, VM1), (Gpr::Rdx, layout::GUEST_STATE + 8)],
        Operand::RDX,
    ),
    invalid(
        "VP.ENTER of VM 0",
        tdg::VP_ENTER,
        &[(Gpr::Rcx, 0), (Gpr::Rdx, layout::GUEST_STATE)],
        Operand::RCX,
    ),
    invalid(
        "VP.ENTER of VM 2",
        tdg::VP_ENTER,
        &[(Gpr::Rcx, 2 << 52), (Gpr::Rdx, layout::GUEST_STATE)],
        Operand::RCX,
    ),
    invalid(
        "VP.ENTER without a virtual-APIC page",
        tdg::VP_ENTER,
        &[(Gpr::Rcx, VM1), (Gpr::Rdx, layout::GUEST_STATE)],
        Operand::L2_VAPIC_GPA,
    ),
    invalid(
        "INVEPT of VM 0",
        tdg::VP_INVEPT,
        &[(Gpr::Rcx, 1)],
        Operand::RCX,
    ),
];

pub(super) fn tests() -> Vec<Test> {
    Vec::from([
        Test::new("tdcall-info", info),
        Test::new("tdcall-refusals", |_| refusals()),
        Test::new("tdcall-shared-operand", shared_operand),
        Test::new("tdcall-user-mode", |_| {
            Vec::from([Step::new("TDCALL at CPL 3", Code::UserTdcall).faults(13, 0)])
        }),
        Test::new("tdcall-undefined", |_| {
            Vec::from([Step::new("UD2", Code::Ud2).faults(6, 0)])
        }),
        Test::new("tdcall-rtmr", rtmr),
        Test::new("tdcall-busy", busy).with_fault(Fault::Busy {
            leaf: tdg::MR_RTMR_EXTEND,
            times: 2,
        }),
        Test::new("tdcall-fields", fields),
    ])
}

fn info(setup: &Setup) -> Vec<Step> {
    let gpaw = u64::from(setup.shared_bit.trailing_zeros() + 1);
    Vec::from([Step::tdcall("VP.INFO", tdg::VP_INFO)
        .want(Gpr::Rax, 0)
        .want_bits(Gpr::Rcx, 0x3F, gpaw)
        .want(Gpr::R8, 1 << 32 | 1)
        .want(Gpr::R9, 0)
        .want_bits(Gpr::R10, 1, 1)
        .want(Gpr::R11, 0)
        .keeps(Gpr::Rbx)
        .keeps(Gpr::Rbp)
        .keeps(Gpr::R12)
        .keeps(Gpr::R15)])
}

fn refusals() -> Vec<Step> {
    REFUSALS
        .iter()
        .map(|refusal| {
            refusal
                .set
                .iter()
                .fold(
                    Step::tdcall(refusal.what, refusal.leaf),
                    |step, &(register, value)| step.set(register, value),
                )
                .want(Gpr::Rax, refusal.status.0)
                .keeps(Gpr::R15)
        })
        .collect()
}

/// Operands that must be private.
fn shared_operand(setup: &Setup) -> Vec<Step> {
    let refused = |what, leaf| {
        Step::tdcall(what, leaf)
            .set(Gpr::Rcx, setup.shared_bit)
            .set(Gpr::Rdx, 0)
            .set(Gpr::R8, 0)
            .want(Gpr::Rax, Status::operand_invalid(Operand::RCX).0)
    };
    Vec::from([
        refused("extend from shared memory", tdg::MR_RTMR_EXTEND),
        refused("accept shared memory", tdg::MEM_PAGE_ACCEPT),
        refused("attributes of shared memory", tdg::MEM_PAGE_ATTR_WR),
    ])
}

fn rtmr(_: &Setup) -> Vec<Step> {
    let extend = |index| {
        Step::tdcall("extend", tdg::MR_RTMR_EXTEND)
            .set(Gpr::Rcx, DATA)
            .set(Gpr::Rdx, index)
            .want(Gpr::Rax, 0)
    };
    let qword = |what, index, qword, value| {
        Step::tdcall(what, tdg::VM_RD)
            .set(Gpr::Rcx, 0)
            .set(Gpr::Rdx, FieldId::rtmr(index, qword).0)
            .want(Gpr::Rax, 0)
            .want(Gpr::R8, value)
    };
    Vec::from([
        qword("RTMR3 is zero", 3, 0, 0),
        extend(3),
        qword("RTMR3 is extended", 3, 0, SHA384_OF_ZEROS),
        qword("RTMR2 is not", 2, 0, 0),
    ])
}

/// The first eight bytes of SHA-384 of 96 zero bytes.
const SHA384_OF_ZEROS: u64 = u64::from_le_bytes([0xF5, 0x7B, 0xB7, 0xED, 0x82, 0xC6, 0xAE, 0x4A]);

/// A lock that is taken twice, and then free.
fn busy(_: &Setup) -> Vec<Step> {
    let extend = |status: u64| {
        Step::tdcall("extend", tdg::MR_RTMR_EXTEND)
            .set(Gpr::Rcx, DATA)
            .set(Gpr::Rdx, 1)
            .want(Gpr::Rax, status)
    };
    let busy = Status::operand_busy(Operand::RTMR).0;
    Vec::from([extend(busy), extend(busy), extend(0)])
}

fn fields(_: &Setup) -> Vec<Step> {
    let read = |what, leaf, field: FieldId, value| {
        Step::tdcall(what, leaf)
            .set(Gpr::Rcx, 0)
            .set(Gpr::Rdx, field.0)
            .want(Gpr::Rax, 0)
            .want(Gpr::R8, value)
    };
    Vec::from([
        read("NUM_L2_VMS", tdg::VM_RD, FieldId::NUM_L2_VMS, 1),
        read("VENDOR_ID", tdg::SYS_RD, FieldId::VENDOR_ID, 0x8086),
        read("TSC_FREQUENCY", tdg::VM_RD, FieldId::TSC_FREQUENCY, 40),
        read(
            "no deadline",
            tdg::VP_RD,
            FieldId::tsc_deadline(l2::VM),
            u64::MAX,
        ),
        l2::write_field("a deadline", FieldId::tsc_deadline(l2::VM), 77).want(Gpr::R8, u64::MAX),
        read(
            "the deadline",
            tdg::VP_RD,
            FieldId::tsc_deadline(l2::VM),
            77,
        ),
    ])
}
