//! Debian's kernel with several processors: what `tests/guest-processors` tries, and odd ways to start and to end.
//!
//! A part is in every run of all tests ([`suite`]), the whole of it where it is asked for ([`whole_suite`]).

use crate::linux::{is_quiet, l1_has_room};
use crate::suite::steps;
use crate::{BASE_COMMAND_LINE, Checks, Setup, Suite};
use anyhow::{Result, ensure};
use simulator::{BootFiles, Clock, Run, Simulation};
use std::path::Path;
use std::time::Duration;

/// The long boots take as long as they take.
const LONG: Duration = Duration::from_secs(3600);

/// A boot and how it must end.
#[derive(Clone, Copy)]
struct Boot {
    name: &'static str,
    file: &'static str,
    cpus: u32,
    words: &'static str,
    /// Further options of the simulator.
    options: &'static [&'static str],
    ends: &'static str,
    /// The guest has steps to report.
    has_steps: bool,
    clock: Clock,
    limit: Duration,
}

/// Everything that the program tries.
const EVERYTHING: Boot = Boot {
    name: "",
    file: "",
    cpus: 2,
    words: "tdp.mode=processors",
    options: &[],
    ends: "poweroff",
    has_steps: true,
    clock: Clock::Counted,
    limit: crate::LIMIT,
};

/// An end.
const END: Boot = Boot {
    has_steps: false,
    ..EVERYTHING
};

/// What every run of all tests has, the long ones first.
const SHORT: [Boot; 8] = [
    Boot {
        name: "4 processors, turns of random lengths",
        file: "processors-4-random",
        cpus: 4,
        words: "tdp.mode=processors tdp.cpus=4",
        options: &["schedule=4:70000"],
        ..EVERYTHING
    },
    Boot {
        name: "2 processors: all TPM steps",
        file: "processors-2-steps",
        words: "tdp.mode=steps",
        ..EVERYTHING
    },
    Boot {
        name: "16 processors",
        file: "processors-16",
        cpus: 16,
        words: "tdp.mode=processors tdp.what=topology tdp.cpus=16",
        ..EVERYTHING
    },
    Boot {
        name: "3 processors, 2 of them brought later",
        file: "processors-3-maxcpus",
        cpus: 3,
        words: "tdp.mode=processors tdp.what=topology tdp.cpus=3 maxcpus=1",
        ..EVERYTHING
    },
    Boot {
        name: "2 processors, 1 of them used",
        file: "processors-2-nosmp",
        words: "tdp.mode=processors tdp.what=topology tdp.cpus=1 nosmp",
        ..EVERYTHING
    },
    Boot {
        name: "2 processors, the second panics",
        file: "processors-2-panic",
        words: "tdp.mode=processors tdp.what=panic tdp.from=1",
        ends: "reboot",
        ..END
    },
    Boot {
        name: "2 processors, the second restarts",
        file: "processors-2-restart",
        words: "tdp.mode=processors tdp.what=restart tdp.from=1",
        ends: "reboot",
        ..END
    },
    Boot {
        name: "2 processors, the second reboots for all",
        file: "processors-2-reboot",
        words: "reboot=s1 tdp.mode=reboot",
        ends: "reboot",
        ..END
    },
];

/// What there is besides.
const MORE: [Boot; 13] = [
    Boot {
        name: "2 processors, a power-off by the second while the first spins",
        file: "processors-2-poweroff",
        words: "tdp.mode=processors tdp.what=poweroff tdp.from=1",
        ..END
    },
    Boot {
        name: "4 processors, everything for long",
        file: "processors-4-long",
        cpus: 4,
        words: "tdp.mode=processors tdp.cpus=4 tdp.long",
        limit: LONG,
        ..EVERYTHING
    },
    Boot {
        name: "2 processors, hotplug for long",
        file: "processors-2-hotplug",
        words: "tdp.mode=processors tdp.what=hotplug tdp.cpus=2 tdp.long",
        options: &["schedule=5:90000"],
        limit: LONG,
        ..EVERYTHING
    },
    Boot {
        name: "16 processors, everything",
        file: "processors-16-everything",
        cpus: 16,
        words: "tdp.mode=processors tdp.cpus=16",
        limit: LONG,
        ..EVERYTHING
    },
    Boot {
        name: "8 processors",
        file: "processors-8",
        cpus: 8,
        words: "tdp.mode=processors tdp.cpus=8",
        limit: LONG,
        ..EVERYTHING
    },
    Boot {
        name: "1 processor",
        file: "processors-1",
        cpus: 1,
        words: "tdp.mode=processors tdp.cpus=1",
        ..EVERYTHING
    },
    Boot {
        name: "2 processors",
        file: "processors-2",
        words: "tdp.mode=processors tdp.cpus=2",
        ..EVERYTHING
    },
    Boot {
        name: "3 processors",
        file: "processors-3",
        cpus: 3,
        words: "tdp.mode=processors tdp.cpus=3",
        ..EVERYTHING
    },
    Boot {
        name: "4 processors, 3 of them brought later, then everything",
        file: "processors-4-maxcpus",
        cpus: 4,
        words: "tdp.mode=processors tdp.cpus=4 maxcpus=1",
        ..EVERYTHING
    },
    Boot {
        name: "4 processors, a kernel that wants the xAPIC",
        file: "processors-4-xapic",
        cpus: 4,
        words: "tdp.mode=processors tdp.cpus=4 nox2apic",
        ..EVERYTHING
    },
    Boot {
        name: "4 processors by their physical numbers",
        file: "processors-4-physical",
        cpus: 4,
        words: "tdp.mode=processors tdp.cpus=4 x2apic_phys",
        ..EVERYTHING
    },
    Boot {
        name: "4 processors, short turns",
        file: "processors-4-short-turns",
        cpus: 4,
        words: "tdp.mode=processors tdp.cpus=4",
        options: &["schedule=6:20000"],
        limit: LONG,
        ..EVERYTHING
    },
    Boot {
        name: "4 processors, long turns",
        file: "processors-4-long-turns",
        cpus: 4,
        words: "tdp.mode=processors tdp.cpus=4",
        options: &["schedule=7:4000000"],
        ..EVERYTHING
    },
];

