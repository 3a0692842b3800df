//! Blob guests: L2 kernels of a few dozen instructions under the real L1 image, for what no stock
//! kernel does.
//!
//! * [`kernel`]: the bzImage around a program; [`program`], [`runtime`]: writing one.
//! * The other files are the programs, by what they try: each has a table of [`Guest`]s.
//!
//! A program prints one line for each check, `@check NAME ok` or `@check NAME fail VALUE`. What
//! ends a run is compared with what L1 and the host say of it.

mod ends;
mod kernel;
mod l1_memory;
mod modes;
mod msr;
mod program;
mod runtime;
mod state;
mod tdcalls;
mod tpm_commands;
mod tpm_window;

use crate::commands::run::Prepared;
use crate::machine::{self, Clock, Gpaw, Outcome, Platform};
use crate::tally::Tally;
use crate::{parallel, progress};
use anyhow::{Context, Result, ensure};
use kernel::bz_image;
use program::Blob;
use std::process::Command;
use std::time::Duration;

/// The least that L1 runs with, and something over.
const MEMORY_MIB: u64 = 128;

/// How a run must end.
#[derive(Clone, Copy)]
enum Ends {
    /// L2 powers off.
    PowerOff,
    /// L2 resets the machine.
    Reset,
    /// L1 gives L2 up. Its last line has all of this.
    Reported(&'static [&'static str]),
    /// The bench gives up: its words.
    Stuck(&'static str),
}

/// A guest and what its run must show.
struct Guest {
    name: &'static str,
    write: fn(&L1Image) -> Result<Blob>,
    gpaw: Gpaw,
    /// The host backs the TPM window as the image asks.
    window: bool,
    options: &'static [&'static str],
    /// Further lines of the console.
    prints: &'static [&'static str],
    /// What L1 must have counted at least once, in the words of its statistics.
    counts: &'static [&'static str],
    ends: Ends,
}

impl Guest {
    /// A guest that must run to its power-off.
    const fn new(name: &'static str, write: fn(&L1Image) -> Result<Blob>) -> Self {
        Self {
            name,
            write,
            gpaw: Gpaw::Bits48,
            window: true,
            options: &[],
            prints: &[],
            counts: &[],
            ends: Ends::PowerOff,
        }
    }

    /// A guest that L1 must give up with these words.
    const fn reported(
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

fn guests() -> impl Iterator<Item = Guest> {
    tpm_window::guests()
        .into_iter()
        .chain(tpm_commands::guests())
        .chain(tdcalls::guests())
        .chain(state::guests())
        .chain(msr::guests())
        .chain(modes::guests())
        .chain(l1_memory::guests())
        .chain(ends::guests())
}

/// Runs every guest whose name contains `filter`, as many at a time as there are processors.
pub(crate) fn check(tally: &mut Tally, prepared: &Prepared, filter: &str) {
    let image = match L1Image::new(prepared) {
        Ok(image) => image,
        Err(error) => return tally.count("L2 blobs", Err(error)),
    };
    let chosen: Vec<Guest> = guests()
        .filter(|guest| guest.name.contains(filter))
        .collect();
    if chosen.is_empty() {
        return tally.count("L2 blobs", Err(anyhow::anyhow!("none is named {filter:?}")));
    }
    let step = progress::step(format!("L2 blobs: {}", chosen.len()));
    let runs = parallel::each(&chosen, |place, guest| guest.boot(prepared, &image, place));
    step.done();
    for (guest, run) in chosen.iter().zip(runs) {
        let result = run.and_then(|(outcome, blob)| guest.judge(&outcome, &blob, tally));
        tally.count(&format!("L2 blob: {}", guest.name), result);
    }
}

/// Where L1's image has what, in a TD of [`MEMORY_MIB`].
struct L1Image {
    /// First address, from L1's log.
    start: u64,
    /// Addresses of the linker script's symbols, from the start.
    symbols: Vec<(String, u64)>,
    /// The memory that L1 takes besides.
    region: u64,
    /// The firmware image that does not ask for pages in the TPM window.
    without_window: Vec<u8>,
}

impl L1Image {
    /// Asks a guest that does nothing.
    fn new(prepared: &Prepared) -> Result<Self> {
        let output = Command::new("nm")
            .arg("--defined-only")
            .arg(&prepared.images.l1_vmm)
            .output()
            .context("cannot run nm (package binutils)")?;
        let symbols = String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let value = u64::from_str_radix(words.next()?, 16).ok()?;
                Some((words.nth(1)?.to_owned(), value))
            })
            .filter(|(name, _)| name.starts_with("image_"))
            .collect();
        let nowhere = Self {
            start: 0,
            symbols,
            region: 0,
            without_window: prepared.images.assemble(false)?,
        };
        let (outcome, _) = Guest::new("locate", ends::power_off).boot(prepared, &nowhere, 0)?;
        let (image, region) = outcome
            .transcript
            .log
            .iter()
            .find_map(|line| line.split_once(" L1 at ")?.1.split_once(" and "))
            .with_context(|| {
                format!(
                    "L1 does not say where it is: {}",
                    outcome.transcript.result()
                )
            })?;
        let start = |range: &str| {
            let digits = range.trim_start_matches("0x").split('-').next()?;
            u64::from_str_radix(digits, 16).ok()
        };
        Ok(Self {
            start: start(image).context("L1's image has no address")?,
            region: start(region).context("L1's region has no address")?,
            ..nowhere
        })
    }

