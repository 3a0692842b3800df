//! `cargo xtask bench`: the figures the project promises, against their goals.

use crate::figures::{self, Cost, Spread, Timing};
use crate::prepare::{self, Instead, Prepared, prepare};
use crate::{attestation_figures, images, progress, report, swtpm};
use anyhow::{Context, Result, ensure};
use boots::{BASE_COMMAND_LINE, LIMIT, Setup};
use serde_json::{Value, json};
use simulator::{BootFiles, Clock, PlainQemu, Run, Simulation, Window};
use std::path::{Path, PathBuf};

/// Options of the task.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write the figures as JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How many boots each boot time is the median of.
    #[arg(long, default_value_t = 3)]
    boots: usize,
    /// Only what measurement and evidence cost.
    #[arg(long, conflicts_with = "json")]
    attestation: bool,
}

/// Most exits that the Linux driver may cause, by command. The driver moves one byte an access, so a
/// command whose response carries an RSA modulus takes more; it has no goal and is in the table below.
const EXIT_GOALS: &[(&str, f64)] = &[
    ("GetRandom(32)", 77.0),
    ("PCR_Extend(SHA-256)", 105.0),
    ("Quote(ECC P-256)", 350.0),
    ("CreatePrimary(ECC P-256)", 470.0),
];
/// L1 instructions for a TIS register read.
const L1_INSTRUCTIONS_GOAL: f64 = 1500.0;
/// Boot time against plain QEMU.
const QUIET_BOOT_GOAL: f64 = 1.3;
const VERBOSE_BOOT_GOAL: f64 = 2.0;

/// A figure and whether it holds.
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) goal: String,
    pub(crate) holds: bool,
}

impl Figure {
    /// One that nothing was promised of.
    pub(crate) fn without_goal(name: String, value: String) -> Self {
        Self {
            name,
            value,
            goal: String::new(),
            holds: true,
        }
    }
}

/// Measures and prints; true if every goal holds.
pub(crate) fn run(options: &Options) -> Result<bool> {
    crate::host::prepare_for_bench()?;
    let prepared = prepare(&Instead::default())?;
    let setup = &prepared.setup;
    let timing_initrd = timing_initrd(setup)?;
    if options.attestation {
        let figures = attestation_figures::figures(setup, &timing_initrd)?;
        print_figures(&figures);
        return Ok(figures.iter().all(|figure| figure.holds));
    }
    let step = progress::step("timing commands in L2, and in a guest of QEMU with swtpm");
    let words = "quiet tdp.mode=timing";
    let ours = on_simulator(setup, &timing_initrd, words, "timing", &[])?;
    let beside = beside_swtpm(setup, &timing_initrd)?;
    step.done();
    let mut figures = exit_figures(&ours);
    figures.extend(l1_figures(&ours)?);
    let boots = [
        (
            "boot to user space, quiet",
            "quiet tdp.mode=boot",
            QUIET_BOOT_GOAL,
        ),
        (
            "boot to user space, verbose",
            "tdp.mode=boot",
            VERBOSE_BOOT_GOAL,
        ),
    ];
    let mut boot_json = Vec::new();
    for (name, words, goal) in boots {
        let (figure, value) = boot_figure(setup, name, words, goal, options.boots)?;
        figures.push(figure);
        boot_json.push(value);
    }
    figures.extend(size_figures(&prepared, &ours)?);
    let step = progress::step("measurement and evidence");
    figures.extend(attestation_figures::figures(setup, &timing_initrd)?);
    step.done();
    let commands = command_table(&ours, &beside);
    print_figures(&figures);
    print_commands(&commands);
    if let Some(path) = &options.json {
        let value = json!({
            "figures": figures.iter().map(|figure| json!({
                "name": figure.name, "value": figure.value, "goal": figure.goal, "holds": figure.holds,
            })).collect::<Vec<_>>(),
            "boots": boot_json,
            "commands": commands.iter().map(CommandRow::json).collect::<Vec<_>>(),
            "profile": ours.transcript.last("profile"),
        });
        std::fs::write(path, serde_json::to_string_pretty(&value)?)
            .with_context(|| path.display().to_string())?;
    }
    Ok(figures.iter().all(|figure| figure.holds))
}

fn timing_initrd(setup: &Setup) -> Result<PathBuf> {
    let program = images::build_guest_program("guest-timing")?;
    let folder = setup.folder.join("timing");
    std::fs::create_dir_all(&folder)?;
    prepare::guest_initrd(&[program], &folder)
}

/// A run that must end well, with further options of the simulator.
pub(crate) fn on_simulator(
    setup: &Setup,
    initrd: &Path,
    words: &str,
    name: &str,
    options: &[String],
) -> Result<Run> {
    let mut options = options.to_vec();
    options.extend([Window::Accepted.option(), "marks=1".to_owned()]);
    let command_line = format!("{BASE_COMMAND_LINE} {words}");
    let boot = BootFiles {
        initrd: Some(initrd),
        ..setup.linux(&command_line)
    };
    let run = Simulation {
        options: &options,
        ..setup.simulation(name, boot, 1024)
    }
    .run(&mut |_| {})?;
    ensure!(run.succeeded, "{name}: {}", run.transcript.result());
    Ok(run)
}

fn beside_swtpm(setup: &Setup, initrd: &Path) -> Result<Run> {
    let swtpm = swtpm::start()?;
    plain(
        setup,
        initrd,
        "quiet tpm_tis.force=1 tpm_tis.interrupts=0 tdp.mode=timing",
        Some(swtpm.socket()),
    )
}

