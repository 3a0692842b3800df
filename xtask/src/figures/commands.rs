//! TPM commands in L2, and beside them in a guest of QEMU with swtpm.

use super::samples::{self, Cost, Spread, Timing, median};
use crate::report;
use serde_json::{Value, json};
use simulator::Run;

/// One command's times in both machines and how ours splits.
pub(crate) struct CommandRow {
    command: String,
    ours: Option<Spread>,
    swtpm: Option<Spread>,
    costs: Vec<Cost>,
}

/// A row for each command that both timed.
pub(crate) fn table(ours: &Run, beside: &Run) -> Vec<CommandRow> {
    let theirs = samples::timings(&beside.transcript);
    let spread = |timing: &Timing| Spread::of(timing.nanoseconds.iter().map(|ns| ns / 1000.0));
    samples::timings(&ours.transcript)
        .iter()
        .map(|timing| CommandRow {
            command: timing.command.clone(),
            ours: spread(timing),
            swtpm: theirs
                .iter()
                .find(|other| other.mark == timing.mark)
                .and_then(spread),
            costs: samples::costs(&ours.transcript, timing.mark),
        })
        .collect()
}

impl CommandRow {
    fn cells(&self) -> Vec<String> {
        let times = |spread: Option<Spread>| {
            spread.map_or_else(String::new, |spread| {
                format!(
                    "{:.0} ({:.0}–{:.0})",
                    spread.median, spread.minimum, spread.maximum
                )
            })
        };
        let part = |of: fn(&Cost) -> f64| format!("{:.0}", median(&self.costs, of) / 1000.0);
        vec![
            self.command.clone(),
            times(self.ours),
            part(|cost| cost.guest),
            part(|cost| cost.exits),
            part(|cost| cost.l1),
            part(|cost| cost.engine),
            format!("{}", median(&self.costs, |cost| cost.tpm_exits)),
            format!("{}", median(&self.costs, |cost| cost.tdcalls)),
            times(self.swtpm),
        ]
    }

    /// The row for programs.
    pub(crate) fn json(&self) -> Value {
        json!({
            "command": self.command,
            "microseconds": self.ours,
            "swtpm_microseconds": self.swtpm,
            "tpm_exits": median(&self.costs, |cost| cost.tpm_exits),
            "tdcalls": median(&self.costs, |cost| cost.tdcalls),
            "guest_instructions": median(&self.costs, |cost| cost.guest),
            "exit_instructions": median(&self.costs, |cost| cost.exits),
            "l1_instructions": median(&self.costs, |cost| cost.l1),
            "engine_instructions": median(&self.costs, |cost| cost.engine),
        })
    }
}

/// Prints the rows.
pub(crate) fn print(commands: &[CommandRow]) {
    println!(
        "\nCommands in L2, µs of virtual time (1000 instructions), median (min–max), and its parts:"
    );
    let heading = [
        "command",
        "time",
        "guest",
        "exits",
        "L1",
        "engine",
        "TPM exits",
        "TDCALLs",
        "QEMU + swtpm",
    ];
    println!(
        "{}",
        report::table(&heading, commands.iter().map(CommandRow::cells))
    );
    println!(
        "QEMU + swtpm: swtpm runs outside the virtual clock, so its engine's time is not counted there."
    );
}
