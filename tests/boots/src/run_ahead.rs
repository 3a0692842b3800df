//! Run-ahead for `tpm_tis` as Debian's kernels have it: how often L2 comes to L1 for a command, and that commands and responses
//! are what they are without it. The guest is `tests/guest-timing`.

use crate::compatibility::Kernel;
use crate::tpm_exits::{Exits, exits};
use crate::{BASE_COMMAND_LINE, Checks, Setup, Suite, each_access_exits};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
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
    let (few, same) = match (&with, &without) {
        (Ok(with), Ok(without)) => (
            few_exits(&with.transcript).and_then(|()| each_access(&without.transcript)),
            are_the_same(&with.transcript, &without.transcript),
        ),
        (Err(error), _) | (_, Err(error)) => {
            let failed = || Err(anyhow::anyhow!("{error:#}"));
            (failed(), failed())
        }
    };
    vec![
        ("run-ahead: exits".to_owned(), few),
        (
            "run-ahead: commands, responses and logs with it and without".to_owned(),
            same,
        ),
    ]
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

/// Bytes of a response's header: its tag, its length and its code.
const HEADER: usize = 10;

/// A line of the guest's transcript: command and response, or a log. Of a response that tells the time, its header.
fn fixed_part(line: &str) -> Result<Option<Value>> {
    let (prefix, json) = match line.split_once(' ') {
        Some(parts @ ("@transcript" | "@log", _)) => parts,
        _ => return Ok(None),
    };
    let mut said: Value =
        serde_json::from_str(json).with_context(|| format!("{prefix}: {json}"))?;
    let tells_time = said.get("clock").is_some();
    if let Some(Value::String(response)) = said.get_mut("response")
        && tells_time
    {
        response.truncate(2 * HEADER);
    }
    Ok(Some(said))
}

/// Fewest lines.
const LINES: usize = 40;

/// Whether both guests said the same, byte by byte, random numbers and keys too: the machines have the same seed.
fn are_the_same(one: &Transcript, other: &Transcript) -> Result<()> {
    let parts = |transcript: &Transcript| -> Result<Vec<Value>> {
        let lines = transcript.console.iter();
        lines
            .filter_map(|line| fixed_part(line).transpose())
            .collect()
    };
    let (one, other) = (parts(one)?, parts(other)?);
    ensure!(one.len() > LINES, "there are only {} lines", one.len());
    ensure!(
        one.len() == other.len(),
        "there are {} and {} lines",
        one.len(),
        other.len()
    );
    let different = one.iter().zip(&other).find(|(one, other)| one != other);
    ensure!(different.is_none(), "the transcripts differ: {different:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transcript(last: &str) -> Transcript {
        let mut lines = vec!["@transcript {\"command\":\"00\",\"response\":\"80\"}".to_owned(); 60];
        lines.push("said by a program".to_owned());
        lines.push(last.to_owned());
        Transcript::new(lines, "")
    }

    #[test]
    fn a_byte_that_differs_is_told() {
        let same =
            |one: &str, other: &str| are_the_same(&transcript(one), &transcript(other)).is_ok();
        let fixed = "@transcript {\"command\":\"01\",\"response\":\"8001aabb\"}";
        assert!(same(fixed, fixed));
        assert!(!same(fixed, &fixed.replace("bb", "bc")));
        assert!(!same(fixed, &fixed.replace("01\"", "02\"")));
        let log = "@log {\"file\":\"f\",\"content\":\"aa\"}";
        assert!(!same(log, &log.replace("aa", "ab")));
        assert!(!same(log, "said by a program"));
    }

    #[test]
    fn of_a_response_that_tells_the_time_the_header_is_compared() {
        let same =
            |one: &str, other: &str| are_the_same(&transcript(one), &transcript(other)).is_ok();
        let timed = "@transcript {\"command\":\"01\",\"response\":\"80010000000c00000000aabb\",\"clock\":true}";
        assert!(same(timed, &timed.replace("bb", "bc")));
        assert!(!same(timed, &timed.replace("0c", "0d")));
        assert!(!same(timed, &timed.replace("00000000aa", "00000001aa")));
    }
}
