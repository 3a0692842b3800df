//! What one machine's runs say of the commands.

use crate::figures::attestation;
use crate::figures::samples::{self, Cost, Spread, Timing, median};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use simulator::{Run, Transcript};

/// In a mark: the end of what it marks.
const END: u64 = 0x80;

/// Exits between the two marks around a command, in a guest of KVM's.
#[derive(Clone, Copy, Debug, PartialEq)]
struct KvmExits {
    /// What the second mark ends.
    mark: u64,
    /// Accesses to the TPM's registers, an exit each.
    tpm: f64,
    /// All of them.
    all: f64,
    /// The longest time from an exit to the next entry, in microseconds.
    longest: f64,
}

/// One machine's.
pub(crate) struct Measured {
    timings: Vec<Timing>,
    /// Of the simulator's, by marks.
    costs: Vec<(u64, Vec<Cost>)>,
    kvm: Vec<KvmExits>,
    /// The guest's uptime at its first program, in seconds.
    pub(super) boot: f64,
    /// Instructions that measured the launch.
    pub(super) launch: Option<f64>,
    /// The longest time that an exit or a slice of a command kept the processor from the guest, in microseconds.
    pub(super) longest: Option<f64>,
}

impl Measured {
    /// Of a guest of KVM's: its times of one run, its exits of another whose host traced it.
    pub(crate) fn of_kvm(run: &Run, traced: &Run) -> Result<Self> {
        let kvm: Vec<KvmExits> = kvm_exits(&traced.transcript);
        ensure!(!kvm.is_empty(), "KVM's host traced no exits");
        Ok(Self {
            longest: kvm.iter().map(|exits| exits.longest).reduce(f64::max),
            kvm,
            ..Self::of(run)?
        })
    }

    /// Of the simulator.
    pub(crate) fn of_ours(run: &Run) -> Result<Self> {
        let measured = Self::of(run)?;
        let costs = |timing: &Timing| (timing.mark, samples::costs(&run.transcript, timing.mark));
        let slices = run
            .transcript
            .l1("slices")
            .context("L1 told nothing of slices")?;
        let longest = slices
            .number("longest")
            .context("L1 told no longest slice")?;
        Ok(Self {
            costs: measured.timings.iter().map(costs).collect(),
            launch: Some(attestation::launch_instructions(run)?),
            longest: Some(longest as f64 / 1000.0),
            ..measured
        })
    }

    fn of(run: &Run) -> Result<Self> {
        let error = run
            .transcript
            .console
            .iter()
            .find(|line| line.starts_with("@error"));
        ensure!(error.is_none(), "{}", error.map_or("", String::as_str));
        let timings = samples::timings(&run.transcript);
        ensure!(!timings.is_empty(), "the guest timed nothing");
        let uptime = run.transcript.guest_uptime().context("no user space")?;
        Ok(Self {
            timings,
            costs: Vec::new(),
            kvm: Vec::new(),
            boot: uptime as f64 / 1e6,
            launch: None,
            longest: None,
        })
    }

    /// The median time of the command with this mark; not a number of one that was not timed.
    pub(super) fn microseconds(&self, mark: u64) -> f64 {
        let timing = self.timings.iter().find(|timing| timing.mark == mark);
        let spread = timing.and_then(|timing| Spread::of(timing.nanoseconds.iter().copied()));
        spread.map_or(f64::NAN, |spread| spread.median / 1000.0)
    }

    /// What the command cost on the simulator, each time.
    pub(super) fn costs(&self, mark: u64) -> &[Cost] {
        let costs = self.costs.iter().find(|(of, _)| *of == mark);
        costs.map_or(&[], |(_, costs)| costs)
    }

    /// Exits on the TPM's registers for the command, the median.
    pub(super) fn tpm_exits(&self, mark: u64) -> f64 {
        match self.kvm.is_empty() {
            true => median(self.costs(mark), |cost| cost.tpm_exits),
            false => self.kvm_median(mark, |exits| exits.tpm),
        }
    }

    /// The same, of how many.
    pub(super) fn exits(&self, mark: u64) -> String {
        let all = match self.kvm.is_empty() {
            true => median(self.costs(mark), |cost| cost.all_exits),
            false => self.kvm_median(mark, |exits| exits.all),
        };
        format!("{} of {all}", self.tpm_exits(mark))
    }

    fn kvm_median(&self, mark: u64, of: fn(&KvmExits) -> f64) -> f64 {
        let exits = self.kvm.iter().filter(|exits| exits.mark == mark);
        Spread::of(exits.map(of)).map_or(f64::NAN, |spread| spread.median)
    }

    /// A command for programs.
    pub(super) fn json(&self, mark: u64, command: &str) -> Value {
        let part = |of: fn(&Cost) -> f64| median(self.costs(mark), of);
        json!({
            "command": command, "microseconds": self.microseconds(mark), "tpm_exits": self.tpm_exits(mark),
            "guest_instructions": part(|cost| cost.guest), "module_instructions": part(|cost| cost.exits),
            "l1_instructions": part(|cost| cost.l1),
        })
    }
}

/// The host's `@exits` lines that end a command.
fn kvm_exits(transcript: &Transcript) -> Vec<KvmExits> {
    let lines = transcript.console.iter();
    let told =
        lines.filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("@exits ")?).ok());
    told.filter_map(|told| {
        let mark = told.get("mark")?.as_str()?.trim_start_matches("0x");
        let mark = u64::from_str_radix(mark, 16).ok()?.checked_sub(END)?;
        let number = |key: &str| told.get(key)?.as_f64();
        Some(KvmExits {
            mark,
            tpm: number("tpm_accesses")?,
            all: number("exits")?,
            longest: number("longest")?,
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_between_commands_is_none_of_theirs() {
        let console = [
            r#"@exits {"mark":"0x1","exits":900,"tpm_accesses":40,"longest":7}"#,
            r#"@exits {"mark":"0x81","exits":90,"tpm_accesses":75,"longest":31}"#,
            "@exits nonsense",
        ];
        let transcript = Transcript::new(console.map(str::to_owned).to_vec(), "");
        assert_eq!(
            kvm_exits(&transcript),
            [KvmExits {
                mark: 1,
                tpm: 75.0,
                all: 90.0,
                longest: 31.0
            }]
        );
    }
}
