//! A guest, and what its run must show.

use super::kernel::bz_image;
use super::l1_image::L1Image;
use super::program::Blob;
use crate::heap::exits_without_the_heap;
use crate::{Checks, Setup};
use anyhow::{Context, Result, anyhow, ensure};
use simulator::{BootFiles, Gpaw, Run, Simulation, Window};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The least that L1 runs with, and something over, in MiB.
const MEMORY_MIB: u64 = 128;

/// How a run must end.
#[derive(Clone, Copy)]
pub(super) enum Ends {
    /// L2 powers off.
    PowerOff,
    /// L2 resets the machine.
    Reset,
    /// L2 halts with interrupts disabled.
    Halted,
    /// L1 gives L2 up. Its record `fatal` has all of this.
    Reported(&'static [&'static str]),
    /// The simulator gives up: its words.
    Stuck(&'static str),
}

/// How the simulated host lets its virtual processors take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Schedule {
    /// Of the turns' lengths.
    pub(super) seed: u32,
    /// The longest turn, in virtual ns.
    pub(super) most: u32,
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "schedule={}:{}", self.seed, self.most)
    }
}

impl FromStr for Schedule {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let words = text.strip_prefix("schedule=");
        let (seed, most) = words
            .and_then(|words| words.split_once(':'))
            .context("no schedule=SEED:MOST")?;
        Ok(Self {
            seed: seed.parse()?,
            most: most.parse()?,
        })
    }
}

/// A guest and what its run must show.
pub(super) struct Guest {
    pub(super) name: &'static str,
    pub(super) write: fn(&L1Image) -> Result<Blob>,
    pub(super) gpaw: Gpaw,
    pub(super) window: Window,
    pub(super) options: &'static [&'static str],
    /// Turns of random lengths, not all of one.
    pub(super) schedule: Option<Schedule>,
    /// Its resets launch it again.
    pub(super) restarts: bool,
    /// L1 may use its heap to answer its exits.
    pub(super) allocates: bool,
    /// Further lines of the console.
    pub(super) prints: &'static [&'static str],
    /// What L1 must have counted at least once: figures of its record `l2`.
    pub(super) counts: &'static [&'static str],
    /// What L1's last records say at most: a record's name, the figure's, and the most.
    pub(super) at_most: &'static [(&'static str, &'static str, u64)],
    pub(super) ends: Ends,
}

impl Guest {
    /// A guest that must run to its power-off.
    pub(super) const fn new(name: &'static str, write: fn(&L1Image) -> Result<Blob>) -> Self {
        Self {
            name,
            write,
            gpaw: Gpaw::Bits48,
            window: Window::Accepted,
            options: &[],
            schedule: None,
            restarts: false,
            allocates: false,
            prints: &[],
            counts: &[],
            at_most: &[],
            ends: Ends::PowerOff,
        }
    }

    /// A guest that L1 must give up with these words.
    pub(super) const fn reported(
        name: &'static str,
        says: &'static [&'static str],
        write: fn(&L1Image) -> Result<Blob>,
    ) -> Self {
        Self {
            ends: Ends::Reported(says),
            ..Self::new(name, write)
        }
    }
}

impl Guest {
    /// Its name, with what makes it another run than others of it: `cargo xtask test --blob` takes that too.
    fn label(&self) -> String {
        match self.schedule {
            None => self.name.to_owned(),
            Some(schedule) => format!("{}, {schedule}", self.name),
        }
    }

    /// All of its checks. Of the guests that run at a time, each has its own `place`.
    pub(super) fn check(&self, setup: &Setup, image: &L1Image, place: usize) -> Checks {
        let mut checks = Checks::new();
        let whole = self
            .boot(setup, image, place)
            .and_then(|(run, blob)| self.judge(&run, &blob, &mut checks));
        if self.schedule.is_some() {
            // One of many runs of the same: what failed first says it for all.
            let failed = checks.into_iter().find_map(|(name, result)| {
                let error = result.err()?;
                Some(error.context(name))
            });
            return vec![(
                format!("L2 blob: {}", self.label()),
                failed.map_or(whole, Err),
            )];
        }
        checks.push((format!("L2 blob: {}", self.label()), whole));
        checks
    }

    /// Runs the guest.
    pub(super) fn boot(&self, setup: &Setup, image: &L1Image, place: usize) -> Result<(Run, Blob)> {
        let blob = (self.write)(image)?;
        let name = format!("blob-{place}");
        let kernel = setup.folder.join(format!("{name}.kernel"));
        std::fs::write(&kernel, bz_image(&blob.code))?;
        let mut options: Vec<String> = self.options.iter().map(|&word| word.to_owned()).collect();
        options.extend(self.schedule.map(|schedule| schedule.to_string()));
        if self.window == Window::Hole {
            options.push(self.window.option());
        }
        let boot = BootFiles {
            kernel: &kernel,
            initrd: None,
            command_line: "",
        };
        let run = Simulation {
            image: setup.firmware.image(self.window),
            gpaw: self.gpaw,
            no_reboot: !self.restarts,
            options: &options,
            limit: Some(Duration::from_secs(300)),
            ..setup.simulation(&name, boot, MEMORY_MIB)
        }
        .run(&mut |_| {})?;
        Ok((run, blob))
    }

