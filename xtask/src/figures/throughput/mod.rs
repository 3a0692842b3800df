//! What L2's disk and network do, against plain QEMU with the same device; `peer` is the host's end of the network.
//!
//! Both machines are QEMU's TCG with the same memory, kernel, initrd, drive (a raw file, QEMU's usual cache mode and
//! threads) and instruction-counted clock, whose idle time passes as the host's. They boot in turn. L2's device has the same
//! device of QEMU's behind it, and L1, the TDX module and the host's role between.

mod peer;

use super::Figure;
use super::samples::Spread;
use crate::initrd::More;
use crate::{debian, images, prepare, progress, report};
use anyhow::{Context, Result, ensure};
use boots::devices::devices_option;
use boots::throughput::{Cost, DISK, Measured, Watch, cost, exit_goal, make_disk};
use boots::{BASE_COMMAND_LINE, LIMIT, Setup};
use peer::Peer;
use serde_json::{Value, json};
use simulator::{
    BootFiles, Clock, HostDevices, Models, Network, Outside, PlainQemu, Simulation, Window,
};
use std::path::PathBuf;
use tempfile::TempPath;

/// Memory of both machines, in MiB.
const MEMORY_MIB: u64 = 1024;
/// Rounds of a case in each boot.
const ROUNDS: u32 = 3;
/// The least that L2's throughput may be of plain QEMU's.
const RATIO_GOAL: f64 = 0.7;
/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A disk in a file.
    Disk,
    /// A disk that has no medium: what takes time is instructions alone.
    NoMedium,
    Network,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::NoMedium => "disk without a medium",
            Self::Network => "network",
        }
    }

    /// What a unit of it is.
    fn unit(self) -> &'static str {
        match self {
            Self::Disk | Self::NoMedium => "request",
            Self::Network => "packet",
        }
    }
}

/// The initrd with drivers and the guest's program.
pub(crate) fn initrd(setup: &Setup) -> Result<PathBuf> {
    let program = images::build_guest_program("guest-throughput")?;
    let folder = setup.folder.join("throughput");
    std::fs::create_dir_all(&folder)?;
    let modules = debian::device_modules(&setup.folder);
    let names: Vec<String> = (1..=modules.len())
        .map(|number| format!("modules/{number:02}.ko"))
        .collect();
    let files: Vec<(&str, PathBuf)> = names.iter().map(String::as_str).zip(modules).collect();
    let more = More {
        programs: &[program],
        files: &files,
        ..More::NOTHING
    };
    prepare::guest_initrd(&more, &folder)
}

/// The two machines, and what they boot.
struct Bench<'a> {
    setup: &'a Setup,
    initrd: PathBuf,
    disk: TempPath,
    what: What,
    command_line: String,
    _peer: Peer,
}

impl<'a> Bench<'a> {
    fn new(setup: &'a Setup, what: What) -> Result<Self> {
        let initrd = initrd(setup)?;
        // Of this bench alone: another one at the same time has its own.
        let disk = tempfile::Builder::new()
            .prefix("throughput-")
            .suffix(".disk")
            .tempfile_in(&setup.folder)?
            .into_temp_path();
        make_disk(&disk)?;
        let peer = Peer::start()?;
        let words = match what {
            What::Disk => format!("disk:{ROUNDS}:1"),
            What::NoMedium => format!("zeroes:{ROUNDS}:1"),
            What::Network => format!("network:{ROUNDS}:1:{}", peer.port()),
        };
        let command_line =
            format!("{BASE_COMMAND_LINE} quiet tdp.mode=throughput tdp.measure={words}");
        Ok(Self {
            setup,
            initrd,
            disk,
            what,
            command_line,
            _peer: peer,
        })
    }

