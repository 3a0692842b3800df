//! A stock Debian kernel, out of its binary package.

use crate::progress;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The package whose dependency is the current kernel.
const META_PACKAGE: &str = "linux-image-amd64";

/// The path of a stock `vmlinuz`, fetched into `cache` on first use.
pub(crate) fn kernel(cache: &Path) -> Result<PathBuf> {
    let kept = cache.join("vmlinuz");
    if kept.exists() {
        return Ok(kept);
    }
    std::fs::create_dir_all(cache)?;
    let package = match kernel_package() {
        Ok(package) => package,
        Err(_) => {
            // The package lists of a new machine may be empty.
            let _ = Command::new("apt-get").args(["update", "-qq"]).output();
            kernel_package()?
        }
    };
    let step = progress::step(format!(
        "fetching the stock kernel: Debian package {package}"
    ));
    let download = tempfile::tempdir_in(cache)?;
    let status = Command::new("apt-get")
        .args(["download", "-qq", &package])
        .current_dir(download.path())
        // apt drops to a user who may not write here, and warns of it.
        .stderr(Stdio::null())
        .status()
        .context("cannot run apt-get; pass a kernel with --kernel FILE")?;
    let deb = std::fs::read_dir(download.path())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let Some(deb) = deb.filter(|_| status.success()) else {
        bail!("apt-get download {package} failed; pass a kernel with --kernel FILE");
    };
    unpack(&deb, download.path())?;
    let boot = download.path().join("boot");
    let vmlinuz = std::fs::read_dir(&boot)
        .with_context(|| format!("{package} holds no /boot"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"))
        })
        .with_context(|| format!("{package} holds no /boot/vmlinuz-*"))?;
    std::fs::write(cache.join("vmlinuz.package"), &package)?;
    std::fs::rename(vmlinuz, &kept)?;
    step.done();
    Ok(kept)
}

/// The name of the package that [`kernel`] unpacked.
pub(crate) fn kernel_name(cache: &Path) -> Option<String> {
    std::fs::read_to_string(cache.join("vmlinuz.package")).ok()
}

fn kernel_package() -> Result<String> {
    let output = Command::new("apt-cache")
        .args(["depends", "--important", META_PACKAGE])
        .output()
        .context("cannot run apt-cache; pass a kernel with --kernel FILE")?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-") && !name.contains('<'))
        .map(str::to_owned)
        .with_context(|| {
            format!("apt knows no dependency of {META_PACKAGE}; pass a kernel with --kernel FILE")
        })
}

/// Unpacks only /boot of a package.
fn unpack(deb: &Path, to: &Path) -> Result<()> {
    let mut archive = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run dpkg-deb")?;
    let stdout = archive.stdout.take().context("dpkg-deb gives no output")?;
    let status = Command::new("tar")
        .arg("-C")
        .arg(to)
        .args(["-x", "--wildcards", "./boot/vmlinuz*"])
        .stdin(stdout)
        .status()
        .context("cannot run tar")?;
    if !archive.wait()?.success() || !status.success() {
        bail!("cannot unpack {}", deb.display());
    }
    Ok(())
}
