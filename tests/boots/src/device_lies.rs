//! Debian's kernel on disks and a network of the host's that begin to lie while it uses them.
//!
//! A guest has several disks, each of which lies from a mark of the guest's own on (`tests/guest/lie-steps`), while it is
//! read, and a network. The kernel's drivers may wait for ever for a device that L1 has given up, as for any that is
//! broken; what they may not have is data that is none of the disk's, and the TPM notices nothing.

use crate::devices::devices_option;
use crate::suite::steps;
use crate::{BASE_COMMAND_LINE, Checks, Setup, Suite};
use anyhow::{Context, Result, ensure};
use simulator::{BootFiles, HostDevices, Network, Run, Simulation};
use std::path::{Path, PathBuf};

/// Bytes of a disk, and what they all are.
const DISK_SIZE: usize = 1 << 20;
const DISK_BYTE: u8 = b'Z';
/// The guest's marks: of the first disk, of the network, and of the network's end.
const FIRST_DISK: usize = 16;
const NETWORK: &str = "mark:32-33";

/// A disk, how it lies, and what must come of it.
struct Disk {
    lies: &'static [&'static str],
    /// r: the disk is read meanwhile; b: its driver is taken away and put back.
    how: char,
    /// What the guest tells of it.
    outcome: &'static str,
    /// Words of L1's log.
    log: &'static str,
}

/// Reading the disk ends in this.
const fn read(lies: &'static [&'static str], outcome: &'static str, log: &'static str) -> Disk {
    Disk {
        lies,
        how: 'r',
        outcome,
        log,
    }
}

/// The driver's next start ends in this.
const fn bound(lies: &'static [&'static str], outcome: &'static str, log: &'static str) -> Disk {
    Disk {
        how: 'b',
        ..read(lies, outcome, log)
    }
}

/// A boot.
struct Case {
    name: &'static str,
    disks: &'static [Disk],
    network: &'static [&'static str],
    /// What the guest tells of it: before, during and after it lies.
    network_outcome: &'static str,
    network_log: &'static str,
}

/// The guest waits for an answer that does not come.
const HANGS: &str = "hangs 2048";
const DATA: &str = "data 2048";
const ERROR: &str = "error 2048";

const CASES: [Case; 4] = [
    Case {
        name: "lengths and ids",
        disks: &[
            read(
                &["used-id:0x10000"],
                HANGS,
                "used id 0x10000 of a queue of 128",
            ),
            read(
                &["used-len:0xFFFFFFFF"],
                HANGS,
                "used length 4294967295 of a request with",
            ),
            read(&["twice"], HANGS, "breaks the rules of its queue"),
            // L2's kernel would take its own memory for the rest.
            read(&["used-len:100"], ERROR, ""),
            // It has become larger, and interrupts all the time.
            read(&["storm:50", "device-config:2:1"], "data 67584", ""),
        ],
        network: &["used-len:0xFFFF"],
        network_outcome: "answers up silent up silent",
        network_log: "used length 65535 of a request with",
    },
    Case {
        name: "indices and interrupts",
        disks: &[
            read(&["used-id:9"], HANGS, "used id 9, which is not in flight"),
            read(&["used-jump:3"], HANGS, "used index"),
            read(&["silent"], HANGS, ""),
            read(&["rewrite"], DATA, ""),
            // Of L1's timer.
            read(&["vector:0xE0"], DATA, ""),
        ],
        network: &["device-config:6:0"],
        network_outcome: "answers down silent up answers",
        network_log: "",
    },
    Case {
        name: "configuration and errors",
        disks: &[
            read(&["needs-reset"], HANGS, "the device needs a reset"),
            read(&["reset-itself"], HANGS, ""),
            read(&["vanish"], HANGS, ""),
            read(&["io-error"], ERROR, ""),
            read(
                &["config-flip"],
                DATA,
                "the device's configuration does not stay the same",
            ),
        ],
        // It asks for announcements, and a packet is in 255 buffers, with flags of every kind.
        network: &["device-config:6:3", "header:10:255", "header:0:6"],
        network_outcome: "answers up answers up answers",
        network_log: "",
    },
    Case {
        name: "sizes and resets",
        disks: &[
            read(&["device-config:1:0", "device-config:0:8"], "data 8", ""),
            read(
                &["device-config:7:0xFF"],
                DATA,
                "a disk of 0xff00000000000800 sectors",
            ),
            bound(&["reset-never"], "gone", "the device does not reset"),
            bound(
                &["features-refused"],
                "gone",
                "the device does not keep to its features",
            ),
            read(&["mute"], DATA, ""),
        ],
        // What is lost is lost, and what comes later comes.
        network: &["silent"],
        network_outcome: "answers up silent up answers",
        network_log: "",
    },
];

