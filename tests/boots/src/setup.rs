//! What every boot takes.

use simulator::{BootFiles, Clock, Console, Gpaw, HostDevices, Simulation, Window};
use std::path::PathBuf;
use std::time::Duration;

/// Words every run's kernel gets: the console, and a reboot instead of a hang on panic.
pub const BASE_COMMAND_LINE: &str = "console=ttyS0 panic=-1";
/// A boot of Linux that takes longer has hung.
pub const LIMIT: Duration = Duration::from_secs(600);

/// A firmware image, by what it asks of the host for the TPM window.
#[derive(Clone)]
pub struct Firmware {
    /// Private pages.
    pub accepted: Vec<u8>,
    /// Nothing.
    pub hole: Vec<u8>,
}

impl Firmware {
    /// The image for a host that gives this window.
    pub fn image(&self, window: Window) -> &[u8] {
        match window {
            Window::Accepted => &self.accepted,
            Window::Hole => &self.hole,
        }
    }
}

/// What a boot takes, built and fetched once.
#[derive(Clone)]
pub struct Setup {
    /// The simulator's ELF file.
    pub simulator: PathBuf,
    /// The L1 VMM's ELF file, with its symbols.
    pub l1_vmm: PathBuf,
    /// What the TD starts with.
    pub firmware: Firmware,
    /// A stock bzImage.
    pub kernel: PathBuf,
    /// The initrd of `tests/guest`.
    pub initrd: PathBuf,
    /// The trusted root of the simulator's quotes, and its collateral.
    pub pki: PathBuf,
    /// Where runs keep their files.
    pub folder: PathBuf,
    /// The virtual processors of TDs of which a test does not say how many they have.
    pub processors: u32,
}

impl Setup {
    /// The same, but for how many processors TDs have of which a test does not say it.
    pub fn with_processors(&self, processors: u32) -> Self {
        Self {
            processors,
            ..self.clone()
        }
    }

    /// The usual simulation of this setup, of `boot` with `memory_mib` MiB, whose files are kept
    /// under `name`: accepted TPM window, 48 address bits, counted clock, and a reset is the end.
    pub fn simulation<'a>(
        &'a self,
        name: &'a str,
        boot: BootFiles<'a>,
        memory_mib: u64,
    ) -> Simulation<'a> {
        Simulation {
            init_data: None,
            devices: HostDevices::default(),
            simulator: &self.simulator,
            image: &self.firmware.accepted,
            boot: Some(boot),
            memory_mib,
            processors: self.processors,
            gpaw: Gpaw::Bits48,
            clock: Clock::Counted,
            seed: simulator::SEED,
            memory_file: None,
            no_reboot: true,
            options: &[],
            folder: &self.folder,
            name,
            console: Console::Kept,
            limit: Some(LIMIT),
        }
    }

    /// The stock kernel with its initrd and this command line.
    pub fn linux<'a>(&'a self, command_line: &'a str) -> BootFiles<'a> {
        BootFiles {
            kernel: &self.kernel,
            initrd: Some(&self.initrd),
            command_line,
        }
    }
}
