//! L2 in real mode, as INIT and SIPI start a processor.

use alloc::vec::Vec;

use tdx_defs::status::Code as StatusCode;
use tdx_defs::vmcs::VmcsField;
use tdx_defs::vp_enter::Gpr;
use x86_defs::{cr0, efer, exit_reason};

use super::l2::{self, Program, enter, expect, read_vmcs, store, write_vmcs};
use super::layout;
use super::script::Step;
use super::{Setup, Test};

/// A selector that says nothing of where the segment is.
const CODE_SELECTOR: u64 = 0x1234;
const CODE: u64 = 0x9B;
const DATA: u64 = 0x93;

pub(super) fn tests() -> Vec<Test> {
    Vec::from([
        Test::new("real-mode", |_| real_mode(0)).with_l2(Program::Real),
        Test::new("real-mode-lme", |_| real_mode(efer::LME)).with_l2(Program::Real),
        Test::new("real-mode-ept-read", ept_read).with_l2(Program::RealRead),
        Test::new("real-mode-to-protected", to_protected).with_l2(Program::RealToProtected),
        Test::new("real-mode-illegal", illegal).with_l2(Program::Real),
    ])
}

/// L1 gives L2 the state, with its data segment at `data`.
fn state(data: u64, long_mode_enable: u64) -> Vec<Step> {
    use VmcsField as F;
    let mut steps = Vec::from(l2::prelude());
    steps.extend([
        // NE is the module's.
        write_vmcs("CR0", F::GUEST_CR0, 0).set(Gpr::R9, cr0::PE),
        write_vmcs("EFER", F::GUEST_EFER, long_mode_enable).set(Gpr::R9, efer::LME | efer::LMA),
        write_vmcs("CS", F::GUEST_CS_SELECTOR, CODE_SELECTOR),
        write_vmcs("CS", F::GUEST_CS_BASE, layout::L2_CODE),
        store("RIP", layout::GUEST_STATE + 0x88, 0),
    ]);
    for (limit, rights, kind) in [
        (F::GUEST_CS_LIMIT, F::GUEST_CS_ACCESS_RIGHTS, CODE),
        (F::GUEST_DS_LIMIT, F::GUEST_DS_ACCESS_RIGHTS, DATA),
        (F::GUEST_ES_LIMIT, F::GUEST_ES_ACCESS_RIGHTS, DATA),
        (F::GUEST_SS_LIMIT, F::GUEST_SS_ACCESS_RIGHTS, DATA),
        (F::GUEST_FS_LIMIT, F::GUEST_FS_ACCESS_RIGHTS, DATA),
        (F::GUEST_GS_LIMIT, F::GUEST_GS_ACCESS_RIGHTS, DATA),
    ] {
        steps.push(write_vmcs("a limit", limit, 0xFFFF));
        steps.push(write_vmcs("access rights", rights, kind));
    }
    steps.push(write_vmcs("DS", F::GUEST_DS_BASE, data));
    steps
}

/// Instructions and data are where the segments' bases say, and nowhere else.
fn real_mode(long_mode_enable: u64) -> Vec<Step> {
    let mut steps = state(layout::L2_DATA, long_mode_enable);
    steps.extend([
        store("a word for L2", layout::L2_DATA, 0x1233),
        enter("run L2", StatusCode::Success, exit_reason::HLT),
        expect("L2's word", layout::L2_DATA, 0x1234_1233),
        expect(
            "AX",
            layout::GUEST_STATE,
            l2::pattern(Gpr::Rax) & !0xFFFF | CODE_SELECTOR,
        ),
        read_vmcs("EFER", VmcsField::GUEST_EFER).want_bits(
            Gpr::R8,
            efer::LME | efer::LMA,
            long_mode_enable,
        ),
    ]);
    steps
}

/// A page that is not L2's is none in real mode either.
fn ept_read(_: &Setup) -> Vec<Step> {
    let mut steps = state(layout::SECRET, 0);
    steps.push(
        enter("run L2", StatusCode::Success, exit_reason::EPT_VIOLATION)
            .want_bits(Gpr::Rcx, 0b111, 0b001)
            .want(Gpr::R8, layout::SECRET),
    );
    steps
}

/// L2 leaves real mode by itself; its segments stay as they are until it loads them.
fn to_protected(_: &Setup) -> Vec<Step> {
    let mut steps = state(layout::L2_DATA, 0);
    steps.extend([
        write_vmcs("CR0 is L2's", VmcsField::CR0_GUEST_HOST_MASK, 0),
        store("a word for L2", layout::L2_DATA, 0x5678),
        enter("run L2", StatusCode::Success, exit_reason::HLT),
        expect("EAX", layout::GUEST_STATE, 0x5678),
        read_vmcs("CR0", VmcsField::GUEST_CR0).want_bits(Gpr::R8, cr0::PE | cr0::PG, cr0::PE),
    ]);
    steps
}

/// A state that no processor takes is refused, in real mode as well: a stack of another privilege than 0.
fn illegal(_: &Setup) -> Vec<Step> {
    let mut steps = state(layout::L2_DATA, 0);
    steps.extend([
        write_vmcs("SS", VmcsField::GUEST_SS_ACCESS_RIGHTS, 0xF3),
        enter(
            "not entered",
            StatusCode::Success,
            exit_reason::INVALID_GUEST_STATE | exit_reason::ENTRY_FAILURE,
        ),
    ]);
    steps
}
