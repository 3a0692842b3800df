//! `cargo xtask run`: boot a guest as L2 and check its TPM.

use super::measure::{mirror, pcr_banks, tpm_interface};
use super::{check_image, persistent};
use crate::prepare::{Instead, PROCESSORS, prepare};
use crate::{debian, device_initrd, images, report};
use anyhow::{Context, Result};
use attestation::journal::{PcrMirror, TpmInterface};
use attestation::pcr::PcrBanks;
use boots::devices::devices_option;
use boots::{BASE_COMMAND_LINE, RoundTrip, Setup, banks_option, interface_option, mirror_option};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use simulator::{
    BrokerBy, Clock, Console, Gpaw, HostDevices, Models, Network, Outside, Run, Simulation,
    Transcript, Window,
};
use std::path::PathBuf;
use std::time::Duration;

/// Options of the task.
#[derive(clap::Args, Clone)]
pub(crate) struct Options {
    /// A root shell of the guest in this terminal instead of the TPM steps.
    #[arg(long)]
    shell: bool,
    /// The whole round trip of evidence instead of the TPM steps: the guest makes it for a fresh nonce, and
    /// the verifier checks it against predicted values and the simulator's root.
    #[arg(long, conflicts_with_all = ["shell", "initrd", "state_disk", "disks", "broker_socket", "guest_console", "vsock", "network", "devices", "json"])]
    attest: bool,
    /// A TPM that is kept, instead of the TPM steps: a key broker, the host's proxy to it, a state disk, and a Debian root on
    /// a LUKS2 disk. The machine enrols the disk and boots from it again; an older state disk, another machine's, another
    /// L1 and another command line are refused.
    #[arg(long, conflicts_with_all = ["shell", "attest", "initrd", "state_disk", "init_data", "json", "threads", "pcr_mirror", "pcr_banks",
        "quote", "disks", "broker_socket", "guest_console", "vsock", "network", "devices", "append", "memory", "gpaw", "window", "simulator_options",
        "limit"])]
    persistent: bool,
    /// The TPM's registers: fifo, which `tpm_tis` drives, fifo-interrupt, which interrupts, crb, which `tpm_crb` drives, crb-interrupt, the same, or crb-registers,
    /// whose buffer is behind the registers.
    #[arg(long, value_name = "fifo|fifo-interrupt|crb|crb-interrupt|crb-registers", default_value = "fifo", value_parser = tpm_interface)]
    tpm: TpmInterface,
    /// What L1 records of the PCRs in the journal.
    #[arg(long, value_name = "off|summary|full", value_parser = mirror)]
    pcr_mirror: Option<PcrMirror>,
    /// The TPM's PCR banks: sha256 and sha384, and sha1 or sha512 if wanted.
    #[arg(long, value_name = "BANKS", value_parser = pcr_banks)]
    pcr_banks: Option<PcrBanks>,
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
    /// Give L1 the disk in this file for its state, of 4 MiB if it does not exist.
    #[arg(long, value_name = "FILE")]
    state_disk: Option<PathBuf>,
    /// Give the guest the disk in this file; any number of times.
    #[arg(long = "disk", value_name = "FILE")]
    disks: Vec<PathBuf>,
    /// Connect L1's channel to this Unix socket, on which a key broker or its proxy listens.
    #[arg(long, value_name = "PATH")]
    broker_socket: Option<PathBuf>,
    /// What L1 reaches that socket by: console or vsock.
    #[arg(long, default_value = "console", value_parser = words(&BrokerBy::WORDS, BrokerBy::from_word), requires = "broker_socket")]
    broker_by: BrokerBy,
    /// Give the guest a console, hvc0, whose other end is this: a Unix socket that somebody listens on, or a file, which gets
    /// what the guest writes.
    #[arg(long, value_name = "PATH")]
    guest_console: Option<PathBuf>,
    /// Give the guest sockets (AF_VSOCK) with this address. The host, 2, sends back what it is sent at port 7.
    #[arg(long, value_name = "CID", value_parser = clap::value_parser!(u32).range(3..0xFFFF_FFFF))]
    vsock: Option<u32>,
    /// Whose virtio devices --state-disk, --disk, --broker-socket, --guest-console and --network are: the simulator's own, or QEMU's
    /// behind its IOMMU.
    #[arg(long, default_value = "own", value_parser = words(&Models::WORDS, Models::from_word))]
    device_models: Models,
    /// Give the guest a network. Nothing on it leads outside; 10.0.2.2 answers.
    #[arg(long)]
    network: bool,
    /// The devices on the guest's PCI bus, with + between them: entropy (random numbers of L1's), disks, network, consoles
    /// and vsock (those of --disk, --network, --guest-console and --vsock, which need not be said). The project's initrd then
    /// has their drivers.
    #[arg(long, value_name = "DEVICES")]
    devices: Option<String>,
    /// Boot this bzImage instead of a stock Debian kernel.
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Use this initrd instead of the project's.
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// Configure the TD with this init-data document (`docs/init-data.md`): MRCONFIGID is its SHA-384.
    #[arg(long, value_name = "FILE", conflicts_with = "attest")]
    init_data: Option<PathBuf>,
    /// Words to append to the kernel's command line.
    #[arg(long, value_name = "WORDS", default_value = "")]
    append: String,
    /// The TD's memory.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    memory: u64,
    /// How many processors the TD has, and L2 with it: 1 to 16.
    #[arg(long, value_name = "N", default_value_t = PROCESSORS, value_parser = clap::value_parser!(u32).range(1..=16))]
    cpus: u32,
    /// Give each of the TD's processors a thread of the host's: they run at the same time, nothing is counted, and no two runs
    /// are the same.
    #[arg(long, conflicts_with = "attest")]
    threads: bool,
    /// Launch through this finished td-shim image instead of the built-in shim.
    #[arg(long, value_name = "IMAGE")]
    td_shim: Option<PathBuf>,
    /// Boot the td-shim image even if `check-image` says that it cannot launch L1, or leaves pages unmeasured.
    #[arg(long, requires = "td_shim")]
    unchecked_td_shim: bool,
    /// Guest physical address width, and with it the shared bit.
    #[arg(long, default_value = "48", value_parser = words(&Gpaw::WORDS, Gpaw::from_word))]
    gpaw: Gpaw,
    /// Whether the host backs the TPM window with private pages (else its exits are host-routed).
    #[arg(long, default_value = "accepted", value_parser = words(&Window::WORDS, Window::from_word))]
    window: Window,
    /// Further options of the simulator, KEY=VALUE: faults, number of L2 VMs, watchdog.
    #[arg(long = "simulator-option", value_name = "KEY=VALUE")]
    simulator_options: Vec<String>,
    /// A reboot of the guest ends the run. Without it, the guest is launched again in the same TD.
    #[arg(long)]
    no_reboot: bool,
    /// End the run after this much of the host's time. Without it, a run ends when it has made no progress for a
    /// minute of virtual time (`--simulator-option watchdog=SECONDS`): no byte on the console, no access to the TPM.
    #[arg(long, value_name = "SECONDS", conflicts_with_all = ["shell", "attest"])]
    limit: Option<u64>,
    /// Write the results as JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Show the guest's whole console.
    #[arg(long, short)]
    verbose: bool,
}

