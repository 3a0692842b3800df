//! State that the module does not switch between L1 and L2 (TDX Module Base Architecture, "VCPU
//! State"): one finds what the other left, so that an L1 that forgets to switch it is caught.

use alloc::vec::Vec;
use x86_defs::cr4;

use tdx_defs::field::FieldId;
use tdx_defs::status::Code as StatusCode;
use tdx_defs::vmcs::VmcsField;
use tdx_defs::vp_enter::Gpr;

use super::firmware::Code;
use super::l2::{self, Program, enter, expect, store, write_vmcs};
use super::layout;
use super::script::Step;
use super::{Setup, Test};

/// CR4 of an L2 that uses AVX: VMXE and MCE as fixed, OSFXSR, OSXMMEXCPT, OSXSAVE.
const CR4_AVX: u64 = cr4::VMXE | cr4::MCE | cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::OSXSAVE;
const YMM0: [u64; 4] = [0x0101, 0x0202, 0x0303, 0x0404];
const YMM15: [u64; 4] = [0x1515, 0x2525, 0x3535, 0x4545];

pub(super) fn tests() -> Vec<Test> {
    Vec::from([
        Test::new("state-vectors", vectors).with_l2(Program::Vectors),
        Test::new("state-vectors-kept", vectors_kept).with_l2(Program::CpuidHlt),
        Test::new("state-kernel-gs-base", kernel_gs_base).with_l2(Program::KernelGsBase),
        Test::new("state-cr2", cr2).with_l2(Program::Cr2),
    ])
}

fn load_vectors() -> Vec<Step> {
    let values = YMM0.iter().chain(&YMM15);
    let mut steps: Vec<Step> = (0..)
        .zip(values)
        .map(|(index, &value)| store("a vector's part", layout::DATA + 8 * index, value))
        .collect();
    steps.push(Step::new("load the vectors", Code::LoadVectors).set(Gpr::Rsi, layout::DATA));
    steps
}

fn stored_vectors(ymm0: [u64; 4], ymm15: [u64; 4]) -> Vec<Step> {
    const STORED: u64 = layout::DATA + 0x100;
    let mut steps =
        Vec::from([Step::new("store the vectors", Code::StoreVectors).set(Gpr::Rdi, STORED)]);
    let values = ymm0.into_iter().chain(ymm15);
    steps.extend(
        (0..)
            .zip(values)
            .map(|(index, value)| expect("a vector's part", STORED + 8 * index, value)),
    );
    steps
}

/// L2 sees L1's YMM0, and L1 sees what L2 made of it; YMM15, which L2 cannot name, stays.
fn vectors(_: &Setup) -> Vec<Step> {
    let mut steps = Vec::from(l2::prelude());
    steps.push(write_vmcs("let L2 use AVX", VmcsField::GUEST_CR4, CR4_AVX));
    steps.extend(load_vectors());
    steps.push(enter("run L2", StatusCode::Success, 12));
    steps.extend(
        (0..)
            .zip(YMM0)
            .map(|(index, value)| expect("L1's YMM0 in L2", layout::L2_DATA + 8 * index, value)),
    );
    steps.extend(stored_vectors([u64::MAX, u64::MAX, 0, 0], YMM15));
    steps
}

/// The simulator's own code between the two leaves no trace.
fn vectors_kept(_: &Setup) -> Vec<Step> {
    let mut steps = Vec::from(l2::prelude());
    steps.extend(load_vectors());
    steps.push(enter("run L2", StatusCode::Success, 10));
    steps.extend(stored_vectors(YMM0, YMM15));
    steps.push(Step::new("XCR0 is L1's", Code::Xgetbv).want_bits(Gpr::Rax, 0xFFFF_FFFF, 7));
    steps
}

fn cr2(_: &Setup) -> Vec<Step> {
    let mut steps = Vec::from(l2::prelude());
    steps.push(Step::new("L1's CR2", Code::WriteCr2).set(Gpr::Rax, 0x1111));
    steps.push(enter("run L2", StatusCode::Success, 12));
    steps.push(expect("L1's CR2 in L2", layout::L2_DATA, 0x1111));
    steps.push(Step::new("L2's CR2 in L1", Code::ReadCr2).want(Gpr::Rax, 0x2222));
    steps
}

/// An MSR that L1 leaves to L2: no exit, and one value for both.
fn kernel_gs_base(_: &Setup) -> Vec<Step> {
    const KERNEL_GS_BASE: u64 = x86_defs::msr::IA32_KERNEL_GS_BASE as u64;
    // Reads of C0000000H and up are bitmap bytes 400H-7FFH, writes C00H-FFFH (SDM volume 3, "MSR
    // Bitmaps"); MSR 102H is bit 2 of the fifth quadword.
    const READ: u16 = 0x400 / 8 + 4;
    const WRITE: u16 = 0xC00 / 8 + 4;
    const ALL_BUT_BIT_2: u64 = !(1 << 2);
    let open =
        |what, qword| l2::write_field(what, FieldId::l2_msr_bitmap(l2::VM, qword), ALL_BUT_BIT_2);
    let mut steps = Vec::from(l2::prelude());
    steps.push(open("reads are L2's", READ));
    steps.push(open("writes are L2's", WRITE));
    steps.push(
        Step::new("L1's KERNEL_GS_BASE", Code::Wrmsr)
            .set(Gpr::Rcx, KERNEL_GS_BASE)
            .set(Gpr::Rax, 0x1111)
            .set(Gpr::Rdx, 0),
    );
    steps.push(enter("run L2", StatusCode::Success, 12));
    steps.push(expect("L1's in L2", layout::L2_DATA, 0x1111));
    steps.push(
        Step::new("L2's in L1", Code::Rdmsr)
            .set(Gpr::Rcx, KERNEL_GS_BASE)
            .want(Gpr::Rax, 0x2222)
            .want(Gpr::Rdx, 0),
    );
    steps
}