    /// The checks that the guest printed; the answer is about the rest of the run.
    fn judge(&self, run: &Run, blob: &Blob, checks: &mut Checks) -> Result<()> {
        let console = &run.transcript.console;
        for check in &blob.checks {
            let prefix = format!("@check {check} ");
            // A guest that is launched again comes to it again.
            let mut lines = console
                .iter()
                .filter_map(|line| line.strip_prefix(&prefix))
                // Else it is a check whose name begins with this one.
                .filter(|said| *said == "ok" || said.starts_with("fail "));
            let first = lines.next();
            let result = match first.map(|first| lines.fold(first, worse)) {
                Some("ok") => Ok(()),
                Some(failed) => Err(anyhow!("{failed}")),
                None => Err(anyhow!("the run did not come to it")),
            };
            checks.push((format!("L2 blob: {}: {check}", self.label()), result));
        }
        for line in self.prints {
            ensure!(
                console.iter().any(|own| own == line),
                "the console does not show {line:?}: {console:?}"
            );
        }
        ensure!(
            !console.iter().any(|line| line.contains("@still running")),
            "L2 ran on"
        );
        let counted = run.transcript.l1("l2");
        for name in self.counts {
            ensure!(
                counted.and_then(|l2| l2.number(name)) > Some(0),
                "L1 counted no {name}"
            );
        }
        for (record, name, most) in self.at_most {
            let said = run.transcript.l1(record).and_then(|l1| l1.number(name));
            ensure!(
                said.is_some_and(|said| said <= *most),
                "L1 says of {record}: {name} {said:?}, and not at most {most}"
            );
        }
        let several = self
            .options
            .iter()
            .any(|option| option.starts_with("vcpus="));
        if matches!(self.ends, Ends::PowerOff) && !several && !self.allocates {
            exits_without_the_heap(run, 0)?;
        }
        if self.restarts && matches!(self.ends, Ends::PowerOff) {
            resets_leave_nothing(run)?;
        }
        self.check_end(run, blob)
    }

    fn check_end(&self, run: &Run, blob: &Blob) -> Result<()> {
        let result = run.transcript.result();
        let reason = run
            .transcript
            .last("result")
            .and_then(|result| result.get("reason")?.as_str())
            .unwrap_or_default();
        let wanted = match self.ends {
            Ends::PowerOff | Ends::Halted => "poweroff",
            Ends::Reset => "reboot",
            Ends::Reported(_) => "fatal-error",
            Ends::Stuck(_) => "stuck",
        };
        ensure!(reason == wanted, "it ended so: {result}");
        match self.ends {
            Ends::PowerOff => ensure!(run.succeeded, "it is no success: {result}"),
            Ends::Reset => {}
            Ends::Halted => {
                let reported = blob.reported.iter().map(String::as_str);
                for words in ["halted: L2 halted for good"].into_iter().chain(reported) {
                    ensure!(result.contains(words), "it ended so: {result}");
                }
                ensure!(!run.succeeded, "it counts as a power-off");
            }
            Ends::Reported(says) => {
                let fatal = run.transcript.l1("fatal");
                let text = fatal
                    .and_then(|fatal| fatal.text("text"))
                    .context("L1 does not say why")?;
                let console = &run.transcript.console;
                ensure!(
                    console.iter().all(String::is_empty),
                    "L2 printed something: {console:?}"
                );
                let reported = blob.reported.iter().map(String::as_str);
                for words in says.iter().copied().chain(reported) {
                    ensure!(text.contains(words), "L1 does not say {words:?}: {text}");
                }
            }
            Ends::Stuck(says) => ensure!(result.contains(says), "it ended so: {result}"),
        }
        Ok(())
    }
}

/// What a check that came twice said: that it failed, if it ever did.
fn worse<'a>(one: &'a str, other: &'a str) -> &'a str {
    match one {
        "ok" => other,
        failed => failed,
    }
}

/// Whether there were many resets, and L1's heap is after the last one what it was after half of them: by then the TPM's keys
/// were made.
fn resets_leave_nothing(run: &Run) -> Result<()> {
    const MANY: usize = 16;
    let records = run.transcript.l1_records.iter();
    let heap: Vec<_> = records
        .filter(|record| record.name == "reset")
        .map(|record| record.number("heap"))
        .collect();
    ensure!(heap.len() >= MANY, "{} resets", heap.len());
    let half = heap.get(heap.len() / 2).copied().flatten();
    let last = heap.last().copied().flatten();
    ensure!(
        half.is_some() && half == last,
        "bytes of L1's heap in use, reset by reset: {heap:?}"
    );
    Ok(())
}
