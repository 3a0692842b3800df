//! Debian's kernel resets its machine in each way that it knows, and is launched again in the same TD.

use crate::linux::{is_quiet, l1_has_room};
use crate::suite::steps;
use crate::{BASE_COMMAND_LINE, Checks, Setup, Suite, interface_option};
use anyhow::{Result, ensure};
use attestation::journal::TpmInterface;
use simulator::{Run, Simulation};

/// Ways of `tests/guest/restarts`.
const RESETS: usize = 4;

/// A machine that is reset.
struct Machine {
    name: &'static str,
    file: &'static str,
    processors: u32,
    interface: TpmInterface,
}

const MACHINES: [Machine; 2] = [
    Machine {
        name: "resets: 2 processors",
        file: "restarts-2",
        processors: 2,
        interface: TpmInterface::Fifo,
    },
    Machine {
        name: "resets: a CRB interface",
        file: "restarts-crb",
        processors: 1,
        interface: TpmInterface::Crb,
    },
];

/// Every machine.
pub fn suite(setup: &Setup) -> Suite<'_> {
    let mut suite = Suite::new();
    for machine in &MACHINES {
        suite.add(|_| machine.check(setup));
    }
    suite
}

impl Machine {
    fn check(&self, setup: &Setup) -> Checks {
        let run = match self.run(setup) {
            Ok(run) => run,
            Err(error) => return vec![(self.name.to_owned(), Err(error))],
        };
        let mut checks = steps(self.name, self.file, &run);
        checks.push((self.name.to_owned(), ended_well(&run)));
        checks
    }

    fn run(&self, setup: &Setup) -> Result<Run> {
        let options = [interface_option(self.interface)];
        let command_line = format!("{BASE_COMMAND_LINE} quiet tdp.mode=restarts");
        Simulation {
            processors: self.processors,
            no_reboot: false,
            options: &options,
            ..setup.simulation(self.file, setup.linux(&command_line), 512)
        }
        .run(&mut |_| {})
    }
}

fn ended_well(run: &Run) -> Result<()> {
    is_quiet(&run.transcript.console)?;
    let ended = run.transcript.result();
    ensure!(run.succeeded, "it ended with {ended}");
    ensure!(
        run.transcript.steps_finished(),
        "the guest's script did not come to its end"
    );
    let resets = run.transcript.l1_records.iter();
    let resets = resets.filter(|record| record.name == "reset").count();
    ensure!(resets == RESETS, "L1 tells {resets} resets");
    l1_has_room(run)
}