fn plain(setup: &Setup, initrd: &Path, words: &str, socket: Option<&Path>) -> Result<Run> {
    let run = PlainQemu {
        boot: BootFiles {
            kernel: &setup.kernel,
            initrd: Some(initrd),
            command_line: &format!("{BASE_COMMAND_LINE} {words}"),
        },
        memory_mib: 1024,
        clock: Clock::Counted,
        tpm_socket: socket,
        limit: LIMIT,
    }
    .run(&mut |_| {})?;
    ensure!(
        run.to_user_space.is_some(),
        "plain QEMU did not come to user space"
    );
    Ok(run)
}

fn median(costs: &[Cost], of: impl Fn(&Cost) -> f64) -> f64 {
    Spread::of(costs.iter().map(of)).map_or(f64::NAN, |spread| spread.median)
}

fn exit_figures(ours: &Run) -> Vec<Figure> {
    let timings = figures::timings(&ours.transcript);
    EXIT_GOALS
        .iter()
        .map(|&(command, goal)| {
            let mark = timings
                .iter()
                .find(|timing| timing.command == command)
                .map_or(0, |timing| timing.mark);
            let exits = median(&figures::costs(&ours.transcript, mark), |cost| {
                cost.tpm_exits
            });
            Figure {
                name: format!("L2 exits, {command}"),
                value: format!("{exits}"),
                goal: format!("≤ {goal}"),
                holds: exits <= goal,
            }
        })
        .collect()
}

fn l1_figures(ours: &Run) -> Result<Vec<Figure>> {
    let profile = ours
        .transcript
        .last("profile")
        .context("the simulator gave no profile")?;
    let number = |path: &str| {
        profile
            .pointer(path)
            .and_then(Value::as_f64)
            .unwrap_or(f64::NAN)
    };
    let tdcalls = number("/tdcalls_per_tpm_exit/median");
    let instructions = number("/l1_per_tpm_exit/median");
    Ok(vec![
        Figure {
            name: "TDCALLs per L2 exit on the TPM window (median)".to_owned(),
            value: format!("{tdcalls}"),
            goal: "1".to_owned(),
            holds: tdcalls == 1.0,
        },
        Figure {
            name: "L1 instructions per TPM register access (median)".to_owned(),
            value: format!("{instructions}"),
            goal: format!("≤ {L1_INSTRUCTIONS_GOAL}"),
            holds: instructions <= L1_INSTRUCTIONS_GOAL,
        },
    ])
}

fn boot_figure(
    setup: &Setup,
    name: &str,
    words: &str,
    goal: f64,
    boots: usize,
) -> Result<(Figure, Value)> {
    let step = progress::step(format!(
        "{name}: {boots} times, alternating with plain QEMU"
    ));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..boots {
        let run = on_simulator(setup, &setup.initrd, words, "boot", &[])?;
        ours.extend(run.to_user_space.map(|time| time.as_secs_f64()));
        let run = plain(setup, &setup.initrd, words, None)?;
        theirs.extend(run.to_user_space.map(|time| time.as_secs_f64()));
    }
    step.done();
    let ours = Spread::of(ours).context("no boot came to user space")?;
    let theirs = Spread::of(theirs).context("no boot of plain QEMU came to user space")?;
    let ratio = ours.median / theirs.median;
    let figure = Figure {
        name: format!("{name}, against plain QEMU"),
        value: format!(
            "{ratio:.2} × ({:.2} s / {:.2} s)",
            ours.median, theirs.median
        ),
        goal: format!("≤ {goal} ×"),
        holds: ratio <= goal,
    };
    Ok((
        figure,
        json!({"name": name, "ratio": ratio, "seconds": ours, "plain_qemu_seconds": theirs}),
    ))
}

fn size_figures(prepared: &Prepared, ours: &Run) -> Result<Vec<Figure>> {
    let image = prepared.images.payload.len();
    let mut figures = vec![Figure::without_goal(
        "L1 image, stripped".to_owned(),
        format!("{} KiB", image / 1024),
    )];
    for (what, label) in [
        ("heap", "L1 heap high-water mark"),
        ("stack", "L1 stack high-water mark"),
    ] {
        let bytes = ours
            .transcript
            .high_water(what)
            .with_context(|| format!("L1 did not log its {what} high-water mark"))?;
        let value = format!("{} KiB", bytes / 1024);
        figures.push(Figure::without_goal(label.to_owned(), value));
    }
    Ok(figures)
}

/// One command's times in both machines and how ours splits.
struct CommandRow {
    command: String,
    ours: Option<Spread>,
    swtpm: Option<Spread>,
    costs: Vec<Cost>,
}

fn command_table(ours: &Run, beside: &Run) -> Vec<CommandRow> {
    let theirs = figures::timings(&beside.transcript);
    let spread = |timing: &Timing| Spread::of(timing.nanoseconds.iter().map(|ns| ns / 1000.0));
    figures::timings(&ours.transcript)
        .iter()
        .map(|timing| CommandRow {
            command: timing.command.clone(),
            ours: spread(timing),
            swtpm: theirs
                .iter()
                .find(|other| other.mark == timing.mark)
                .and_then(spread),
            costs: figures::costs(&ours.transcript, timing.mark),
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

    fn json(&self) -> Value {
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

fn print_figures(figures: &[Figure]) {
    let rows = figures.iter().map(|figure| {
        let verdict = match (figure.goal.is_empty(), figure.holds) {
            (true, _) => "",
            (false, true) => "holds",
            (false, false) => "MISSED",
        };
        vec![
            figure.name.clone(),
            figure.value.clone(),
            figure.goal.clone(),
            verdict.to_owned(),
        ]
    });
    println!(
        "{}",
        report::table(&["figure", "measured", "goal", ""], rows)
    );
}

fn print_commands(commands: &[CommandRow]) {
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
