//! Several virtual processors: where they start, what each has for itself, and interrupts from one to another.

use alloc::vec::Vec;

use tdx_defs::ghci::{CompletionStatus, sub_function};
use tdx_defs::status::Code as StatusCode;
use tdx_defs::tdg;
use tdx_defs::vp_enter::Gpr;
use x86_defs::exit_reason;

use super::calls::call;
use super::firmware::Code;
use super::interrupts::{ICR, TO_SELF, VECTOR, take, write_msr};
use super::l2::{self, Program, VM, enter};
use super::layout;
use super::script::Step;
use super::{Setup, Test};
use crate::host::End;
use crate::options::{Fault, Schedule};

/// Words that the virtual processors tell each other how far they are by.
const FLAGS: u64 = layout::DATA + 0x2000;
/// ICR: an NMI.
const NMI: u64 = 4 << 8;
/// ICR: a logical destination.
const LOGICAL: u64 = 1 << 11;
/// ICR shorthands.
const ALL: u64 = 2 << 18;
const ALL_BUT_SELF: u64 = 3 << 18;
/// CPUID leaf of the x2APIC id.
const TOPOLOGY: u64 = 0xB;
/// How many schedules each script is run with.
const SEEDS: u64 = 24;

fn flag(processor: u64) -> u64 {
    FLAGS + 8 * processor
}

/// Tells that `processor` has come to `value`.
pub(super) fn tell(processor: u64, value: u64) -> Step {
    Step::new("tell", Code::Store)
        .set(Gpr::Rdi, flag(processor))
        .set(Gpr::Rax, value)
}

/// Waits until `processor` has come to `value`.
pub(super) fn wait(processor: u64, value: u64) -> Step {
    Step::new("wait", Code::Wait)
        .set(Gpr::Rsi, flag(processor))
        .set(Gpr::Rax, value)
}

/// An interrupt for one.
fn send(what: &'static str, command: u64, destination: u64) -> Step {
    write_msr(what, ICR, destination << 32 | command | u64::from(VECTOR))
}

/// TDVMCALL<Instruction.HLT> until an interrupt.
fn halt() -> Step {
    call("sleep", sub_function::HLT, CompletionStatus::Success)
        .set(Gpr::R12, 0)
        .interrupted(VECTOR)
        .with_code(Code::StiTdcall)
}

pub(super) fn tests() -> Vec<Test> {
    let mut tests = subjects();
    tests.extend(faults());
    // Each seed is another order of events.
    for seed in 1..=SEEDS {
        let scripts = [spinning, halted, on_the_way_to_l2, before_l2];
        for script in scripts {
            tests.push(script("processors-schedules").with_options(move |options| {
                options.schedule = Some(Schedule {
                    seed,
                    most: [500, 5_000, 50_000][(seed % 3) as usize],
                });
            }));
        }
    }
    tests
}

fn subjects() -> Vec<Test> {
    Vec::from([
        Test::new("processors-start", |_| {
            let mut steps = identity(0, 3);
            steps.extend([wait(1, 1), wait(2, 1)]);
            steps
        })
        .and_processor(|_| told(identity(1, 3), 1))
        .and_processor(|_| told(identity(2, 3), 2)),
        Test::new("processors-registers", |_| registers(0)).and_processor(|_| registers(1)),
        spinning("processors-ipi-spinning"),
        halted("processors-ipi-halted"),
        stale_translation(),
        in_l2("processors-ipi-in-l2"),
        before_l2("processors-ipi-before-l2"),
        Test::new("processors-ipi-nmi", |_| {
            Vec::from([wait(1, 1), send("an NMI", NMI, 1), wait(1, 2)])
        })
        .and_processor(|_| {
            let spin = Step::new("spin", Code::Spin)
                .set(Gpr::Rsi, flag(0))
                .set(Gpr::Rax, 1)
                .faults(2, 0);
            Vec::from([tell(1, 1), spin, tell(1, 2)])
        }),
        destinations("processors-ipi-all", ALL, 0, [true, true, true]),
        destinations(
            "processors-ipi-others",
            ALL_BUT_SELF,
            0,
            [false, true, true],
        ),
        destinations("processors-ipi-self", TO_SELF, 2, [true, false, false]),
        destinations("processors-ipi-physical", 0, 2, [false, false, true]),
        destinations(
            "processors-ipi-broadcast",
            0,
            0xFFFF_FFFF,
            [true, true, true],
        ),
        destinations(
            "processors-ipi-logical",
            LOGICAL,
            0b101,
            [true, false, true],
        ),
        destinations(
            "processors-ipi-other-cluster",
            LOGICAL,
            1 << 16 | 7,
            [false; 3],
        ),
    ])
}

/// An interrupt for one that spins with interrupts off, which it takes when they are on.
fn spinning(name: &'static str) -> Test {
    Test::new(name, |_| {
        Vec::from([
            wait(1, 1),
            send("an interrupt", 0, 1),
            tell(0, 1),
            wait(1, 2),
        ])
    })
    .and_processor(|_| {
        let spin = Step::new("spin", Code::Spin)
            .set(Gpr::Rsi, flag(0))
            .set(Gpr::Rax, 1);
        Vec::from([tell(1, 1), spin, take("it came"), tell(1, 2)])
    })
}

