//! OpenSSL's `verify`.

use crate::{put, quietly};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// OpenSSL trusts each of these certificates, by the strict rules of RFC 5280, with `authority` as its only root, and
/// `authority` itself. All in DER.
pub fn verify(authority: &[u8], certificates: &[Vec<u8>]) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let files = put(folder.path(), authority, certificates)?;
    let files = files.iter().map(|file| to_pem(file));
    let files = files.collect::<Result<Vec<_>>>()?;
    let root = files.first().context("no authority")?;
    let mut openssl = Command::new("openssl");
    openssl
        .args([
            "verify",
            "-x509_strict",
            "-no-CApath",
            "-no-CAstore",
            "-CAfile",
        ])
        .arg(root)
        .args(&files);
    let said = quietly(&mut openssl, "openssl")?;
    let said = String::from_utf8_lossy(&said);
    ensure!(
        said.lines().filter(|line| line.ends_with(": OK")).count() == files.len(),
        "openssl verify: {said}"
    );
    Ok(())
}

fn to_pem(from: &Path) -> Result<PathBuf> {
    let to = from.with_extension("pem");
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-inform", "DER", "-in"]).arg(from);
    quietly(openssl.arg("-out").arg(&to), "openssl")?;
    Ok(to)
}
