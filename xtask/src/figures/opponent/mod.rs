//! TPM commands in L2, and in a guest of QEMU/KVM with swtpm beside it.
//!
//! Both guests have the same kernel and initrd. KVM's host is a Linux on the machine that else runs the simulator (`runs`):
//! what either guest waits for, an exit's way through the monitor, the TPM's engine, and with KVM QEMU's processes and the
//! scheduler between them, is in one count of instructions, of which 1,000 are a microsecond. The figures do not depend on
//! what else the machine does.

mod measured;
mod runs;

pub(crate) use measured::Measured;
pub(crate) use runs::Runs;

use super::Figure;
use super::samples::median;
use crate::report;
use serde_json::{Value, json};

/// Marks of the guest's timing program, what the table calls them, and the goals for our two interfaces in microseconds.
const COMMANDS: [(u64, &str, [f64; 2]); 8] = [
    (1, "GetRandom(32)", [200.0, 100.0]),
    (2, "PCR_Extend(SHA-256)", [250.0, 120.0]),
    (3, "PCR_Read × 8", [600.0, 200.0]),
    (10, "GetCapability, 40 properties", [650.0, 200.0]),
    (11, "SelfTest(full)", [100_000.0, 100_000.0]),
    (
        9,
        "CreatePrimary P-256, the first of a boot",
        [10_000.0, 10_000.0],
    ),
    (6, "CreatePrimary P-256, later ones", [5_000.0, 4_500.0]),
    (4, "Quote P-256", [5_000.0, 4_500.0]),
];
/// Seconds of the guest's uptime at its first program.
const BOOT_GOAL: f64 = 1.5;
/// Instructions of the measured launch.
const LAUNCH_GOAL: f64 = 0.5e9;
/// Two commands that differ in little but the length of the response: what their exits cost is between them.
const SHORT: u64 = 1;
const LONG: u64 = 3;

/// What is compared: FIFO (TIS) first, then CRB.
pub(crate) struct Comparison {
    kvm: [Measured; 2],
    ours: [Measured; 2],
    /// FIFO without run-ahead.
    each: Measured,
}

impl Comparison {
    /// What the runs say.
    pub(crate) fn of(runs: &Runs) -> anyhow::Result<Self> {
        let [fifo, crb] = &runs.kvm;
        let [fifo_traced, crb_traced] = &runs.traced;
        let [ours, ours_crb] = &runs.ours;
        Ok(Self {
            kvm: [
                Measured::of_kvm(fifo, fifo_traced)?,
                Measured::of_kvm(crb, crb_traced)?,
            ],
            ours: [Measured::of_ours(ours)?, Measured::of_ours(ours_crb)?],
            each: Measured::of_ours(&runs.each)?,
        })
    }

    /// Ours against KVM's and against the goals.
    pub(crate) fn figures(&self) -> Vec<Figure> {
        let mut figures = Vec::new();
        for (interface, name) in ["TIS", "CRB"].into_iter().enumerate() {
            let (ours, kvm) = (&self.ours[interface], &self.kvm[interface]);
            for (mark, command, goals) in COMMANDS {
                let (time, theirs) = (ours.microseconds(mark), kvm.microseconds(mark));
                figures.push(Figure {
                    name: format!("{command}, {name}, against QEMU/KVM with swtpm"),
                    value: format!(
                        "{:.2} × ({} µs / {} µs)",
                        time / theirs,
                        whole(time),
                        whole(theirs)
                    ),
                    goal: format!("< 1 ×, ≤ {} µs", whole(goals[interface])),
                    holds: time < theirs && time <= goals[interface],
                });
            }
            figures.push(Figure {
                name: format!("boot to user space (uptime), {name}, against QEMU/KVM"),
                value: format!(
                    "{:.2} × ({:.2} s / {:.2} s)",
                    ours.boot / kvm.boot,
                    ours.boot,
                    kvm.boot
                ),
                goal: format!("< 1 ×, ≤ {BOOT_GOAL} s"),
                holds: ours.boot < kvm.boot && ours.boot <= BOOT_GOAL,
            });
        }
        if let Some(launch) = self.ours[0].launch {
            figures.push(Figure {
                name: "measured launch, instructions".to_owned(),
                value: format!("{:.0} M", launch / 1e6),
                goal: format!("≤ {:.0} M", LAUNCH_GOAL / 1e6),
                holds: launch <= LAUNCH_GOAL,
            });
        }
        figures
    }

    /// The tables for people.
    pub(crate) fn print(&self) {
        println!(
            "\nCommands by the guest's clock, µs (1,000 instructions of all levels), median; ours by theirs:"
        );
        let heading = [
            "command",
            "QEMU/KVM + swtpm, TIS",
            "QEMU/KVM + swtpm, CRB",
            "this project, TIS",
            "this project, CRB",
            "ratio, TIS",
            "ratio, CRB",
        ];
        println!("{}", report::table(&heading, self.time_rows()));
        println!(
            "\nThe same commands: accesses to the TPM's registers that QEMU answers, exits that L1 answers; behind them all exits \
             of the guest. KVM has several accesses in one exit where an instruction repeats, L1 where it runs ahead:"
        );
        let heading = [
            "command",
            "QEMU/KVM + swtpm, TIS",
            "QEMU/KVM + swtpm, CRB",
            "this project, TIS",
            "this project, CRB",
            "TIS, run-ahead off",
        ];
        println!("{}", report::table(&heading, self.exit_rows()));
        println!(
            "\nThousand instructions between the marks around a command of ours, by who executed them. The engine's are L1's; by \
             CRB there is little else of L1's."
        );
        let heading = [
            "command",
            "TIS: L2",
            "module",
            "L1",
            "CRB: L2",
            "module",
            "L1",
            "run-ahead off: L2",
            "module",
            "L1",
        ];
        println!("{}", report::table(&heading, self.share_rows()));
        println!("\nAn exit, and the longest time that one kept the processor from the guest:");
        let heading = ["", "instructions an exit", "module", "L1", "longest, µs"];
        println!("{}", report::table(&heading, self.cost_rows()));
    }