/// An interrupt for one that sleeps, or is about to.
fn halted(name: &'static str) -> Test {
    Test::new(name, |_| {
        Vec::from([wait(1, 1), send("an interrupt", 0, 1), wait(1, 2)])
    })
    .and_processor(|_| Vec::from([tell(1, 1), halt(), tell(1, 2)]))
}

/// An interrupt for one that runs L2.
fn in_l2(name: &'static str) -> Test {
    l2_and(name, || {
        enter("run L2", StatusCode::L2ExitPendingInterrupt, 1)
    })
}

/// An interrupt for one that runs L2, or is about to: TDG.VP.ENTER ends in either way, and never stays in L2.
fn on_the_way_to_l2(name: &'static str) -> Test {
    l2_and(name, || l2::enter_somehow("run L2"))
}

fn l2_and(name: &'static str, enter: fn() -> Step) -> Test {
    Test::new(name, |_| {
        Vec::from([wait(1, 1), send("an interrupt", 0, 1), wait(1, 2)])
    })
    .with_l2(Program::Spin)
    .and_processor(move |_| {
        let mut steps = Vec::from(l2::prelude());
        steps.extend([tell(1, 1), enter(), take("it came"), tell(1, 2)]);
        steps
    })
}

/// An interrupt for one that has not entered L2 yet.
fn before_l2(name: &'static str) -> Test {
    Test::new(name, |_| {
        Vec::from([
            wait(1, 1),
            send("an interrupt", 0, 1),
            tell(0, 1),
            wait(1, 2),
        ])
    })
    .with_l2(Program::Hlt)
    .and_processor(|_| {
        let mut steps = Vec::from(l2::prelude());
        steps.extend([
            tell(1, 1),
            wait(0, 1),
            enter("not now", StatusCode::PendingInterrupt, 0),
            take("it came"),
            enter("now", StatusCode::Success, 12),
            tell(1, 2),
        ]);
        steps
    })
}

/// One that sleeps until another has woken up and answers. A host that keeps one of the interrupts, or one of the
/// processors, leaves nobody awake.
fn echo(name: &'static str) -> Test {
    Test::new(name, |_| {
        Vec::from([wait(1, 1), send("an interrupt", 0, 1), halt()])
    })
    .and_processor(|_| Vec::from([tell(1, 1), halt(), send("an answer", 0, 0)]))
}

/// What a host can do to interrupts and processors.
fn faults() -> Vec<Test> {
    let lost = |every| Fault::InterruptsLost { every };
    let stuck: super::Ending = |end| matches!(end, End::Stuck(_));
    Vec::from([
        echo("processors-ipi-echo"),
        echo("processors-ipi-lost")
            .with_fault(lost(1))
            .ending(stuck),
        echo("processors-ipi-answer-lost")
            .with_fault(lost(2))
            .ending(stuck),
        echo("processors-ipi-not-lost").with_fault(lost(3)),
        echo("processors-ipi-late").with_fault(Fault::InterruptsLate { microseconds: 5000 }),
        // The second one comes by itself, to the other one.
        Test::new("processors-ipi-invented", |_| {
            Vec::from([
                wait(1, 1),
                send("an interrupt", 0, 1),
                wait(1, 2),
                Step::new("nobody sent it", Code::Interrupts).interrupted(VECTOR),
            ])
        })
        .with_fault(Fault::InterruptsInvented { every: 1 })
        .and_processor(|_| Vec::from([tell(1, 1), halt(), tell(1, 2)])),
        // By the id that the host tells.
        echo("processors-apic-ids-others")
            .with_options(|options| options.apic_ids = Vec::from([2, 3]))
            .ending(stuck),
        Test::new("processors-apic-ids", |_| {
            Vec::from([wait(1, 1), send("an interrupt", 0, 7), wait(1, 2)])
        })
        .with_options(|options| options.apic_ids = Vec::from([3, 7]))
        .and_processor(|_| {
            let id = call("x2APIC id", sub_function::CPUID, CompletionStatus::Success)
                .set(Gpr::R12, TOPOLOGY)
                .set(Gpr::R13, 0)
                .want(Gpr::R15, 7);
            Vec::from([id, tell(1, 1), halt(), tell(1, 2)])
        }),
        halted("processors-stall").with_fault(Fault::ProcessorStalls {
            index: 1,
            milliseconds: 3,
        }),
        echo("processors-stops-later").with_fault(Fault::ProcessorStops {
            index: 1,
            milliseconds: 1_000_000,
        }),
        echo("processors-stops")
            .with_fault(Fault::ProcessorStops {
                index: 0,
                milliseconds: 0,
            })
            .ending(stuck),
        // Number 0 sleeps until number 1 comes to wake it.
        Test::new("processors-never", |_| Vec::from([halt()]))
            .with_fault(Fault::ProcessorNeverRuns { index: 1 })
            .and_processor(|_| Vec::from([send("an interrupt", 0, 0)]))
            .ending(stuck),
    ])
}

