//! Builds that do not depend on where they are made: two checkouts of one commit give the same
//! images, byte for byte.
//!
//! What depends on the place is paths: of this checkout, of Cargo's registry, of the target folder
//! and of the toolchain's sources. They reach panic messages and debug information, and are given
//! fixed names here. The C libraries are independent of the place by themselves: the engine is a
//! pinned archive, and OpenSSL is configured without file names and with a fixed date.

use crate::images;
use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha384};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Variable with the compiler's flags, separated by [`SEPARATOR`], so that paths may hold spaces.
pub(crate) const FLAGS_VARIABLE: &str = "CARGO_ENCODED_RUSTFLAGS";
const SEPARATOR: &str = "\x1f";
/// Where the engine's C libraries are kept between builds.
const LIBRARY_CACHE_VARIABLE: &str = "TPM2_REF_CACHE";

/// The compiler's flags for a build of `root` into `target`.
pub(crate) fn rust_flags(root: &Path, target: &Path) -> Result<String> {
    let sysroot = PathBuf::from(rustc(&["--print", "sysroot"])?.trim());
    let verbose = rustc(&["-vV"])?;
    let commit = verbose
        .lines()
        .find_map(|line| line.strip_prefix("commit-hash: "))
        .context("rustc -vV names no commit")?;
    let toolchain_sources = sysroot.join("lib/rustlib/src/rust");
    // Where several apply, the last one does: the target folder may be inside the checkout.
    let places = [
        (toolchain_sources, format!("/rustc/{commit}")),
        (cargo_home()?, "/cargo".to_owned()),
        (root.to_owned(), "/tdp-vtpm".to_owned()),
        (target.to_owned(), "/target".to_owned()),
    ];
    let flags: Vec<String> = places
        .into_iter()
        .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
        .collect();
    Ok(flags.join(SEPARATOR))
}

fn rustc(arguments: &[&str]) -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(arguments)
        .current_dir(images::root())
        .output()
        .context("cannot run rustc")?;
    ensure!(output.status.success(), "rustc {arguments:?} failed");
    Ok(String::from_utf8(output.stdout)?)
}

fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = std::env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    let home = std::env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?;
    Ok(Path::new(&home).join(".cargo"))
}

/// SHA-384 as hexadecimal digits: how images are named.
pub(crate) fn sha384(bytes: &[u8]) -> String {
    hex::encode(Sha384::digest(bytes))
}

/// What is built a second time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// What is measured: the L1 VMM, the shim, and the firmware image of both.
    FirmwareImage,
    /// The simulator as well.
    Programs,
    /// The programs, with an OpenSSL that is built anew for them.
    Libraries,
}

/// Builds again from a copy of the checkout elsewhere, into another target folder, and compares with
/// `built`.
pub(crate) fn check(built: &images::Images, scope: Scope) -> Result<()> {
    let place = tempfile::Builder::new()
        .prefix("another place ")
        .tempdir()?;
    let copy = place.path().join("checkout");
    copy_tree(&images::root(), &copy)?;
    let target = place.path().join("target");
    let cache = if scope == Scope::Libraries {
        place.path().join("cache")
    } else {
        std::env::var_os(LIBRARY_CACHE_VARIABLE)
            .map_or_else(|| images::target().join("tpm2-ref-cache"), PathBuf::from)
    };
    let packages = match scope {
        Scope::FirmwareImage => &images::PACKAGES[..2],
        Scope::Programs | Scope::Libraries => &images::PACKAGES[..],
    };
    let variable = Some((LIBRARY_CACHE_VARIABLE, &*cache));
    let again = images::build_at(&copy, &target, packages, variable)?;
    let read = |path: &Path| std::fs::read(path).with_context(|| path.display().to_string());
    let mut pairs = vec![
        ("l1-vmm", built.payload.clone(), again.payload.clone()),
        ("shim", read(&built.shim)?, read(&again.shim)?),
        (
            "firmware image",
            built.assemble(true)?,
            again.assemble(true)?,
        ),
    ];
    if scope != Scope::FirmwareImage {
        pairs.push((
            "simulator",
            read(&built.simulator)?,
            read(&again.simulator)?,
        ));
    }
    let differing: Vec<&str> = pairs
        .iter()
        .filter(|(_, first, second)| first != second)
        .map(|(name, ..)| *name)
        .collect();
    if differing.is_empty() {
        return Ok(());
    }
    let kept = place.keep();
    bail!(
        "a build elsewhere gives another {}; it is kept in {}",
        differing.join(", "),
        kept.display()
    )
}

/// Copies a checkout without what was built there and without its history.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name();
        if name == "target" || name == ".git" {
            continue;
        }
        let (path, place) = (entry.path(), to.join(&name));
        if entry.file_type()?.is_dir() {
            copy_tree(&path, &place)?;
        } else {
            std::fs::copy(&path, &place).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}