    /// The address of a symbol of the linker script.
    fn symbol(&self, name: &str) -> Result<u64> {
        let (_, offset) = self
            .symbols
            .iter()
            .find(|(own, _)| own == name)
            .with_context(|| format!("the L1 image has no symbol {name}"))?;
        Ok(self.start + offset)
    }
}

impl Guest {
    /// Runs the guest; of those that run at a time, each has its own `place`.
    fn boot(&self, prepared: &Prepared, image: &L1Image, place: usize) -> Result<(Outcome, Blob)> {
        let blob = (self.write)(image)?;
        let name = format!("blob-{place}");
        let kernel = prepared.folder.join(format!("{name}.kernel"));
        std::fs::write(&kernel, bz_image(&blob.code))?;
        let firmware = match self.window {
            true => &prepared.image,
            false => &image.without_window,
        };
        let options: Vec<String> = self.options.iter().map(|&word| word.to_owned()).collect();
        let outcome = Platform {
            bench: &prepared.images.bench,
            image: firmware,
            guest: Some(machine::Guest {
                kernel: &kernel,
                initrd: None,
                command_line: "",
            }),
            memory_mib: MEMORY_MIB,
            gpaw: self.gpaw,
            clock: Clock::Counted,
            options: &options,
            folder: &prepared.folder,
            name: &name,
            interactive: false,
            answer: None,
            limit: Duration::from_secs(120),
        }
        .run(&mut |_| {})?;
        Ok((outcome, blob))
    }

    /// Counts the guest's checks; the answer is about the rest of the run.
    fn judge(&self, outcome: &Outcome, blob: &Blob, tally: &mut Tally) -> Result<()> {
        let console = &outcome.transcript.console;
        for check in &blob.checks {
            let line = console
                .iter()
                .find_map(|line| line.strip_prefix(&format!("@check {check} ")));
            let result = match line {
                Some("ok") => Ok(()),
                Some(failed) => Err(anyhow::anyhow!("{failed}")),
                None => Err(anyhow::anyhow!("the run did not come to it")),
            };
            tally.count(&format!("L2 blob: {}: {check}", self.name), result);
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
        for name in self.counts {
            ensure!(
                count(outcome, name).is_some_and(|count| count > 0),
                "L1 counted no {name}"
            );
        }
        self.check_end(outcome, blob)
    }

    fn check_end(&self, outcome: &Outcome, blob: &Blob) -> Result<()> {
        let result = outcome.transcript.result();
        let reason = outcome
            .transcript
            .last("result")
            .and_then(|result| result.get("reason")?.as_str())
            .unwrap_or_default();
        let wanted = match self.ends {
            Ends::PowerOff => "poweroff",
            Ends::Reset => "reboot",
            Ends::Reported(_) => "fatal-error",
            Ends::Stuck(_) => "stuck",
        };
        ensure!(reason == wanted, "it ended so: {result}");
        match self.ends {
            Ends::PowerOff => ensure!(outcome.succeeded, "the bench reports a failure"),
            Ends::Reset => {}
            Ends::Reported(says) => {
                let line = outcome
                    .transcript
                    .log
                    .iter()
                    .find(|line| line.contains("L1: fatal: "))
                    .context("L1's log has no last line")?;
                let console = &outcome.transcript.console;
                ensure!(
                    console.iter().all(String::is_empty),
                    "L2 printed something: {console:?}"
                );
                let reported = blob.reported.iter().map(String::as_str);
                for words in says.iter().copied().chain(reported) {
                    ensure!(line.contains(words), "L1 does not say {words:?}: {line}");
                }
            }
            Ends::Stuck(says) => ensure!(result.contains(says), "it ended so: {result}"),
        }
        Ok(())
    }
}

/// A number of L1's statistics: "... NAME 12, ...".
fn count(outcome: &Outcome, name: &str) -> Option<u64> {
    let line = outcome
        .transcript
        .log
        .iter()
        .rfind(|line| line.contains("L2 exits: "))?;
    let (_, rest) = line.split_once(&format!(" {name} "))?;
    rest.split([',', ' ', ';']).next()?.parse().ok()
}
