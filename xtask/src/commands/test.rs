//! `cargo xtask test`: everything continuous integration runs.

use super::broker;
use crate::images::{self, Images, PACKAGES, VerifierBuild, root};
use crate::prepare::{Instead, PROCESSORS, prepare};
use crate::reproducible::{self, Scope};
use crate::tally::Tally;
use crate::{device_initrd, figures, odd, postgresql, processors_initrd, progress};
use anyhow::{Context, Result};
use boots::root_disk::{self, RootDisk};
use boots::{
    Checks, Setup, Suite, bad_input, blobs, compatibility, device_lies, devices, evidence, linux,
    micro_guests, multiprocessor, persistent, processors, restarts, run_ahead, slow_host,
    throughput, tpm_exits, tpm_gaps,
};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Options of the task.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only what needs no QEMU.
    #[arg(long)]
    hosted: bool,
    /// Only what boots on the simulator.
    #[arg(long, conflicts_with = "hosted")]
    simulator: bool,
    /// Only the L2 blobs whose name contains this; a race of several processors by a schedule of its own, if that is in the name as
    /// in the names of the checks: `NAME, schedule=SEED:MOST`.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["hosted", "simulator"])]
    blob: Option<String>,
    /// Only the L2 blobs with several processors that race, each by this many schedules of the host's (all tests: by one). A check
    /// that fails names its schedule, and `--blob` runs it again.
    #[arg(long, value_name = "COUNT", conflicts_with_all = ["hosted", "simulator", "blob"])]
    schedules: Option<u32>,
    /// Only the micro-guests.
    #[arg(long, conflicts_with_all = ["hosted", "simulator", "blob"])]
    micro_guests: bool,
    /// Only the guests with devices on their PCI bus, and what the devices cost, or those of them whose devices lie and whose
    /// name contains this.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["hosted", "simulator", "blob"])]
    devices: Option<String>,
    /// Only Linux with several processors, and all of that, long runs and other schedules too (an hour), or the boots whose name
    /// contains this. The other tests have a part of it.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["hosted", "simulator", "blob"])]
    processors: Option<String>,
    /// Only Linux with several processors that run at the same time, on threads of the host's (a quarter of an hour), or the boots
    /// whose name contains this. No run of all tests has them: they are never the same twice.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["hosted", "simulator", "blob"])]
    threads: Option<String>,
    /// Only the TPM that is kept across boots, with its key broker, or the parts of that whose name contains this.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["hosted", "simulator", "blob"])]
    persistent: Option<String>,
    /// Only the starts of L1: those that must fail, and those of many processors.
    #[arg(long, conflicts_with_all = ["hosted", "simulator", "blob"])]
    starts: bool,
    /// Only the round trip of evidence.
    #[arg(long, conflicts_with_all = ["hosted", "simulator", "blob"])]
    attest: bool,
    /// Only the Debian root on a LUKS2 disk that the TPM opens: on the simulator, and on plain QEMU with swtpm.
    #[arg(long, conflicts_with_all = ["hosted", "simulator", "blob", "attest"])]
    root_disk: bool,
    /// Only what users boot that is odd, and all of it, with kernels of every Debian suite (half an hour), or
    /// the trials whose name contains this. The other tests have a part of it.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["hosted", "simulator", "blob", "attest", "root_disk"])]
    compatibility: Option<String>,
    /// Only the guests that reset their machine and are launched again.
    #[arg(long, conflicts_with_all = ["hosted", "simulator", "blob", "attest", "root_disk", "compatibility"])]
    restarts: bool,
    /// Only how often L2 comes to L1 for TPM commands, and for how long it has no processor meanwhile.
    #[arg(long, conflicts_with_all = ["hosted", "simulator", "blob", "attest"])]
    tpm_exits: bool,
    /// Only run-ahead for the drivers of several of Debian's kernels, and beside the same guest without it.
    #[arg(long, conflicts_with_all = ["hosted", "simulator", "blob", "attest"])]
    run_ahead: bool,
    /// Only the guests whose host gives them a tenth of its time, with all TPM steps. The other tests have a part of it.
    #[arg(long, conflicts_with_all = ["hosted", "simulator", "blob", "attest"])]
    slow_host: bool,
    /// How many processors the TDs have of which a test does not say it: 1 to 16. Without this, 2, and those of the L2 blobs 1.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16), conflicts_with = "hosted")]
    cpus: Option<u32>,
}

