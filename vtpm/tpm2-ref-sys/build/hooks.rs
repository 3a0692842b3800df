//! Puts a way out at the entry of functions that OpenSSL calls again and again.
//!
//! A command may take seconds, and its owner wants the processor back sooner (`src/slices`). Each of [`FUNCTIONS`]
//! gets another name in the object that defines it; the others then ask for a function that `libcrypto.a` does not have.
//! The crate has it: it looks at the time and goes on to the real one. That is `ld --wrap`, which a library's build
//! cannot ask of the programs that link it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::command::run;

/// What the real functions are called.
const PREFIX: &str = "tpm2_ref_real_";

/// Functions of OpenSSL in which the longest commands are again and again: no two calls are further apart than the
/// longest slice test allows.
const FUNCTIONS: [&str; 29] = [
    // Whatever has temporary numbers; trial division; multiplication, and powers, by Montgomery.
    "BN_CTX_start",
    "BN_mod_word",
    "bn_mul_mont",
    "bn_power5",
    "bn_mul_mont_gather5",
    "rsaz_1024_mul_avx2",
    "rsaz_1024_sqr_avx2",
    "rsaz_512_sqr",
    "rsaz_512_mul",
    "rsaz_512_mul_gather4",
    // Greatest common divisors and inverses, bit by bit.
    "BN_rshift1",
    "BN_usub",
    // P-256.
    "ecp_nistz256_point_add",
    "ecp_nistz256_point_double",
    // Hashes, and what is made of them: HMAC, KDF, the generator of keys from a seed.
    "SHA1_Init",
    "SHA1_Update",
    "SHA1_Final",
    "SHA256_Init",
    "SHA256_Update",
    "SHA256_Final",
    "SHA384_Init",
    "SHA512_Init",
    "SHA512_Update",
    "SHA512_Final",
    // Ciphers, block by block.
    "AES_set_encrypt_key",
    "AES_encrypt",
    "DES_set_key_unchecked",
    "DES_ecb3_encrypt",
    "Camellia_encrypt",
];

/// What changes when the result does.
pub(crate) fn key() -> impl Iterator<Item = &'static str> {
    [PREFIX].into_iter().chain(FUNCTIONS)
}

/// Renames the functions in `library`. `work` is a folder for what it needs meanwhile.
pub(crate) fn put_in(library: &Path, work: &Path) -> Result<(), String> {
    let work = work.join("hooks");
    fs::create_dir_all(&work)
        .map_err(|error| format!("cannot make {}: {error}", work.display()))?;
    let names = run(Command::new("nm")
        .args(["-A", "--defined-only"])
        .arg(library))?;
    for function in FUNCTIONS {
        let member = member_of(function, &names)
            .ok_or_else(|| format!("libcrypto.a has no function {function}"))?;
        let object = work.join(member);
        if !object.exists() {
            run(Command::new("ar")
                .current_dir(&work)
                .arg("x")
                .arg(library)
                .arg(member))?;
        }
        run(Command::new("objcopy")
            .arg("--redefine-sym")
            .arg(format!("{function}={PREFIX}{function}"))
            .arg(&object))?;
    }
    let objects = fs::read_dir(&work)
        .map_err(|error| error.to_string())?
        .map(|entry| Ok(entry.map_err(|error| error.to_string())?.path()))
        .collect::<Result<Vec<_>, String>>()?;
    run(Command::new("ar").arg("r").arg(library).args(objects))?;
    run(Command::new("ranlib").arg(library))?;
    Ok(())
}

/// The member that defines `function`, of `nm -A`'s lines `ARCHIVE:MEMBER:ADDRESS T NAME`.
fn member_of<'a>(function: &str, names: &'a str) -> Option<&'a str> {
    let line = names.lines().find(|line| {
        line.strip_suffix(function)
            .is_some_and(|rest| rest.ends_with(" T "))
    })?;
    line.rsplit(':').nth(1)
}

/// The crate's list of them, for `src/slices/hooks.rs`.
pub(crate) fn list() -> String {
    let lines: String = FUNCTIONS
        .iter()
        .map(|function| format!("    {function} = \"{PREFIX}{function}\";\n"))
        .collect();
    format!("hooks! {{\n{lines}}}\n")
}