/// A page that one takes from L2 stays there for another until that one flushes: it has to be told.
fn stale_translation() -> Test {
    let run = |what: &'static str, reason: u32| enter(what, StatusCode::Success, reason);
    let again = || l2::continue_at(0);
    Test::new("processors-stale-translation", |_| {
        Vec::from([
            wait(1, 1),
            l2::take_away("the page is L1's", layout::SECRET),
            tell(0, 1),
            wait(1, 2),
        ])
    })
    .with_l2(Program::ReadSecret)
    .and_processor(move |_| {
        let mut steps = Vec::from(l2::prelude());
        steps.extend([
            l2::give("the page is L2's", layout::SECRET),
            run("L2 reads it", exit_reason::HLT),
            tell(1, 1),
            wait(0, 1),
            again(),
            run("L2 still reads it", exit_reason::HLT),
            Step::tdcall("a flush", tdg::VP_INVEPT)
                .set(Gpr::Rcx, 1 << VM.get())
                .want(Gpr::Rax, 0),
            again(),
            run("L2 has it no more", exit_reason::EPT_VIOLATION),
            tell(1, 2),
        ]);
        steps
    })
}

fn told(mut steps: Vec<Step>, processor: u64) -> Vec<Step> {
    steps.push(tell(processor, 1));
    steps
}

/// What a virtual processor learns of itself, from the module and from the host.
fn identity(index: u64, count: u64) -> Vec<Step> {
    Vec::from([
        Step::tdcall("VP.INFO", tdg::VP_INFO)
            .want(Gpr::R8, count << 32 | count)
            .want(Gpr::R9, index),
        Step::new("initial APIC id", Code::Cpuid)
            .set(Gpr::Rax, 1)
            .want_bits(Gpr::Rbx, 0xFF00_0000, index << 24),
        call("x2APIC id", sub_function::CPUID, CompletionStatus::Success)
            .set(Gpr::R12, TOPOLOGY)
            .set(Gpr::R13, 0)
            .want(Gpr::R15, index),
        call("x2APIC id", sub_function::RDMSR, CompletionStatus::Success)
            .set(Gpr::R12, 0x802)
            .want(Gpr::R11, index),
    ])
}

/// Vector registers, CR2 and IA32_TSC_AUX stay with their virtual processor.
fn registers(index: u64) -> Vec<Step> {
    const TSC_AUX: u64 = x86_defs::msr::IA32_TSC_AUX as u64;
    let own = 0x1111_1111 * (index + 1);
    let pattern = layout::DATA + 0x100 * index;
    let seen = pattern + 0x80;
    let put = |at: u64| {
        Step::new("a pattern", Code::Store)
            .set(Gpr::Rdi, at)
            .set(Gpr::Rax, own)
    };
    let get = |at: u64| {
        Step::new("the pattern", Code::Load)
            .set(Gpr::Rsi, at)
            .want(Gpr::Rax, own)
    };
    Vec::from([
        // The lower half of YMM0, the upper one of YMM15.
        put(pattern),
        put(pattern + 0x30),
        Step::new("vectors", Code::LoadVectors).set(Gpr::Rsi, pattern),
        Step::new("CR2", Code::WriteCr2).set(Gpr::Rax, own),
        Step::new("TSC_AUX", Code::Wrmsr)
            .set(Gpr::Rcx, TSC_AUX)
            .set(Gpr::Rax, own)
            .set(Gpr::Rdx, 0),
        tell(index, 1),
        wait(1 - index, 1),
        Step::new("vectors", Code::StoreVectors).set(Gpr::Rdi, seen),
        get(seen),
        get(seen + 0x30),
        Step::new("CR2", Code::ReadCr2).want(Gpr::Rax, own),
        Step::new("TSC_AUX", Code::Rdmsr)
            .set(Gpr::Rcx, TSC_AUX)
            .want(Gpr::Rax, own),
        match index {
            0 => wait(1, 2),
            _ => tell(index, 2),
        },
    ])
}

/// An interrupt of number 0's with a command for a destination, and which of three get it.
fn destinations(name: &'static str, command: u64, destination: u64, get: [bool; 3]) -> Test {
    let taken = |gets: bool| {
        if gets {
            take("it came")
        } else {
            Step::new("it did not come", Code::Interrupts)
        }
    };
    let other = move |index: u64, gets: bool| {
        move |_: &Setup| Vec::from([tell(index, 1), wait(0, 1), taken(gets), tell(index, 2)])
    };
    Test::new(name, move |_| {
        Vec::from([
            wait(1, 1),
            wait(2, 1),
            send("an interrupt", command, destination),
            tell(0, 1),
            taken(get[0]),
            wait(1, 2),
            wait(2, 2),
        ])
    })
    .and_processor(other(1, get[1]))
    .and_processor(other(2, get[2]))
}
