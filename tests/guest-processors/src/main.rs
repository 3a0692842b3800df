//! Tries inside the guest what a machine with several processors must do, and what goes wrong on one whose processors wait
//! for each other's interrupts in vain, see each other's memory late, or answer each other's TPM commands.
//!
//! Words of the kernel's command line say what: [`plan`]. Prints a line `@step NAME pass|fail` for each step.
#![forbid(unsafe_code)]

mod ends;
mod hammer;
mod hotplug;
mod interrupts;
mod kernel_log;
mod measure;
mod memory;
mod messages;
mod nmi;
mod plan;
mod processors;
mod topology;
mod tpm;

use plan::{Plan, What};
use std::process::ExitCode;

/// Why a step failed.
type Outcome = Result<(), String>;

/// Counts the steps.
#[derive(Default)]
struct Steps {
    passed: usize,
    failed: usize,
}

impl Steps {
    /// Does a step and reports it, by its name as one word.
    fn step(&mut self, name: &str, step: impl FnOnce() -> Outcome) {
        let name = name.replace(' ', "-");
        match step() {
            Ok(()) => {
                self.passed += 1;
                println!("@step {name} pass");
            }
            Err(why) => {
                self.failed += 1;
                println!("@step {name} fail\n  {why}");
            }
        }
    }
}

fn main() -> ExitCode {
    let command_line = match std::fs::read_to_string("/proc/cmdline") {
        Ok(words) => words,
        Err(error) => {
            println!("@error guest-processors: {error}");
            return ExitCode::FAILURE;
        }
    };
    let plan = Plan::of(&command_line);
    let mut steps = Steps::default();
    match plan.what {
        What::End(end) => {
            println!("@error guest-processors: {}", ends::end(end, plan.from));
            return ExitCode::FAILURE;
        }
        What::Everything => {
            start(&mut steps, &plan);
            everything(&mut steps, &plan);
        }
        What::Measure | What::Load => measure::steps(&mut steps, &plan),
        What::Topology => start(&mut steps, &plan),
        What::Hotplug => hotplug::steps(&mut steps, &plan),
        What::Tpm => tpm::steps(&mut steps, &plan),
    }
    steps.step("the kernel complains of nothing", kernel_log::is_quiet);
    println!("@steps {} passed, {} failed", steps.passed, steps.failed);
    if steps.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn start(steps: &mut Steps, plan: &Plan) {
    if plan.held_back {
        hotplug::bring_all(steps);
    }
    topology::steps(steps, plan);
}

fn everything(steps: &mut Steps, plan: &Plan) {
    interrupts::steps(steps, plan);
    messages::steps(steps, plan);
    memory::steps(steps, plan);
    hammer::steps(steps, plan);
    tpm::steps(steps, plan);
    nmi::steps(steps);
    hotplug::steps(steps, plan);
}
