//! `cargo xtask bench`: the figures the project promises, against their goals.

use crate::figures::commands::{self, CommandRow};
use crate::figures::{attestation, boot, device, guests, print, size};
use crate::prepare::{Instead, prepare};
use crate::progress;
use anyhow::{Context, Result};
use serde_json::json;
use std::path::PathBuf;

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
}

/// Measures and prints; true if every goal holds.
pub(crate) fn run(options: &Options) -> Result<bool> {
    if options.broker {
        return super::broker::bench();
    }
    crate::host::prepare_for_bench()?;
    let prepared = prepare(&Instead::default())?;
    let setup = &prepared.setup;
    let timing_initrd = guests::timing_initrd(setup)?;
    if options.attestation {
        let figures = attestation::figures(setup, &timing_initrd)?;
        print(&figures);
        return Ok(figures.iter().all(|figure| figure.holds));
    }
    let step = progress::step("timing commands in L2, and in a guest of QEMU with swtpm");
    let words = "quiet tdp.mode=timing";
    let ours = guests::on_simulator(setup, &timing_initrd, words, "timing", &[])?;
    let beside = guests::beside_swtpm(setup, &timing_initrd)?;
    step.done();
    let mut figures = device::exit_figures(&ours);
    figures.extend(device::l1_figures(&ours)?);
    let (boots, boot_json): (Vec<_>, Vec<_>) =
        boot::figures(setup, options.boots)?.into_iter().unzip();
    figures.extend(boots);
    figures.extend(size::figures(&prepared, &ours)?);
    let step = progress::step("measurement and evidence");
    figures.extend(attestation::figures(setup, &timing_initrd)?);
    step.done();
    let rows = commands::table(&ours, &beside);
    print(&figures);
    commands::print(&rows);
    if let Some(path) = &options.json {
        let value = json!({
            "figures": figures.iter().map(|figure| json!({
                "name": figure.name, "value": figure.value, "goal": figure.goal, "holds": figure.holds,
            })).collect::<Vec<_>>(),
            "boots": boot_json,
            "commands": rows.iter().map(CommandRow::json).collect::<Vec<_>>(),
            "profile": ours.transcript.last("profile"),
        });
        std::fs::write(path, serde_json::to_string_pretty(&value)?)
            .with_context(|| path.display().to_string())?;
    }
    Ok(figures.iter().all(|figure| figure.holds))
}
