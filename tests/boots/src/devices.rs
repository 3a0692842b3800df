//! Debian's kernel and its own drivers on the virtio devices of L2's PCI bus.

use crate::suite::steps;
use crate::{BASE_COMMAND_LINE, Checks, Setup, Suite};
use anyhow::{Context, Result, ensure};
use simulator::{BootFiles, HostDevices, Network, Run, Simulation};
use std::ops::Range;
use std::path::Path;

/// The file of fw_cfg that names the devices on L2's PCI bus.
const DEVICES_FILE: &str = "opt/org.tdp-vtpm/devices";
/// A boot, by what its checks and files are called.
const NAME: &str = "boot: devices";
const FILE: &str = "boot-devices";
/// The type of a disk (VIRTIO 5.2).
const BLOCK: u64 = 2;
/// Bytes of the guest's disk.
const DISK_SIZE: usize = 16 << 20;
/// What it begins with.
const DISK_BEGIN: &[u8] = b"begin of a disk.";
/// What the guest writes at its end.
const DISK_END: &[u8] = b"end of a disk...";

/// The simulator's option for the devices on L2's PCI bus.
pub fn devices_option(devices: &str) -> String {
    format!("fwcfg={DEVICES_FILE}:{devices}")
}

/// What the guest's script and its kernel write to the console.
const CONSOLE_LINE: &str = "a line for hvc0";
const KERNEL_LINE: &str = "a message for every console";

/// The disk that the guest gets, of which it knows the begin.
fn make_disk(path: &Path) -> Result<()> {
    let mut disk = vec![0x5A; DISK_SIZE];
    disk[..DISK_BEGIN.len()].copy_from_slice(DISK_BEGIN);
    std::fs::write(path, disk).with_context(|| path.display().to_string())
}

/// What the guest has made of it.
fn look_at_disk(path: &Path) -> Result<()> {
    let disk = std::fs::read(path).with_context(|| path.display().to_string())?;
    ensure!(disk.starts_with(DISK_BEGIN), "the disk's begin has changed");
    ensure!(
        disk.ends_with(DISK_END),
        "the guest's last write is missing"
    );
    let untouched = |range: Range<usize>| disk[range].iter().filter(|byte| **byte == 0x5A).count();
    ensure!(
        untouched(4 << 20..8 << 20) < 4 << 14,
        "the guest's writes are missing"
    );
    ensure!(
        untouched(1 << 20..4 << 20) == 3 << 20,
        "the guest's writes went elsewhere"
    );
    Ok(())
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
    let mut checks = steps(NAME, FILE, &run);
    checks.push((NAME.to_owned(), ended_well(&run)));
    checks.push((
        format!("{NAME}: each byte is copied once"),
        copied_once(&run),
    ));
    checks
}

/// Between L2's memory and what the host sees there is no copy of L1's.
fn copied_once(run: &Run) -> Result<()> {
    let devices = run.transcript.l1_records.iter();
    let mut disks = devices.filter(|record| {
        let kind = record.number("kind");
        record.name == "device" && kind == Some(BLOCK)
    });
    let disk = disks.next().context("L1 tells nothing of the disk")?;
    let figure = |name| disk.number(name).context("a figure is missing");
    let (bytes, copied) = (figure("bytes")?, figure("copied")?);
    ensure!(bytes > 4 << 20, "the disk moved {bytes} bytes");
    ensure!(bytes == copied, "{copied} bytes copied for {bytes}");
    Ok(())
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
    let command_line = format!("console=hvc0 {BASE_COMMAND_LINE} quiet tdp.mode=devices");
    let boot = BootFiles {
        initrd: Some(initrd),
        ..setup.linux(&command_line)
    };
    let disk = setup.folder.join("boot-devices.disk");
    make_disk(&disk)?;
    let console = setup.folder.join("boot-devices.hvc0.log");
    let run = Simulation {
        options: &[
            devices_option("entropy+disks+network+consoles+vsock"),
            "guest-console=echo".to_owned(),
        ],
        devices: HostDevices {
            disks: std::slice::from_ref(&disk),
            network: Network::Own,
            guest_console: Some(&console),
            vsock: Some(52),
            ..HostDevices::default()
        },
        ..setup.simulation(FILE, boot, 1024)
    }
    .run(&mut |_| {})?;
    look_at_disk(&disk)?;
    std::fs::remove_file(disk)?;
    let heard = std::fs::read_to_string(&console).context("the guest's console")?;
    for line in [CONSOLE_LINE, KERNEL_LINE] {
        ensure!(heard.contains(line), "hvc0 did not get {line:?}");
    }
    Ok(run)
}
