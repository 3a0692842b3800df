//! For how long L2 has no processor while the TPM has much to do, as L2 itself sees it. The guest is `tests/guest-timing`:
//! a thread of its reads the clock while another sends commands that take seconds on slow machines.

use crate::{BASE_COMMAND_LINE, Checks, Setup, Suite, interface_option};
use anyhow::{Context, Result, ensure};
use attestation::journal::TpmInterface;
use serde_json::Value;
use simulator::{BootFiles, Run, Simulation, Transcript};
use std::path::Path;

/// The longest that the TPM may keep L2 from a processor, in ns of the guest's clock.
pub const LONGEST: u64 = 2_000_000;

/// Memory of the TD, in MiB.
const MEMORY_MIB: u64 = 512;
/// What the guest measures with.
const COMMANDS: usize = 6;

/// Each interface, on one processor, which the TPM and the driver share with the thread, and on two.
const CASES: [(TpmInterface, u32); 4] = [
    (TpmInterface::Fifo, 1),
    (TpmInterface::Crb, 1),
    (TpmInterface::Fifo, 2),
    (TpmInterface::Crb, 2),
];

/// Boots of the initrd that has the timing program.
pub fn suite<'a>(setup: &'a Setup, initrd: &'a Path) -> Suite<'a> {
    let mut suite = Suite::new();
    for (interface, processors) in CASES {
        suite.add(move |_| {
            let gaps = run(setup, initrd, interface, processors)
                .and_then(|run| none_is_long(&run.transcript));
            let word = interface.word();
            vec![(format!("TPM gaps: {word}, {processors} processors"), gaps)] as Checks
        });
    }
    suite
}

fn run(setup: &Setup, initrd: &Path, interface: TpmInterface, processors: u32) -> Result<Run> {
    let command_line = format!("{BASE_COMMAND_LINE} quiet tdp.mode=timing-gaps");
    let boot = BootFiles {
        initrd: Some(initrd),
        ..setup.linux(&command_line)
    };
    let name = format!("tpm-gaps-{}-{processors}", interface.word());
    let run = Simulation {
        options: &[interface_option(interface)],
        processors,
        ..setup.simulation(&name, boot, MEMORY_MIB)
    }
    .run(&mut |_| {})?;
    ensure!(run.succeeded, "it ended with {}", run.transcript.result());
    Ok(run)
}

/// What the guest found to be longest for each command, in ns.
fn gaps(transcript: &Transcript) -> Result<Vec<(String, u64)>> {
    let lines = transcript.console.iter();
    let timings = lines.filter_map(|line| line.strip_prefix("@timing "));
    timings
        .map(|line| {
            let timing: Value = serde_json::from_str(line)?;
            let command = timing.get("command").and_then(Value::as_str);
            let longest = timing.pointer("/ns/0").and_then(Value::as_u64);
            let (command, longest) = command.zip(longest).context("a gap without a name")?;
            Ok((command.to_owned(), longest))
        })
        .collect()
}

fn none_is_long(transcript: &Transcript) -> Result<()> {
    let gaps = gaps(transcript)?;
    ensure!(gaps.len() == COMMANDS, "only {gaps:?} were measured");
    for (command, longest) in gaps {
        ensure!(
            longest <= LONGEST,
            "{command}: L2 had no processor for {longest} ns"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transcript(longest: [u64; COMMANDS]) -> Transcript {
        let line =
            |longest| format!("@timing {{\"mark\":12,\"command\":\"x\",\"ns\":[{longest}]}}");
        Transcript::new(longest.map(line).to_vec(), "")
    }

    #[test]
    fn a_gap_that_is_too_long_is_told() {
        assert!(none_is_long(&transcript([9, LONGEST, 1, 2, 3, 4])).is_ok());
        let error = none_is_long(&transcript([9, 7, LONGEST + 1, 2, 3, 4])).unwrap_err();
        assert_eq!(error.to_string(), "x: L2 had no processor for 2000001 ns");
    }

    #[test]
    fn what_was_not_measured_is_missed() {
        assert!(none_is_long(&Transcript::new(Vec::new(), "")).is_err());
    }
}
