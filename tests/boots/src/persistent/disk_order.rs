//! Which of the host's disks is the state disk, and which are the guest's.

use super::small::{Boot, Keys, Machine, logged};
use crate::blobs::script::{SUCCESS, Step, counter, define_counter, increment};
use crate::devices::devices_option;
use crate::{Checks, Setup, Suite};
use anyhow::{Result, ensure};
use std::fs;
use std::path::Path;

/// The state disk behind the guest's, which is device 4.
const BEHIND: &str = "state-place=26";
/// The guest's disk.
const GUEST: &str = "disk=ram:1048576";
/// It calls itself the state disk, and is as long as one.
const NAMESAKE: [&str; 2] = ["disk=ram:4194304", "disk-name=tdp-vtpm-state"];

/// A machine that finds its state, and disks that are refused.
pub(super) fn suite(setup: &Setup) -> Suite<'_> {
    let mut suite = Suite::new();
    suite.add(move |_| {
        let mut checks = Checks::new();
        if let Err(error) = found(setup, &mut checks) {
            checks.push(("order of disks".into(), Err(error)));
        }
        checks
    });
    for (lie, why) in [
        ("read-only", "the state disk is read-only"),
        ("no-flush", "the state disk cannot flush"),
    ] {
        suite.add(move |_| {
            let name = format!("order of disks: a {lie} one is no state disk");
            vec![(name, is_none(setup, lie, why))]
        });
    }
    suite
}

/// Where a boot's state disk is, and whether the machine's state is on it.
struct Case {
    title: &'static str,
    name: &'static str,
    options: &'static [&'static str],
    at: &'static str,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Found,
    New,
}

const CASES: [Case; 4] = [
    Case {
        title: "the state disk behind the guest's",
        name: "behind",
        options: &[BEHIND, GUEST],
        at: "00:1a.0",
        state: State::Found,
    },
    Case {
        title: "of two state disks the first on the bus",
        name: "two",
        options: &NAMESAKE,
        at: "00:01.0",
        state: State::Found,
    },
    Case {
        title: "of two state disks the first on the bus, which is blank",
        name: "two-blank",
        options: &[BEHIND, NAMESAKE[0], NAMESAKE[1]],
        at: "00:04.0",
        // With the hardware's half alone nobody counts states.
        state: State::New,
    },
    Case {
        title: "of two state disks the first that can be written",
        name: "two-read-only",
        options: &[
            BEHIND,
            NAMESAKE[0],
            NAMESAKE[1],
            "fault=virtio:disk0:read-only",
        ],
        at: "00:1a.0",
        state: State::Found,
    },
];

fn found(setup: &Setup, checks: &mut Checks) -> Result<()> {
    let machine = Machine::new(setup, "disk-order", Keys::Hardware)?;
    let disk = machine.file("state.img");
    let steps = [
        Step::Send("define", define_counter(), SUCCESS),
        Step::Send("increment", increment(), SUCCESS),
        Step::ShowCounter("counter"),
    ];
    let run = machine.runs(&machine.boot("first", &steps, &disk))?;
    let made = counter(&run.transcript.console, "counter")?;
    for case in &CASES {
        let checked = case.check(&machine, &disk, made);
        checks.push((format!("order of disks: {}", case.title), checked));
    }
    Ok(())
}

impl Case {
    fn check(&self, machine: &Machine<'_>, disk: &Path, made: u64) -> Result<()> {
        let steps = match self.state {
            State::Found => vec![Step::ShowCounter("found")],
            // There is none to define anew in the machine's state.
            State::New => vec![Step::Send("define", define_counter(), SUCCESS)],
        };
        let before = fs::read(disk)?;
        let disks = devices_option("disks");
        let options = [self.options, &[&disks]].concat();
        let boot = Boot {
            options: &options,
            ..machine.boot(self.name, &steps, disk)
        };
        let run = machine.runs(&boot)?;
        let at = format!("the state disk is the virtio device at {}", self.at);
        logged(&run, &at)?;
        // The other one is the guest's.
        logged(&run, "PCI bus: 1 devices")?;
        match self.state {
            State::Found => {
                let found = counter(&run.transcript.console, "found")?;
                ensure!(found == made, "{made} was stored, {found} is there");
            }
            State::New => {
                ensure!(fs::read(disk)? == before, "the other disk was written to");
            }
        }
        Ok(())
    }
}

/// The host's only state disk is none.
fn is_none(setup: &Setup, lie: &str, why: &str) -> Result<()> {
    let machine = Machine::new(setup, &format!("disk-{lie}"), Keys::Hardware)?;
    let disk = machine.file("state.img");
    let steps = [Step::Send("define", define_counter(), SUCCESS)];
    let fault = format!("fault=virtio:state:{lie}");
    let boot = Boot {
        options: &[&fault],
        ..machine.boot("refused", &steps, &disk)
    };
    let run = machine.refuses(&boot, "no-disk")?;
    logged(&run, why)?;
    let untouched = fs::read(&disk)?.iter().all(|&byte| byte == 0);
    ensure!(untouched, "the state disk was written to");
    Ok(())
}