/// Processors that run at the same time, on threads of the host's. Linux's watchdog of the clocks wants two reads of the PM
/// timer within some microseconds; each is an exit, which takes the host's time here.
const ON_THREADS: Boot = Boot {
    words: "tdp.mode=processors tdp.cpus=2 tsc=nowatchdog",
    clock: Clock::Threads,
    limit: LONG,
    ..EVERYTHING
};

/// What is never the same twice, and so in no run of all tests.
const THREADS: [Boot; 4] = [
    Boot {
        name: "threads: 2 processors: all TPM steps",
        file: "threads-2-steps",
        words: "tdp.mode=steps",
        ..ON_THREADS
    },
    Boot {
        name: "threads: 2 processors",
        file: "threads-2",
        ..ON_THREADS
    },
    Boot {
        name: "threads: 4 processors",
        file: "threads-4",
        cpus: 4,
        words: "tdp.mode=processors tdp.cpus=4 tsc=nowatchdog",
        ..ON_THREADS
    },
    Boot {
        name: "threads: 2 processors, hotplug for long",
        file: "threads-2-hotplug",
        words: "tdp.mode=processors tdp.what=hotplug tdp.cpus=2 tdp.long tsc=nowatchdog",
        ..ON_THREADS
    },
];

/// The boots on threads of the host's whose name contains `filter`.
pub fn threads_suite<'a>(setup: &'a Setup, initrd: &'a Path, filter: &str) -> Result<Suite<'a>> {
    named(setup, initrd, THREADS, filter)
}

/// What every run of all tests has; `initrd` has the program.
pub fn suite<'a>(setup: &'a Setup, initrd: &'a Path) -> Suite<'a> {
    of(setup, initrd, SHORT)
}

/// Everything whose name contains `filter`.
pub fn whole_suite<'a>(setup: &'a Setup, initrd: &'a Path, filter: &str) -> Result<Suite<'a>> {
    named(setup, initrd, MORE.into_iter().chain(SHORT), filter)
}

fn named<'a>(
    setup: &'a Setup,
    initrd: &'a Path,
    boots: impl IntoIterator<Item = Boot>,
    filter: &str,
) -> Result<Suite<'a>> {
    let boots = boots.into_iter();
    let suite = of(
        setup,
        initrd,
        boots.filter(|boot| boot.name.contains(filter)),
    );
    ensure!(!suite.is_empty(), "none is named {filter:?}");
    Ok(suite)
}

fn of<'a>(setup: &'a Setup, initrd: &'a Path, boots: impl IntoIterator<Item = Boot>) -> Suite<'a> {
    let mut suite = Suite::new();
    for boot in boots {
        suite.add(move |_| boot.check(setup, initrd));
    }
    suite
}

impl Boot {
    /// Boots; every step of the guest is a check, and the end is one.
    fn check(&self, setup: &Setup, initrd: &Path) -> Checks {
        let run = match self.run(setup, initrd) {
            Ok(run) => run,
            Err(error) => return vec![(self.name.to_owned(), Err(error))],
        };
        let mut checks = steps(self.name, self.file, &run);
        checks.push((self.name.to_owned(), self.ended_well(&run)));
        checks
    }

    fn ended_well(&self, run: &Run) -> Result<()> {
        ensure!(run.to_user_space.is_some(), "no user space");
        is_quiet(&run.transcript.console)?;
        let ended = run.transcript.result();
        ensure!(ended == self.ends, "it ended with {ended}");
        ensure!(
            run.succeeded || self.ends != EVERYTHING.ends,
            "the simulator reports a failure: {ended}"
        );
        ensure!(
            run.transcript.steps_finished() == self.has_steps,
            "the guest's steps did not come to their end"
        );
        l1_has_room(run)
    }

    fn run(&self, setup: &Setup, initrd: &Path) -> Result<Run> {
        let options: Vec<String> = self.options.iter().map(|&word| word.to_owned()).collect();
        let command_line = format!("{BASE_COMMAND_LINE} quiet {}", self.words);
        let boot = BootFiles {
            initrd: Some(initrd),
            ..setup.linux(&command_line)
        };
        Simulation {
            processors: self.cpus,
            options: &options,
            clock: self.clock,
            limit: Some(self.limit),
            ..setup.simulation(self.file, boot, 1024)
        }
        .run(&mut |_| {})
    }
}
