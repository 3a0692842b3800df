//! `cargo xtask bench`: the figures the project promises, against their goals.

use crate::figures::opponent::{Comparison, Runs};
use crate::figures::throughput::{self, What};
use crate::figures::{Figure, attestation, boot, device, guests, print, processors, size, state};
use crate::prepare::{Instead, prepare};
use crate::{processors_initrd, progress};
use anyhow::{Context, Result};
use boots::Setup;
use serde_json::{Value, json};
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
    /// Only the key broker: commits and releases a second, with 1, 16 and 256 clients, on SQLite and PostgreSQL. Nothing is
    /// booted.
    #[arg(long, conflicts_with_all = ["json", "attestation"])]
    broker: bool,
    /// Only what the guest's disk does, against plain QEMU.
    #[arg(long, conflicts_with_all = ["attestation", "broker"])]
    disk: bool,
    /// Only what the guest's network does, against plain QEMU.
    #[arg(long, conflicts_with_all = ["attestation", "broker"])]
    network: bool,
    /// Only TPM commands: in L2, and in a guest of QEMU/KVM with swtpm beside it, on the same emulated machine.
    #[arg(long, conflicts_with_all = ["attestation", "broker", "disk", "network", "state", "processors"])]
    tpm: bool,
    /// Only what a TPM that is kept costs: its state disk, and its ledger at a key broker.
    #[arg(long, conflicts_with_all = ["attestation", "broker"])]
    state: bool,
    /// Only what several processors cost, against plain QEMU.
    #[arg(long, conflicts_with_all = ["attestation", "broker"])]
    processors: bool,
}

/// The parts that can be asked for alone.
#[derive(Default)]
struct Parts {
    throughput: Vec<throughput::Row>,
    latencies: Vec<state::Latency>,
    processors: Vec<processors::Row>,
}

impl Parts {
    /// Measures what was asked for; the figures with them.
    fn measure(options: &Options, setup: &Setup, asked: Asked) -> Result<(Self, Vec<Figure>)> {
        let mut parts = Self::default();
        // Without a medium, every boot is the same.
        for (wanted, what, boots) in [
            (asked.disk, What::NoMedium, 1),
            (asked.disk, What::Disk, options.boots),
            (asked.network, What::Network, options.boots),
        ] {
            if wanted {
                parts
                    .throughput
                    .extend(throughput::rows(setup, what, boots)?);
            }
        }
        let mut figures = throughput::figures(&parts.throughput);
        if asked.state {
            let programs = super::broker::build()?;
            let initrd = guests::timing_initrd(setup)?;
            let step = progress::step("a TPM that is kept: seven boots");
            let (of_state, latencies) = state::figures(setup, &initrd, &programs)?;
            step.done();
            figures.extend(of_state);
            parts.latencies = latencies;
        }
        if asked.processors {
            let initrd = processors_initrd::build(&setup.folder)?;
            let step = progress::step("1, 2 and 4 processors");
            parts.processors = processors::rows(setup, &initrd)?;
            let of_processors =
                processors::figures(setup, &initrd, &parts.processors, options.boots)?;
            step.done();
            figures.extend(of_processors);
        }
        Ok((parts, figures))
    }

    fn print(&self) {
        if !self.throughput.is_empty() {
            throughput::print(&self.throughput);
        }
        if !self.latencies.is_empty() {
            state::print(&self.latencies);
        }
        if !self.processors.is_empty() {
            processors::print(&self.processors);
        }
    }
}

/// Which parts are measured.
#[derive(Clone, Copy)]
struct Asked {
    disk: bool,
    network: bool,
    state: bool,
    processors: bool,
}

impl Asked {
    /// What the options ask for alone; `None` if they do not.
    fn alone(options: &Options) -> Option<Self> {
        let asked = Self {
            disk: options.disk,
            network: options.network,
            state: options.state,
            processors: options.processors,
        };
        let any = asked.disk || asked.network || asked.state || asked.processors;
        any.then_some(asked)
    }

    const ALL: Self = Self {
        disk: true,
        network: true,
        state: true,
        processors: true,
    };
}

/// What is written for programs.
fn write_json(
    path: &Path,
    figures: &[Figure],
    parts: &Parts,
    more: serde_json::Map<String, Value>,
) -> Result<()> {
    let mut value = json!({
        "figures": figures.iter().map(|figure| json!({
            "name": figure.name, "value": figure.value, "goal": figure.goal, "holds": figure.holds,
        })).collect::<Vec<_>>(),
        "throughput": parts.throughput.iter().map(throughput::Row::json).collect::<Vec<_>>(),
        "processors": parts.processors.iter().map(processors::Row::json).collect::<Vec<_>>(),
        "nv_write": parts.latencies.iter().map(state::Latency::json).collect::<Vec<_>>(),
    });
    if let Some(object) = value.as_object_mut() {
        object.extend(more);
    }
    std::fs::write(path, serde_json::to_string_pretty(&value)?)
        .with_context(|| path.display().to_string())
}

/// Measures and prints; true if every goal holds.
pub(crate) fn run(options: &Options) -> Result<bool> {
    if options.broker {
        return super::broker::bench();
    }
    crate::host::prepare_for_bench()?;
    let prepared = prepare(&Instead::default())?;
    let setup = &prepared.setup;
    if let Some(asked) = Asked::alone(options) {
        let (parts, figures) = Parts::measure(options, setup, asked)?;
        print(&figures);
        parts.print();
        if let Some(path) = &options.json {
            write_json(path, &figures, &parts, serde_json::Map::new())?;
        }
        return Ok(figures.iter().all(|figure| figure.holds));
    }
    let timing_initrd = guests::timing_initrd(setup)?;
    if options.attestation {
        let figures = attestation::figures(setup, &timing_initrd)?;
        print(&figures);
        return Ok(figures.iter().all(|figure| figure.holds));
    }
    let runs = Runs::new(setup, &timing_initrd)?;
    let commands = Comparison::of(&runs)?;
    if options.tpm {
        let figures = commands.figures();
        print(&figures);
        commands.print();
        if let Some(path) = &options.json {
            let more = [("commands".to_owned(), commands.json())];
            write_json(
                path,
                &figures,
                &Parts::default(),
                more.into_iter().collect(),
            )?;
        }
        return Ok(figures.iter().all(|figure| figure.holds));
    }
    let [ours, _] = &runs.ours;
    let mut figures = commands.figures();
    figures.extend(device::exit_figures(ours));
    figures.extend(device::l1_figures(&runs.each)?);
    let (boots, boot_json): (Vec<_>, Vec<_>) =
        boot::figures(setup, options.boots)?.into_iter().unzip();
    figures.extend(boots);
    figures.extend(size::figures(&prepared, ours)?);
    let step = progress::step("measurement and evidence");
    figures.extend(attestation::figures(setup, &timing_initrd)?);
    step.done();
    let (parts, of_parts) = Parts::measure(options, setup, Asked::ALL)?;
    figures.extend(of_parts);
    print(&figures);
    commands.print();
    parts.print();
    if let Some(path) = &options.json {
        let more = [
            ("boots", json!(boot_json)),
            ("commands", commands.json()),
            ("profile", json!(ours.transcript.last("profile"))),
        ];
        let more = more.map(|(name, value)| (name.to_owned(), value));
        write_json(path, &figures, &parts, more.into_iter().collect())?;
    }
    Ok(figures.iter().all(|figure| figure.holds))
}
