//! TDVMCALLs, from TDCALL to the host and back.

use alloc::vec::Vec;

use tdx_defs::ghci::{CompletionStatus, DIRECTION_READ, DIRECTION_WRITE, mask, sub_function};
use tdx_defs::status::{Operand, Status};
use tdx_defs::tdg;
use tdx_defs::vp_enter::Gpr;

use super::script::Step;
use super::{Setup, Test};
use crate::host::End;

/// TDG.VP.VMCALL of a GHCI sub-function.
pub(super) fn call(what: &'static str, function: u64, status: CompletionStatus) -> Step {
    Step::tdcall(what, tdg::VP_VMCALL)
        .set(Gpr::Rcx, mask::R10_TO_R15)
        .set(Gpr::R10, 0)
        .set(Gpr::R11, function)
        .want(Gpr::Rax, 0)
        .want(Gpr::Rcx, mask::R10_TO_R15)
        .want(Gpr::R10, status.r10())
}

pub(super) fn io(what: &'static str, width: u64, direction: u64, port: u64, value: u64) -> Step {
    call(what, sub_function::IO, CompletionStatus::Success)
        .set(Gpr::R12, width)
        .set(Gpr::R13, direction)
        .set(Gpr::R14, port)
        .set(Gpr::R15, value)
}

pub(super) fn tests() -> Vec<Test> {
    Vec::from([
        Test::new("tdvmcall-mask", masks),
        Test::new("tdvmcall-io", ports),
        Test::new("tdvmcall-fw-cfg", fw_cfg).with_fw_cfg_file("opt/a", "yes"),
        Test::new("tdvmcall-refusals", refusals),
        Test::new("tdvmcall-mmio", mmio),
        Test::new("tdvmcall-cpuid", cpuid),
        Test::new("tdvmcall-fatal-error", fatal_error)
            .ending(|end| matches!(end, End::FatalError { code: 7, text } if text == "so be it")),
        // GHCI reserves it, and QEMU shows nothing of the text then.
        Test::new("tdvmcall-fatal-error-reserved", |_| {
            Vec::from([give_up().set(Gpr::R12, 7)])
        })
        .ending(|end| matches!(end, End::FatalError { code: 7, text } if text.is_empty())),
        // Nothing is at 604H until somebody sets PMBASE, as QEMU's q35 has it.
        Test::new("tdvmcall-power-off", |_| {
            Vec::from([
                io("S5 of nobody", 2, DIRECTION_WRITE, 0x604, 1 << 13),
                io("00:1f.0 PMBASE", 4, DIRECTION_WRITE, 0xCF8, 0x8000_F840),
                io("reads", 4, DIRECTION_READ, 0xCFC, 0).want(Gpr::R11, 1),
                io("is set", 4, DIRECTION_WRITE, 0xCFC, 0x601),
                io("S5", 2, DIRECTION_WRITE, 0x604, 1 << 13),
            ])
        })
        .ending(|end| *end == End::PowerOff),
        Test::new("tdvmcall-reset", |_| {
            Vec::from([io("reset", 1, DIRECTION_WRITE, 0xCF9, 6)])
        })
        .ending(|end| *end == End::Reboot),
        Test::new("tdvmcall-no-wake-up", |_| {
            Vec::from([call(
                "halt for good",
                sub_function::HLT,
                CompletionStatus::Success,
            )
            .set(Gpr::R12, 1)])
        })
        .ending(|end| matches!(end, End::Stuck(_))),
    ])
}

/// The mask in RCX: what may not be in it, and what is not in it stays.
fn masks(_: &Setup) -> Vec<Step> {
    let refused = |what, mask| {
        Step::tdcall(what, tdg::VP_VMCALL)
            .set(Gpr::Rcx, mask)
            .want(Gpr::Rax, Status::operand_invalid(Operand::RCX).0)
    };
    Vec::from([
        refused("RAX in the mask", mask::R10_TO_R15 | 1),
        refused("RCX in the mask", mask::R10_TO_R15 | 2),
        refused("RSP in the mask", mask::R10_TO_R15 | 1 << 4),
        refused("bit 32 in the mask", mask::R10_TO_R15 | 1 << 32),
        io("read a port without a device", 4, DIRECTION_READ, 0x5678, 0)
            .want(Gpr::R11, 0xFFFF_FFFF)
            .keeps(Gpr::Rbx)
            .keeps(Gpr::Rdx)
            .keeps(Gpr::Rbp)
            .keeps(Gpr::R8)
            .keeps(Gpr::R9),
    ])
}

fn ports(_: &Setup) -> Vec<Step> {
    Vec::from([
        io("the debug console is there", 1, DIRECTION_READ, 0x402, 0).want(Gpr::R11, 0xE9),
        io("RTC index", 1, DIRECTION_WRITE, 0x70, 0x0D),
        // Register D: the battery is good.
        io("RTC data", 1, DIRECTION_READ, 0x71, 0).want_bits(Gpr::R11, 0x80, 0x80),
        io("COM1 scratch register", 1, DIRECTION_WRITE, 0x3FF, 0x5A),
        io("COM1 scratch register", 1, DIRECTION_READ, 0x3FF, 0).want(Gpr::R11, 0x5A),
        io("a log", 1, DIRECTION_WRITE, 0x402, b'm'.into()),
        io("a log", 1, DIRECTION_WRITE, 0x402, b'\n'.into()),
    ])
}