/// A parser of these words, each of which `value` knows.
fn words<T: Clone + Send + Sync + 'static>(
    words: &'static [&'static str],
    value: fn(&str) -> Option<T>,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(words).try_map(move |word| value(&word).ok_or("no such word"))
}

impl Options {
    /// The devices on the guest's PCI bus.
    fn devices(&self) -> Option<String> {
        let mut devices: Vec<&str> = self
            .devices
            .iter()
            .flat_map(|list| list.split('+'))
            .collect();
        for (there, device) in [
            (!self.disks.is_empty(), "disks"),
            (self.network, "network"),
            (self.guest_console.is_some(), "consoles"),
            (self.vsock.is_some(), "vsock"),
        ] {
            if there && !devices.contains(&device) {
                devices.push(device);
            }
        }
        (!devices.is_empty()).then(|| devices.join("+"))
    }
}

/// Runs the task.
pub(crate) fn run(options: &Options) -> Result<bool> {
    if let Some(image) = options
        .td_shim
        .as_deref()
        .filter(|_| !options.unchecked_td_shim)
    {
        check_image::require(image)?;
    }
    let prepared = prepare(&Instead {
        kernel: options.kernel.as_deref(),
        initrd: options.initrd.as_deref(),
        td_shim: options.td_shim.as_deref(),
    })?;
    let mut setup = prepared.setup;
    setup.processors = options.cpus;
    if options.devices().is_some() && options.initrd.is_none() && options.kernel.is_none() {
        setup.initrd = device_initrd::build(&setup.folder)?;
    }
    let setup = &setup;
    let kernel_name = match &options.kernel {
        Some(path) => path.display().to_string(),
        None => debian::kernel_name(&setup.folder).unwrap_or_default(),
    };
    let cpus = match options.cpus {
        1 => "1 processor".to_owned(),
        cpus => format!("{cpus} processors"),
    };
    eprintln!(
        "booting {kernel_name} as L2, {} MiB, {cpus}",
        options.memory
    );
    if options.attest {
        return attest(options, setup);
    }
    if options.persistent {
        return persistent::run(setup, options.tpm, options.verbose);
    }
    let run = boot(options, setup)?;
    let steps = run.transcript.steps();
    let wants_steps =
        !options.shell && options.initrd.is_none() && !options.append.contains("tdp.mode=");
    let steps_ok = !wants_steps
        || (run.transcript.steps_finished()
            && !steps.is_empty()
            && steps.iter().all(|step| step.passed));
    let ok = run.succeeded && steps_ok;
    println!("\n{}", report::text(&run));
    if !ok {
        for line in run.transcript.failures() {
            println!("{line}");
        }
        if let Some(last) = run.transcript.console.iter().rfind(|line| !line.is_empty()) {
            println!("the console's last line: {last}");
        }
        println!("FAILED; console and log are in {}", setup.folder.display());
    }
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&report::json(&run, ok))?;
        std::fs::write(path, json).with_context(|| path.display().to_string())?;
    }
    Ok(ok)
}

