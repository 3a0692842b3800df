//! `cargo xtask test`: everything continuous integration runs.

use super::run::{self, BASE_COMMAND_LINE, Prepared, Window};
use crate::images::{self, root};
use crate::machine::{Clock, Gpaw, Guest, Outcome, Platform};
use crate::{bad_input, blob_guests, progress};
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
    if !options.bench && options.blob.is_none() {
        lints(&mut tally);
        unit_tests(&mut tally)?;
    }
    if !options.hosted {
        let prepared = run::prepare(None, None, Window::Accepted)?;
        if options.blob.is_none() {
            micro_guests(&mut tally, &prepared);
            debian_boot(&mut tally, &prepared);
            other_boots(&mut tally, &prepared);
            bad_input::check(&mut tally, &prepared);
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

/// The programs that run on bare metal: checked one by one, because features that hosted crates turn
/// on (`std`) must not reach them.
const FREESTANDING: [&str; 3] = ["l1-vmm", "shim", "bench"];

fn lints(tally: &mut Tally) {
    let step = progress::step("formatting, lints, documentation");
    tally.count("fmt", succeed(cargo(&["fmt", "--all", "--check"])));
    let hosted: Vec<&str> = ["--workspace"]
        .into_iter()
        .chain(
            FREESTANDING
                .iter()
                .flat_map(|package| ["--exclude", package]),
        )
        .collect();
    let deny = ["--", "-D", "warnings"];
    let mut clippy = cargo(&["clippy", "--quiet", "--all-targets"]);
    clippy.args(&hosted).args(deny);
    tally.count("clippy: hosted crates", succeed(clippy));
    let mut clippy = cargo(&[
        "clippy",
        "--quiet",
        "--package",
        "l1-vmm",
        "--lib",
        "--tests",
    ]);
    clippy.args(deny);
    tally.count("clippy: l1-vmm's tests", succeed(clippy));
    let mut doc = cargo(&["doc", "--quiet", "--no-deps", "--document-private-items"]);
    doc.args(&hosted).env("RUSTDOCFLAGS", "-D warnings");
    tally.count("doc: hosted crates", succeed(doc));
    for package in FREESTANDING {
        let mut clippy = cargo(&["clippy", "--quiet", "--release", "--package", package]);
        clippy.args(deny);
        tally.count(&format!("clippy: {package}"), succeed(clippy));
        let mut doc = cargo(&[
            "doc",
            "--quiet",
            "--no-deps",
            "--document-private-items",
            "--package",
            package,
        ]);
        doc.env("RUSTDOCFLAGS", "-D warnings");
        tally.count(&format!("doc: {package}"), succeed(doc));
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
    let (first, second) = std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            boot(
                prepared,
                "steps-b",
                "quiet tdp.mode=steps",
                Gpaw::Bits48,
                Window::Accepted,
            )
        });
        let first = boot(
            prepared,
            "steps-a",
            "quiet tdp.mode=steps",
            Gpaw::Bits48,
            Window::Accepted,
        );
        (first, second.join())
    });
    step.done();
    match &first {
        Err(error) => tally.count("Debian boot", Err(anyhow::anyhow!("{error:#}"))),
        Ok(outcome) => {
            for passed in outcome.transcript.steps() {
                let result = if passed.passed {
                    Ok(())
                } else {
                    Err(anyhow::anyhow!("see {}", prepared.folder.display()))
                };
                tally.count(&format!("L2: {}", passed.name), result);
            }
            tally.count(
                "Debian boot",
                ended_well(outcome).and_then(|()| steps_finished(outcome)),
            );
        }
    }
    let same = match (first, second) {
        (Ok(_), Ok(Ok(_))) => same_files(prepared, "steps-a", "steps-b"),
        _ => Err(anyhow::anyhow!("a run did not end")),
    };
    tally.count("two runs are the same to the byte", same);
}

/// The other route of the TPM window, and the other shared bit.
fn other_boots(tally: &mut Tally, prepared: &Prepared) {
    let cases = [
        ("boot, TPM window host-routed", Gpaw::Bits48, Window::Hole),
        ("boot, GPAW 52", Gpaw::Bits52, Window::Accepted),
    ];
    for (name, gpaw, window) in cases {
        let outcome = boot(prepared, "other", "quiet tdp.mode=boot", gpaw, window);
        let result = outcome.and_then(|outcome| {
            ended_well(&outcome)?;
            anyhow::ensure!(outcome.to_user_space.is_some(), "no user space");
            Ok(())
        });
        tally.count(name, result);
    }
}

fn boot(
    prepared: &Prepared,
    name: &str,
    words: &str,
    gpaw: Gpaw,
    window: Window,
) -> Result<Outcome> {
    let image = prepared.images.assemble(window == Window::Accepted)?;
    let options = [window.option()];
    Platform {
        bench: &prepared.images.bench,
        image: &image,
        guest: Some(Guest {
            kernel: &prepared.kernel,
            initrd: Some(&prepared.initrd),
            command_line: &format!("{BASE_COMMAND_LINE} {words}"),
        }),
        memory_mib: 1024,
        gpaw,
        clock: Clock::Counted,
        options: &options,
        folder: &prepared.folder,
        name,
        interactive: false,
        limit: run::LIMIT,
    }
    .run(&mut |_| {})
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
