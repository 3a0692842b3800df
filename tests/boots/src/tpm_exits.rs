//! How often L2 comes to L1 for a TPM command, by counts that are the same in each run. The guest is
//! `tests/guest-timing`: each of its commands goes from the driver to the TPM and back between two marks.

use crate::{BASE_COMMAND_LINE, Checks, Setup, Suite, interface_option};
use anyhow::{Context, Result, ensure};
use attestation::journal::TpmInterface;
use serde_json::Value;
use simulator::{BootFiles, Run, Simulation, Transcript};
use std::path::Path;

/// Most exits for any command by a command response buffer, whatever its length and that of its response: what `tpm_crb`
/// writes. It asks for the TPM, says cmdReady, clears CANCEL, starts the command, says goIdle and gives the TPM up. After each
/// but two it reads a register, which is no exit.
pub const CRB_GOAL: u64 = 6;

/// Memory of the TD, in MiB.
const MEMORY_MIB: u64 = 512;
/// In a mark: the end of what it marks.
const END: u64 = 0x80;

/// What a command took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exits {
    /// The command.
    pub command: String,
    /// Exits on the TPM's registers, the median: what else the kernel asks of the TPM now and then falls between some marks.
    pub exits: u64,
}

/// Every command that the guest timed.
pub fn exits(transcript: &Transcript) -> Result<Vec<Exits>> {
    let lines = transcript.console.iter();
    let timings = lines.filter_map(|line| line.strip_prefix("@timing "));
    timings
        .map(|line| {
            let timing: Value = serde_json::from_str(line)?;
            let mark = timing.get("mark").and_then(Value::as_u64);
            let command = timing.get("command").and_then(Value::as_str);
            let (mark, command) = mark.zip(command).context("a timing without a name")?;
            let mut samples = between_marks(transcript, mark);
            samples.sort_unstable();
            let exits = samples.get(samples.len() / 2);
            let exits = *exits.with_context(|| format!("{command} has no marks"))?;
            Ok(Exits {
                command: command.to_owned(),
                exits,
            })
        })
        .collect()
}

/// Exits on the TPM's registers between each two records of this mark.
fn between_marks(transcript: &Transcript, mark: u64) -> Vec<u64> {
    let number = |record: &Value, key: &str| record.get(key).and_then(Value::as_u64);
    let records = transcript.records.iter();
    let marks: Vec<(u64, u64)> = records
        .filter_map(|record| number(record, "mark").zip(number(record, "tpm_exits")))
        .collect();
    let between = |pair: &[(u64, u64)]| match pair {
        [(begin, before), (end, after)] if (*begin, *end) == (mark, mark | END) => {
            Some(after - before)
        }
        _ => None,
    };
    marks.windows(2).filter_map(between).collect()
}

/// A boot of the initrd that has the timing program.
pub fn suite<'a>(setup: &'a Setup, initrd: &'a Path) -> Suite<'a> {
    let mut suite = Suite::new();
    suite.add(|_| {
        let few = crb(setup, initrd).and_then(|run| few_exits(&run.transcript));
        vec![(
            "TPM exits: a command response buffer, any command".to_owned(),
            few,
        )] as Checks
    });
    suite
}

fn crb(setup: &Setup, initrd: &Path) -> Result<Run> {
    let command_line = format!("{BASE_COMMAND_LINE} quiet tdp.mode=timing");
    let boot = BootFiles {
        initrd: Some(initrd),
        ..setup.linux(&command_line)
    };
    let run = Simulation {
        options: &[interface_option(TpmInterface::Crb), "marks=1".to_owned()],
        ..setup.simulation("tpm-exits-crb", boot, MEMORY_MIB)
    }
    .run(&mut |_| {})?;
    ensure!(run.succeeded, "it ended with {}", run.transcript.result());
    Ok(run)
}

fn few_exits(transcript: &Transcript) -> Result<()> {
    let commands = exits(transcript)?;
    ensure!(commands.len() > 5, "only {commands:?} were timed");
    for Exits { command, exits } in commands {
        ensure!(
            exits > 0 && exits <= CRB_GOAL,
            "{command}: {exits} exits, and at most {CRB_GOAL} are expected"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_counts() {
        let console = ["@timing {\"mark\":1,\"command\":\"GetRandom\",\"ns\":[1,2]}".to_owned()];
        let log = "@{\"mark\":1,\"tpm_exits\":5}\n@{\"mark\":129,\"tpm_exits\":12}\n\
                   @{\"mark\":1,\"tpm_exits\":20}\n@{\"mark\":129,\"tpm_exits\":28}\n\
                   @{\"mark\":1,\"tpm_exits\":28}\n@{\"mark\":129,\"tpm_exits\":52}\n\
                   @{\"mark\":2,\"tpm_exits\":28}\n@{\"mark\":130,\"tpm_exits\":99}\n";
        let transcript = Transcript::new(console.to_vec(), log);
        let commands = exits(&transcript).unwrap();
        assert_eq!(
            commands,
            [Exits {
                command: "GetRandom".to_owned(),
                exits: 8
            }]
        );
        let unmarked = Transcript::new(console.to_vec(), "");
        assert!(exits(&unmarked).is_err());
    }
}
