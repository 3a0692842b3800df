//! Files out of Debian's binary packages, fetched without installing them.

use crate::progress;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The package whose dependency is the current kernel.
const META_PACKAGE: &str = "linux-image-amd64";
/// What a file of a kernel's package is called before its version.
const KERNEL_FILE: &str = "vmlinuz";

/// The kernel's driver of the TPM where it is not built in (Linux 5.10 of Debian 11), in the order in which its
/// modules are inserted.
const TPM_MODULES: [&str; 4] = ["rng-core.ko", "tpm.ko", "tpm_tis_core.ko", "tpm_tis.ko"];

/// The kernel's drivers of an encrypted root on a virtio disk, in the order in which they are inserted: virtio by PCI,
/// the mapper with AES-XTS (by the processor's instructions, and without), ext4. They are not built in.
const ROOT_DISK_MODULES: [&str; 18] = [
    "virtio_ring.ko",
    "virtio.ko",
    "virtio_pci_legacy_dev.ko",
    "virtio_pci_modern_dev.ko",
    "virtio_pci.ko",
    "virtio_blk.ko",
    "dm-mod.ko",
    "dm-crypt.ko",
    "cryptd.ko",
    "crypto_simd.ko",
    "aesni-intel.ko",
    "ecb.ko",
    "xts.ko",
    "crc32c_generic.ko",
    "crc16.ko",
    "mbcache.ko",
    "jbd2.ko",
    "ext4.ko",
];
/// The kernel's drivers of virtio devices, in the order in which they are inserted.
const DEVICE_MODULES: [&str; 14] = [
    "virtio_ring.ko",
    "virtio.ko",
    "virtio_pci_legacy_dev.ko",
    "virtio_pci_modern_dev.ko",
    "virtio_pci.ko",
    "virtio-rng.ko",
    "virtio_blk.ko",
    "failover.ko",
    "net_failover.ko",
    "virtio_net.ko",
    "virtio_console.ko",
    "vsock.ko",
    "vmw_vsock_virtio_transport_common.ko",
    "vmw_vsock_virtio_transport.ko",
];
/// The kernel's drivers of virtual machines on AMD's processors, as QEMU emulates one, in the order in which they are
/// inserted.
const KVM_MODULES: [&str; 4] = ["irqbypass.ko", "ccp.ko", "kvm.ko", "kvm-amd.ko"];
/// Beside a kernel, the name of its package.
const PACKAGE_FILE: &str = "vmlinuz.package";
/// Where [`kernel`] keeps those of its kernel, in its cache.
const MODULES_FOLDER: &str = "vmlinuz.modules";

/// The keys of Debian's archive, of all of its suites.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where packages come from.
#[derive(Clone, Copy)]
enum Archive<'a> {
    /// What this machine's apt is set up for.
    Host,
    /// Another suite of the same mirror, whose package lists are kept in this folder.
    Suite(&'a str, &'a Path),
}

/// A kernel out of a package.
pub(crate) struct Kernel {
    /// The package's name.
    pub(crate) package: String,
    /// Its `vmlinuz`.
    pub(crate) file: PathBuf,
    /// The modules of its TPM driver, in the order in which they are inserted; none if it is built in.
    pub(crate) modules: Vec<PathBuf>,
}

/// The path of a stock `vmlinuz`, fetched into `cache` on first use.
pub(crate) fn kernel(cache: &Path) -> Result<PathBuf> {
    let kept = cache.join(KERNEL_FILE);
    let modules = cache.join(MODULES_FOLDER);
    if kept.exists() && kept_modules().all(|name| modules.join(name).exists()) {
        return Ok(kept);
    }
    std::fs::create_dir_all(cache)?;
    let (package, download) = Archive::Host
        .fetch_kernel(cache)
        .context("pass a kernel with --kernel FILE")?;
    let vmlinuz = find_kernel(download.path()).context("the package holds no kernel")?;
    let unfinished = tempfile::tempdir_in(cache)?;
    for name in kept_modules() {
        let found = find_below(download.path(), name)
            .with_context(|| format!("{package} has no {name}"))?;
        std::fs::rename(found, unfinished.path().join(name))?;
    }
    std::fs::write(cache.join(PACKAGE_FILE), &package)?;
    std::fs::rename(vmlinuz, &kept)?;
    if modules.exists() {
        std::fs::remove_dir_all(&modules)?;
    }
    std::fs::rename(unfinished.keep(), &modules)?;
    Ok(kept)
}

/// The modules that [`kernel`] keeps, each once.
fn kept_modules() -> impl Iterator<Item = &'static str> {
    let of_devices = DEVICE_MODULES.into_iter();
    ROOT_DISK_MODULES
        .into_iter()
        .chain(of_devices.filter(|name| !ROOT_DISK_MODULES.contains(name)))
        .chain(KVM_MODULES)
}

