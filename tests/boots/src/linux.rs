//! Debian's kernel on the L1 image.

use crate::suite::steps;
use crate::{BASE_COMMAND_LINE, Checks, Setup, Suite};
use anyhow::{Context, Result, ensure};
use simulator::{Gpaw, Run, Simulation, Window};

/// A boot and how it must end.
struct Boot {
    name: &'static str,
    file: &'static str,
    gpaw: Gpaw,
    window: Window,
    memory_mib: u64,
    words: &'static str,
    /// The guest has steps, each a check.
    has_steps: bool,
    /// Further options of the simulator.
    options: &'static [&'static str],
    ends: &'static str,
}

const PLAIN: Boot = Boot {
    name: "",
    file: "",
    gpaw: Gpaw::Bits48,
    window: Window::Accepted,
    memory_mib: 1024,
    words: "quiet tdp.mode=boot",
    has_steps: false,
    options: &[],
    ends: "poweroff",
};

/// With every TPM step.
const STEPS: Boot = Boot {
    words: "quiet tdp.mode=steps",
    has_steps: true,
    ..PLAIN
};

/// The long ones come first. The first two must be the same to the byte; what the others differ in
/// has nothing to do with each other.
static BOOTS: [Boot; 11] = [
    Boot {
        name: "boot: all TPM steps",
        file: "steps",
        ..STEPS
    },
    Boot {
        name: "boot: all TPM steps, again",
        file: "steps-again",
        ..STEPS
    },
    Boot {
        name: "boot: all TPM steps by a command response buffer",
        file: "steps-crb",
        options: &["fwcfg=opt/org.tdp-vtpm/tpm-interface:crb"],
        ..STEPS
    },
    Boot {
        name: "boot: a command response buffer behind the registers",
        file: "crb-registers",
        options: &["fwcfg=opt/org.tdp-vtpm/tpm-interface:crb-registers"],
        ..STEPS
    },
    Boot {
        name: "boot: a TPM that interrupts, polled",
        file: "boot-interrupt-polled",
        options: &["fwcfg=opt/org.tdp-vtpm/tpm-interface:fifo-interrupt"],
        words: "quiet tpm_tis.interrupts=0 tdp.mode=polled",
        has_steps: true,
        ..PLAIN
    },
    Boot {
        name: "boot: a command response buffer that interrupts",
        file: "boot-crb-interrupt",
        options: &["fwcfg=opt/org.tdp-vtpm/tpm-interface:crb-interrupt"],
        ..PLAIN
    },
    Boot {
        name: "boot: TPM window host-routed, memory above 4 GiB",
        file: "boot-hole-high",
        window: Window::Hole,
        memory_mib: 3000,
        ..PLAIN
    },
    Boot {
        name: "boot: GPAW 52, a kernel that wants the xAPIC",
        file: "boot-gpaw52-xapic",
        gpaw: Gpaw::Bits52,
        words: "quiet nox2apic tdp.mode=boot",
        ..PLAIN
    },
    Boot {
        name: "boot: CPUID without MCE, MTRR, MCA and caches",
        file: "boot-reduced-cpuid",
        options: &["cpuid=reduced"],
        ..PLAIN
    },
    Boot {
        name: "boot: a kernel with the 8259s instead of the I/O APIC",
        file: "boot-noapic",
        words: "quiet noapic tdp.mode=boot",
        ..PLAIN
    },
    Boot {
        name: "boot: the guest reboots",
        file: "boot-reboot",
        words: "quiet tdp.mode=reboot",
        ends: "reboot",
        ..PLAIN
    },
];

/// Every boot.
pub fn suite(setup: &Setup) -> Suite<'_> {
    let mut suite = Suite::new();
    for boot in &BOOTS {
        suite.add(|_| boot.check(setup));
    }
    suite
}

impl Boot {
    /// Boots; every step of the guest is a check, and the end is one.
    fn check(&self, setup: &Setup) -> Checks {
        let run = match self.run(setup) {
            Ok(run) => run,
            Err(error) => return vec![(self.name.to_owned(), Err(error))],
        };
        let mut checks = steps(self.name, self.file, &run);
        let ended = self.ended_well(&run, checks.is_empty());
        checks.push((self.name.to_owned(), ended));
        checks
    }

