//! Gets the engine's two C libraries and links them.
//!
//! `libtpms.a` is Debian's, pinned by checksum ([`archive`]), but for two names ([`give_up`]); `libcrypto.a` is built from the
//! `openssl-src` crate without an operating system in mind ([`openssl`]), and gets a way out of long
//! commands ([`hooks`]). Both are kept in a cache
//! that every build of the workspace shares: hosted tests and the freestanding image link the same
//! two files.
#![allow(clippy::indexing_slicing, reason = "a build may fail this way")]

mod archive;
mod command;
mod give_up;
mod hooks;
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
        archive::MIRRORS_VARIABLE,
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

    let found = archive::obtain(
        &cache,
        &archive::Sources::of_this_machine(),
        archive::PINNED,
    )?;
    let (tpms, version) = (found.directory, found.pinned.version);
    if let Some(newest) = archive::PINNED
        .first()
        .filter(|_| !found.passed_over.is_empty())
    {
        println!(
            "cargo::warning=the TPM engine is libtpms {version}: {} could not be had. L1, and with it MRTD, is another",
            newest.version
        );
        for line in found.passed_over.iter().flat_map(|reason| reason.lines()) {
            println!("cargo::warning={line}");
        }
    }
    let hooked = give_up::obtain(&cache, &tpms)?;
    let crypto = openssl::obtain(&cache)?;
    let hooks = out.join("hooks.rs");
    std::fs::write(&hooks, hooks::list())
        .map_err(|error| format!("cannot write {}: {error}", hooks.display()))?;
    let real = out.join("cancel.rs");
    std::fs::write(&real, hooked.list())
        .map_err(|error| format!("cannot write {}: {error}", real.display()))?;

    println!("cargo::rustc-env=TPM2_REF_TPMS_VERSION={version}");
    println!(
        "cargo::rustc-link-search=native={}",
        hooked.directory.display()
    );
    println!("cargo::rustc-link-search=native={}", crypto.display());
    for library in LINK {
        println!("cargo::rustc-link-lib={library}");
    }
    println!("cargo::rustc-env=TPM2_REF_TPMS_DIR={}", tpms.display());
    println!("cargo::rustc-env=TPM2_REF_CRYPTO_DIR={}", crypto.display());
    // For dependents' build scripts, as DEP_TPMS_*.
    println!("cargo::metadata=tpms_dir={}", hooked.directory.display());
    println!("cargo::metadata=crypto_dir={}", crypto.display());
    Ok(())
}