    fn boot(&self) -> BootFiles<'_> {
        BootFiles {
            kernel: &self.setup.kernel,
            initrd: Some(&self.initrd),
            command_line: &self.command_line,
        }
    }

    /// L2's.
    fn ours(&self) -> Result<(Vec<Measured>, Vec<Cost>)> {
        let name = format!("throughput-{}", self.what.name().replace(' ', "-"));
        let devices = match self.what {
            What::Disk | What::NoMedium => "disks",
            What::Network => "network",
        };
        let options = [
            Window::Accepted.option(),
            "marks=1".to_owned(),
            devices_option(devices),
        ];
        let disk = [self.disk.to_path_buf()];
        let disks = match self.what {
            What::Disk => disk.as_slice(),
            What::NoMedium | What::Network => &[],
        };
        let mut watch = Watch::default();
        let run = Simulation {
            options: &options,
            clock: Clock::Paced,
            devices: HostDevices {
                models: Models::Qemu,
                network: match self.what {
                    What::Disk | What::NoMedium => Network::None,
                    What::Network => Network::Qemu(Outside::Host),
                },
                disks,
                no_medium: (self.what == What::NoMedium).then_some(DISK),
                ..HostDevices::default()
            },
            ..self.setup.simulation(&name, self.boot(), MEMORY_MIB)
        }
        .run(&mut |line| watch.line(line))?;
        ensure!(run.succeeded, "{name}: {}", run.transcript.result());
        let cases = watch.all(&run.transcript)?;
        let costs = cases.iter().map(|case| cost(&run.transcript, case));
        let costs = costs.collect::<Result<_>>()?;
        Ok((cases, costs))
    }

    /// Plain QEMU's.
    fn theirs(&self) -> Result<Vec<Measured>> {
        let mut watch = Watch::default();
        let run = PlainQemu {
            boot: self.boot(),
            memory_mib: MEMORY_MIB,
            cpus: 1,
            clock: Clock::Paced,
            disk: (self.what == What::Disk).then_some(&*self.disk),
            no_medium: (self.what == What::NoMedium).then_some(DISK),
            network: (self.what == What::Network).then_some(Outside::Host),
            tpm_socket: None,
            limit: LIMIT,
        }
        .run(&mut |line| watch.line(line))?;
        watch.all(&run.transcript)
    }
}

/// A case in both machines, over all boots.
pub(crate) struct Row {
    name: String,
    what: What,
    /// MiB a second by the guest's clock, of all rounds.
    ours: Spread,
    plain: Spread,
    /// Of the medians of each pair of boots.
    ratio: Spread,
    /// By the host's clock, of each pair of boots.
    wall_ratio: Spread,
    /// Of the first boot's.
    cost: Cost,
}

/// Measures; `boots` is how many times each machine boots.
pub(crate) fn rows(setup: &Setup, what: What, boots: usize) -> Result<Vec<Row>> {
    let bench = Bench::new(setup, what)?;
    let step = progress::step(format!(
        "{}: {boots} times, alternating with plain QEMU",
        what.name()
    ));
    let mut ours = Vec::new();
    let mut costs = Vec::new();
    let mut theirs = Vec::new();
    for _ in 0..boots {
        let (cases, cost) = bench.ours()?;
        ours.push(cases);
        costs.push(cost);
        theirs.push(bench.theirs()?);
    }
    step.done();
    let costs = costs.first().context("no boots")?;
    (0..costs.len())
        .zip(costs)
        .map(|(index, cost)| row(what, index, &ours, &theirs, *cost))
        .collect()
}

const MIB: f64 = 1_048_576.0;

