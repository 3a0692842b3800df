//! Building the freestanding programs and the firmware image.

use crate::{progress, reproducible};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use tdshim_config::image::{self, Parts};

/// The programs a run takes.
pub(crate) struct Images {
    /// The simulator, a PVH kernel for QEMU.
    pub(crate) simulator: PathBuf,
    /// The L1 VMM's ELF file, with its symbols.
    pub(crate) l1_vmm: PathBuf,
    /// The same without debug information: the payload of the shim or of
    /// td-shim.
    pub(crate) payload: Vec<u8>,
    /// The built-in shim's ELF file.
    pub(crate) shim: PathBuf,
}

/// The project's root folder.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// Cargo's target folder.
pub(crate) fn target() -> PathBuf {
    let folder = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    // A relative one is relative to where the task was started.
    folder
        .and_then(|folder| std::path::absolute(folder).ok())
        .unwrap_or_else(|| root().join("target"))
}

/// Where xtask keeps what it fetched and made.
pub(crate) fn work_folder() -> Result<PathBuf> {
    let folder = target().join("xtask");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

/// Builds all programs.
pub(crate) fn build() -> Result<Images> {
    let step = progress::step("building the simulator, the shim and the L1 VMM");
    let images = build_at(&root(), &target(), &PACKAGES, None)?;
    step.done();
    Ok(images)
}

/// The freestanding programs; the first two make the firmware image.
pub(crate) const PACKAGES: [&str; 3] = ["l1-image", "sim-shim", "sim-machine"];

/// What selects one of [`PACKAGES`] for Cargo, as it is in the image.
pub(crate) fn image_arguments(package: &str) -> [&str; 6] {
    [
        "--profile",
        "image",
        "--features",
        "image",
        "--package",
        package,
    ]
}

/// Builds programs of the checkout in `root` into `target`, with one more environment variable.
pub(crate) fn build_at(
    root: &Path,
    target: &Path,
    packages: &[&str],
    variable: Option<(&str, &Path)>,
) -> Result<Images> {
    let flags = reproducible::rust_flags(root, target)?;
    // One package a time: features of one must not reach another.
    for package in packages {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["build", "--quiet"])
            .args(image_arguments(package))
            .current_dir(root)
            .env("CARGO_TARGET_DIR", target)
            .env(reproducible::FLAGS_VARIABLE, &flags)
            .envs(variable);
        let status = cargo.status().context("cannot run cargo")?;
        if !status.success() {
            bail!("building {package} failed");
        }
    }
    let built = target.join("image");
    let kept = target.join("xtask");
    std::fs::create_dir_all(&kept).with_context(|| kept.display().to_string())?;
    Ok(Images {
        simulator: built.join("sim-machine"),
        l1_vmm: built.join("l1-vmm"),
        payload: strip(&built.join("l1-vmm"), &kept.join("l1-vmm.elf"))?,
        shim: built.join("sim-shim"),
    })
}

/// How fast the verifier is, and how long building it takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum VerifierBuild {
    /// As the tests of all crates, which have just run, have built it.
    Tested,
    /// Without optimization.
    Quick,
    /// As a relying party would.
    Optimized,
}

/// Builds the verifier.
pub(crate) fn build_verifier(build: VerifierBuild) -> Result<PathBuf> {
    if build == VerifierBuild::Tested {
        let verifier = target().join("debug/verifier");
        if verifier.exists() {
            return Ok(verifier);
        }
    }
    let step = progress::step("building the verifier");
    let (arguments, folder): (&[_], _) = match build {
        VerifierBuild::Tested | VerifierBuild::Quick => {
            (&["--workspace", "--bin", "verifier"], "debug")
        }
        VerifierBuild::Optimized => (&["--release", "--package", "verifier"], "release"),
    };
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet"])
        .args(arguments)
        .current_dir(root())
        .env("CARGO_TARGET_DIR", target())
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("building the verifier failed");
    }
    step.done();
    Ok(target().join(folder).join("verifier"))
}

/// Builds a program for the guest: static, so that it needs nothing there.
pub(crate) fn build_guest_program(package: &str) -> Result<PathBuf> {
    // Named, so that what cargo runs while it builds is not made static.
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    let target_dir = work_folder()?.join("guest");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--package", package])
        .args(["--target", TARGET])
        .current_dir(root())
        .env("CARGO_TARGET_DIR", &target_dir)
        .env(
            "RUSTFLAGS",
            "-C target-feature=+crt-static -C strip=symbols",
        )
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("building {package} for the guest failed");
    }
    Ok(target_dir.join(TARGET).join("release").join(package))
}

/// An ELF file as it goes into an image: without debug information. It takes the place of `to` at once, so that
/// another run never reads half of it.
fn strip(file: &Path, to: &Path) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir_in(to.parent().unwrap_or(to))?;
    let stripped = folder.path().join("stripped");
    let status = Command::new("strip")
        .args(["--strip-all", "-o"])
        .arg(&stripped)
        .arg(file)
        .status()
        .context("cannot run strip (package binutils)")?;
    if !status.success() {
        bail!("strip failed on {}", file.display());
    }
    let bytes = std::fs::read(&stripped)?;
    std::fs::rename(&stripped, to).with_context(|| to.display().to_string())?;
    Ok(bytes)
}

impl Images {
    /// The firmware image of the built-in shim.
    pub(crate) fn assemble(&self, back_tpm_window: bool) -> Result<Vec<u8>> {
        let shim = std::fs::read(&self.shim)?;
        Ok(image::assemble(Parts {
            shim: &shim,
            payload: &self.payload,
            back_tpm_window,
        })?)
    }
}