/// What [`kernel`]'s kernel needs besides to drive the virtio devices of a guest: modules, in the order in which they are
/// inserted.
pub(crate) fn device_modules(cache: &Path) -> Vec<PathBuf> {
    let folder = cache.join(MODULES_FOLDER);
    DEVICE_MODULES.map(|name| folder.join(name)).into()
}

/// What [`kernel`]'s kernel needs besides to find its root on an encrypted virtio disk: modules, in the order in which
/// they are inserted.
pub(crate) fn root_disk_modules(cache: &Path) -> Vec<PathBuf> {
    let folder = cache.join(MODULES_FOLDER);
    ROOT_DISK_MODULES.map(|name| folder.join(name)).into()
}

/// What [`kernel`]'s kernel needs besides to be the host of a KVM guest on an emulated processor: modules, in the order in
/// which they are inserted.
pub(crate) fn kvm_modules(cache: &Path) -> Vec<PathBuf> {
    let folder = cache.join(MODULES_FOLDER);
    KVM_MODULES.map(|name| folder.join(name)).into()
}

/// The name of the package that [`kernel`] unpacked.
pub(crate) fn kernel_name(cache: &Path) -> Option<String> {
    std::fs::read_to_string(cache.join(PACKAGE_FILE)).ok()
}

/// A kernel of a suite, fetched on first use, or when [`kernel_of_suite`] last was asked for one.
pub(crate) fn kept_kernel_of_suite(suite: &str, cache: &Path) -> Result<Kernel> {
    let lists = cache.join(suite);
    let file = lists.join(KERNEL_FILE);
    let Ok(package) = std::fs::read_to_string(lists.join(PACKAGE_FILE)) else {
        return kernel_of_suite(suite, cache);
    };
    let modules = TPM_MODULES.map(|name| lists.join(name));
    Ok(Kernel {
        package,
        file,
        modules: modules
            .into_iter()
            .filter(|module| module.exists())
            .collect(),
    })
}

/// Today's kernel of a suite, fetched anew.
pub(crate) fn kernel_of_suite(suite: &str, cache: &Path) -> Result<Kernel> {
    let lists = cache.join(suite);
    std::fs::create_dir_all(&lists)?;
    let archive = Archive::Suite(suite, &lists);
    archive.set_up()?;
    archive.update();
    let (package, download) = archive
        .fetch_kernel(&lists)
        .with_context(|| format!("Debian suite {suite}"))?;
    let vmlinuz = find_kernel(download.path()).context("the package holds no kernel")?;
    let file = lists.join(KERNEL_FILE);
    std::fs::rename(vmlinuz, &file)?;
    let mut modules = Vec::new();
    for name in TPM_MODULES {
        if let Some(found) = find_below(download.path(), name) {
            let kept = lists.join(name);
            std::fs::rename(found, &kept)?;
            modules.push(kept);
        }
    }
    std::fs::write(lists.join(PACKAGE_FILE), &package)?;
    Ok(Kernel {
        package,
        file,
        modules,
    })
}

/// Packages of this machine's Debian, unpacked into a folder of `cache` on first use, and again when others are asked for.
pub(crate) fn unpacked(name: &str, packages: &[&str], cache: &Path) -> Result<PathBuf> {
    let kept = cache.join(name);
    let list_file = cache.join(format!("{name}.packages"));
    let list = packages.join(" ");
    if kept.exists() && std::fs::read_to_string(&list_file).is_ok_and(|of| of == list) {
        return Ok(kept);
    }
    std::fs::create_dir_all(cache)?;
    let step = progress::step(match packages {
        [_, _, _, _, _, _, _, _, _, _, ..] => {
            format!("fetching {} Debian packages: {name}", packages.len())
        }
        _ => format!("fetching Debian packages: {list}"),
    });
    let download = tempfile::tempdir_in(cache)?;
    let whole = download.path().join("unpacked");
    let debs = match Archive::Host.download(packages, download.path()) {
        Ok(debs) => debs,
        Err(_) => {
            // The package lists may be older than the archive.
            Archive::Host.update();
            Archive::Host.download(packages, download.path())?
        }
    };
    for deb in debs {
        let status = Command::new("dpkg-deb")
            .arg("-x")
            .args([&deb, &whole])
            .status()
            .context("cannot run dpkg-deb")?;
        ensure!(status.success(), "cannot unpack {}", deb.display());
    }
    if kept.exists() {
        std::fs::remove_dir_all(&kept)?;
    }
    std::fs::rename(whole, &kept)?;
    std::fs::write(list_file, list)?;
    step.done();
    Ok(kept)
}