    fn columns(&self) -> [&Measured; 4] {
        let [kvm, kvm_crb] = &self.kvm;
        let [ours, ours_crb] = &self.ours;
        [kvm, kvm_crb, ours, ours_crb]
    }

    fn time_rows(&self) -> Vec<Vec<String>> {
        let mut rows: Vec<Vec<String>> = COMMANDS
            .iter()
            .map(|&(mark, command, _)| {
                let times = self.columns().map(|column| column.microseconds(mark));
                row(command, times, whole)
            })
            .collect();
        let boots = self.columns().map(|column| column.boot);
        rows.push(row("boot to user space, s", boots, |seconds| {
            format!("{seconds:.2}")
        }));
        let launch = |of: &Measured| {
            of.launch
                .map_or_else(String::new, |launch| format!("{:.0}", launch / 1e6))
        };
        let [ours, ours_crb] = &self.ours;
        rows.push(vec![
            "measured launch, M instructions".to_owned(),
            "–".to_owned(),
            "–".to_owned(),
            launch(ours),
            launch(ours_crb),
            String::new(),
            String::new(),
        ]);
        rows
    }

    fn exit_rows(&self) -> Vec<Vec<String>> {
        let row = |(mark, command, _): (u64, &str, _)| {
            let mut cells = vec![command.to_owned()];
            cells.extend(self.columns().map(|column| column.exits(mark)));
            cells.push(self.each.exits(mark));
            cells
        };
        COMMANDS.into_iter().map(row).collect()
    }

    fn share_rows(&self) -> Vec<Vec<String>> {
        let thousands = |number: f64| whole(number / 1000.0);
        let [fifo, crb] = &self.ours;
        let row = |(mark, command, _): (u64, &str, _)| {
            let mut cells = vec![command.to_owned()];
            for machine in [fifo, crb, &self.each] {
                let costs = machine.costs(mark);
                cells.push(thousands(median(costs, |cost| cost.guest)));
                cells.push(thousands(median(costs, |cost| cost.exits)));
                cells.push(thousands(median(costs, |cost| cost.l1)));
            }
            cells
        };
        COMMANDS.into_iter().map(row).collect()
    }

    fn cost_rows(&self) -> Vec<Vec<String>> {
        let longest = |of: &Measured| of.longest.map_or_else(String::new, whole);
        let [kvm, kvm_crb] = &self.kvm;
        let [ours, ours_crb] = &self.ours;
        let each = &self.each;
        let costs = |mark| each.costs(mark);
        let slope = |of: &dyn Fn(u64) -> f64, exits: f64| whole((of(LONG) - of(SHORT)) / exits);
        let between = |of: &Measured| of.tpm_exits(LONG) - of.tpm_exits(SHORT);
        let nanoseconds =
            |of: &Measured| slope(&|mark| of.microseconds(mark) * 1000.0, between(of));
        let part = |of: fn(&super::samples::Cost) -> f64| {
            slope(&|mark| median(costs(mark), of), between(each))
        };
        let none = String::new;
        vec![
            vec![
                "QEMU/KVM, TIS".to_owned(),
                nanoseconds(kvm),
                none(),
                none(),
                longest(kvm),
            ],
            vec![
                "QEMU/KVM, CRB".to_owned(),
                none(),
                none(),
                none(),
                longest(kvm_crb),
            ],
            vec![
                "this project, TIS, run-ahead off".to_owned(),
                nanoseconds(each),
                part(|cost| cost.exits),
                part(|cost| cost.l1),
                longest(each),
            ],
            vec![
                "this project, TIS".to_owned(),
                none(),
                none(),
                none(),
                longest(ours),
            ],
            vec![
                "this project, CRB".to_owned(),
                none(),
                none(),
                none(),
                longest(ours_crb),
            ],
        ]
    }

    /// All of it for programs.
    pub(crate) fn json(&self) -> Value {
        let column = |of: &Measured| {
            let commands = COMMANDS.map(|(mark, command, _)| of.json(mark, command));
            json!({
                "commands": commands, "boot_seconds": of.boot, "launch_instructions": of.launch,
                "longest_microseconds": of.longest,
            })
        };
        let [kvm, kvm_crb, ours, ours_crb] = self.columns().map(column);
        json!({
            "kvm_tis": kvm, "kvm_crb": kvm_crb, "tis": ours, "crb": ours_crb, "tis_without_run_ahead": column(&self.each),
        })
    }
}

/// Four columns and the two ratios of ours by theirs.
fn row(name: &str, columns: [f64; 4], show: impl Fn(f64) -> String) -> Vec<String> {
    let [kvm, kvm_crb, ours, ours_crb] = columns;
    let mut cells = vec![name.to_owned()];
    cells.extend(columns.map(show));
    cells.extend([ours / kvm, ours_crb / kvm_crb].map(|ratio| format!("{ratio:.2}")));
    cells
}

/// A number without a fraction, in groups of three digits.
fn whole(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_groups() {
        let shown = [0.4, 999.0, 1000.0, 228_936.2, 1_234_567.0, -1000.0].map(whole);
        assert_eq!(
            shown,
            ["0", "999", "1,000", "228,936", "1,234,567", "-1,000"]
        );
    }

    #[test]
    fn ratios_are_ours_by_theirs() {
        let cells = row("x", [100.0, 50.0, 80.0, 75.0], whole);
        assert_eq!(cells, ["x", "100", "50", "80", "75", "0.80", "1.50"]);
    }
}
