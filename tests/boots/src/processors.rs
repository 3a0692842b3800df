//! How many of a TD's virtual processors come to L1, whatever the host calls them and whenever it runs them.

use crate::{BASE_COMMAND_LINE, Setup, Suite};
use anyhow::{Context, Result, ensure};
use simulator::{BootFiles, Simulation};
use std::time::Duration;

/// A TD that is started as far as its processors: the host has no files for it.
struct Case {
    name: &'static str,
    /// How many there are, and how many of them run L1.
    of: u64,
    run: u64,
    options: &'static [&'static str],
}

impl Case {
    const fn new(name: &'static str, of: u64, options: &'static [&'static str]) -> Self {
        Self {
            name,
            of,
            run: of,
            options,
        }
    }
}

const CASES: &[Case] = &[
    Case::new("two", 2, &["vcpus=2"]),
    Case::new("sixteen", 16, &["vcpus=16"]),
    Case::new(
        "sixteen in short turns",
        16,
        &["vcpus=16", "schedule=1:1000"],
    ),
    Case::new(
        "sixteen in other turns",
        16,
        &["vcpus=16", "schedule=2:20000"],
    ),
    Case::new("APIC IDs in no order", 4, &["vcpus=4", "apic-ids=2,0,3,1"]),
    Case::new(
        "APIC IDs that no table has",
        4,
        &["vcpus=4", "apic-ids=0,2,4,600"],
    ),
    Case::new("one APIC ID for three", 4, &["vcpus=4", "apic-ids=0,1,1,1"]),
    Case::new("one APIC ID for all", 4, &["vcpus=4", "apic-ids=0,0,0,0"]),
    Case::new("one second late", 4, &["vcpus=4", "late=2:1000"]),
    Case::new(
        "first, before there is a mailbox",
        3,
        &["vcpus=3", "first=2"],
    ),
    Case {
        run: 3,
        ..Case::new("one never comes", 4, &["vcpus=4", "late=2:4294967295"])
    },
    Case {
        run: 1,
        ..Case::new(
            "none ever comes",
            3,
            &["vcpus=3", "late=1:4294967295", "late=2:4294967295"],
        )
    },
];

/// Every case.
pub fn suite(setup: &Setup) -> Suite<'_> {
    let mut suite = Suite::new();
    for case in CASES {
        suite.add(move |_| vec![(format!("processors: {}", case.name), case.run(setup))]);
    }
    suite
}

impl Case {
    fn run(&self, setup: &Setup) -> Result<()> {
        let name = format!("processors-{}", self.name.replace([' ', ','], "-"));
        let mut options = vec!["fault=no-fwcfg".to_owned()];
        options.extend(self.options.iter().map(|&option| option.to_owned()));
        let boot = BootFiles {
            kernel: &setup.kernel,
            initrd: Some(&setup.initrd),
            command_line: BASE_COMMAND_LINE,
        };
        let run = Simulation {
            image: &setup.firmware.accepted,
            options: &options,
            // L1 waits for those that do not come, seconds of virtual time in a spin.
            limit: Some(Duration::from_secs(400)),
            ..setup.simulation(&name, boot, 512)
        }
        .run(&mut |_| {})?;
        let said = run.transcript.result();
        ensure!(said.contains("the host has no fw_cfg device"), "{said}");
        let record = run.transcript.l1("processors");
        let record = record.context("L1 tells no processors")?;
        let found = (record.number("run"), record.number("of"));
        ensure!(found == (Some(self.run), Some(self.of)), "{found:?} run L1");
        Ok(())
    }
}
