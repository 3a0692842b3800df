//! What must end in one clear line and a failure, not in a hang: bad files, bad hosts.

use crate::launch_attacks::with_unmeasured_pages;
use crate::{BASE_COMMAND_LINE, Setup, Suite};
use anyhow::{Result, ensure};
use simulator::{BootFiles, Simulation};
use std::path::PathBuf;
use std::time::Duration;

/// A run that must fail, and how it must say why.
struct Case {
    name: &'static str,
    /// What the run's end must begin with: who ended it, and the error up to the first number that
    /// follows from the memory map.
    says: &'static str,
    kernel: Option<Vec<u8>>,
    initrd: Option<Vec<u8>>,
    command_line: Option<String>,
    memory_mib: u64,
    image: Image,
    /// The attested configuration.
    init_data: Option<&'static str>,
    options: &'static [&'static str],
}

/// What the TD is built from.
enum Image {
    /// The product's.
    Own,
    /// The product's, as it was when the host filled pages that nobody measured.
    Unmeasured,
    /// Another file.
    File(Vec<u8>),
}

/// A host that fills what nobody measures with a mailbox and a program, and starts the second of two virtual processors
/// first; with as many processors in all as L1 has no room for.
const SECOND_PROCESSOR_FIRST: &[&str] = &["unmeasured=code", "vcpus=17", "first=1"];

impl Case {
    fn new(name: &'static str, says: &'static str) -> Self {
        Self {
            name,
            says,
            kernel: None,
            initrd: None,
            command_line: None,
            memory_mib: 512,
            image: Image::Own,
            init_data: None,
            options: &[],
        }
    }
}

