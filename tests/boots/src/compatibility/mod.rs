//! Odd clients and odd inputs, as users have them: other kernels and their options, kexec, sizes of
//! commands, files and memories. [`docs/compatibility.md`](../../../docs/compatibility.md) tells the results.
//!
//! A representative part is in every run of all tests ([`suite`]), the whole of it where it is asked for
//! ([`whole_suite`]).

mod command_lines;
mod kernel_options;
mod kexec;
mod memory;
mod shell;
mod trial;

use crate::{Setup, Suite, interface_option};
use anyhow::{Result, ensure};
use attestation::journal::TpmInterface;
use simulator::Run;
use std::path::{Path, PathBuf};
use trial::{Outcome, Trial};

/// A kernel that somebody ships.
pub struct Kernel {
    /// Its package and version.
    pub name: String,
    /// Its bzImage.
    pub file: PathBuf,
    /// An initrd with its TPM driver, where that is not built in.
    pub initrd: Option<PathBuf>,
}

impl Kernel {
    /// How the names of its trials begin.
    pub const TRIALS: &str = "Debian's kernel of ";

    /// Whether a trial of some kernel may have a name that contains this.
    pub fn may_be_in(filter: &str) -> bool {
        Self::TRIALS.contains(filter) || filter.starts_with(Self::TRIALS)
    }
}

/// What every run of all tests tries. `initrd` has also `kexec`, a kernel and an initrd to start with it, and
/// the program that tries the device files.
pub fn suite<'a>(setup: &'a Setup, initrd: &Path) -> Suite<'a> {
    of(
        setup,
        vec![
            device_files(initrd),
            shared_device_files(initrd),
            kexec::trial(initrd),
            command_lines::longest(),
            command_lines::with_nul(),
        ],
    )
    .and(shell::suite(setup))
}

/// Everything whose name contains `filter`, with these kernels and this memtest86+ too.
pub fn whole_suite<'a>(
    setup: &'a Setup,
    initrd: &Path,
    kernels: &[Kernel],
    memtest: &Path,
    filter: &str,
) -> Result<Suite<'a>> {
    let mut trials: Vec<Trial> = kernels
        .iter()
        .map(|kernel| Trial {
            kernel: Some(kernel.file.clone()),
            initrd: kernel.initrd.clone(),
            shows: no_warning,
            // Warnings are shown, which `quiet` hides.
            ..Trial::new(
                format!("{}{}", Kernel::TRIALS, kernel.name),
                "loglevel=5 tdp.mode=steps",
            )
        })
        .collect();
    trials.extend(kernels.iter().filter_map(interrupts));
    if "100 MiB in the initrd".contains(filter) || filter.contains("initrd") {
        trials.extend(memory::trials(setup)?);
    }
    trials.extend([
        device_files(initrd),
        shared_device_files(initrd),
        load(initrd, TpmInterface::Fifo),
        load(initrd, TpmInterface::Crb),
        kexec::trial(initrd),
    ]);
    trials.extend(kernel_options::trials());
    trials.extend(kernel_options::reboots());
    trials.extend([command_lines::longest(), command_lines::with_nul()]);
    trials.extend(command_lines::lengths());
    trials.push(one_byte_initrd(setup)?);
    trials.push(memtest_on_serial_port(memtest));
    trials.retain(|trial| trial.name.contains(filter));
    let mut suite = of(setup, trials);
    if shell::NAME.contains(filter) {
        suite = suite.and(shell::suite(setup));
    }
    ensure!(!suite.is_empty(), "none is named {filter:?}");
    Ok(suite)
}

fn of(setup: &Setup, trials: Vec<Trial>) -> Suite<'_> {
    let mut suite = Suite::new();
    for trial in trials {
        suite.add(move |_| trial.check(setup));
    }
    suite
}

/// A kernel whose `tpm_tis` uses interrupts where it is told to: those from 6.4 on. Earlier ones leave their own test of them
/// out, and say that the interrupt does not work.
fn interrupts(kernel: &Kernel) -> Option<Trial> {
    const WITHOUT: [&str; 2] = ["bullseye,", "bookworm,"];
    let uses = !WITHOUT.iter().any(|suite| kernel.name.starts_with(suite));
    uses.then(|| Trial {
        kernel: Some(kernel.file.clone()),
        initrd: kernel.initrd.clone(),
        options: vec![interface_option(TpmInterface::FifoInterrupt)],
        shows: no_warning,
        ..Trial::new(
            format!("{}{}: TPM interrupts", Kernel::TRIALS, kernel.name),
            "loglevel=5 tdp.mode=interrupts tpm_tis.interrupts=1",
        )
    })
}

/// All steps were done, and the kernel warned of nothing that the machine answered it.
fn no_warning(run: &Run) -> Result<()> {
    ensure!(
        run.transcript.steps_finished(),
        "it did not come to the end of its steps"
    );
    let warnings = ["unchecked MSR access error", "Call Trace:"];
    let console = &run.transcript.console;
    let warned = console
        .iter()
        .find(|line| warnings.iter().any(|warning| line.contains(warning)));
    ensure!(warned.is_none(), "the kernel warns: {warned:?}");
    Ok(())
}

fn device_files(initrd: &Path) -> Trial {
    Trial {
        initrd: Some(initrd.to_owned()),
        ..Trial::new("device files", "quiet tdp.mode=device-files")
    }
}

/// The same users of a TPM with a command response buffer.
fn shared_device_files(initrd: &Path) -> Trial {
    Trial {
        initrd: Some(initrd.to_owned()),
        options: vec![interface_option(TpmInterface::Crb)],
        ..Trial::new(
            "device files, a command response buffer",
            "quiet tdp.mode=device-sharing",
        )
    }
}

/// 10,000 extends and 1,000 other commands of four processes.
fn load(initrd: &Path, interface: TpmInterface) -> Trial {
    Trial {
        initrd: Some(initrd.to_owned()),
        options: vec![interface_option(interface)],
        ..Trial::new(
            format!("TPM under load, {}", interface.word()),
            "quiet tdp.mode=device-load",
        )
    }
}

/// No archive at all: Linux finds no first program, and panics.
fn one_byte_initrd(setup: &Setup) -> Result<Trial> {
    let path = setup.folder.join("one-byte.initrd");
    std::fs::write(&path, [0])?;
    Ok(Trial {
        initrd: Some(path),
        outcome: Outcome::Ends("reboot"),
        ..Trial::new("initrd of 1 byte", "quiet")
    })
}

/// No Linux, but started as one. Without `nopause` it waits for a key first, by reading the TSC.
fn memtest_on_serial_port(file: &Path) -> Trial {
    Trial {
        kernel: Some(file.to_owned()),
        memory_mib: 128,
        outcome: Outcome::GoesOn("Errors: 0 "),
        ..Trial::new("memtest86+", "console=ttyS0,115200 nopause")
    }
}
