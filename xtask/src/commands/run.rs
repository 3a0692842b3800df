//! `cargo xtask run`: boot a guest as L2 and check its TPM.

use super::measure::mirror;
use crate::images::{self, Images};
use crate::machine::{Clock, Gpaw, Guest, Outcome, Platform};
use crate::round_trip::{RoundTrip, mirror_option};
use crate::transcript::Transcript;
use crate::{debian, host, initrd, progress, report};
use anyhow::{Context, Result};
use attestation::journal::PcrMirror;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Options of the task.
#[derive(clap::Args, Clone)]
pub(crate) struct Options {
    /// A root shell of the guest in this terminal instead of the TPM steps.
    #[arg(long)]
    shell: bool,
    /// The whole round trip of evidence instead of the TPM steps: the guest makes it for a fresh nonce, and
    /// the verifier checks it against predicted values and the test platform's root.
    #[arg(long, conflicts_with_all = ["shell", "initrd"])]
    attest: bool,
    /// What L1 records of the PCRs in the journal.
    #[arg(long, value_name = "off|summary|full", value_parser = mirror)]
    pcr_mirror: Option<PcrMirror>,
    /// What the host makes of a request for a TD quote: ok, none, refused, late, fail, other-td, stale, garbage,
    /// truncated, huge.
    #[arg(long, value_name = "MODE")]
    quote: Option<String>,
    /// With --attest: quote the PCRs with a key of the guest's own.
    #[arg(long, requires = "attest")]
    own_ak: bool,
    /// With --attest: accept evidence without a TD quote.
    #[arg(long, requires = "attest")]
    without_quote: bool,
    /// With --attest: keep the evidence in this file.
    #[arg(long, value_name = "FILE", requires = "attest")]
    evidence: Option<PathBuf>,
    /// Boot this bzImage instead of a stock Debian kernel.
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Use this initrd instead of the project's.
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// Words to append to the kernel's command line.
    #[arg(long, value_name = "WORDS", default_value = "")]
    append: String,
    /// The TD's memory.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    memory: u64,
    /// Launch through this finished td-shim image instead of the built-in shim.
    #[arg(long, value_name = "IMAGE")]
    td_shim: Option<PathBuf>,
    /// Guest physical address width, and with it the shared bit.
    #[arg(long, value_enum, default_value = "48")]
    gpaw: Gpaw,
    /// Whether the host backs the TPM window with private pages (else its exits are host-routed).
    #[arg(long, value_enum, default_value = "accepted")]
    window: Window,
    /// Further options for the bench, KEY=VALUE: faults, number of L2 VMs, watchdog.
    #[arg(long = "bench-option", value_name = "KEY=VALUE")]
    bench_options: Vec<String>,
    /// Write the results as JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Show the guest's whole console.
    #[arg(long, short)]
    verbose: bool,
}

/// How L2's accesses to the TPM window reach L1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Window {
    /// Private pages of L1: the TDX module gives the exits to L1.
    Accepted,
    /// No memory there: the host routes the exits to L1.
    Hole,
}

impl Window {
    /// The bench's word for it.
    pub(crate) fn option(self) -> String {
        match self {
            Self::Accepted => "window=accepted",
            Self::Hole => "window=hole",
        }
        .to_owned()
    }
}

/// What a run takes, prepared once.
pub(crate) struct Prepared {
    pub(crate) images: Images,
    pub(crate) image: Vec<u8>,
    pub(crate) kernel: PathBuf,
    pub(crate) initrd: PathBuf,
    pub(crate) folder: PathBuf,
}

/// Words every run's kernel gets: the console, and a reboot instead of a hang on panic.
pub(crate) const BASE_COMMAND_LINE: &str = "console=ttyS0 panic=-1";
/// A run that takes longer has hung.
pub(crate) const LIMIT: Duration = Duration::from_secs(600);

/// Installs, builds, fetches.
pub(crate) fn prepare(
    kernel: Option<&Path>,
    initrd: Option<&Path>,
    window: Window,
) -> Result<Prepared> {
    host::prepare()?;
    let folder = images::work_folder()?;
    let kernel = match kernel {
        Some(path) => path.to_owned(),
        None => debian::kernel(&folder)?,
    };
    let initrd = match initrd {
        Some(path) => path.to_owned(),
        None => {
            let step = progress::step("packing the guest's initrd: busybox, tpm2-tools");
            let path = initrd::build(&images::root().join("tests/guest"), &[], &folder)?;
            step.done();
            path
        }
    };
    let images = images::build()?;
    let image = images.assemble(window == Window::Accepted)?;
    Ok(Prepared {
        images,
        image,
        kernel,
        initrd,
        folder,
    })
}