/// A tenant who wants no guest without its TPM, whose state is this platform's.
const REQUIRED: &str = r#"
version = "0.1.0"
algorithm = "sha384"
[data]
"tdp-vtpm.toml" = """
machine = "5d1c5d1c5d1c5d1c5d1c5d1c5d1c5d1c5d1c5d1c5d1c5d1c5d1c5d1c5d1c5d1c"
state = "require"
key = "hardware"
rollback = "none"
"""
"#;

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
            init_data: Some(REQUIRED),
            ..Case::new("no state disk", "fatal-error: the TPM's state: no-disk: ")
        },
        Case {
            init_data: Some(REQUIRED),
            options: &["state-disk=ram:0x400000", "fault=virtio:state:io-error@2"],
            ..Case::new(
                "state disk has errors only",
                "fatal-error: the TPM's state: disk-unreadable: ",
            )
        },
        Case {
            init_data: Some(REQUIRED),
            options: &[
                "state-disk=ram:0x400000",
                "fault=virtio:state:used-id:0x10000@2",
            ],
            ..Case::new(
                "state disk forges completions",
                "fatal-error: the TPM's state: disk-unreadable: ",
            )
        },
        Case {
            init_data: Some(REQUIRED),
            options: &["state-disk=ram:0x400000", "fault=virtio:state:cut:2"],
            ..Case::new("power fails while the TPM starts", "power-cut")
        },
        Case {
            kernel: Some(vec![0x5A; 100_000]),
            ..Case::new(
                "kernel is no bzImage",
                "fatal-error: the kernel is no bzImage (no boot sector mark and",
            )
        },
        Case {
            kernel: Some(b"\x7fELF".repeat(5000)),
            ..Case::new(
                "kernel is an ELF file",
                "fatal-error: the kernel is no bzImage (it is an ELF file, as vmlinux and PVH kernels are; the same build's",
            )
        },
        Case {
            kernel: Some(pe_with_section(b".linux\0\0")),
            ..Case::new(
                "kernel is a unified kernel image",
                "fatal-error: the kernel is no bzImage (it is a unified kernel image; its kernel boots: objcopy",
            )
        },
        Case {
            kernel: Some(pe_with_section(b".text\0\0\0")),
            ..Case::new(
                "kernel is an EFI application",
                "fatal-error: the kernel is no bzImage (it is an EFI application, which needs UEFI firmware;",
            )
        },
        Case {
            kernel: Some([&[0x1F, 0x8B, 8][..], &[0; 5000]].concat()),
            ..Case::new(
                "kernel is compressed",
                "fatal-error: the kernel is no bzImage (it is compressed by gzip;",
            )
        },
        Case {
            initrd: Some(vec![0; 200 << 20]),
            memory_mib: 192,
            ..Case::new(
                "initrd too large for the memory",
                "fatal-error: the initrd is too large: 209715200 bytes, but no free range below ",
            )
        },
        Case {
            command_line: Some("x".repeat(5000)),
            ..Case::new(
                "command line too long",
                "fatal-error: the command line is too long: 5000 bytes, but the kernel takes ",
            )
        },
        Case {
            memory_mib: 48,
            ..Case::new("too little memory", "fatal-error: too little memory: ")
        },
        Case {
            image: Image::File(vec![0; 1 << 20]),
            ..Case::new(
                "image without metadata",
                "setup: the image: the metadata pointer 0x0 (at the image's end - 0x20) leads outside the image",
            )
        },
        Case {
            options: &["l2vms=0"],
            ..Case::new(
                "NUM_L2_VMS is 0",
                "fatal-error: this TD has no L2 VM: it must be created with NUM_L2_VMS of 1 or more",
            )
        },
        // The attack, so that the next one is known to be against it.
        Case {
            image: Image::Unmeasured,
            options: SECOND_PROCESSOR_FIRST,
            ..Case::new(
                "old metadata, second processor first",
                "fatal-error: the host's code runs in the TD",
            )
        },
        Case {
            options: SECOND_PROCESSOR_FIRST,
            ..Case::new(
                "second processor first",
                "fatal-error: this TD may have 17 virtual processors (it has 17), and L1 runs 16",
            )
        },
        Case {
            options: &["vcpus=257", "first=256"],
            ..Case::new(
                "processor 256 first",
                "fatal-error: this TD may have 257 virtual processors (it has 257), and L1 runs 16",
            )
        },
        Case {
            image: Image::Unmeasured,
            options: &["unmeasured=noise"],
            ..Case::new(
                "old metadata, noise in pages that nobody measures",
                "fatal-error: the firmware image has a TempMem section at 0xff000000 that nobody measures",
            )
        },
        Case {
            // L1 comes as far as with any other host.
            options: &["unmeasured=noise", "fault=no-fwcfg"],
            ..Case::new(
                "noise in pages that nobody measures: there are none",
                "fatal-error: the host has no fw_cfg device (its signature reads [ff, ff, ff, ff])",
            )
        },
        Case {
            options: &["payload-info=0"],
            ..Case::new(
                "TD HOB names the image's payload",
                "fatal-error: td-shim's event log is not that of a start of the payload in its image (event 3)",
            )
        },
        Case {
            options: &["payload-info=2"],
            ..Case::new(
                "TD HOB names a payload of the host's",
                "fatal-error: the shim starts no payload but the image's",
            )
        },
        Case {
            options: &["fault=no-fwcfg"],
            ..Case::new(
                "host has no fw_cfg",
                "fatal-error: the host has no fw_cfg device (its signature reads [ff, ff, ff, ff])",
            )
        },
        Case {
            options: &["fault=fwcfg-size:8:4294967295"],
            ..Case::new(
                "fw_cfg lies about the kernel's size",
                "fatal-error: too little memory for the kernel: no free 4095 MiB at or above ",
            )
        },
        Case {
            options: &["fault=fwcfg-size:11:4294967295"],
            ..Case::new(
                "fw_cfg lies about the initrd's size",
                "fatal-error: the initrd is too large: 4294967295 bytes, but no free range below ",
            )
        },
        Case {
            options: &["fault=fwcfg-size:20:4294967295"],
            ..Case::new(
                "fw_cfg lies about the command line's size",
                "fatal-error: the command line is too long: 4294967294 bytes, but the kernel takes ",
            )
        },
        Case {
            // What is cut of the answer is past the 64 bytes of TDVMCALL<ReportFatalError>: this
            // host takes no byte of L1's log either.
            options: &["fault=tdvmcall-nonsense:io"],
            ..Case::new(
                "host answers TDVMCALL<IO> with nonsense",
                "fatal-error: fw_cfg port access: TDVMCALL: the host answered 0x123456789abcde",
            )
        },
        Case {
            options: &["fault=tdvmcall-nonsense:mapgpa"],
            ..Case::new(
                "host answers TDVMCALL<MapGPA> with nonsense",
                "fatal-error: MapGPA: failed at 0x8000",
            )
        },
    ]
}

/// The headers of a PE file that has one section of this name.
fn pe_with_section(name: &[u8; 8]) -> Vec<u8> {
    let mut file = b"MZ".to_vec();
    file.resize(0x80, 0);
    file.extend_from_slice(b"PE\0\0");
    file.resize(0x188, 0);
    file.extend_from_slice(name);
    file.resize(5000, 0);
    file
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
        let init_data = match self.init_data {
            Some(text) => Some(file(&Some(text.into()), "initdata", &setup.kernel)?),
            None => None,
        };
        let own = &setup.firmware.accepted;
        let image = match &self.image {
            Image::Own => own.clone(),
            Image::Unmeasured => with_unmeasured_pages(own)?,
            Image::File(bytes) => bytes.clone(),
        };
        let run = Simulation {
            image: &image,
            options: &options,
            init_data: init_data.as_deref(),
            limit: Some(Duration::from_secs(120)),
            ..setup.simulation(&self.file_name(), boot, self.memory_mib)
        }
        .run(&mut |_| {})?;
        ensure!(!run.succeeded, "the run succeeded");
        ensure!(run.to_user_space.is_none(), "the guest came to user space");
        let said = run.transcript.result();
        ensure!(
            said.starts_with(self.says),
            "the end is not {:?}: {said}",
            self.says
        );
        Ok(())
    }
}
