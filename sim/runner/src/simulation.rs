//! A run of the simulator.

use crate::devices::{HostDevices, escaped};
use crate::kept::{self, ConsoleLog};
use crate::options::Gpaw;
use crate::qemu::{self, Answer, BootFiles, Clock, Run};
use crate::{pack, ram};
use anyhow::{Context, Result};
use sha2::{Digest, Sha384};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// isa-debug-exit gives 2 * value + 1; the simulator writes 0 when all went well.
const SUCCESS: i32 = 1;

/// Further arguments of QEMU, for those who look inside a run: `-s -S` waits for a debugger.
const ARGUMENTS_VARIABLE: &str = "TDP_QEMU_ARGUMENTS";

/// Who is at the guest's console.
#[derive(Clone, Copy, Debug)]
pub enum Console<'a> {
    /// Nobody: what it prints is kept.
    Kept,
    /// As `Kept`, and one question of the guest's is answered.
    Asked(Answer<'a>),
    /// This terminal: nothing is kept.
    Terminal,
}

/// What is to run.
pub struct Simulation<'a> {
    /// The simulator, a PVH kernel for QEMU.
    pub simulator: &'a Path,
    /// The firmware image; of no meaning to micro-guests.
    pub image: &'a [u8],
    /// What boots; `None` with micro-guests.
    pub boot: Option<BootFiles<'a>>,
    /// The document that the TD is configured with: MRCONFIGID is its SHA-384, and the host shows it to L1 by fw_cfg.
    pub init_data: Option<&'a Path>,
    /// The TD's memory in MiB.
    pub memory_mib: u64,
    /// The TD's virtual processors, unless [`options`](Self::options) say another number.
    pub processors: u32,
    /// The TD's address width.
    pub gpaw: Gpaw,
    /// How time passes.
    pub clock: Clock,
    /// Virtio devices of the host's.
    pub devices: HostDevices<'a>,
    /// The seed of the machine's random numbers: two runs with the same draw the same.
    pub seed: u32,
    /// The machine's memory is kept in this file: at its begin the TD's low memory, as the TD has it.
    pub memory_file: Option<&'a Path>,
    /// A reset of the guest's ends the run, as with QEMU's option of this name; else it is launched again in its TD.
    pub no_reboot: bool,
    /// Further words of the simulator's command line: `docs/simulator.md`.
    pub options: &'a [String],
    /// Files are kept here.
    pub folder: &'a Path,
    /// The files' names without what comes behind the last but one dot.
    pub name: &'a str,
    /// Who is at the guest's console.
    pub console: Console<'a>,
    /// The run is ended after this much of the host's time; not with a terminal. Without a limit, the simulator's
    /// watchdog ends a run that makes no progress.
    pub limit: Option<Duration>,
}

impl Simulation<'_> {
    /// Runs to the end; `on_line` sees each line of the guest's console as it comes.
    pub fn run(&self, on_line: &mut dyn FnMut(&str)) -> Result<Run> {
        let pack_file = self.file("pack");
        let pack = self.pack()?;
        // Held until the run has ended.
        let _files = kept::claim(&self.file("lock"))?;
        std::fs::write(&pack_file, &pack)?;
        let mut console_log = ConsoleLog::create(&self.file("console.log"))?;
        let log = self.file("simulator.log");
        let _ = std::fs::remove_file(&log);
        let cpu = match self.gpaw {
            Gpaw::Bits48 => "max,vendor=GenuineIntel,phys-bits=48,la57=off",
            Gpaw::Bits52 => "max,vendor=GenuineIntel,phys-bits=52",
        };
        let memory_mib = ram::machine_mib(self.memory_mib, pack.len())?;
        let clock = match self.devices.hear_the_outside() {
            true if self.clock != Clock::Threads => Clock::Paced,
            _ => self.clock,
        };
        let mut command = qemu::command(cpu, memory_mib, clock, self.seed);
        if let Some(path) = self.memory_file {
            let path = escaped(path)?;
            command.arg("-object").arg(format!(
                "memory-backend-file,id=memory,share=on,mem-path={path},size={memory_mib}M"
            ));
            command.args(["-machine", "memory-backend=memory"]);
        }
        let mut append = format!(
            "gpaw={} memory={} vcpus={}",
            self.gpaw.bits(),
            self.memory_mib,
            self.processors
        );
        if clock == Clock::Threads {
            // One for the module and the host role, and one for each virtual processor.
            let count = self.processors + 1;
            command.args(["-smp", &format!("{count},sockets={count}")]);
            append.push_str(" threads=1");
        }
        // Held until the run has ended.
        let _devices = self.devices.attach(&mut command, &mut append)?;
        let mrconfigid = self.mrconfigid()?;
        let reset = self
            .no_reboot
            .then(|| "fwcfg=opt/org.tdp-vtpm/reset:end".to_owned());
        // The last one counts.
        for option in mrconfigid.iter().chain(&reset).chain(self.options) {
            append.push(' ');
            append.push_str(option);
        }
        command
            .arg("-debugcon")
            .arg(format!("file:{}", log.display()))
            .args(["-device", "isa-debug-exit,iobase=0xf4"])
            .arg("-kernel")
            .arg(self.simulator)
            .arg("-initrd")
            .arg(&pack_file)
            .args(["-append", &append]);
        if let Ok(words) = std::env::var(ARGUMENTS_VARIABLE) {
            command.args(words.split_whitespace());
        }
        let mut on_line = |line: &str| {
            console_log.line(line);
            on_line(line);
        };
        let heard = match self.console {
            Console::Kept => qemu::listen(command, None, self.limit, &mut on_line)?,
            Console::Asked(answer) => {
                qemu::listen(command, Some(answer), self.limit, &mut on_line)?
            }
            Console::Terminal => qemu::connect_terminal(command)?,
        };
        console_log.finish()?;
        let log = std::fs::read(&log).unwrap_or_default();
        Ok(heard.into_run(SUCCESS, &String::from_utf8_lossy(&log)))
    }

    /// The simulator's option for the document.
    fn mrconfigid(&self) -> Result<Option<String>> {
        let Some(document) = self.init_data else {
            return Ok(None);
        };
        let digest = Sha384::digest(read(document)?);
        Ok(Some(format!("mrconfigid={}", hex::encode(digest))))
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.folder.join(format!("{}.{extension}", self.name))
    }

    fn pack(&self) -> Result<Vec<u8>> {
        let mut files = vec![("image", self.image.to_vec())];
        if let Some(boot) = &self.boot {
            files.push(("kernel", read(boot.kernel)?));
            if let Some(initrd) = boot.initrd {
                files.push(("initrd", read(initrd)?));
            }
            files.push(("cmdline", boot.command_line.as_bytes().to_vec()));
        }
        if let Some(document) = self.init_data {
            files.push(("initdata", read(document)?));
        }
        let files: Vec<(&str, &[u8])> = files
            .iter()
            .map(|(name, data)| (*name, &data[..]))
            .collect();
        pack::pack(&files)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