/// Runs the task.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let mut prepared = prepare(
        options.kernel.as_deref(),
        options.initrd.as_deref(),
        options.window,
    )?;
    if let Some(path) = &options.td_shim {
        prepared.image =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    }
    let kernel_name = match &options.kernel {
        Some(path) => path.display().to_string(),
        None => debian::kernel_name(&prepared.folder).unwrap_or_default(),
    };
    eprintln!("booting {kernel_name} as L2, {} MiB", options.memory);
    if options.attest {
        return attest(options, &prepared);
    }
    let outcome = boot(options, &prepared)?;
    let steps = outcome.transcript.steps();
    let wants_steps =
        !options.shell && options.initrd.is_none() && !options.append.contains("tdp.mode=");
    let steps_ok = !wants_steps
        || (outcome.transcript.steps_finished()
            && !steps.is_empty()
            && steps.iter().all(|step| step.passed));
    let ok = outcome.succeeded && steps_ok;
    println!("\n{}", report::text(&outcome));
    if !ok {
        for line in outcome.transcript.failures() {
            println!("{line}");
        }
        println!(
            "FAILED; console and log are in {}",
            prepared.folder.display()
        );
    }
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&report::json(&outcome, ok))?;
        std::fs::write(path, json).with_context(|| path.display().to_string())?;
    }
    Ok(ok)
}

/// Collects evidence, verifies it, and shows both.
fn attest(options: &Options, prepared: &Prepared) -> Result<bool> {
    let trip = RoundTrip {
        mirror: options.pcr_mirror.unwrap_or(PcrMirror::Summary),
        quote: options.quote.as_deref(),
        own_ak: options.own_ak,
        append: &options.append,
        memory_mib: options.memory,
        gpaw: options.gpaw,
        window: options.window,
        bench_options: &options.bench_options,
        ..RoundTrip::new(prepared, "attest")
    };
    let verifier = images::build_verifier(images::VerifierBuild::Quick)?;
    let policy = trip.policy(&trip.predict()?, !options.without_quote)?;
    let collected = trip.collect(&mut |line| show_line(line, options.verbose))?;
    let size = std::fs::metadata(&collected.evidence)?.len();
    if let Some(path) = &options.evidence {
        std::fs::copy(&collected.evidence, path).with_context(|| path.display().to_string())?;
    }
    println!(
        "\nevidence: {} ({size} bytes)\nnonce:    {}\npolicy:   {}\n",
        collected.evidence.display(),
        collected.nonce,
        policy.display()
    );
    let trusted = collected
        .verifier(&verifier, &policy)
        .status()
        .context("cannot run the verifier")?
        .success();
    let steps = collected.outcome.transcript.steps();
    Ok(trusted && collected.outcome.succeeded && steps.iter().all(|step| step.passed))
}

/// Shows a step of the guest, and lines that say why one failed.
fn show_line(line: &str, verbose: bool) {
    if let Some(step) = Transcript::step_of(line) {
        let result = if step.passed { "pass" } else { "FAIL" };
        println!("{result}  {}", step.name);
    } else if verbose || line.starts_with("  ") {
        println!("{line}");
    }
}

fn boot(options: &Options, prepared: &Prepared) -> Result<Outcome> {
    let mode = if options.shell { "shell" } else { "steps" };
    let mut command_line = format!("{BASE_COMMAND_LINE} quiet tdp.mode={mode}");
    if !options.append.is_empty() {
        command_line.push(' ');
        command_line.push_str(&options.append);
    }
    let mut bench_options = vec![options.window.option()];
    if options.shell {
        // People think longer than machines.
        bench_options.push("watchdog=0".to_owned());
    }
    bench_options.extend(options.pcr_mirror.map(mirror_option));
    bench_options.extend(options.quote.as_ref().map(|quote| format!("quote={quote}")));
    bench_options.extend(options.bench_options.iter().cloned());
    let platform = Platform {
        bench: &prepared.images.bench,
        image: &prepared.image,
        guest: Some(Guest {
            kernel: &prepared.kernel,
            initrd: Some(&prepared.initrd),
            command_line: &command_line,
        }),
        memory_mib: options.memory,
        gpaw: options.gpaw,
        clock: if options.shell {
            Clock::Paced
        } else {
            Clock::Counted
        },
        options: &bench_options,
        folder: &prepared.folder,
        name: "run",
        interactive: options.shell,
        answer: None,
        limit: LIMIT,
    };
    platform.run(&mut |line| show_line(line, options.verbose))
}
