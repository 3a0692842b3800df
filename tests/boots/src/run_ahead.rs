//! Run-ahead for `tpm_tis` as Debian's kernels have it: how often L2 comes to L1 for a command. The guest is `tests/guest-timing`.

use crate::compatibility::Kernel;
use crate::tpm_exits::{Exits, exits};
use crate::{BASE_COMMAND_LINE, Checks, Setup, Suite, each_access_exits};
use anyhow::{Context, Result, ensure};
use simulator::{BootFiles, Run, Simulation, Transcript};
use std::path::Path;

/// Most exits for a command, by how its name begins. A command has three; what the kernel does besides, and an interrupt that
/// comes while L1 runs ahead, may be among them.
const GOALS: [(&str, u64); 5] = [
    ("GetRandom", 10),
    ("PCR_Extend", 10),
    ("PCR_Read", 10),
    ("Quote(ECC P-256)", 20),
    ("CreatePrimary(ECC P-256)", 20),
];
/// Fewest for any of them where each access is an exit.
const EACH_ACCESS: u64 = 50;

/// Memory of the TD, in MiB.
const MEMORY_MIB: u64 = 512;

/// Boots of an initrd that has the timing program: the usual kernel, and others with initrds of their own.
pub fn suite<'a>(setup: &'a Setup, initrd: &'a Path, others: &'a [Kernel]) -> Suite<'a> {
    let mut suite = Suite::new();
    suite.add(move |_| usual(setup, initrd));
    for kernel in others {
        suite.add(move |_| {
            let initrd = kernel.initrd.as_deref().unwrap_or(initrd);
            let run = run(setup, &kernel.file, initrd, &file_name(&kernel.name), &[]);
            let few = run.and_then(|run| few_exits(&run.transcript));
            vec![(format!("run-ahead: exits, {}", kernel.name), few)] as Checks
        });
    }
    suite
}

/// The same guest with and without run-ahead.
fn usual(setup: &Setup, initrd: &Path) -> Checks {
    let with = run(setup, &setup.kernel, initrd, "run-ahead", &[]);
    let options = [each_access_exits()];
    let without = run(setup, &setup.kernel, initrd, "run-ahead-off", &options);
    let few = with.and_then(|with| few_exits(&with.transcript));
    let off = without.and_then(|without| each_access(&without.transcript));
    vec![("run-ahead: exits".to_owned(), few.and(off))]
}

fn file_name(kernel: &str) -> String {
    let suite = kernel.split(',').next().unwrap_or(kernel);
    format!("run-ahead-{suite}")
}

fn run(setup: &Setup, kernel: &Path, initrd: &Path, name: &str, options: &[String]) -> Result<Run> {
    let command_line = format!("{BASE_COMMAND_LINE} quiet tdp.mode=timing-few");
    let boot = BootFiles {
        kernel,
        initrd: Some(initrd),
        command_line: &command_line,
    };
    let mut options = options.to_vec();
    options.push("marks=1".to_owned());
    let run = Simulation {
        options: &options,
        processors: 1,
        ..setup.simulation(name, boot, MEMORY_MIB)
    }
    .run(&mut |_| {})?;
    ensure!(run.succeeded, "it ended with {}", run.transcript.result());
    Ok(run)
}

/// The commands, each with the most exits that it may have.
fn with_goals(transcript: &Transcript) -> Result<Vec<(Exits, u64)>> {
    let commands = exits(transcript)?;
    ensure!(
        commands.len() == GOALS.len(),
        "only {commands:?} were timed"
    );
    let goal = |command: Exits| {
        let goal = GOALS
            .iter()
            .find(|(name, _)| command.command.starts_with(name));
        let (_, goal) = goal.with_context(|| format!("{} has no goal", command.command))?;
        Ok((command, *goal))
    };
    commands.into_iter().map(goal).collect()
}

fn few_exits(transcript: &Transcript) -> Result<()> {
    for (Exits { command, exits }, goal) in with_goals(transcript)? {
        ensure!(
            exits > 0 && exits <= goal,
            "{command}: {exits} exits, and at most {goal} are expected"
        );
    }
    Ok(())
}

/// It was off.
fn each_access(transcript: &Transcript) -> Result<()> {
    for (Exits { command, exits }, _) in with_goals(transcript)? {
        ensure!(
            exits >= EACH_ACCESS,
            "{command}: {exits} exits without run-ahead"
        );
    }
    Ok(())
}
