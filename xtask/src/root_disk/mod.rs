//! A Debian root on a LUKS2 disk whose key is sealed to the TPM: the disk as a tenant first hands it in, and the initrd
//! that enrols it at the first boot and opens it at each later one. What the guest does is in `tests/guest/root-disk`,
//! what its boots must show in [`boots::root_disk`].
//!
//! The disk has two partitions: `root-image`, a packed archive of the root, and `root`, which is blank. The host has
//! the disk: the initrd, which is measured, has the archive's SHA-256.

mod packages;

use crate::debian;
use crate::file_tree::FileTree;
use crate::images;
use crate::initrd::write_whole;
use crate::progress;
use anyhow::{Context, Result};
use flate2::Compression;
use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types::{LINUX_FS, LINUX_LUKS};
use packages::Packages;
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The disk's size in bytes; a sparse file at first, of which a boot writes about a third.
const DISK_BYTES: u64 = 256 << 20;
/// Partitions begin at multiples of this many bytes.
const ALIGNMENT: u64 = 1 << 20;
const SECTOR: LogicalBlockSize = LogicalBlockSize::Lb512;

/// The initrd's programs.
const PROGRAMS: [&str; 6] = [
    "usr/bin/systemd-cryptenroll",
    "usr/lib/systemd/systemd-cryptsetup",
    "usr/sbin/cryptsetup",
    "usr/sbin/dmsetup",
    "usr/sbin/mke2fs",
    "usr/bin/busybox",
];
/// Programs that the root runs; their libraries must be among the packages.
const ROOT_PROGRAMS: [&str; 8] = [
    "usr/lib/systemd/systemd",
    "usr/bin/luksmeta",
    "usr/bin/bash",
    "usr/bin/jose",
    "usr/bin/mawk",
    "usr/bin/mount",
    "usr/bin/pwmake",
    "usr/bin/tpm2",
];
/// Libraries that they load by name.
const LOADED_LIBRARIES: [&str; 5] = [
    "libtss2-esys.so.0",
    "libtss2-mu.so.0",
    "libtss2-rc.so.0",
    "libtss2-tcti-device.so.0",
    "cryptsetup/libcryptsetup-token-systemd-tpm2.so",
];
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// What the guest of [`boots::root_disk`] boots from.
pub(crate) struct RootDisk {
    /// The initrd. It names the root's archive: one disk goes with one initrd.
    pub(crate) initrd: PathBuf,
    /// The packed archive of the root.
    image: PathBuf,
}

/// Fetches and packs what is needed into a folder of `cache`. [`debian::kernel`] comes first, for its modules.
pub(crate) fn build(cache: &Path) -> Result<RootDisk> {
    let packages = Packages::fetch(cache)?;
    let folder = cache.join("root-disk.boot");
    fs::create_dir_all(&folder)?;
    let step = progress::step("packing a Debian root and the initrd that encrypts it");
    let image = folder.join("root.cpio.gz");
    write_whole(&image, &root(&packages)?.archive()?, Compression::default())?;
    let initrd = folder.join("initrd.cpio.gz");
    let archive = initrd_tree(&packages, &image, cache)?.archive()?;
    write_whole(&initrd, &archive, Compression::best())?;
    step.done();
    Ok(RootDisk { initrd, image })
}

impl RootDisk {
    /// Writes a new disk, which the next boot enrols.
    pub(crate) fn new_disk(&self, to: &Path) -> Result<()> {
        let context = || to.display().to_string();
        let image = fs::read(&self.image).with_context(|| self.image.display().to_string())?;
        let mut file = fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(to)
            .with_context(context)?;
        file.set_len(DISK_BYTES)?;
        let last = u32::try_from(DISK_BYTES / u64::from(SECTOR) - 1)?;
        ProtectiveMBR::with_lb_size(last).overwrite_lba0(&mut file)?;
        let mut disk = GptConfig::new()
            .writable(true)
            .logical_block_size(SECTOR)
            .create_from_device(file, None)?;
        let image_bytes = u64::try_from(image.len())?.next_multiple_of(ALIGNMENT);
        // The tables take less than the alignment at either end.
        let rest = DISK_BYTES.checked_sub(image_bytes + 2 * ALIGNMENT);
        let rest = rest.context("the root's archive is larger than the disk")?;
        let alignment = Some(ALIGNMENT / u64::from(SECTOR));
        let id = disk.add_partition("root-image", image_bytes, LINUX_FS, 0, alignment)?;
        disk.add_partition("root", rest, LINUX_LUKS, 0, alignment)?;
        let partition = disk.partitions().get(&id);
        let start = partition.context("no partition")?.bytes_start(SECTOR)?;
        let mut file = disk.write()?;
        file.seek(SeekFrom::Start(start))?;
        file.write_all(&image).with_context(context)
    }
}

