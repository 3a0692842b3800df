//! Gets the engine's two C libraries and links them.
//!
//! `libtpms.a` is Debian's, pinned by checksum ([`archive`]); `libcrypto.a` is built from the
//! `openssl-src` crate without an operating system in mind ([`openssl`]). Both are kept in a cache
//! that every build of the workspace shares: hosted tests and the freestanding image link the same
//! two files.
#![allow(clippy::indexing_slicing, reason = "a build may fail this way")]

mod archive;
mod command;
mod openssl;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

/// What the two libraries are linked as: not copied into this crate's `.rlib` (`-bundle`), so that
/// the linker sees two archives, and takes from the first only the objects that this crate's own
/// symbols do not replace.
const LINK: [&str; 2] = ["static:-bundle=tpms", "static:-bundle=crypto"];

fn main() -> ExitCode {
    for variable in [
        archive::VARIABLE,
        archive::OFFLINE_VARIABLE,
        CACHE_VARIABLE,
        "CC",
    ] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    println!("cargo::rerun-if-changed=build");

    match prepare() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ntpm2-ref-sys: {error}\n");
            ExitCode::FAILURE
        }
    }
}

/// Names the folder that keeps both libraries between builds.
const CACHE_VARIABLE: &str = "TPM2_REF_CACHE";

fn prepare() -> Result<(), String> {
    let out =
        PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run this through cargo")?);
    let cache = match env::var_os(CACHE_VARIABLE) {
        Some(path) => PathBuf::from(path),
        // OUT_DIR is <target>/<profile>/build/<package>-<hash>/out.
        None => out
            .ancestors()
            .nth(4)
            .ok_or("OUT_DIR is not below a target directory")?
            .join("tpm2-ref-cache"),
    };
    std::fs::create_dir_all(&cache)
        .map_err(|error| format!("cannot make the cache {}: {error}", cache.display()))?;

    let tpms = archive::obtain(&cache, &archive::Sources::of_this_machine())?;
    let crypto = openssl::obtain(&cache)?;

    let version = archive::check(&tpms.join("libtpms.a"))?.version;
    println!("cargo::rustc-env=TPM2_REF_TPMS_VERSION={version}");
    println!("cargo::rustc-link-search=native={}", tpms.display());
    println!("cargo::rustc-link-search=native={}", crypto.display());
    for library in LINK {
        println!("cargo::rustc-link-lib={library}");
    }
    println!("cargo::rustc-env=TPM2_REF_TPMS_DIR={}", tpms.display());
    println!("cargo::rustc-env=TPM2_REF_CRYPTO_DIR={}", crypto.display());
    // For dependents' build scripts, as DEP_TPMS_*.
    println!("cargo::metadata=tpms_dir={}", tpms.display());
    println!("cargo::metadata=crypto_dir={}", crypto.display());
    Ok(())
}
