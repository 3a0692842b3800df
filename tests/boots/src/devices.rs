//! Debian's kernel and its own drivers on the virtio devices of L2's PCI bus.

use crate::{BASE_COMMAND_LINE, Checks, Setup, Suite};
use anyhow::{Context, Result, ensure};
use simulator::{BootFiles, Run, Simulation};
use std::path::Path;

/// The file of fw_cfg that names the devices on L2's PCI bus.
const DEVICES_FILE: &str = "opt/org.tdp-vtpm/devices";
/// A boot, by what its checks and files are called.
const NAME: &str = "boot: devices";
const FILE: &str = "boot-devices";

/// The simulator's option for the devices on L2's PCI bus.
pub fn devices_option(devices: &str) -> String {
    format!("fwcfg={DEVICES_FILE}:{devices}")
}

/// The boot, with an initrd that has the drivers.
pub fn suite<'a>(setup: &'a Setup, initrd: &'a Path) -> Suite<'a> {
    let mut suite = Suite::new();
    suite.add(|_| check(setup, initrd));
    suite
}

fn check(setup: &Setup, initrd: &Path) -> Checks {
    let run = match boot(setup, initrd) {
        Ok(run) => run,
        Err(error) => return vec![(NAME.to_owned(), Err(error))],
    };
    let mut checks: Checks = run
        .transcript
        .steps()
        .into_iter()
        .map(|step| {
            let result = step.passed.then_some(());
            let result = result.with_context(|| format!("see {FILE}.console.log"));
            (format!("{NAME}: {}", step.name), result)
        })
        .collect();
    checks.push((NAME.to_owned(), ended_well(&run)));
    checks
}

fn ended_well(run: &Run) -> Result<()> {
    ensure!(run.succeeded, "it ended with {}", run.transcript.result());
    ensure!(
        run.transcript.steps_finished(),
        "the guest's script did not come to its end"
    );
    Ok(())
}

fn boot(setup: &Setup, initrd: &Path) -> Result<Run> {
    let command_line = format!("{BASE_COMMAND_LINE} quiet tdp.mode=devices");
    let boot = BootFiles {
        initrd: Some(initrd),
        ..setup.linux(&command_line)
    };
    Simulation {
        options: &[devices_option("entropy")],
        ..setup.simulation(FILE, boot, 1024)
    }
    .run(&mut |_| {})
}
