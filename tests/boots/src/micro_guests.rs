//! The micro-guests of `sim/machine`, which try the simulated TDX module: each is a check.

use crate::{Checks, Setup, Suite};
use anyhow::{Result, anyhow, ensure};
use serde_json::Value;
use simulator::{Clock, Console, Gpaw, HostDevices, Models, Run, Simulation};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::time::Duration;

/// All of them, with either shared bit.
pub fn suite(setup: &Setup) -> Suite<'_> {
    let mut suite = Suite::new();
    for (gpaw, name, file) in [
        (Gpaw::Bits48, "micro-guests, GPAW 48", "micro-48"),
        (Gpaw::Bits52, "micro-guests, GPAW 52", "micro-52"),
    ] {
        suite.add(move |_| check(setup, gpaw, name, file));
    }
    suite.add(move |_| vec![(DISK.to_owned(), disk(setup))]);
    suite.add(move |_| vec![(QEMU.to_owned(), disk_of_qemu(setup))]);
    suite.add(move |_| vec![(CONSOLE.to_owned(), console(setup))]);
    suite
}

/// Checks whose devices are outside.
const DISK: &str = "micro-guest: a disk is in a file";
const QEMU: &str = "micro-guests: a disk of QEMU's reaches what is shared";
const CONSOLE: &str = "micro-guest: a console is connected to a socket";

/// A run of the micro-guests of this name.
fn simulation<'a>(
    setup: &'a Setup,
    options: &'a [String],
    gpaw: Gpaw,
    file: &'a str,
) -> Simulation<'a> {
    Simulation {
        init_data: None,
        devices: HostDevices::default(),
        simulator: &setup.simulator,
        image: &[],
        boot: None,
        memory_mib: 64,
        processors: 1,
        gpaw,
        clock: Clock::Counted,
        seed: simulator::SEED,
        memory_file: None,
        no_reboot: true,
        options,
        folder: &setup.folder,
        name: file,
        console: Console::Kept,
        limit: Some(Duration::from_secs(300)),
    }
}

/// What the micro-guest writes to sector 2 is in the file after the run.
fn disk(setup: &Setup) -> Result<()> {
    disk_of(setup, Models::Own, "virtio-block", "micro-disk")
}

/// The same with QEMU's own model of a disk, which its IOMMU keeps from private memory.
fn disk_of_qemu(setup: &Setup) -> Result<()> {
    disk_of(setup, Models::Qemu, "virtio-qemu", "micro-qemu")
}

fn disk_of(setup: &Setup, models: Models, tests: &str, name: &str) -> Result<()> {
    const SECTOR: usize = 512;
    let options = [format!("test={tests}")];
    let file = setup.folder.join(format!("{name}.state"));
    // No power of two.
    std::fs::write(&file, [0; 9 * SECTOR])?;
    let run = Simulation {
        devices: HostDevices {
            models,
            state_disk: Some(&file),
            ..HostDevices::default()
        },
        ..simulation(setup, &options, Gpaw::Bits48, name)
    }
    .run(&mut |_| {})?;
    ensure!(run.succeeded, "{}", run.transcript.result());
    let mut expected = [0; 9 * SECTOR];
    let value = 0x1122_3344_5566_7788_u64;
    expected[2 * SECTOR..][..8].copy_from_slice(&value.to_le_bytes());
    expected[3 * SECTOR - 8..][..8].copy_from_slice(&(!value).to_le_bytes());
    ensure!(
        std::fs::read(&file)? == expected,
        "{} has something else",
        file.display()
    );
    Ok(())
}

/// What the micro-guest sends comes out of a socket, and what is sent back wakes it up.
fn console(setup: &Setup) -> Result<()> {
    let options = ["test=virtio-console".to_owned()];
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("broker");
    let listener = UnixListener::bind(&socket)?;
    let other_end = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        let mut heard = Vec::new();
        let mut bytes = [0; 64];
        loop {
            let count = match stream.read(&mut bytes)? {
                0 => return std::io::Result::Ok(heard),
                count => count,
            };
            heard.extend_from_slice(&bytes[..count]);
            stream.write_all(&bytes[..count])?;
        }
    });
    let run = Simulation {
        devices: HostDevices {
            broker_socket: Some(&socket),
            ..HostDevices::default()
        },
        ..simulation(setup, &options, Gpaw::Bits48, "micro-console")
    }
    .run(&mut |_| {})?;
    // A run that did not get as far as to connect leaves the other end waiting.
    ensure!(run.succeeded, "{}", run.transcript.result());
    let heard = other_end
        .join()
        .map_err(|_| anyhow!("the other end ended"))??;
    ensure!(heard == b"!", "{heard:?} came");
    Ok(())
}

fn check(setup: &Setup, gpaw: Gpaw, name: &str, file: &str) -> Checks {
    let options = ["test=all".to_owned()];
    match simulation(setup, &options, gpaw, file).run(&mut |_| {}) {
        Err(error) => vec![(name.to_owned(), Err(error))],
        Ok(run) => checks(name, &run),
    }
}

/// One for each record of a micro-guest, and one for the run.
fn checks(suite: &str, run: &Run) -> Checks {
    let mut checks = Checks::new();
    for record in &run.transcript.records {
        let Some(name) = record.get("test").and_then(Value::as_str) else {
            continue;
        };
        let result = match record.get("ok").and_then(Value::as_bool) {
            Some(true) => Ok(()),
            _ => Err(anyhow!("{record}")),
        };
        checks.push((format!("{suite}: {name}"), result));
    }
    let count = checks.len();
    let whole = || {
        ensure!(
            count > 0 && run.succeeded,
            "{count} ran; {}",
            run.transcript.result()
        );
        Ok(())
    };
    checks.push((suite.to_owned(), whole()));
    checks
}
