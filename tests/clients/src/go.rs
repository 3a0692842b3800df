//! Go's `crypto/x509`, which go-attestation, SPIRE and go-tpm-tools verify with.

use crate::{put, quietly};
use anyhow::Result;
use std::process::Command;

/// The program: one file, and nothing but the standard library.
const PROGRAM: &str = include_str!("verify.go");

/// Go trusts each of these certificates with `authority` as its only root. All in DER.
pub fn verify(authority: &[u8], certificates: &[Vec<u8>]) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let files = put(folder.path(), authority, certificates)?;
    let source = folder.path().join("verify.go");
    std::fs::write(&source, PROGRAM)?;
    let mut go = Command::new("go");
    go.arg("run")
        .arg(&source)
        // A name that ends in ".go" would be a source.
        .args(&files)
        .current_dir(folder.path())
        // Nothing of the user's, and nothing from the network.
        .envs([
            ("GO111MODULE", "off"),
            ("GOFLAGS", ""),
            ("GOPROXY", "off"),
            ("GOTOOLCHAIN", "local"),
        ])
        .env("GOCACHE", folder.path().join("cache"))
        .env("GOPATH", folder.path().join("path"));
    quietly(&mut go, "golang-go").map(drop)
}
