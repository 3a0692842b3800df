//! Each kind of L2 exit, as TDG.VP.ENTER shows it to L1.

use alloc::vec::Vec;
use x86_defs::cr0;

use tdx_defs::field::FieldId;
use tdx_defs::status::Code as StatusCode;
use tdx_defs::vmcs::VmcsField;
use tdx_defs::vp_enter::Gpr;

use super::l2::{self, Program, continue_at, enter, expect, set_control, write_field, write_vmcs};
use super::layout;
use super::script::Step;
use super::{Setup, Test};
use crate::arch::cpu::rdtsc;
use crate::host::End;
use crate::options::Fault;

/// An instruction that exits: what it is, its reason, qualification and length.
struct Row {
    name: &'static str,
    program: Program,
    /// A control that L1 sets first.
    control: Option<(VmcsField, u32)>,
    reason: u32,
    qualification: u64,
    length: u64,
    /// Where it is in the program.
    offset: u64,
}

const fn row(
    name: &'static str,
    program: Program,
    reason: u32,
    qualification: u64,
    length: u64,
) -> Row {
    Row {
        name,
        program,
        control: None,
        reason,
        qualification,
        length,
        offset: 0,
    }
}

const fn behind(offset: u64, row: Row) -> Row {
    Row { offset, ..row }
}

const fn controlled(control: (VmcsField, u32), row: Row) -> Row {
    Row {
        control: Some(control),
        ..row
    }
}

const PRIMARY: VmcsField = VmcsField::PRIMARY_CONTROLS;

/// The table (SDM volume 3, appendix C and table 28-3 on).
const ROWS: [Row; 22] = [
    row("exit-cpuid", Program::CpuidHlt, 10, 0, 2),
    row("exit-hlt", Program::Hlt, 12, 0, 1),
    row("exit-invd", Program::Invd, 13, 0, 2),
    row("exit-rdpmc", Program::Rdpmc, 15, 0, 2),
    controlled((PRIMARY, 12), row("exit-rdtsc", Program::Rdtsc, 16, 0, 2)),
    controlled(
        (PRIMARY, 9),
        row("exit-invlpg", Program::Invlpg, 14, layout::L2_DATA, 7),
    ),
    row("exit-vmcall", Program::Vmcall, 18, 0, 3),
    controlled(
        (PRIMARY, 15),
        row("exit-write-cr3", Program::WriteCr3, 28, 3, 3),
    ),
    controlled(
        (PRIMARY, 16),
        row("exit-read-cr3", Program::ReadCr3, 28, 3 | 1 << 4, 3),
    ),
    behind(2, row("exit-mwait", Program::Mwait, 36, 0, 3)),
    behind(2, row("exit-monitor", Program::Monitor, 39, 0, 3)),
    controlled(
        (VmcsField::SECONDARY_CONTROLS, 2),
        row("exit-sgdt", Program::Sgdt, 46, layout::L2_DATA, 7),
    ),
    row("exit-write-cr0", Program::WriteCr0, 28, 0, 3),
    row("exit-write-cr4", Program::WriteCr4, 28, 4 | 3 << 8, 3),
    controlled(
        (PRIMARY, 23),
        row("exit-write-dr", Program::WriteDr0, 29, 0, 3),
    ),
    row(
        "exit-out",
        Program::OutImmediate,
        30,
        1 << 6 | 0x80 << 16,
        2,
    ),
    // RDX is 0x3333 at the start.
    row("exit-in", Program::InDx, 30, 3 | 1 << 3 | 0x3333 << 16, 1),
    row(
        "exit-rep-outsb",
        Program::RepOutsb,
        30,
        1 << 4 | 1 << 5 | 0x3333 << 16,
        2,
    ),
    row("exit-rdmsr", Program::Rdmsr, 31, 0, 2),
    row("exit-wrmsr", Program::Wrmsr, 32, 0, 2),
    row("exit-wbinvd", Program::Wbinvd, 54, 0, 2),
    row("exit-tdcall", Program::Tdcall, 77, 0, 4),
];

/// The CS that L2 starts with: limit, access rights, selector.
const FLAT_CS: u64 = 0xFFFF_FFFF << 32 | 0xC09B << 16;

