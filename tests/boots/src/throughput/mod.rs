//! What L2's disk and network cost, by counts that are the same in each run: exits to L1 for a request, and copies of a
//! byte. The guest is `tests/guest-throughput`; `measured` is what it tells. How fast it is, `cargo xtask bench` says.

mod measured;

pub use measured::{Cost, Measured, Watch, all, cost};

use crate::devices::devices_option;
use crate::heap::exits_without_the_heap;
use crate::{BASE_COMMAND_LINE, Checks, Setup, Suite};
use anyhow::{Context, Result, ensure};
use simulator::{BootFiles, HostDevices, Network, Run, Simulation};
use std::path::Path;

/// Bytes of the disk: what the guest's program uses.
pub const DISK: u64 = 64 << 20;
/// What begins with its number.
const BLOCK: usize = 4096;
/// Memory of the TD, in MiB.
const MEMORY_MIB: u64 = 512;

/// Most exits to L1 for a request of the disk, in a case of this name; none where nothing is said of it. At depth 1 it
/// costs the write to the doorbell and the HLT of who waits. The interrupt of the one queue comes to one processor, and
/// its task may wait on another: then both have halted. How often that is with 32 requests depends on where they wait
/// (0.32 to 0.51 were seen).
pub fn exit_goal(case: &str, processors: u32) -> Option<f64> {
    match case.rsplit_once(", 4 KiB, ")? {
        (_, "depth 1") if processors == 1 => Some(2.0),
        (_, "depth 1") => Some(3.5),
        (_, "depth 32") if processors == 1 => Some(0.3),
        (_, "depth 32") => Some(0.8),
        _ => None,
    }
}

/// Most exits to L1 for a packet of the network.
const PACKET_GOAL: f64 = 0.5;

/// A disk whose blocks have their numbers, as the guest's program looks for.
pub fn make_disk(path: &Path) -> Result<()> {
    let mut disk = vec![0x5A; usize::try_from(DISK)?];
    for (block, number) in disk.chunks_exact_mut(BLOCK).zip(0_u64..) {
        block[..8].copy_from_slice(&number.to_le_bytes());
    }
    std::fs::write(path, disk).with_context(|| path.display().to_string())
}

/// A boot for the disk and one for the network, with an initrd that has the guest's program.
pub fn suite<'a>(setup: &'a Setup, initrd: &'a Path) -> Suite<'a> {
    let mut suite = Suite::new();
    suite.add(|_| checks("disk", setup.processors, disk(setup, initrd)));
    suite.add(|_| checks("network", setup.processors, network(setup, initrd)));
    suite
}

/// Exits that L1 may allocate for: a driver resets its devices and sets them up. The requests are some thousands.
const SET_UP: u64 = 16;

fn checks(what: &str, processors: u32, run: Result<Run>) -> Checks {
    let name = |check: &str| format!("throughput, processors: {processors}: {what}: {check}");
    let run = match run {
        Ok(run) => run,
        Err(error) => return vec![(name("boot"), Err(error))],
    };
    let mut checks = vec![
        (name("exits to L1"), few_exits(&run, processors)),
        (name("one copy of a byte"), one_copy(&run)),
    ];
    // With several nobody says which of them allocated.
    if processors == 1 {
        checks.push((
            name("exits without the heap"),
            exits_without_the_heap(&run, SET_UP),
        ));
    }
    checks
}

fn disk(setup: &Setup, initrd: &Path) -> Result<Run> {
    let disk = setup
        .folder
        .join(format!("throughput-counts-{}.disk", setup.processors));
    make_disk(&disk)?;
    let devices = HostDevices {
        disks: std::slice::from_ref(&disk),
        ..HostDevices::default()
    };
    let run = boot(setup, initrd, "disk", devices);
    std::fs::remove_file(&disk)?;
    run
}

fn network(setup: &Setup, initrd: &Path) -> Result<Run> {
    let devices = HostDevices {
        network: Network::Own,
        ..HostDevices::default()
    };
    boot(setup, initrd, "network", devices)
}

fn boot(setup: &Setup, initrd: &Path, what: &str, devices: HostDevices<'_>) -> Result<Run> {
    let command_line =
        format!("{BASE_COMMAND_LINE} quiet tdp.mode=throughput tdp.measure={what}:1:8");
    let boot = BootFiles {
        initrd: Some(initrd),
        ..setup.linux(&command_line)
    };
    let kinds = match devices.disks {
        [] => "network",
        _ => "disks",
    };
    let name = format!("throughput-counts-{what}-{}", setup.processors);
    let run = Simulation {
        options: &[devices_option(kinds), "marks=1".to_owned()],
        devices,
        ..setup.simulation(&name, boot, MEMORY_MIB)
    }
    .run(&mut |_| {})?;
    ensure!(run.succeeded, "it ended with {}", run.transcript.result());
    Ok(run)
}

/// No case takes more exits than it may.
fn few_exits(run: &Run, processors: u32) -> Result<()> {
    for case in all(&run.transcript)? {
        let cost = cost(&run.transcript, &case)?;
        let goal = match exit_goal(&case.name, processors) {
            Some(goal) => goal,
            None if case.name.starts_with("TCP") => PACKET_GOAL,
            None => continue,
        };
        ensure!(
            cost.device_exits > 0.0 && cost.device_exits <= goal,
            "{}: {} exits for each, and at most {goal} are expected",
            case.name,
            cost.device_exits
        );
    }
    Ok(())
}

/// L1 copied each byte of every request once, and there were bytes.
fn one_copy(run: &Run) -> Result<()> {
    let device = run
        .transcript
        .l1("device")
        .context("L1 told of no device")?;
    let number = |key| device.number(key).with_context(|| format!("no {key}"));
    let (bytes, copied) = (number("bytes")?, number("copied")?);
    ensure!(bytes > 1 << 20, "only {bytes} bytes were moved");
    ensure!(bytes == copied, "{copied} bytes were copied for {bytes}");
    Ok(())
}
