//! A host that gives each virtual processor a tenth of its time: no driver of the TPM comes near one of its time-outs. The guest
//! is `tests/guest-timing`, and the kernel's own tracer says how long the driver's functions that wait took, from its probe on.

use crate::linux::l1_has_room;
use crate::suite::steps;
use crate::{BASE_COMMAND_LINE, Checks, Setup, Suite, interface_option};
use anyhow::{Context, Result, ensure};
use attestation::journal::TpmInterface;
use serde_json::Value;
use simulator::{BootFiles, Run, Simulation, Transcript};
use std::path::Path;

/// A time-out is at least so many hundredths of what was waited.
pub const MARGIN: u64 = 150;

/// Memory of the TD, in MiB.
const MEMORY_MIB: u64 = 512;

/// A boot.
struct Boot {
    name: &'static str,
    file: &'static str,
    interface: TpmInterface,
    processors: u32,
    /// What the host gives.
    share: &'static str,
    mode: &'static str,
}

const BOOTS: [Boot; 3] = [
    Boot {
        name: "a tenth of the host's time: all TPM steps by a command response buffer",
        file: "tenth-crb",
        interface: TpmInterface::Crb,
        processors: 2,
        share: FINE,
        mode: "steps-waits",
    },
    Boot {
        name: "a tenth of the host's time: all TPM steps",
        file: "tenth-fifo",
        interface: TpmInterface::Fifo,
        processors: 2,
        share: FINE,
        mode: "steps-waits",
    },
    Boot {
        name: "a tenth of the host's time, one processor",
        file: "tenth-fifo-1",
        interface: TpmInterface::Fifo,
        processors: 1,
        share: COARSE,
        mode: "waits",
    },
];
/// A millisecond of ten: the least that Linux's control groups give (`cpu.max`).
const FINE: &str = "share=1000:10000";
/// The same of each 100 ms, which is their usual period: nothing at all happens for 90 ms.
const COARSE: &str = "share=10000:100000";

/// Boots of the initrd that has the timing program.
pub fn suite<'a>(setup: &'a Setup, initrd: &'a Path) -> Suite<'a> {
    boots(setup, initrd, &BOOTS)
}

/// The one that takes half a minute: the same time-outs, without all TPM steps.
pub fn timed<'a>(setup: &'a Setup, initrd: &'a Path) -> Suite<'a> {
    let [.., timed] = &BOOTS;
    boots(setup, initrd, std::slice::from_ref(timed))
}

fn boots<'a>(setup: &'a Setup, initrd: &'a Path, boots: &'static [Boot]) -> Suite<'a> {
    let mut suite = Suite::new();
    for boot in boots {
        suite.add(move |_| boot.check(setup, initrd));
    }
    suite
}

impl Boot {
    fn check(&self, setup: &Setup, initrd: &Path) -> Checks {
        let run = match self.run(setup, initrd) {
            Ok(run) => run,
            Err(error) => return vec![(self.name.to_owned(), Err(error))],
        };
        let mut checks = steps(self.name, self.file, &run);
        checks.push((self.name.to_owned(), self.judge(&run)));
        checks
    }

    fn run(&self, setup: &Setup, initrd: &Path) -> Result<Run> {
        // Warnings are shown, which `quiet` hides.
        let command_line = format!(
            "{BASE_COMMAND_LINE} loglevel=5 tdp.mode={} ftrace=function_graph trace_options=funcgraph-tail ftrace_filter={}",
            self.mode, TRACED
        );
        let boot = BootFiles {
            initrd: Some(initrd),
            ..setup.linux(&command_line)
        };
        let run = Simulation {
            options: &[interface_option(self.interface), self.share.to_owned()],
            processors: self.processors,
            ..setup.simulation(self.file, boot, MEMORY_MIB)
        }
        .run(&mut |_| {})?;
        ensure!(run.succeeded, "it ended with {}", run.transcript.result());
        Ok(run)
    }

    fn judge(&self, run: &Run) -> Result<()> {
        let transcript = &run.transcript;
        l1_has_room(run)?;
        got_a_tenth(transcript, self.processors)?;
        kernel_says_nothing(&transcript.console)?;
        if self.mode.starts_with("steps") {
            ensure!(
                transcript.steps_finished(),
                "the guest's script did not come to its end"
            );
        }
        let commands = longest(transcript, "@timing ", "command")?;
        ensure!(commands.len() > 5, "only {commands:?} were timed");
        has_margin(&commands, &COMMANDS)?;
        let waits = longest(transcript, "@wait ", "function")?;
        ensure!(!waits.is_empty(), "the driver waited for nothing");
        has_margin(&waits, &WAITS)
    }
}