/// A boot each; those whose name contains `filter`.
pub fn suite<'a>(setup: &'a Setup, initrd: &'a Path, filter: &str) -> Suite<'a> {
    let mut suite = Suite::new();
    for case in CASES.iter().filter(|case| case.full().contains(filter)) {
        suite.add(move |_| case.check(setup, initrd));
    }
    suite
}

impl Case {
    fn full(&self) -> String {
        format!("boot: lies: {}", self.name)
    }

    fn file(&self) -> String {
        format!("boot-lies-{}", self.name.replace(' ', "-"))
    }

    fn check(&self, setup: &Setup, initrd: &Path) -> Checks {
        let (name, file) = (self.full(), self.file());
        let run = match self.boot(setup, initrd) {
            Ok(run) => run,
            Err(error) => return vec![(name, Err(error))],
        };
        let mut checks = steps(&name, &file, &run);
        for (disk, letter) in self.disks.iter().zip('a'..) {
            let (lies, outcome) = (disk.lies.join(", "), disk.outcome);
            let judged = told(&run, &format!("vd{letter}"), outcome, disk.log);
            checks.push((format!("{name}: disk: {lies}"), judged));
        }
        let judged = told(&run, "network", self.network_outcome, self.network_log);
        checks.push((
            format!("{name}: network: {}", self.network.join(", ")),
            judged,
        ));
        checks.push((name, ended_well(&run)));
        checks
    }

    fn boot(&self, setup: &Setup, initrd: &Path) -> Result<Run> {
        let file = self.file();
        let how: String = self.disks.iter().map(|disk| disk.how).collect();
        let command_line =
            format!("{BASE_COMMAND_LINE} quiet io_delay=none tdp.mode=lies tdp.disks={how}");
        let boot = BootFiles {
            initrd: Some(initrd),
            ..setup.linux(&command_line)
        };
        let mut paths = Vec::new();
        let mut faults = Vec::new();
        for (number, disk) in self.disks.iter().enumerate() {
            let path: PathBuf = setup.folder.join(format!("{file}.disk{number}"));
            std::fs::write(&path, vec![DISK_BYTE; DISK_SIZE])
                .with_context(|| path.display().to_string())?;
            paths.push(path);
            let mark = FIRST_DISK + number;
            let lies = disk.lies.iter();
            faults.extend(lies.map(|lie| format!("virtio:disk{number}:{lie}@mark:{mark}")));
        }
        let lies = self.network.iter();
        faults.extend(lies.map(|lie| format!("virtio:network:{lie}@{NETWORK}")));
        let run = Simulation {
            options: &[
                devices_option("disks+network"),
                format!("fault={}", faults.join(",")),
            ],
            devices: HostDevices {
                disks: &paths,
                network: Network::Own,
                ..HostDevices::default()
            },
            ..setup.simulation(&file, boot, 1024)
        }
        .run(&mut |_| {})?;
        for path in paths {
            std::fs::remove_file(path)?;
        }
        Ok(run)
    }
}

/// Whether the guest tells this of a device, and L1's log has these words.
fn told(run: &Run, device: &str, outcome: &str, log: &str) -> Result<()> {
    let prefix = format!("@lie {device} ");
    let mut console = run.transcript.console.iter();
    let line = console.find_map(|line| line.strip_prefix(&prefix));
    let line = line.context("the guest did not come to it")?;
    ensure!(line == outcome, "{line:?} instead of {outcome:?}");
    let found = run.transcript.log.iter().any(|line| line.contains(log));
    ensure!(found, "the log has no {log:?}");
    Ok(())
}

fn ended_well(run: &Run) -> Result<()> {
    ensure!(run.succeeded, "it ended with {}", run.transcript.result());
    ensure!(
        run.transcript.steps_finished(),
        "the guest's script did not come to its end"
    );
    let mut console = run.transcript.console.iter();
    let complaint = console.find(|line| line.contains("BUG") || line.contains("Oops"));
    ensure!(complaint.is_none(), "the guest's kernel: {complaint:?}");
    Ok(())
}