/// Runs everything; true if nothing failed. The last line has the counts.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let started = Instant::now();
    crate::host::prepare_for_tests()?;
    let mut tally = Tally::default();
    if options.root_disk {
        let mut prepared = prepare(&Instead::default())?;
        prepared.setup.processors = options.cpus.unwrap_or(PROCESSORS);
        let setup = &prepared.setup;
        let built = crate::root_disk::build(&setup.folder)?;
        let plain = new_root_disk(setup, &built, "plain")?;
        let simulated = new_root_disk(setup, &built, "simulator")?;
        let suite = root_disk::on_simulator(setup, &simulated);
        let suite = suite.and(root_disk::on_plain_qemu(&plain));
        check(&mut tally, "enrolling and opening LUKS2 disks", &suite);
        return Ok(tally.conclude());
    }
    let mut verifier = VerifierBuild::Quick;
    let part = options.simulator
        || options.persistent.is_some()
        || options.attest
        || options.micro_guests
        || options.starts
        || options.tpm_exits
        || options.run_ahead
        || options.slow_host
        || options.restarts
        || options.devices.is_some()
        || options.schedules.is_some()
        || options.processors.is_some()
        || options.threads.is_some()
        || options.blob.is_some();
    if !part && options.compatibility.is_none() {
        crate::host::warn_of_a_full_disk(&images::target());
        lints(&mut tally);
        unit_tests(&mut tally)?;
        interleavings(&mut tally);
        verifier = VerifierBuild::Tested;
    }
    if !options.hosted {
        let mut prepared = prepare(&Instead::default())?;
        prepared.setup.processors = options.cpus.unwrap_or(PROCESSORS);
        let setup = &prepared.setup;
        // Guests of one processor, and counts of what one does.
        let single = &setup.with_processors(options.cpus.unwrap_or(1));
        match (&options.blob, &options.compatibility) {
            (None, None) if options.persistent.is_some() => {
                let programs = broker::build()?;
                let name = options.persistent.as_deref().unwrap_or_default();
                let suite = persistent::suite(setup, &programs, name);
                check(&mut tally, "booting machines whose TPM is kept", &suite);
            }
            (None, None) if options.schedules.is_some() => {
                let count = options.schedules.unwrap_or_default();
                l2_blobs(&mut tally, blobs::races(single, count));
            }
            (None, None) if options.threads.is_some() => {
                let name = options.threads.as_deref().unwrap_or_default();
                let initrd = processors_initrd::build(&setup.folder)?;
                let suite = multiprocessor::threads_suite(setup, &initrd, name)?;
                let step = progress::step("booting Debian's kernel on threads of the host's");
                // Each has as many threads as this machine has processors, or more.
                let counted = Counted::new(&mut tally, &step, suite.len());
                suite.run_one_by_one(|checks| counted.add(checks));
                step.done();
            }
            (None, None) if options.processors.is_some() => {
                let name = options.processors.as_deref().unwrap_or_default();
                let initrd = processors_initrd::build(&setup.folder)?;
                let suite = multiprocessor::whole_suite(setup, &initrd, name)?;
                linux_boots(&mut tally, &suite);
            }
            (Some(name), _) => l2_blobs(&mut tally, blobs::suite(single, name)),
            (None, Some(name)) => whole_compatibility(&mut tally, setup, name)?,
            (None, None) if options.micro_guests => {
                check(&mut tally, "micro-guests", &micro_guests::suite(setup));
            }
            (None, None) if options.devices.is_some() => {
                let name = options.devices.as_deref().unwrap_or_default();
                let drivers = device_initrd::build_for_tests(&setup.folder)?;
                let lies = device_lies::suite(setup, &drivers, name);
                if name.is_empty() {
                    let program = figures::throughput::initrd(setup)?;
                    let suite = devices::suite(setup, &drivers).and(lies);
                    let suite = suite.and(throughput::suite(setup, &program));
                    linux_boots(&mut tally, &suite);
                } else {
                    linux_boots(&mut tally, &lies);
                }
            }
            (None, None) if options.starts => starts(&mut tally, setup),
            (None, None) if options.tpm_exits => {
                let timing = figures::guests::timing_initrd(setup)?;
                let suite = tpm_exits::suite(setup, &timing).and(tpm_gaps::suite(setup, &timing));
                linux_boots(&mut tally, &suite);
            }
            (None, None) if options.run_ahead => {
                let timing = figures::guests::timing_initrd(setup)?;
                let kernels = figures::guests::kernels_to_run_ahead(setup)?;
                linux_boots(&mut tally, &run_ahead::suite(setup, &timing, &kernels));
            }
            (None, None) if options.slow_host => {
                let timing = figures::guests::timing_initrd(setup)?;
                linux_boots(&mut tally, &slow_host::suite(setup, &timing));
            }
            (None, None) if options.restarts => {
                linux_boots(&mut tally, &restarts::suite(setup));
            }
            (None, None) if options.attest => {
                let verifier = images::build_verifier(verifier)?;
                linux_boots(&mut tally, &evidence::suite(setup, &verifier));
            }
            (None, None) => {
                reproducible_image(&mut tally, &prepared.images);
                let suite = micro_guests::suite(setup);
                check(&mut tally, "micro-guests", &suite);
                let verifier = images::build_verifier(verifier)?;
                let odd = odd::initrd(setup)?;
                let programs = broker::build()?;
                let built = crate::root_disk::build(&setup.folder)?;
                let disk = new_root_disk(setup, &built, "plain")?;
                let drivers = device_initrd::build_for_tests(&setup.folder)?;
                let program = figures::throughput::initrd(setup)?;
                let timing = figures::guests::timing_initrd(setup)?;
                let kernels = figures::guests::kernels_to_run_ahead(setup)?;
                let several = processors_initrd::build(&setup.folder)?;
                let suite = persistent::suite(setup, &programs, "")
                    .and(throughput::suite(setup, &program))
                    .and(throughput::suite(single, &program))
                    .and(root_disk::on_plain_qemu(&disk))
                    .and(evidence::suite(setup, &verifier))
                    .and(linux::suite(setup))
                    .and(restarts::suite(setup))
                    .and(tpm_exits::suite(setup, &timing))
                    .and(tpm_gaps::suite(setup, &timing))
                    .and(run_ahead::suite(setup, &timing, &kernels))
                    .and(slow_host::timed(setup, &timing))
                    .and(multiprocessor::suite(setup, &several))
                    .and(devices::suite(setup, &drivers))
                    .and(device_lies::suite(setup, &drivers, ""))
                    .and(compatibility::suite(setup, &odd));
                linux_boots(&mut tally, &suite);
                let same = linux::two_are_the_same(setup);
                tally.count("two runs are the same to the byte", same);
                starts(&mut tally, setup);
                l2_blobs(&mut tally, blobs::suite(single, ""));
            }
        }
    }
    println!("\n{:.0} s", started.elapsed().as_secs_f64());
    Ok(tally.conclude())
}

