//! `cargo xtask`: everything a developer or a machine does with the project.
//!
//! * `run` builds the images and boots a guest on the simulator;
//! * `test` runs everything continuous integration runs;
//! * `bench` measures the figures the project promises;
//! * `fuzz` runs the fuzz targets;
//! * `measure` predicts a configuration's measurements from files;
//! * `reproduce` builds the images a second time elsewhere and compares them;
//! * `state` shows a state disk;
//! * `broker` runs the key broker alone;
//! * `check-image` says whether a finished td-shim image can launch the L1 VMM.
//!
//! It installs, builds, fetches, runs and prints. The simulator's runs are in `sim/runner`, what a run
//! must show in `tests/boots`.
#![forbid(unsafe_code)]
#![allow(clippy::indexing_slicing, reason = "tasks, on files of their own")]

mod commands;
mod debian;
#[cfg(test)]
mod definitions;
mod device_initrd;
mod figures;
mod file_tree;
#[cfg(test)]
mod hardware_guide;
mod host;
mod images;
mod initrd;
#[cfg(test)]
mod named_tests;
mod odd;
mod opponent_initrd;
mod postgresql;
mod prepare;
mod processors_initrd;
mod progress;
mod report;
mod reproducible;
mod root_disk;
#[cfg(test)]
mod soundness;
mod tally;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// The project's tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Boot a Linux guest as L2 on the simulator and check its TPM.
    Run(Box<commands::run::Options>),
    /// Run everything continuous integration runs.
    Test(commands::test::Options),
    /// Measure the project's figures.
    Bench(commands::bench::Options),
    /// Run the fuzz targets, each for its share of the time. The corpus is kept in the target folder.
    Fuzz(commands::fuzz::Options),
    /// Say whether a finished td-shim image can launch the L1 VMM, or what is wrong with it.
    CheckImage(commands::check_image::Options),
    /// Predict MRTD, RTMR0 to RTMR2 and the PCRs of a configuration, and write a policy of them.
    Measure(commands::measure::Options),
    /// Say what can be told of a state disk without its key. Nothing is repaired.
    State(commands::state::Options),
    /// Build the images again from a copy of the checkout elsewhere, and say whether they are the same.
    Reproduce(commands::reproduce::Options),
    /// Run the key broker alone, on loopback, for the simulator's machines.
    Broker(commands::broker::Options),
    /// Build the firmware image (shim, metadata, L1 VMM) and write it to a file.
    Image(commands::image::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(options) => commands::run::run(&options),
        Command::Test(options) => commands::test::run(&options),
        Command::Bench(options) => commands::bench::run(&options),
        Command::Fuzz(options) => commands::fuzz::run(&options),
        Command::CheckImage(options) => commands::check_image::run(&options),
        Command::Measure(options) => commands::measure::run(&options),
        Command::State(options) => commands::state::run(&options),
        Command::Reproduce(options) => commands::reproduce::run(&options),
        Command::Broker(options) => commands::broker::run(&options),
        Command::Image(options) => commands::image::run(&options),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        // What failed has been printed.
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