/// The root: the packages, and what makes a system of them.
fn root(packages: &Packages) -> Result<FileTree> {
    let mut tree = FileTree::default();
    for folder in ["boot", "dev", "home", "mnt", "proc", "root", "run", "sys"] {
        tree.folder(folder);
    }
    for folder in ["tmp", "var/lib", "var/log", "var/tmp"] {
        tree.folder(folder);
    }
    packages::add_merged_folders(&mut tree);
    // First, since what they need is looked at then.
    for program in ROOT_PROGRAMS {
        packages.add_program(program, &mut tree)?;
    }
    packages.add_all(&mut tree)?;
    tree.link("usr/bin/sh", "dash");
    tree.link("usr/bin/awk", "mawk");
    tree.link("usr/sbin/init", "/usr/lib/systemd/systemd");
    for (name, master) in [("passwd", "passwd.master"), ("group", "group.master")] {
        let users = packages.read(&format!("usr/share/base-passwd/{master}"))?;
        tree.file(&format!("etc/{name}"), users, 0o644);
    }
    tree.file("etc/hostname", b"root-disk\n".to_vec(), 0o644);
    // clevis makes random passwords, and checks them by a dictionary that this root does without.
    let check = b"dictcheck = 0\n".to_vec();
    tree.file("etc/security/pwquality.conf.d/root-disk.conf", check, 0o644);
    // Empty: systemd makes one, and asks nobody what to enable.
    tree.file("etc/machine-id", Vec::new(), 0o444);
    for (unit, target) in [
        (
            "default.target",
            "/usr/lib/systemd/system/multi-user.target",
        ),
        (
            "multi-user.target.wants/root-steps.service",
            "../root-steps.service",
        ),
        // The kernel has no module for it here.
        ("proc-sys-fs-binfmt_misc.automount", "/dev/null"),
        // Nobody logs in; without udev, it would be waited for.
        ("serial-getty@ttyS0.service", "/dev/null"),
    ] {
        tree.link(&format!("etc/systemd/system/{unit}"), target);
    }
    let script = |name: &str| read(&guest_scripts().join(name));
    for (place, name, mode) in [
        (
            "etc/systemd/system/root-steps.service",
            "root-disk/root-steps.service",
            0o644,
        ),
        (
            "usr/lib/root-disk/root-steps",
            "root-disk/root-steps",
            0o755,
        ),
        ("usr/lib/root-disk/step.sh", "step.sh", 0o644),
    ] {
        tree.file(place, script(name)?, mode);
    }
    Ok(tree)
}

/// The initrd: the kernel's modules, the programs that make and open the volume, and what the archive of the root is.
fn initrd_tree(packages: &Packages, image: &Path, cache: &Path) -> Result<FileTree> {
    let mut tree = FileTree::default();
    for folder in ["dev", "proc", "sys", "tmp", "run", "etc", "mnt"] {
        tree.folder(folder);
    }
    packages::add_merged_folders(&mut tree);
    for program in PROGRAMS {
        packages.add_program(program, &mut tree)?;
    }
    for library in LOADED_LIBRARIES {
        packages.add_program(&format!("{LIBRARIES}/{library}"), &mut tree)?;
    }
    tree.link("usr/bin/sh", "busybox");
    for (number, module) in (10..).zip(debian::root_disk_modules(cache)) {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        tree.file(&format!("modules/{number}-{name}"), read(&module)?, 0o644);
    }
    let image = read(image)?;
    let told = format!("{} {}\n", image.len(), hex::encode(Sha256::digest(&image)));
    tree.file("etc/root-image", told.into_bytes(), 0o644);
    for (place, name) in [
        ("init", "root-disk/init"),
        ("bin/enrol", "root-disk/enrol"),
        ("bin/unlock", "root-disk/unlock"),
        ("bin/step.sh", "step.sh"),
    ] {
        let place = place.replacen("bin/", "usr/bin/", 1);
        tree.file(&place, read(&guest_scripts().join(name))?, 0o755);
    }
    Ok(tree)
}

fn guest_scripts() -> PathBuf {
    images::root().join("tests/guest")
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_new_disk_has_the_packed_root_and_a_blank_volume() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        fs::write(&image, b"a packed root").unwrap();
        let root = RootDisk {
            initrd: PathBuf::new(),
            image,
        };
        let path = folder.path().join("disk");
        // What was there before is gone.
        fs::write(&path, vec![0xA5; 8 << 20]).unwrap();
        root.new_disk(&path).unwrap();
        let disk = GptConfig::new().open(&path).unwrap();
        let partitions: Vec<_> = disk.partitions().values().collect();
        let names: Vec<&str> = partitions.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, ["root-image", "root"]);
        let start = |number: usize| partitions[number].bytes_start(SECTOR).unwrap();
        assert_eq!((start(0), start(1)), (ALIGNMENT, 2 * ALIGNMENT));
        let mut content = Vec::new();
        fs::File::open(&path)
            .unwrap()
            .read_to_end(&mut content)
            .unwrap();
        let (image, volume) = content.split_at(start(1) as usize);
        assert!(image[start(0) as usize..].starts_with(b"a packed root\0"));
        let length = partitions[1].bytes_len(SECTOR).unwrap() as usize;
        assert!(length > 200 << 20 && volume[..length].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_root_that_the_disk_has_no_room_for_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        let file = fs::File::create(&image).unwrap();
        file.set_len(DISK_BYTES - ALIGNMENT).unwrap();
        let root = RootDisk {
            initrd: PathBuf::new(),
            image,
        };
        assert!(root.new_disk(&folder.path().join("disk")).is_err());
    }
}