fn starts(tally: &mut Tally, setup: &Setup) {
    check(tally, "bad input", &bad_input::suite(setup));
    check(tally, "processors", &processors::suite(setup));
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
fn reproducible_image(tally: &mut Tally, images: &Images) {
    let step = progress::step("building the firmware image again elsewhere");
    let result = reproducible::check(images, Scope::FirmwareImage);
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
    // The broker's tests say what is missing, if it cannot be had.
    let database = postgresql::unpacked();
    if let Err(error) = &database {
        println!("no PostgreSQL for the key broker's tests: {error:#}");
    }
    let step = progress::step("unit tests and properties of every crate");
    let output = cargo(&["test", "--quiet", "--workspace", "--no-fail-fast"])
        .envs(database.iter().map(|folder| (postgresql::VARIABLE, folder)))
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

/// Explores what processors tell each other without a lock, in every interleaving.
fn interleavings(tally: &mut Tally) {
    let step = progress::step("interleavings of the processors' signals");
    let mut explore = cargo(&["test", "--quiet", "--release", "--package", "vcpu-signals"]);
    explore.args(["--features", "loom"]);
    tally.count("loom: vcpu-signals", succeed(explore));
    step.done();
}

/// Runs a suite and counts its checks.
fn check(tally: &mut Tally, what: &str, suite: &Suite<'_>) {
    let step = progress::step(what);
    let counted = Counted::new(tally, &step, suite.len());
    suite.run(|checks| counted.add(checks));
    step.done();
}

/// A suite's cases, each counted and told when it ends: a run that is stopped has said what it found.
struct Counted<'a> {
    tally: Mutex<(&'a mut Tally, usize)>,
    step: &'a progress::Step,
    all: usize,
}

impl<'a> Counted<'a> {
    fn new(tally: &'a mut Tally, step: &'a progress::Step, all: usize) -> Self {
        let tally = Mutex::new((tally, 0));
        Self { tally, step, all }
    }

    fn add(&self, checks: Checks) {
        let mut counted = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let (tally, ended) = &mut *counted;
        *ended += 1;
        self.step.beside(|| tally.count_all(checks));
        self.step.reached(*ended, self.all);
    }
}

/// A new disk for an encrypted root, and a new TPM; `name` is of their files.
fn new_root_disk(
    setup: &Setup,
    built: &crate::root_disk::RootDisk,
    name: &str,
) -> Result<RootDisk> {
    let folder = setup.folder.join("root-disk.boot");
    let disk = folder.join(format!("{name}.disk"));
    built.new_disk(&disk)?;
    let tpm_state = folder.join(format!("{name}.tpm"));
    if tpm_state.exists() {
        std::fs::remove_dir_all(&tpm_state)?;
    }
    Ok(RootDisk {
        kernel: setup.kernel.clone(),
        initrd: built.initrd.clone(),
        disk,
        tpm_state,
        folder: setup.folder.clone(),
    })
}

fn linux_boots(tally: &mut Tally, suite: &Suite<'_>) {
    let what = format!("booting Debian's kernel {} times", suite.len());
    check(tally, &what, suite);
}

/// Everything odd whose name contains `filter`.
fn whole_compatibility(tally: &mut Tally, setup: &Setup, filter: &str) -> Result<()> {
    let initrd = odd::initrd(setup)?;
    let kernels = if compatibility::Kernel::may_be_in(filter) {
        odd::kernels(setup)?
    } else {
        Vec::new()
    };
    let memtest = odd::memtest(setup)?;
    let suite = compatibility::whole_suite(setup, &initrd, &kernels, &memtest, filter)?;
    linux_boots(tally, &suite);
    Ok(())
}

/// L2 blobs.
fn l2_blobs(tally: &mut Tally, suite: Result<Suite<'_>>) {
    match suite {
        Ok(suite) => check(tally, &format!("L2 blobs: {}", suite.len()), &suite),
        Err(error) => tally.count("L2 blobs", Err(error)),
    }
}
