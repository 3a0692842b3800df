//! Builds `libcrypto.a` from the `openssl-src` crate so that it runs with and without an operating
//! system.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::command::run;
use crate::hooks;

/// Configure's options: a line each, `#` starts a comment that gives a group's reason.
const OPTIONS: &str = include_str!("openssl.options");

/// The compiler's options. An image has no thread block for the stack protector's canary and no
/// stack below the pointer that an interrupt would leave alone; sections let the linker drop what
/// nothing calls; the image is position independent.
const COMPILER_FLAGS: [&str; 7] = [
    "-ffreestanding",
    "-fno-stack-protector",
    "-mno-red-zone",
    "-ffunction-sections",
    "-fdata-sections",
    "-fPIC",
    "-O2",
];

/// The functions of OpenSSL's that libtpms calls and this crate answers: OpenSSL has them under
/// another name, by a macro, and uses them under that itself. See `src/objects`.
const RENAMED: [&str; 2] = ["EC_GROUP_new_curve_GFp", "EVP_PKEY_fromdata"];

fn renaming() -> impl Iterator<Item = String> {
    RENAMED
        .into_iter()
        .map(|name| format!("-D{name}=openssl_{name}"))
}

/// Increased when the steps below change what comes out.
const RECIPE: &str = "1";

/// OpenSSL writes the time of the build into itself; with a fixed one, two builds are equal.
const SOURCE_DATE_EPOCH: &str = "1700000000";

/// The directory that holds `libcrypto.a` for these options, this version and this compiler.
pub(crate) fn obtain(cache: &Path) -> Result<PathBuf, String> {
    let directory = cache.join(format!("openssl-{}", key()?));
    if directory.join("libcrypto.a").exists() {
        return Ok(directory);
    }
    let work = cache.join(format!("openssl-build-{}", std::process::id()));
    let result = build(&work).and_then(|library| {
        let partial = work.join("result");
        fs::create_dir_all(&partial)
            .and_then(|()| fs::rename(&library, partial.join("libcrypto.a")))
            .map_err(|error| format!("cannot move {}: {error}", library.display()))?;
        // Whoever was first wins; the results are equal.
        match fs::rename(&partial, &directory) {
            Err(error) if !directory.join("libcrypto.a").exists() => {
                Err(format!("cannot make {}: {error}", directory.display()))
            }
            _ => Ok(directory),
        }
    });
    // A left-over only costs space.
    let _ = fs::remove_dir_all(&work);
    result.map_err(|why| {
        format!(
            "OpenSSL {} could not be built: {why}\n  \
             It needs a C compiler, make and the whole of perl: `apt-get install gcc make perl`.",
            openssl_src::version()
        )
    })
}

fn options() -> impl Iterator<Item = &'static str> {
    OPTIONS
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .flat_map(str::split_whitespace)
}

fn compiler() -> String {
    env::var("CC").unwrap_or_else(|_| "cc".into())
}

fn key() -> Result<String, String> {
    let compiler_version = run(Command::new(compiler()).arg("--version"))?;
    let mut digest = Sha256::new();
    let mut add = |part: &str| {
        digest.update(part);
        digest.update([0]);
    };
    add(RECIPE);
    add(openssl_src::version());
    add(compiler_version.lines().next().unwrap_or_default());
    options()
        .chain(COMPILER_FLAGS)
        .chain(RENAMED)
        .chain(hooks::key())
        .for_each(add);
    let digest = digest.finalize();
    Ok(digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn build(work: &Path) -> Result<PathBuf, String> {
    // Left over from a process of the same number.
    let _ = fs::remove_dir_all(work);
    fs::create_dir_all(work).map_err(|error| format!("cannot make {}: {error}", work.display()))?;
    run(Command::new("perl")
        .current_dir(work)
        .arg(openssl_src::source_dir().join("Configure"))
        .arg("linux-x86_64")
        // Nothing is installed and no file is read at run time; a fixed path keeps builds equal.
        .args(["--prefix=/nonexistent", "--openssldir=/nonexistent"])
        // Its own generator asks for a seed once, by `getentropy`: see `entropy.rs`.
        .arg("--with-rand-seed=getrandom")
        .args(options())
        .args(COMPILER_FLAGS)
        .args(renaming())
        .env("CC", compiler())
        .env("SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH))?;

    let mut make = Command::new("make");
    make.current_dir(work)
        .args(["-s", "build_generated", "libcrypto.a"])
        .env("SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH);
    match env::var("CARGO_MAKEFLAGS") {
        Ok(flags) => make.env("MAKEFLAGS", flags),
        Err(_) => make.arg(format!("-j{}", env::var("NUM_JOBS").unwrap_or_default())),
    };
    run(&mut make)?;
    let library = work.join("libcrypto.a");
    hooks::put_in(&library, work)?;
    Ok(library)
}
