//! `cargo xtask test`: everything continuous integration runs.

use super::run::{self, BASE_COMMAND_LINE, Prepared, Window};
use crate::images::{self, PACKAGES, VerifierBuild, root};
use crate::machine::{Clock, Gpaw, Guest, Outcome, Platform};
use crate::reproducible::{self, Scope};
use crate::tally::{Checks, Tally};
use crate::{bad_input, blob_guests, evidence, parallel, progress};
use anyhow::{Context, Result, ensure};
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

/// Runs everything; true if nothing failed. The last line has the counts.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let started = Instant::now();
    crate::host::prepare()?;
    let mut tally = Tally::default();
    let mut verifier = VerifierBuild::Quick;
    if !options.bench && options.blob.is_none() && !options.attest {
        lints(&mut tally);
        unit_tests(&mut tally)?;
        verifier = VerifierBuild::Tested;
    }
    if !options.hosted {
        let prepared = run::prepare(None, None, Window::Accepted)?;
        match (&options.blob, options.attest) {
            (Some(name), _) => blob_guests::check(&mut tally, &prepared, name),
            (None, true) => whole_boots(&mut tally, &prepared, verifier, &[])?,
            (None, false) => {
                reproducible_image(&mut tally, &prepared);
                micro_guests(&mut tally, &prepared);
                whole_boots(&mut tally, &prepared, verifier, &BOOTS)?;
                let same = same_files(&prepared, "steps", "steps-again");
                tally.count("two runs are the same to the byte", same);
                bad_input::check(&mut tally, &prepared);
                blob_guests::check(&mut tally, &prepared, "");
            }
        }
    }
    println!("\n{:.0} s", started.elapsed().as_secs_f64());
    Ok(tally.conclude())
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
        tally.add(count("passed"), None);
        failed += count("failed");
    }
    step.done();
    if output.status.success() {
        println!("pass  unit tests: {} so far", tally.passed());
    } else {
        println!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
        tally.add(0, Some(format!("unit tests ({failed} failed)")));
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

/// A boot and how it must end.
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

/// With every TPM step.
const STEPS: Boot = Boot {
    words: "quiet tdp.mode=steps",
    ..PLAIN
};

/// The long ones come first. The first two must be the same to the byte; what the others differ in
/// has nothing to do with each other.
const BOOTS: [Boot; 5] = [
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
        name: "boot: the guest reboots",
        file: "boot-reboot",
        words: "quiet tdp.mode=reboot",
        ends: "reboot",
        ..PLAIN
    },
];

/// Debian's kernel: round trips of evidence, and `boots`.
fn whole_boots(
    tally: &mut Tally,
    prepared: &Prepared,
    verifier: VerifierBuild,
    boots: &[Boot],
) -> Result<()> {
    let verifier = images::build_verifier(verifier)?;
    let verifier = verifier.as_path();
    type Job<'a> = Box<dyn Fn() -> Checks + Sync + 'a>;
    let mut jobs: Vec<Job<'_>> = Vec::new();
    for case in &evidence::CASES {
        jobs.push(Box::new(|| case.check(prepared, verifier)));
    }
    for boot in boots {
        jobs.push(Box::new(|| boot.check(prepared)));
    }
    let step = progress::step(format!("booting Debian's kernel {} times", jobs.len()));
    let results = parallel::each(&jobs, |_, job| job());
    step.done();
    for checks in results {
        tally.count_all(checks);
    }
    Ok(())
}

impl Boot {
    /// Boots; every step of the guest is a check, and the end is one.
    fn check(&self, prepared: &Prepared) -> Checks {
        let outcome = match self.run(prepared) {
            Ok(outcome) => outcome,
            Err(error) => return vec![(self.name.to_owned(), Err(error))],
        };
        let steps = outcome.transcript.steps();
        let stepless = steps.is_empty();
        let mut checks: Checks = steps
            .into_iter()
            .map(|step| {
                let result = step.passed.then_some(());
                let result = result.with_context(|| format!("see {}.console.log", self.file));
                (format!("{}: {}", self.name, step.name), result)
            })
            .collect();
        let ended = self.ended_well(&outcome, stepless);
        checks.push((self.name.to_owned(), ended));
        checks
    }

    fn ended_well(&self, outcome: &Outcome, stepless: bool) -> Result<()> {
        ensure!(outcome.to_user_space.is_some(), "no user space");
        let ended = outcome.transcript.result();
        ensure!(ended == self.ends, "it ended with {ended}");
        ensure!(
            outcome.succeeded || self.ends != PLAIN.ends,
            "the bench reports a failure: {ended}"
        );
        ensure!(
            stepless == (self.words != STEPS.words),
            "steps ran that should not, or none did"
        );
        ensure!(
            stepless || outcome.transcript.steps_finished(),
            "the guest's script did not come to its end"
        );
        Ok(())
    }

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

fn same_files(prepared: &Prepared, first: &str, second: &str) -> Result<()> {
    for extension in ["console.log", "bench.log"] {
        let read = |name: &str| std::fs::read(prepared.folder.join(format!("{name}.{extension}")));
        ensure!(
            read(first)? == read(second)?,
            "{extension} of the two runs differ: compare {first}.{extension} and {second}.{extension} in {}",
            images::work_folder()?.display()
        );
    }
    Ok(())
}