/// Functions of the drivers that wait, and the least time-out in ms that any of their callers gives them (Linux 6.1,
/// drivers/char/tpm): 750 ms are TIMEOUT_A, C and D of `tpm_tis`, TIMEOUT_B is 2 s; 200 ms are TPM2_TIMEOUT_C.
const WAITS: [(&str, u64); 7] = [
    ("wait_for_tpm_stat", 750),
    ("get_burstcount", 750),
    ("tpm_tis_request_locality", 750),
    ("_locality", 200),
    ("crb_wait_for_reg_32", 200),
    ("crb_cmd_ready", 200),
    ("crb_go_idle", 200),
];
/// The same for the tracer. The driver's own name is not in it: the guest holds that the driver needs no word on the command line.
const TRACED: &str = "wait_for_tpm_stat,get_burstcount,*request_locality,crb_relinquish_locality,crb_wait_for_reg_32*,crb_cmd_ready,crb_go_idle";
/// Commands, and for how many ms `tpm_transmit` polls until it gives one up (`tpm2_ordinal_duration_index`,
/// `tpm2_calc_ordinal_duration`).
const COMMANDS: [(&str, u64); 5] = [
    ("SelfTest", 2_000),
    ("GetRandom", 2_000),
    ("PCR_Extend", 750),
    ("GetCapability", 750),
    ("CreatePrimary", 300_000),
];

/// What the guest found to be longest, in ns, by the name that `key` has.
fn longest(transcript: &Transcript, prefix: &str, key: &str) -> Result<Vec<(String, u64)>> {
    let lines = transcript.console.iter();
    let told = lines.filter_map(|line| line.strip_prefix(prefix));
    told.map(|line| {
        let told: Value = serde_json::from_str(line)?;
        let name = told.get(key).and_then(Value::as_str);
        let nanoseconds = match told.get("ns") {
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_u64).max(),
            one => one.and_then(Value::as_u64),
        };
        let (name, nanoseconds) = name.zip(nanoseconds).context("a time without a name")?;
        Ok((name.to_owned(), nanoseconds))
    })
    .collect()
}

/// Whether each took no more than its part of the first time-out whose name is in its own.
fn has_margin(took: &[(String, u64)], limits: &[(&str, u64)]) -> Result<()> {
    for (name, nanoseconds) in took {
        let limit = limits.iter().find(|(of, _)| name.contains(of));
        let (_, milliseconds) = limit.with_context(|| format!("{name} has no time-out"))?;
        ensure!(
            nanoseconds.saturating_mul(MARGIN) <= milliseconds * 100_000_000,
            "{name} took {nanoseconds} ns, and its time-out is {milliseconds} ms"
        );
    }
    Ok(())
}

/// Whether nothing of the machine ran longer than it was to. A turn may end a little late, and there are none before L1
/// runs.
fn got_a_tenth(transcript: &Transcript, processors: u32) -> Result<()> {
    let profile = transcript
        .last("profile")
        .context("the run has no profile")?;
    let figure = |key: &str| profile.get(key).and_then(Value::as_u64);
    let (total, idle) = figure("total").zip(figure("idle")).context("no times")?;
    let most = total / 10 * u64::from(processors) + total / 50;
    ensure!(
        total - idle <= most,
        "the machine ran for {} of {total} ns",
        total - idle
    );
    Ok(())
}

/// Whether the kernel warns of nothing. What IMA says is of its own configuration.
fn kernel_says_nothing(console: &[String]) -> Result<()> {
    let warns = |line: &&String| line.starts_with('[') && !line.contains("] ima: ");
    let said = console
        .iter()
        .filter(warns)
        .find(|line| !line.contains("reboot: "));
    ensure!(said.is_none(), "the kernel says {said:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transcript(lines: &[&str]) -> Transcript {
        Transcript::new(lines.iter().map(|&line| line.to_owned()).collect(), "")
    }

    #[test]
    fn what_comes_near_a_time_out_is_told() {
        let console = [
            "@wait {\"function\":\"get_burstcount\",\"count\":7,\"ns\":500000000}",
            "@timing {\"mark\":13,\"command\":\"SelfTest(full)\",\"ns\":[7,1333333334]}",
        ];
        let transcript = transcript(&console);
        let waits = longest(&transcript, "@wait ", "function").unwrap();
        assert!(has_margin(&waits, &WAITS).is_ok());
        let commands = longest(&transcript, "@timing ", "command").unwrap();
        let error = has_margin(&commands, &COMMANDS).unwrap_err();
        assert_eq!(
            error.to_string(),
            "SelfTest(full) took 1333333334 ns, and its time-out is 2000 ms"
        );
        let unknown = [("another".to_owned(), 1)];
        assert!(has_margin(&unknown, &WAITS).is_err());
    }

    #[test]
    fn a_machine_that_ran_longer_is_told() {
        let ran = |idle: u64| {
            let log = format!("@{{\"profile\":{{\"total\":1000,\"idle\":{idle}}}}}\n");
            got_a_tenth(&Transcript::new(Vec::new(), &log), 1)
        };
        assert!(ran(880).is_ok());
        assert!(ran(879).is_err());
    }

    #[test]
    fn only_ima_may_say_something() {
        let lines = [
            "[    1.0] ima: no",
            "said by a program",
            "[    9.0] reboot: Power down",
        ];
        assert!(kernel_says_nothing(&lines.map(str::to_owned)).is_ok());
        let lines = ["[    2.0] tpm tpm0: Operation Timed out".to_owned()];
        assert!(kernel_says_nothing(&lines).is_err());
    }
}