fn row(
    what: What,
    index: usize,
    ours: &[Vec<Measured>],
    theirs: &[Vec<Measured>],
    cost: Cost,
) -> Result<Row> {
    let of = |runs: &[Vec<Measured>]| {
        let cases = runs.iter().map(|cases| cases.get(index).cloned());
        cases.collect::<Option<Vec<Measured>>>()
    };
    let (ours, theirs) = of(ours)
        .zip(of(theirs))
        .context("not every boot measured every case")?;
    let case = ours.first().context("no boots")?.name.clone();
    ensure!(
        ours.iter().chain(&theirs).all(|other| other.name == case),
        "the boots measured other cases"
    );
    let name = match what {
        What::NoMedium => format!("no medium, {case}"),
        What::Disk | What::Network => case,
    };
    let all = |cases: &[Measured]| {
        Spread::of(
            cases
                .iter()
                .flat_map(Measured::rates)
                .map(|rate| rate / MIB),
        )
    };
    let median = |case: &Measured| Spread::of(case.rates()).map(|spread| spread.median);
    let ratios = |of: &dyn Fn(&Measured) -> Option<f64>| {
        let pairs = ours.iter().zip(&theirs);
        Spread::of(pairs.filter_map(|(ours, theirs)| Some(of(ours)? / of(theirs)?)))
    };
    Ok(Row {
        what,
        ours: all(&ours).context("no rates")?,
        plain: all(&theirs).context("no rates")?,
        ratio: ratios(&median).context("no ratio")?,
        wall_ratio: ratios(&Measured::wall_rate).context("no time")?,
        cost,
        name,
    })
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let rate = |spread: Spread| {
            format!(
                "{:.1} ({:.1}–{:.1})",
                spread.median, spread.minimum, spread.maximum
            )
        };
        let ratio = |spread: Spread| {
            format!(
                "{:.2} ({:.2}–{:.2})",
                spread.median, spread.minimum, spread.maximum
            )
        };
        vec![
            self.name.clone(),
            rate(self.ours),
            rate(self.plain),
            ratio(self.ratio),
            ratio(self.wall_ratio),
            format!("{:.3}", self.cost.exits),
            format!("{:.3}", self.cost.device_exits),
            format!("{:.3}", self.cost.tdvmcalls),
            format!("{:.0}", self.cost.l1),
            format!("{:.0}", self.cost.l2),
        ]
    }

    /// The figures with goals.
    fn figures(&self) -> Vec<Figure> {
        let ratio = self.ratio.median;
        let mut figures = vec![Figure {
            name: format!("{}, against plain QEMU", self.name),
            value: format!("{ratio:.2} ×"),
            goal: format!("≥ {RATIO_GOAL} ×"),
            holds: ratio >= RATIO_GOAL,
        }];
        let goal = exit_goal(&self.name, 1).filter(|_| self.what != What::Network);
        let exits = self.cost.device_exits;
        let name = format!("L2 exits a {}, {}", self.what.unit(), self.name);
        figures.push(match goal {
            Some(goal) => Figure {
                name,
                value: format!("{exits:.2}"),
                goal: format!("≤ {goal}"),
                holds: exits <= goal,
            },
            None => Figure::without_goal(name, format!("{exits:.2}")),
        });
        figures
    }

    /// The row for programs.
    pub(crate) fn json(&self) -> Value {
        json!({
            "name": self.name,
            "mib_per_second": self.ours,
            "plain_qemu_mib_per_second": self.plain,
            "ratio": self.ratio,
            "wall_ratio": self.wall_ratio,
            "unit": self.what.unit(),
            "exits_per_unit": self.cost.exits,
            "exits_without_timer_per_unit": self.cost.device_exits,
            "tdvmcalls_per_unit": self.cost.tdvmcalls,
            "l1_instructions_per_unit": self.cost.l1,
            "l2_instructions_per_unit": self.cost.l2,
        })
    }
}

/// The figures of all rows.
pub(crate) fn figures(rows: &[Row]) -> Vec<Figure> {
    rows.iter().flat_map(Row::figures).collect()
}

/// Prints the rows.
pub(crate) fn print(rows: &[Row]) {
    println!(
        "\nThrough L1 and on plain QEMU, MiB/s by the guest's clock, median (min–max) of all rounds:"
    );
    let heading = [
        "case",
        "L2",
        "plain QEMU",
        "ratio",
        "by the host's clock",
        "exits",
        "without timer",
        "TDVMCALLs",
        "L1 instr.",
        "L2 instr.",
    ];
    println!("{}", report::table(&heading, rows.iter().map(Row::cells)));
    println!(
        "Exits to L1, TDVMCALLs and instructions are of one request (disk) or packet (network)."
    );
}
