//! The guests whose runs are measured: on the simulator, and on plain QEMU.

use crate::initrd::More;
use crate::{debian, images, odd, prepare};
use anyhow::{Result, ensure};
use boots::compatibility::Kernel;
use boots::{BASE_COMMAND_LINE, LIMIT, Setup};
use simulator::{BootFiles, Clock, PlainQemu, Run, Simulation, Window};
use std::path::{Path, PathBuf};

/// Words of the command line for the timing program.
pub(crate) const TIMING_WORDS: &str = "quiet tdp.mode=timing";

/// The initrd with the timing program.
pub(crate) fn timing_initrd(setup: &Setup) -> Result<PathBuf> {
    let program = images::build_guest_program("guest-timing")?;
    let folder = setup.folder.join("timing");
    std::fs::create_dir_all(&folder)?;
    let more = More {
        programs: &[program],
        ..More::NOTHING
    };
    prepare::guest_initrd(&more, &folder)
}

/// Kernels of Debian's suites beside the usual one whose driver L1 runs ahead of, with initrds that have the timing program
/// where they need their own: Linux 6.12 and 7.
pub(crate) fn kernels_to_run_ahead(setup: &Setup) -> Result<Vec<Kernel>> {
    let program = images::build_guest_program("guest-timing")?;
    ["trixie", "sid"]
        .into_iter()
        .map(|suite| {
            let kernel = debian::kept_kernel_of_suite(suite, &setup.folder)?;
            let folder = setup.folder.join(suite).join("timing");
            let initrd = match &kernel.modules[..] {
                [] => None,
                modules => {
                    std::fs::create_dir_all(&folder)?;
                    Some(odd::initrd_with(
                        modules,
                        std::slice::from_ref(&program),
                        &folder,
                    )?)
                }
            };
            Ok(Kernel {
                name: format!("{suite}, {}", kernel.package),
                file: kernel.file,
                initrd,
            })
        })
        .collect()
}

/// A run that must end well, with further options of the simulator.
pub(crate) fn on_simulator(
    setup: &Setup,
    initrd: &Path,
    words: &str,
    name: &str,
    options: &[String],
) -> Result<Run> {
    let mut options = options.to_vec();
    options.extend([Window::Accepted.option(), "marks=1".to_owned()]);
    let command_line = format!("{BASE_COMMAND_LINE} {words}");
    let boot = BootFiles {
        initrd: Some(initrd),
        ..setup.linux(&command_line)
    };
    let run = Simulation {
        options: &options,
        ..setup.simulation(name, boot, 1024)
    }
    .run(&mut |_| {})?;
    ensure!(run.succeeded, "{name}: {}", run.transcript.result());
    Ok(run)
}

/// A run on plain QEMU with one processor whose instructions are counted, without a TPM.
pub(crate) fn plain(setup: &Setup, initrd: &Path, words: &str) -> Result<Run> {
    plain_with(setup, initrd, words, (1, Clock::Counted))
}

/// The same with as many processors, and time as it should pass.
pub(crate) fn plain_with(
    setup: &Setup,
    initrd: &Path,
    words: &str,
    (cpus, clock): (u32, Clock),
) -> Result<Run> {
    let run = PlainQemu {
        boot: BootFiles {
            kernel: &setup.kernel,
            initrd: Some(initrd),
            command_line: &format!("{BASE_COMMAND_LINE} {words}"),
        },
        memory_mib: 1024,
        cpus,
        clock,
        disk: None,
        no_medium: None,
        network: None,
        tpm_socket: None,
        limit: LIMIT,
    }
    .run(&mut |_| {})?;
    ensure!(
        run.to_user_space.is_some(),
        "plain QEMU did not come to user space"
    );
    Ok(run)
}