/// Collects evidence, verifies it, and shows both.
fn attest(options: &Options, setup: &Setup) -> Result<bool> {
    let trip = RoundTrip {
        interface: options.tpm,
        mirror: options.pcr_mirror.unwrap_or(PcrMirror::Summary),
        banks: options.pcr_banks.unwrap_or_default(),
        quote: options.quote.as_deref(),
        own_ak: options.own_ak,
        append: &options.append,
        memory_mib: options.memory,
        gpaw: options.gpaw,
        window: options.window,
        options: &options.simulator_options,
        ..RoundTrip::new(setup, "attest")
    };
    let verifier = images::build_verifier(images::VerifierBuild::Quick)?;
    let policy = trip.policy(&trip.predict()?, !options.without_quote)?;
    let collected = trip.collect(&mut |line| show_line(line, options.verbose))?;
    let size = std::fs::metadata(&collected.evidence)?.len();
    if let Some(path) = &options.evidence {
        std::fs::copy(&collected.evidence, path).with_context(|| path.display().to_string())?;
    }
    println!(
        "\nevidence: {} ({size} bytes)\nnonce:    {}\npolicy:   {}",
        collected.evidence.display(),
        collected.nonce,
        policy.display()
    );
    let page = collected.evidence.with_file_name("attest.verdict.html");
    println!("verdict:  {}\n", page.display());
    let status = collected
        .verifier(&verifier, &policy)
        .arg("--html")
        .arg(&page)
        .status()
        .context("cannot run the verifier")?;
    // 3: nothing is broken, and the policy accepted what it was made to: that there is no quote.
    let trusted = match status.code() {
        Some(3) => options.without_quote,
        code => code == Some(0),
    };
    let steps = collected.run.transcript.steps();
    Ok(trusted && collected.run.succeeded && steps.iter().all(|step| step.passed))
}

/// Shows a step of the guest, and lines that say why one failed.
pub(super) fn show_line(line: &str, verbose: bool) {
    if let Some(step) = Transcript::step_of(line) {
        let result = if step.passed { "pass" } else { "FAIL" };
        println!("{result}  {}", step.name);
    } else if verbose || line.starts_with("  ") {
        println!("{line}");
    }
}

fn boot(options: &Options, setup: &Setup) -> Result<Run> {
    let mode = if options.shell { "shell" } else { "steps" };
    let mut command_line = format!("{BASE_COMMAND_LINE} quiet tdp.mode={mode}");
    if !options.append.is_empty() {
        command_line.push(' ');
        command_line.push_str(&options.append);
    }
    let mut simulator_options = vec![options.window.option()];
    if options.shell {
        // People think longer than machines.
        simulator_options.push("watchdog=0".to_owned());
    }
    simulator_options.push(interface_option(options.tpm));
    simulator_options.extend(options.pcr_mirror.map(mirror_option));
    simulator_options.extend(options.pcr_banks.map(banks_option));
    simulator_options.extend(options.devices().as_deref().map(devices_option));
    simulator_options.extend(options.quote.as_ref().map(|quote| format!("quote={quote}")));
    simulator_options.extend(options.simulator_options.iter().cloned());
    let (clock, console) = match options.shell {
        true => (Clock::Paced, Console::Terminal),
        false => (Clock::Counted, Console::Kept),
    };
    let clock = match options.threads {
        true => Clock::Threads,
        false => clock,
    };
    Simulation {
        image: setup.firmware.image(options.window),
        init_data: options.init_data.as_deref(),
        devices: HostDevices {
            models: options.device_models,
            network: match (options.network, options.device_models) {
                (false, _) => Network::None,
                (true, Models::Own) => Network::Own,
                (true, Models::Qemu) => Network::Qemu(Outside::Nothing),
            },
            state_disk: options.state_disk.as_deref(),
            disks: &options.disks,
            broker_socket: options.broker_socket.as_deref(),
            broker_by: options.broker_by,
            guest_console: options.guest_console.as_deref(),
            vsock: options.vsock,
            no_medium: None,
        },
        gpaw: options.gpaw,
        clock,
        console,
        no_reboot: options.no_reboot,
        options: &simulator_options,
        limit: options.limit.map(Duration::from_secs),
        ..setup.simulation("run", setup.linux(&command_line), options.memory)
    }
    .run(&mut |line| show_line(line, options.verbose))
}