    fn ended_well(&self, run: &Run, stepless: bool) -> Result<()> {
        ensure!(run.to_user_space.is_some(), "no user space");
        // A processor that lacks something is worth a word of Linux's.
        if self.options.is_empty() {
            is_quiet(&run.transcript.console)?;
        }
        let ended = run.transcript.result();
        ensure!(ended == self.ends, "it ended with {ended}");
        ensure!(
            run.succeeded || self.ends != PLAIN.ends,
            "the simulator reports a failure: {ended}"
        );
        ensure!(
            stepless != self.has_steps,
            "steps ran that should not, or none did"
        );
        ensure!(
            stepless || run.transcript.steps_finished(),
            "the guest's script did not come to its end"
        );
        commands_are_left_in_time(run)?;
        l1_has_room(run)
    }

    fn run(&self, setup: &Setup) -> Result<Run> {
        let mut options = vec![self.window.option()];
        options.extend(self.options.iter().map(|&option| option.to_owned()));
        let command_line = format!("{BASE_COMMAND_LINE} {}", self.words);
        Simulation {
            image: setup.firmware.image(self.window),
            gpaw: self.gpaw,
            options: &options,
            ..setup.simulation(self.file, setup.linux(&command_line), self.memory_mib)
        }
        .run(&mut |_| {})
    }
}

/// The longest that a command of the TPM may keep its processor from L2, in ns.
const LONGEST_SLICE: u64 = 2_000_000;
/// As long as the simulated host takes for a quote at least, in ns: its two signatures are on this processor, where those of a
/// quoting enclave are not.
const QUOTE: u64 = 4_000_000;

/// Whether no slice of a command was longer than it may be, RSA keys and self-tests included. Where the quote for the
/// certificates was asked for by a command, and not before it, one was.
fn commands_are_left_in_time(run: &Run) -> Result<()> {
    let slices = run.transcript.l1("slices").context("L1 tells no slices")?;
    let figure = |name| {
        let figure = slices.number(name);
        figure.with_context(|| format!("L1 does not tell its {name}"))
    };
    let (longest, own) = (figure("longest")?, figure("longest_own")?);
    ensure!(
        longest <= LONGEST_SLICE || own < QUOTE,
        "a command of the TPM kept its processor for {longest} ns"
    );
    Ok(())
}

/// Whether L1 left a quarter of its heap and of its stack.
pub(crate) fn l1_has_room(run: &Run) -> Result<()> {
    let memory = run.transcript.l1("memory").context("L1 tells no memory")?;
    for (used, size) in [("heap", "heap_size"), ("stack", "stack_size")] {
        let figure = |name| {
            let figure = memory.number(name);
            figure.with_context(|| format!("L1 does not tell its {name}"))
        };
        let (used_bytes, bytes) = (figure(used)?, figure(size)?);
        ensure!(
            used_bytes <= bytes / 4 * 3,
            "L1 used {used_bytes} of the {bytes} bytes of its {used}"
        );
    }
    Ok(())
}

/// Whether a kernel booted with `quiet` says nothing of the machine before user space. What IMA says is of its own
/// configuration.
pub(crate) fn is_quiet(console: &[String]) -> Result<()> {
    let mut before = console
        .iter()
        .take_while(|line| !line.starts_with("@userspace "));
    let said = before.find(|line| line.starts_with('[') && !line.contains("] ima: "));
    ensure!(said.is_none(), "a quiet boot says {said:?}");
    Ok(())
}

/// Whether the first two boots, which have run, said the same to the byte.
pub fn two_are_the_same(setup: &Setup) -> Result<()> {
    let [Boot { file: first, .. }, Boot { file: second, .. }, ..] = &BOOTS;
    for extension in ["console.log", "simulator.log"] {
        let read = |name: &str| std::fs::read(setup.folder.join(format!("{name}.{extension}")));
        ensure!(
            read(first)? == read(second)?,
            "{extension} of the two runs differ: compare {first}.{extension} and {second}.{extension} in {}",
            setup.folder.display()
        );
    }
    Ok(())
}