pub(super) fn tests() -> Vec<Test> {
    let mut tests: Vec<Test> = ROWS
        .iter()
        .map(|row| Test::new(row.name, move |_| instruction(row)).with_l2(row.program))
        .collect();
    tests.extend([
        Test::new("exit-host-routed", host_routed)
            .with_l2(Program::CpuidHlt)
            .with_fault(Fault::HostRoute {
                reason: 10,
                every: 1,
            }),
        Test::new("exit-never", |_| {
            let mut steps = Vec::from(l2::prelude());
            steps.push(enter("run L2", StatusCode::Success, 12));
            steps
        })
        .with_l2(Program::Spin)
        .ending(|end| matches!(end, End::Stuck(text) if text.contains("no progress"))),
        Test::new("exit-clts", clts).with_l2(Program::Clts),
        Test::new("exit-pause", pause).with_l2(Program::Pause),
        Test::new("exit-triple-fault", triple_fault).with_l2(Program::TripleFault),
        Test::new("exit-exception", exception).with_l2(Program::DivideError),
        Test::new("exit-interrupt-window", interrupt_window).with_l2(Program::InterruptsOn),
        Test::new("exit-deadline-past", deadline_past).with_l2(Program::Hlt),
        Test::new("exit-deadline", deadline).with_l2(Program::Spin),
        Test::new("exit-ept-read", |setup| secret(setup, 0b001)).with_l2(Program::ReadSecret),
        Test::new("exit-ept-write", |setup| secret(setup, 0b010)).with_l2(Program::WriteSecret),
        Test::new("exit-ept-fetch", |setup| secret(setup, 0b100)).with_l2(Program::ExecuteSecret),
        Test::new("exit-ept-pending", pending).with_l2(Program::ReadPending),
        Test::new("exit-ept-hole", hole).with_l2(Program::ReadHole),
    ]);
    tests
}

/// Everything VP.ENTER gives back for an instruction exit, and that L2 goes on behind it.
fn instruction(row: &Row) -> Vec<Step> {
    let mut steps = Vec::from(l2::prelude());
    if let Some((field, bit)) = row.control {
        steps.push(set_control("set the control", field, bit));
    }
    steps.push(
        enter("run L2", StatusCode::Success, row.reason)
            .want(Gpr::Rcx, row.qualification)
            .want(Gpr::Rbx, 0)
            .want(Gpr::Rbp, l2::pattern(Gpr::Rbp))
            .want(Gpr::Rsi, FLAT_CS)
            .want(Gpr::Rdi, 0)
            .want_bits(Gpr::R10, 0xFFFF_FFFF, 0)
            .want_bits(Gpr::R11, 0xFFFF_FFFF << 32, row.length << 32)
            .want(Gpr::R12, 0)
            .want(Gpr::R13, 0)
            .want(Gpr::R14, 0)
            .want(Gpr::R15, 0),
    );
    steps.push(expect(
        "RIP is at the instruction",
        layout::GUEST_STATE + 0x88,
        layout::L2_CODE + row.offset,
    ));
    steps.push(expect(
        "R15 is in the image",
        layout::GUEST_STATE + 0x78,
        l2::pattern(Gpr::R15),
    ));
    if row.program != Program::Hlt {
        steps.push(continue_at(row.offset + row.length));
        steps.push(enter("run L2 on", StatusCode::Success, 12));
    }
    steps
}

/// An exit that the host takes for itself, and gives to L1 as its own.
fn host_routed(_: &Setup) -> Vec<Step> {
    let mut steps = Vec::from(l2::prelude());
    steps.push(enter("run L2", StatusCode::L2ExitHostRoutedAsync, 10).want(Gpr::R13, 0));
    steps.push(continue_at(2));
    steps.push(enter("run L2 on", StatusCode::Success, 12));
    steps
}

/// CLTS exits only where L1 shows a TS that it owns; the bit is not L2's to clear.
fn clts(_: &Setup) -> Vec<Step> {
    const CLTS: u64 = 2 << 4;
    let mut steps = Vec::from(l2::prelude());
    steps.push(enter("no TS to clear", StatusCode::Success, 12));
    steps.push(write_vmcs("show TS", VmcsField::CR0_READ_SHADOW, cr0::TS));
    steps.push(continue_at(0));
    steps.push(enter("run L2", StatusCode::Success, 28).want(Gpr::Rcx, CLTS));
    steps
}

/// PAUSE may or may not be counted as one by the machine; HLT behind it always exits.
fn pause(_: &Setup) -> Vec<Step> {
    let mut steps = Vec::from(l2::prelude());
    steps.push(set_control("PAUSE exiting", PRIMARY, 30));
    steps.push(enter("run L2", StatusCode::Success, 40));
    steps
}

