//! `cargo xtask test`: everything continuous integration runs.

use super::run::{self, BASE_COMMAND_LINE, Prepared, Window};
use crate::images::{self, PACKAGES, root};
use crate::machine::{Clock, Gpaw, Guest, Outcome, Platform};
use crate::reproducible::{self, Scope};
use crate::{bad_input, blob_guests, evidence, progress};
use anyhow::{Context, Result};
use std::process::Command;
use std::time::{Duration, Instant};

/// Options of the task.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only what needs no QEMU.
    #[arg(long)]
    hosted: bool,
    /// Only what boots on the bench.
    #[arg(long, conflicts_with = "hosted")]
    bench: bool,
    /// Only the L2 blobs whose name contains this.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["hosted", "bench"])]
    blob: Option<String>,
    /// Only the round trip of evidence.
    #[arg(long, conflicts_with_all = ["hosted", "bench", "blob"])]
    attest: bool,
}

/// What passed and what failed.
#[derive(Default)]
pub(crate) struct Tally {
    passed: usize,
    failed: Vec<String>,
}

impl Tally {
    /// Counts one check and says how it went.
    pub(crate) fn count(&mut self, name: &str, result: Result<()>) {
        match result {
            Ok(()) => {
                self.passed += 1;
                println!("pass  {name}");
            }
            Err(error) => {
                println!("FAIL  {name}: {error:#}");
                self.failed.push(name.to_owned());
            }
        }
    }
}

/// Runs everything; true if nothing failed. The last line has the counts.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let started = Instant::now();
    crate::host::prepare()?;
    let mut tally = Tally::default();
    if !options.bench && options.blob.is_none() && !options.attest {
        lints(&mut tally);
        unit_tests(&mut tally)?;
    }
    if options.attest {
        let prepared = run::prepare(None, None, Window::Accepted)?;
        evidence::check(&mut tally, &prepared);
    } else if !options.hosted {
        let prepared = run::prepare(None, None, Window::Accepted)?;
        if options.blob.is_none() {
            reproducible_image(&mut tally, &prepared);
            micro_guests(&mut tally, &prepared);
            debian_boot(&mut tally, &prepared);
            other_boots(&mut tally, &prepared);
            bad_input::check(&mut tally, &prepared);
            evidence::check(&mut tally, &prepared);
        }
        blob_guests::check(&mut tally, &prepared, options.blob.as_deref().unwrap_or(""));
    }
    println!("\n{:.0} s", started.elapsed().as_secs_f64());
    for name in &tally.failed {
        println!("failed: {name}");
    }
    println!("{} passed, {} failed", tally.passed, tally.failed.len());
    Ok(tally.failed.is_empty())
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).current_dir(root());
    command
}

fn succeed(mut command: Command) -> Result<()> {
    let output = command.output().context("cannot run cargo")?;
    if output.status.success() {
        return Ok(());
    }
    println!("{}", String::from_utf8_lossy(&output.stdout));
    println!("{}", String::from_utf8_lossy(&output.stderr));
    anyhow::bail!("{:?} failed", command.get_args().next().unwrap_or_default())
}

/// A build from another place gives the same firmware image.
fn reproducible_image(tally: &mut Tally, prepared: &Prepared) {
    let step = progress::step("building the firmware image again elsewhere");
    let result = reproducible::check(&prepared.images, Scope::FirmwareImage);
    step.done();
    tally.count("reproducible image", result);
}

/// Programs that run on bare metal are checked one by one, because features that hosted crates turn
/// on (`std`) must not reach them.
fn lints(tally: &mut Tally) {
    let step = progress::step("formatting, lints, documentation");
    let deny = ["--", "-D", "warnings"];
    let doc = || {
        let mut doc = cargo(&["doc", "--quiet", "--no-deps", "--document-private-items"]);
        doc.env("RUSTDOCFLAGS", "-D warnings");
        doc
    };
    tally.count("fmt", succeed(cargo(&["fmt", "--all", "--check"])));
    let mut clippy = cargo(&["clippy", "--quiet", "--workspace", "--all-targets"]);
    clippy.args(deny);
    tally.count("clippy: hosted", succeed(clippy));
    let mut hosted = doc();
    hosted.arg("--workspace");
    tally.count("doc: hosted", succeed(hosted));
    for package in PACKAGES {
        let mut clippy = cargo(&["clippy", "--quiet"]);
        clippy.args(images::image_arguments(package)).args(deny);
        tally.count(&format!("clippy: {package}"), succeed(clippy));
        let mut program = doc();
        program.args(images::image_arguments(package));
        tally.count(&format!("doc: {package}"), succeed(program));
    }
    step.done();
}

