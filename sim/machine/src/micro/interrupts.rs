//! Interrupts for L1: while it runs, while it waits, and while L2 runs.

use alloc::vec::Vec;
use x86_defs::apic::Register;

use tdx_defs::ghci::{CompletionStatus, sub_function};
use tdx_defs::status::Code as StatusCode;
use tdx_defs::vp_enter::Gpr;

use super::calls::call;
use super::firmware::Code;
use super::l2::{self, Program, enter};
use super::script::Step;
use super::{Setup, Test};
use crate::arch::cpu::rdtsc;

pub(super) const VECTOR: u8 = 0xE0;
/// x2APIC MSRs.
pub(super) const ICR: u64 = Register::ICR.msr() as u64;
const LVT_TIMER: u64 = Register::LVT_TIMER.msr() as u64;
const TSC_DEADLINE: u64 = x86_defs::msr::IA32_TSC_DEADLINE as u64;
/// LVT timer mode TSC-deadline.
const DEADLINE_MODE: u64 = 2 << 17;
/// ICR shorthand: self.
pub(super) const TO_SELF: u64 = 1 << 18;

pub(super) fn write_msr(what: &'static str, msr: u64, value: u64) -> Step {
    call(what, sub_function::WRMSR, CompletionStatus::Success)
        .set(Gpr::R12, msr)
        .set(Gpr::R13, value)
}

/// Nanoseconds from when a script is made, longer than its TD takes to be built.
const DELAY: u64 = 40_000_000;

/// An interrupt of L1's timer.
fn arm() -> [Step; 2] {
    [
        write_msr(
            "the timer's vector",
            LVT_TIMER,
            DEADLINE_MODE | u64::from(VECTOR),
        ),
        write_msr("the timer", TSC_DEADLINE, rdtsc() + DELAY),
    ]
}

pub(super) fn take(what: &'static str) -> Step {
    Step::new(what, Code::Interrupts).interrupted(VECTOR)
}

pub(super) fn tests() -> Vec<Test> {
    Vec::from([
        Test::new("interrupt-pending", pending),
        Test::new("interrupt-before-l2", before_l2).with_l2(Program::Hlt),
        Test::new("interrupt-in-l2", in_l2).with_l2(Program::Spin),
        Test::new("interrupt-wakes", wakes),
    ])
}

/// With interrupts disabled it waits; then it comes, once.
fn pending(_: &Setup) -> Vec<Step> {
    Vec::from([
        write_msr("to self", ICR, TO_SELF | u64::from(VECTOR)),
        Step::new("nothing yet", Code::Xgetbv),
        take("now it comes"),
        Step::new("and not again", Code::Interrupts),
    ])
}

/// L2 is not entered while L1 has an interrupt to take.
fn before_l2(_: &Setup) -> Vec<Step> {
    let mut steps = Vec::from(l2::prelude());
    steps.extend([
        write_msr("to self", ICR, TO_SELF | u64::from(VECTOR)),
        enter("not now", StatusCode::PendingInterrupt, 0)
            .keeps(Gpr::Rbx)
            .keeps(Gpr::Rbp),
        take("take it"),
        enter("now", StatusCode::Success, 12),
    ]);
    steps
}

/// An interrupt for L1 ends L2's run.
fn in_l2(_: &Setup) -> Vec<Step> {
    let mut steps = Vec::from(l2::prelude());
    steps.extend(arm());
    steps.extend([
        enter("run L2", StatusCode::L2ExitPendingInterrupt, 1),
        take("take it"),
    ]);
    steps
}

/// A halted L1 wakes by its timer.
fn wakes(_: &Setup) -> Vec<Step> {
    let mut steps = Vec::from(arm());
    let mut halt = call("sleep", sub_function::HLT, CompletionStatus::Success)
        .set(Gpr::R12, 0)
        .interrupted(VECTOR);
    halt = halt.with_code(Code::StiTdcall);
    steps.push(halt);
    steps
}
