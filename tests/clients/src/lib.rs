//! Other people's software on what L1 writes: what it reads there, and that it has nothing to say against it.
//!
//! A program that is not installed is an error: the task that runs the tests installs it (`xtask/src/host.rs`).
#![forbid(unsafe_code)]

pub mod eventlog_rs;
pub mod go;
pub mod openssl;
pub mod qemu;
pub mod tpm2_eventlog;

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Registers by bank and number, in hexadecimal.
pub type Registers = BTreeMap<(String, u32), String>;

/// Runs a program, which must succeed and say nothing on its standard error.
fn quietly(command: &mut Command, package: &str) -> Result<Vec<u8>> {
    saying_only(command, package, |_| false)
}

/// As [`quietly`], for a program whose standard error may have lines that are `expected`.
fn saying_only(
    command: &mut Command,
    package: &str,
    expected: impl Fn(&str) -> bool,
) -> Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot run {name} (Debian package {package})"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().filter(|line| !expected(line));
    let said = said.collect::<Vec<_>>().join("\n");
    ensure!(
        output.status.success() && said.is_empty(),
        "{name}: {}: {said}",
        output.status
    );
    Ok(output.stdout)
}

/// Puts certificates of one authority into files of `folder`: the authority's first.
fn put(folder: &Path, authority: &[u8], certificates: &[Vec<u8>]) -> Result<Vec<PathBuf>> {
    [authority]
        .into_iter()
        .chain(certificates.iter().map(Vec::as_slice))
        .enumerate()
        .map(|(number, der)| {
            let file = folder.join(format!("{number}.der"));
            std::fs::write(&file, der)?;
            Ok(file)
        })
        .collect()
}