/// Runs the tests of every crate, and adds their counts.
fn unit_tests(tally: &mut Tally) -> Result<()> {
    let step = progress::step("unit tests and properties of every crate");
    let output = cargo(&["test", "--quiet", "--workspace", "--no-fail-fast"])
        .output()
        .context("cannot run cargo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut failed = 0;
    for line in text
        .lines()
        .filter(|line| line.starts_with("test result: "))
    {
        let count = |what: &str| {
            line.split([';', '.'])
                .find_map(|part| part.trim().strip_suffix(what)?.trim().parse::<usize>().ok())
                .unwrap_or(0)
        };
        tally.passed += count("passed");
        failed += count("failed");
    }
    step.done();
    if output.status.success() {
        println!("pass  unit tests: {} so far", tally.passed);
    } else {
        println!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
        tally.failed.push(format!("unit tests ({failed} failed)"));
    }
    Ok(())
}

/// The micro-guests, with either shared bit.
fn micro_guests(tally: &mut Tally, prepared: &Prepared) {
    for (gpaw, name) in [
        (Gpaw::Bits48, "micro-guests, GPAW 48"),
        (Gpaw::Bits52, "micro-guests, GPAW 52"),
    ] {
        let options = ["test=all".to_owned()];
        let outcome = Platform {
            bench: &prepared.images.bench,
            image: &[],
            guest: None,
            memory_mib: 64,
            gpaw,
            clock: Clock::Counted,
            options: &options,
            folder: &prepared.folder,
            name: "micro",
            interactive: false,
            answer: None,
            limit: Duration::from_secs(300),
        }
        .run(&mut |_| {});
        match outcome {
            Err(error) => tally.count(name, Err(error)),
            Ok(outcome) => count_micro_guests(tally, name, &outcome),
        }
    }
}

fn count_micro_guests(tally: &mut Tally, suite: &str, outcome: &Outcome) {
    let mut count = 0;
    for record in &outcome.transcript.records {
        let Some(name) = record.get("test").and_then(|name| name.as_str()) else {
            continue;
        };
        count += 1;
        let result = match record.get("ok").and_then(serde_json::Value::as_bool) {
            Some(true) => Ok(()),
            _ => Err(anyhow::anyhow!("{record}")),
        };
        tally.count(&format!("{suite}: {name}"), result);
    }
    let whole = if count > 0 && outcome.succeeded {
        Ok(())
    } else {
        Err(anyhow::anyhow!(
            "{count} ran; {}",
            outcome.transcript.result()
        ))
    };
    tally.count(suite, whole);
}

/// The Debian kernel with every TPM step, twice: all pass, and both runs are the same to the byte.
fn debian_boot(tally: &mut Tally, prepared: &Prepared) {
    let step = progress::step("booting Debian's kernel with all TPM steps, twice side by side");
    let steps = |file| Boot {
        file,
        words: "quiet tdp.mode=steps",
        ..PLAIN
    };
    let mut outcomes = in_pairs(&[steps("steps-a"), steps("steps-b")], |case| {
        case.run(prepared)
    });
    step.done();
    let same = if outcomes.iter().all(Result::is_ok) {
        same_files(prepared, "steps-a", "steps-b")
    } else {
        Err(anyhow::anyhow!("a run did not end"))
    };
    match outcomes.swap_remove(0) {
        Err(error) => tally.count("Debian boot", Err(error)),
        Ok(outcome) => {
            for step in outcome.transcript.steps() {
                let result = if step.passed {
                    Ok(())
                } else {
                    Err(anyhow::anyhow!("see {}", prepared.folder.display()))
                };
                tally.count(&format!("L2: {}", step.name), result);
            }
            let whole = ended_well(&outcome).and_then(|()| steps_finished(&outcome));
            tally.count("Debian boot", whole);
        }
    }
    tally.count("two runs are the same to the byte", same);
}

/// A boot to user space and how it must end.
struct Boot {
    name: &'static str,
    file: &'static str,
    gpaw: Gpaw,
    window: Window,
    memory_mib: u64,
    words: &'static str,
    ends: &'static str,
}

const PLAIN: Boot = Boot {
    name: "",
    file: "",
    gpaw: Gpaw::Bits48,
    window: Window::Accepted,
    memory_mib: 1024,
    words: "quiet tdp.mode=boot",
    ends: "poweroff",
};

/// Boots beside the one with the TPM steps: each differs from it in one thing.
const OTHER_BOOTS: [Boot; 5] = [
    Boot {
        name: "boot: TPM window host-routed",
        file: "boot-hole",
        window: Window::Hole,
        ..PLAIN
    },
    Boot {
        name: "boot: GPAW 52",
        file: "boot-gpaw52",
        gpaw: Gpaw::Bits52,
        ..PLAIN
    },
    Boot {
        name: "boot: memory above 4 GiB",
        file: "boot-high",
        memory_mib: 3000,
        ..PLAIN
    },
    Boot {
        name: "boot: a kernel that wants the xAPIC",
        file: "boot-xapic",
        words: "quiet nox2apic tdp.mode=boot",
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

fn other_boots(tally: &mut Tally, prepared: &Prepared) {
    let step = progress::step("booting in other ways");
    let results = in_pairs(&OTHER_BOOTS, |case| {
        let outcome = case.run(prepared)?;
        anyhow::ensure!(outcome.to_user_space.is_some(), "no user space");
        let ended = outcome.transcript.result();
        anyhow::ensure!(ended == case.ends, "it ended with {ended}");
        Ok(())
    });
    step.done();
    for (case, result) in OTHER_BOOTS.iter().zip(results) {
        tally.count(case.name, result);
    }
}

impl Boot {
    fn run(&self, prepared: &Prepared) -> Result<Outcome> {
        let image = prepared.images.assemble(self.window == Window::Accepted)?;
        let options = [self.window.option()];
        Platform {
            bench: &prepared.images.bench,
            image: &image,
            guest: Some(Guest {
                kernel: &prepared.kernel,
                initrd: Some(&prepared.initrd),
                command_line: &format!("{BASE_COMMAND_LINE} {}", self.words),
            }),
            memory_mib: self.memory_mib,
            gpaw: self.gpaw,
            clock: Clock::Counted,
            options: &options,
            folder: &prepared.folder,
            name: self.file,
            interactive: false,
            answer: None,
            limit: run::LIMIT,
        }
        .run(&mut |_| {})
    }
}

/// Does something for every case, two at a time: a run keeps one processor busy.
pub(crate) fn in_pairs<C: Sync, R: Send>(cases: &[C], act: impl Fn(&C) -> R + Sync) -> Vec<R> {
    let mut results = Vec::with_capacity(cases.len());
    for pair in cases.chunks(2) {
        let (first, second) = std::thread::scope(|scope| {
            let second = pair.get(1).map(|case| scope.spawn(|| act(case)));
            let first = pair.first().map(&act);
            let second = second.map(|thread| match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            (first, second)
        });
        results.extend(first.into_iter().chain(second));
    }
    results
}

fn ended_well(outcome: &Outcome) -> Result<()> {
    anyhow::ensure!(outcome.succeeded, "{}", outcome.transcript.result());
    Ok(())
}

fn steps_finished(outcome: &Outcome) -> Result<()> {
    anyhow::ensure!(
        outcome.transcript.steps_finished(),
        "the guest's script did not come to its end"
    );
    Ok(())
}

fn same_files(prepared: &Prepared, first: &str, second: &str) -> Result<()> {
    for extension in ["console.log", "bench.log"] {
        let read = |name: &str| std::fs::read(prepared.folder.join(format!("{name}.{extension}")));
        anyhow::ensure!(
            read(first)? == read(second)?,
            "{extension} of the two runs differ: compare {first}.{extension} and {second}.{extension} in {}",
            images::work_folder()?.display()
        );
    }
    Ok(())
}
