//! The initrd of a host with KVM: QEMU and swtpm as Debian has them, and their guest.

use crate::file_tree::FileTree;
use crate::initrd::write_whole;
use crate::{debian, images};
use anyhow::{Context, Result};
use boots::Setup;
use flate2::Compression;
use std::path::{Path, PathBuf};

/// Programs of the host's packages, with their libraries.
const PROGRAMS: [&str; 2] = ["/usr/bin/qemu-system-x86_64", "/usr/bin/swtpm"];
/// What QEMU reads besides.
const FIRMWARE: [&str; 3] = ["qboot.rom", "linuxboot_dma.bin", "kvmvapic.bin"];
const FIRMWARE_FOLDER: &str = "/usr/share/qemu";

/// Packs it; the guest is the setup's kernel with this initrd.
pub(crate) fn build(setup: &Setup, guest_initrd: &Path) -> Result<PathBuf> {
    let mut tree = FileTree::default();
    for folder in ["dev", "proc", "sys", "tmp"] {
        tree.folder(folder);
    }
    let read = |path: &Path| std::fs::read(path).with_context(|| path.display().to_string());
    tree.file("bin/busybox", read(Path::new("/bin/busybox"))?, 0o755);
    tree.link("bin/sh", "busybox");
    for program in PROGRAMS {
        tree.program(Path::new(program), Path::new("/"))?;
    }
    for name in FIRMWARE {
        let path = Path::new(FIRMWARE_FOLDER).join(name);
        let place = path.to_string_lossy();
        tree.file(place.trim_start_matches('/'), read(&path)?, 0o644);
    }
    for (number, module) in (1..).zip(debian::kvm_modules(&setup.folder)) {
        tree.file(&format!("modules/{number:02}.ko"), read(&module)?, 0o644);
    }
    tree.file("boot/vmlinuz", read(&setup.kernel)?, 0o644);
    tree.file("boot/initrd", read(guest_initrd)?, 0o644);
    let script = images::root().join("tests/opponent/init");
    tree.file("init", read(&script)?, 0o755);
    let folder = setup.folder.join("opponent");
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("initrd.cpio.gz");
    // The emulated machine unpacks it.
    write_whole(&path, &tree.archive()?, Compression::none())?;
    Ok(path)
}