fn triple_fault(_: &Setup) -> Vec<Step> {
    let mut steps = Vec::from(l2::prelude());
    steps.push(enter("run L2", StatusCode::Success, 2));
    steps
}

/// DIV with #DE in the exception bitmap. (QEMU does not intercept INT3 and INTO as exceptions.)
fn exception(_: &Setup) -> Vec<Step> {
    let mut steps = Vec::from(l2::prelude());
    steps.push(set_control("intercept #DE", VmcsField::EXCEPTION_BITMAP, 0));
    steps.push(enter("run L2", StatusCode::Success, 0).want_bits(
        Gpr::R9,
        0xFFFF_FFFF,
        1 << 31 | 3 << 8,
    ));
    steps.push(expect(
        "RIP is at DIV",
        layout::GUEST_STATE + 0x88,
        layout::L2_CODE + 2,
    ));
    steps
}

/// The window opens behind the instruction that follows STI.
fn interrupt_window(_: &Setup) -> Vec<Step> {
    let mut steps = Vec::from(l2::prelude());
    steps.push(set_control("interrupt-window exiting", PRIMARY, 2));
    steps.push(enter("run L2", StatusCode::Success, 7));
    steps.push(expect(
        "RIP is behind STI and one instruction",
        layout::GUEST_STATE + 0x88,
        layout::L2_CODE + 2,
    ));
    steps
}

fn deadline_past(_: &Setup) -> Vec<Step> {
    let mut steps = Vec::from(l2::prelude());
    steps.push(write_field("a deadline", FieldId::tsc_deadline(l2::VM), 1));
    steps.push(enter("run L2", StatusCode::Success, 52));
    steps.push(expect(
        "L2 has not moved",
        layout::GUEST_STATE + 0x88,
        layout::L2_CODE,
    ));
    steps.push(write_field("none", FieldId::tsc_deadline(l2::VM), u64::MAX));
    steps.push(enter("run L2 on", StatusCode::Success, 12));
    steps
}

/// L2 spins until its deadline, which comes after the TD has been built.
fn deadline(_: &Setup) -> Vec<Step> {
    let mut steps = Vec::from(l2::prelude());
    let at = rdtsc() + 40_000_000;
    steps.push(write_field("a deadline", FieldId::tsc_deadline(l2::VM), at));
    steps.push(enter("run L2", StatusCode::Success, 52));
    steps
}

/// L2 at a page of L1: the exit goes to L1 directly, and the page is as it was.
fn secret(_: &Setup, access: u64) -> Vec<Step> {
    const SECRET: u64 = 0x5EC1_E75E_C1E7;
    const LINEAR_ADDRESS_VALID: u64 = 0b11 << 7;
    let mut steps = Vec::from([l2::store("a secret", layout::SECRET, SECRET)]);
    steps.extend(l2::prelude());
    steps.push(
        enter("run L2", StatusCode::Success, 48)
            .want(Gpr::Rcx, access | LINEAR_ADDRESS_VALID)
            .want(Gpr::Rdx, layout::SECRET)
            .want(Gpr::R8, layout::SECRET)
            .want(Gpr::R13, 0),
    );
    steps.push(expect("the secret is whole", layout::SECRET, SECRET));
    steps.push(expect(
        "L2 has not got it",
        layout::GUEST_STATE,
        if access == 0b100 {
            layout::SECRET
        } else {
            l2::pattern(Gpr::Rax)
        },
    ));
    steps
}

fn pending(_: &Setup) -> Vec<Step> {
    let mut steps = Vec::from(l2::prelude());
    steps.push(
        enter("run L2", StatusCode::Success, 48)
            .want(Gpr::R8, layout::PENDING_LARGE)
            .want(Gpr::R13, 6),
    );
    steps
}

/// Where the TD has nothing the host gets the exit, and lets L1 see it.
fn hole(_: &Setup) -> Vec<Step> {
    let mut steps = Vec::from(l2::prelude());
    steps.push(enter("run L2", StatusCode::L2ExitHostRoutedAsync, 48).want(Gpr::R8, layout::HOLE));
    steps.push(write_vmcs(
        "L1 is alive",
        VmcsField::EXCEPTION_BITMAP,
        1 << 18,
    ));
    steps
}