/// The directory, and a file of it.
fn fw_cfg(_: &Setup) -> Vec<Step> {
    let select = |what, key| io(what, 2, DIRECTION_WRITE, 0x510, key);
    let byte = |&value: &u8| io("a byte", 1, DIRECTION_READ, 0x511, 0).want(Gpr::R11, value.into());
    // Count, size, key and reserved field, name, in big-endian.
    let directory = b"\0\0\0\x01\0\0\0\x03\0\x20\0\0opt/a\0";
    let mut steps = Vec::from([select("the directory", 0x19)]);
    steps.extend(directory.iter().map(byte));
    steps.push(select("the file", 0x20));
    steps.extend(b"yes".iter().map(byte));
    steps
}

/// What a host refuses, with the status it must give.
fn refusals(setup: &Setup) -> Vec<Step> {
    use CompletionStatus::{AlignError, InvalidOperand, Success};
    Vec::from([
        call("no such sub-function", 0x7777, InvalidOperand),
        call("Service", sub_function::SERVICE, InvalidOperand),
        call("IO of 3 bytes", sub_function::IO, InvalidOperand).set(Gpr::R12, 3),
        call("IO of port 65536", sub_function::IO, InvalidOperand)
            .set(Gpr::R12, 1)
            .set(Gpr::R13, 0)
            .set(Gpr::R14, 0x1_0000),
        call(
            "an MSR the host has not",
            sub_function::RDMSR,
            InvalidOperand,
        )
        .set(Gpr::R12, 0x10),
        call("MapGPA not aligned", sub_function::MAP_GPA, AlignError)
            .set(Gpr::R12, 0x1800)
            .set(Gpr::R13, 0x1000),
        call("MapGPA of nothing", sub_function::MAP_GPA, InvalidOperand)
            .set(Gpr::R12, 0x1000)
            .set(Gpr::R13, 0),
        call("MapGPA outside RAM", sub_function::MAP_GPA, InvalidOperand)
            .set(Gpr::R12, 0xC000_0000)
            .set(Gpr::R13, 0x1000),
        call(
            "GetQuote in private memory",
            sub_function::GET_QUOTE,
            InvalidOperand,
        )
        .set(Gpr::R12, 0x1000)
        .set(Gpr::R13, 0x1000),
        call(
            "GetQuote of memory that is not shared",
            sub_function::GET_QUOTE,
            InvalidOperand,
        )
        .set(Gpr::R12, 0x1000 | setup.shared_bit)
        .set(Gpr::R13, 0x1000),
        call(
            "event vector 31",
            sub_function::SETUP_EVENT_NOTIFY_INTERRUPT,
            InvalidOperand,
        )
        .set(Gpr::R12, 31),
        call(
            "event vector",
            sub_function::SETUP_EVENT_NOTIFY_INTERRUPT,
            Success,
        )
        .set(Gpr::R12, 0x50),
        call("WBINVD", sub_function::WBINVD, Success).set(Gpr::R12, 0),
    ])
}

fn mmio(_: &Setup) -> Vec<Step> {
    use CompletionStatus::{InvalidOperand, Success};
    const IO_APIC: u64 = x86_defs::pc::IO_APIC;
    let access = |what, direction, gpa, value| {
        call(what, sub_function::MMIO, Success)
            .set(Gpr::R12, 4)
            .set(Gpr::R13, direction)
            .set(Gpr::R14, gpa)
            .set(Gpr::R15, value)
    };
    Vec::from([
        access("select the version", DIRECTION_WRITE, IO_APIC, 1),
        access("24 pins", DIRECTION_READ, IO_APIC + 0x10, 0).want_bits(
            Gpr::R11,
            0xFF_0000,
            0x17 << 16,
        ),
        access("select pin 4", DIRECTION_WRITE, IO_APIC, 0x18),
        access("pin 4 is masked", DIRECTION_READ, IO_APIC + 0x10, 0).want(Gpr::R11, 1 << 16),
        access("no device", DIRECTION_READ, 0xD000_0000, 0).want(Gpr::R11, 0xFFFF_FFFF),
        call("MMIO in RAM", sub_function::MMIO, InvalidOperand)
            .set(Gpr::R12, 4)
            .set(Gpr::R13, 0)
            .set(Gpr::R14, 0x1000),
    ])
}

fn cpuid(_: &Setup) -> Vec<Step> {
    Vec::from([call(
        "KVM's signature",
        sub_function::CPUID,
        CompletionStatus::Success,
    )
    .set(Gpr::R12, 0x4000_0000)
    .set(Gpr::R13, 0)
    .want(Gpr::R12, 0x4000_0001)
    .want(Gpr::R13, 0x4B4D_564B)])
}

fn fatal_error(_: &Setup) -> Vec<Step> {
    Vec::from([give_up().set(Gpr::R12, 7 << 32)])
}

fn give_up() -> Step {
    call(
        "give up",
        sub_function::REPORT_FATAL_ERROR,
        CompletionStatus::Success,
    )
    .set(Gpr::Rcx, mask::WIDE)
    .set(Gpr::R14, u64::from_le_bytes(*b"so be it"))
    .set(Gpr::R15, 0)
}
