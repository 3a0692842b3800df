//! What the tests of odd clients and inputs take besides.

use crate::initrd::More;
use crate::prepare::guest_initrd;
use crate::{debian, images};
use anyhow::Result;
use boots::Setup;
use boots::compatibility::Kernel;
use flate2::Compression;
use std::path::{Path, PathBuf};

/// `kexec` and the libraries that it needs beside the C library. They are not installed: the package
/// would reboot this machine through it.
const KEXEC: &[&str] = &[
    "kexec-tools",
    "libxenmisc4.17",
    "libxencall1",
    "libxendevicemodel1",
    "libxenevtchn1",
    "libxenforeignmemory1",
    "libxengnttab1",
    "libxentoolcore1",
    "libxentoollog1",
];
/// Debian's suites whose kernels are tried.
const SUITES: [&str; 6] = [
    "bullseye",
    "bookworm",
    "bookworm-backports",
    "trixie",
    "trixie-backports",
    "sid",
];

/// Packs the initrd with `kexec`, what it starts, and the program that tries the device files.
pub(crate) fn initrd(setup: &Setup) -> Result<PathBuf> {
    let program = images::build_guest_program("guest-device-files")?;
    let unpacked = debian::unpacked("kexec-tools", KEXEC, &setup.folder)?;
    let folder = setup.folder.join("odd");
    std::fs::create_dir_all(&folder)?;
    let more = More {
        programs: &[program],
        files: &[
            ("boot/vmlinuz", setup.kernel.clone()),
            ("boot/initrd", setup.initrd.clone()),
        ],
        unpacked: Some((&unpacked, &["sbin/kexec"])),
        // Most of it is compressed already.
        compression: Compression::fast(),
    };
    guest_initrd(&more, &folder)
}

/// Today's kernels of every suite.
pub(crate) fn kernels(setup: &Setup) -> Result<Vec<Kernel>> {
    SUITES
        .iter()
        .map(|suite| {
            let kernel = debian::kernel_of_suite(suite, &setup.folder)?;
            let initrd = match &kernel.modules[..] {
                [] => None,
                modules => Some(initrd_with(modules, &[], &setup.folder.join(suite))?),
            };
            Ok(Kernel {
                name: format!("{suite}, {}", kernel.package),
                file: kernel.file,
                initrd,
            })
        })
        .collect()
}

/// memtest86+, a kernel by the Linux boot protocol.
pub(crate) fn memtest(setup: &Setup) -> Result<PathBuf> {
    let unpacked = debian::unpacked("memtest86+", &["memtest86+"], &setup.folder)?;
    Ok(unpacked.join("boot/memtest86+x64.bin"))
}

/// Packs the usual initrd with kernel modules, which its first program inserts in this order, and with programs.
pub(crate) fn initrd_with(
    modules: &[PathBuf],
    programs: &[PathBuf],
    folder: &Path,
) -> Result<PathBuf> {
    let files: Vec<(String, PathBuf)> = (1..)
        .zip(modules)
        .map(|(number, module)| (format!("modules/{number:02}.ko"), module.clone()))
        .collect();
    let files: Vec<(&str, PathBuf)> = files
        .iter()
        .map(|(place, file)| (place.as_str(), file.clone()))
        .collect();
    let more = More {
        programs,
        files: &files,
        ..More::NOTHING
    };
    guest_initrd(&more, folder)
}