impl Archive<'_> {
    /// apt with this archive.
    fn apt(self, program: &str) -> Command {
        let mut command = Command::new(program);
        if let Self::Suite(_, lists) = self {
            for (key, value) in [
                ("Dir::Etc::sourcelist", lists.join("sources.list")),
                ("Dir::Etc::sourceparts", PathBuf::from("/dev/null")),
                ("Dir::State", lists.join("state")),
                ("Dir::Cache", lists.join("cache")),
            ] {
                command.arg("-o").arg(format!("{key}={}", value.display()));
            }
            command.args(["-o", "Acquire::Languages=none"]);
        }
        command
    }

    /// Writes what apt needs to know of a suite: the host's own mirror of Debian has the others too.
    fn set_up(self) -> Result<()> {
        let Self::Suite(suite, lists) = self else {
            return Ok(());
        };
        let output = Command::new("apt-get")
            .args(["indextargets", "--format"])
            .arg("$(ORIGIN)|$(COMPONENT)|$(REPO_URI)")
            .arg("Created-By: Packages")
            .output()
            .context("cannot run apt-get")?;
        let known = String::from_utf8_lossy(&output.stdout).into_owned();
        // The security archive has no other suites of this kind.
        let uri = known
            .lines()
            .filter_map(|line| line.strip_prefix("Debian|main|"))
            .find(|uri| !uri.contains("security"))
            .context("apt is not set up for a mirror of Debian")?;
        for folder in ["state/lists/partial", "cache/archives/partial"] {
            std::fs::create_dir_all(lists.join(folder))?;
        }
        std::fs::write(
            lists.join("sources.list"),
            format!("deb [signed-by={KEYRING}] {uri} {suite} main\n"),
        )?;
        Ok(())
    }

    /// Fetches the package lists; those of a new machine may be empty. What fails shows later.
    fn update(self) {
        let _ = self.apt("apt-get").args(["update", "-qq"]).output();
    }

    /// Fetches packages into `folder`, which has no others, and gives their paths in the order of their names.
    fn download(self, packages: &[&str], folder: &Path) -> Result<Vec<PathBuf>> {
        let status = self
            .apt("apt-get")
            .args(["download", "-qq"])
            .args(packages)
            .current_dir(folder)
            // apt drops to a user who may not write here, and warns of it.
            .stderr(Stdio::null())
            .status()
            .context("cannot run apt-get")?;
        let mut debs: Vec<PathBuf> = std::fs::read_dir(folder)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .collect();
        debs.sort();
        if !status.success() || debs.is_empty() {
            bail!("apt-get download {} failed", packages.join(" "));
        }
        Ok(debs)
    }

    /// The current kernel's package, and a folder with its `vmlinuz` somewhere below.
    fn fetch_kernel(self, cache: &Path) -> Result<(String, tempfile::TempDir)> {
        let package = match self.kernel_package() {
            Ok(package) => package,
            Err(_) => {
                self.update();
                self.kernel_package()?
            }
        };
        let step = progress::step(format!(
            "fetching the stock kernel: Debian package {package}"
        ));
        // Linux 7.2's has nothing but dependencies.
        let binary = package.replacen("linux-image-", "linux-binary-", 1);
        for name in [package, binary] {
            let download = tempfile::tempdir_in(cache)?;
            for deb in self.download(&[&name], download.path())? {
                unpack_kernel(&deb, download.path())?;
            }
            if find_kernel(download.path()).is_some() {
                step.done();
                return Ok((name, download));
            }
        }
        bail!("no package of {META_PACKAGE} holds a kernel");
    }

    fn kernel_package(self) -> Result<String> {
        let output = self
            .apt("apt-cache")
            .args(["depends", "--important", META_PACKAGE])
            .output()
            .context("cannot run apt-cache")?;
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|name| name.starts_with("linux-image-") && !name.contains('<'))
            .map(str::to_owned)
            .with_context(|| format!("apt knows no dependency of {META_PACKAGE}"))
    }
}

/// Unpacks only what is or leads to a kernel, or is one of its drivers.
fn unpack_kernel(deb: &Path, to: &Path) -> Result<()> {
    let mut archive = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run dpkg-deb")?;
    let stdout = archive.stdout.take().context("dpkg-deb gives no output")?;
    // tar fails where there is none: who looks for it will say so.
    Command::new("tar")
        .arg("-C")
        .arg(to)
        .args(["-x", "--wildcards", "*/vmlinuz*"])
        .args(
            TPM_MODULES
                .into_iter()
                .chain(kept_modules())
                .map(|module| format!("*/{module}")),
        )
        .stdin(stdout)
        .stderr(Stdio::null())
        .status()
        .context("cannot run tar")?;
    ensure!(archive.wait()?.success(), "cannot unpack {}", deb.display());
    Ok(())
}

/// A kernel below a folder: in `/boot`, or since Linux 7.2 among its modules.
fn find_kernel(folder: &Path) -> Option<PathBuf> {
    let entries = |folder: PathBuf| {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        entries.filter_map(|entry| Some(entry.ok()?.path()))
    };
    let modules = entries(folder.join("usr/lib/modules")).flat_map(entries);
    entries(folder.join("boot")).chain(modules).find(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(KERNEL_FILE))
    })
}

/// The file of this name somewhere below a folder.
fn find_below(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find_map(|path| {
            if path.is_dir() && !path.is_symlink() {
                return find_below(&path, name);
            }
            (path.file_name()? == name).then_some(path)
        })
}
