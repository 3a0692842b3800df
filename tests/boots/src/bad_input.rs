//! What must end in one clear line and a failure, not in a hang: bad files, bad hosts.

use crate::{BASE_COMMAND_LINE, Setup, Suite};
use anyhow::{Result, ensure};
use simulator::{BootFiles, Simulation};
use std::path::PathBuf;
use std::time::Duration;

/// A run that must fail, and words of the line that says why.
struct Case {
    name: &'static str,
    /// What the line must contain.
    says: &'static str,
    kernel: Option<Vec<u8>>,
    initrd: Option<Vec<u8>>,
    command_line: Option<String>,
    memory_mib: u64,
    image: Option<Vec<u8>>,
    options: &'static [&'static str],
}

impl Case {
    fn new(name: &'static str, says: &'static str) -> Self {
        Self {
            name,
            says,
            kernel: None,
            initrd: None,
            command_line: None,
            memory_mib: 512,
            image: None,
            options: &[],
        }
    }
}

/// Every case.
pub fn suite(setup: &Setup) -> Suite<'_> {
    let mut suite = Suite::new();
    for case in cases() {
        suite.add(move |_| vec![(format!("bad input: {}", case.name), case.run(setup))]);
    }
    suite
}

fn cases() -> Vec<Case> {
    vec![
        Case {
            kernel: Some(vec![0x5A; 100_000]),
            ..Case::new("kernel is no bzImage", "bzImage")
        },
        Case {
            kernel: Some(b"\x7fELF".repeat(5000)),
            ..Case::new("kernel is an ELF file", "bzImage")
        },
        Case {
            initrd: Some(vec![0; 200 << 20]),
            memory_mib: 192,
            ..Case::new("initrd too large for the memory", "initrd")
        },
        Case {
            command_line: Some("x".repeat(5000)),
            ..Case::new("command line too long", "command line")
        },
        Case {
            memory_mib: 48,
            ..Case::new("too little memory", "memory")
        },
        Case {
            image: Some(vec![0; 1 << 20]),
            ..Case::new("image without metadata", "metadata")
        },
        Case {
            options: &["l2vms=0"],
            ..Case::new("NUM_L2_VMS is 0", "NUM_L2_VMS")
        },
        Case {
            options: &["fault=no-fwcfg"],
            ..Case::new("host has no fw_cfg", "fw_cfg")
        },
        Case {
            options: &["fault=fwcfg-size:8:4294967295"],
            ..Case::new("fw_cfg lies about the kernel's size", "kernel")
        },
        Case {
            options: &["fault=fwcfg-size:11:4294967295"],
            ..Case::new("fw_cfg lies about the initrd's size", "initrd")
        },
        Case {
            options: &["fault=fwcfg-size:20:4294967295"],
            ..Case::new("fw_cfg lies about the command line's size", "command line")
        },
        Case {
            options: &["fault=tdvmcall-nonsense:io"],
            ..Case::new("host answers TDVMCALL<IO> with nonsense", "")
        },
    ]
}

impl Case {
    /// A name for this case's files.
    fn file_name(&self) -> String {
        let words = self
            .name
            .chars()
            .map(|c| if c.is_alphanumeric() { c } else { '-' });
        format!("bad-{}", words.collect::<String>())
    }

    fn run(&self, setup: &Setup) -> Result<()> {
        let file = |data: &Option<Vec<u8>>, name: &str, usual: &PathBuf| -> Result<PathBuf> {
            let Some(data) = data else {
                return Ok(usual.clone());
            };
            let path = setup.folder.join(format!("{}.{name}", self.file_name()));
            std::fs::write(&path, data)?;
            Ok(path)
        };
        let kernel = file(&self.kernel, "kernel", &setup.kernel)?;
        let initrd = file(&self.initrd, "initrd", &setup.initrd)?;
        let usual = format!("{BASE_COMMAND_LINE} quiet tdp.mode=boot");
        let options: Vec<String> = self
            .options
            .iter()
            .map(|&option| option.to_owned())
            .collect();
        let boot = BootFiles {
            kernel: &kernel,
            initrd: Some(&initrd),
            command_line: self.command_line.as_deref().unwrap_or(&usual),
        };
        let run = Simulation {
            image: self.image.as_deref().unwrap_or(&setup.firmware.accepted),
            options: &options,
            limit: Duration::from_secs(120),
            ..setup.simulation(&self.file_name(), boot, self.memory_mib)
        }
        .run(&mut |_| {})?;
        ensure!(!run.succeeded, "the run succeeded");
        ensure!(run.to_user_space.is_none(), "the guest came to user space");
        let said = run.transcript.result();
        ensure!(
            said.to_lowercase().contains(&self.says.to_lowercase()),
            "the end does not say {:?}: {said}",
            self.says
        );
        Ok(())
    }
}
