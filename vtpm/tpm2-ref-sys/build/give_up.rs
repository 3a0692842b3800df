//! Lets the search for a prime give up.
//!
//! libtpms looks at its cancel flag before each prime of an RSA key that a seed gives, and the search for one takes up to
//! seconds; OpenSSL, which makes the others, never does. Three of libtpms's objects get other names for functions of other
//! objects: the crate has functions of those names, which look at the flag and go on to the real ones
//! (`src/objects/cancel.rs`). Nothing else of the pinned archive is changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::run;

/// Increased when the steps below change what comes out.
const RECIPE: &str = "2";

/// What they are called in the crate.
const MILLER_RABIN: &str = "tpm2_ref_miller_rabin";
const RANDOM_INTEGER: &str = "tpm2_ref_random_integer";

/// The function that gives a prime's first candidate, by what it is called in this version and earlier ones.
const RANDOM_INTEGERS: [&str; 2] = ["TpmMath_GetRandomInteger", "BnGetRandomBits"];

/// What begins OpenSSL's search, and what it is called in the crate; the second was earlier versions'.
const SEARCHES: [(&str, &str); 2] = [
    ("EVP_PKEY_keygen_init", "tpm2_ref_keygen_init"),
    ("RSA_generate_key_ex", "tpm2_ref_generate_key"),
];

/// The archive with that, in a folder of the cache, and the name of the real function.
pub(crate) struct Hooked {
    pub(crate) directory: PathBuf,
    random_integer: &'static str,
}

impl Hooked {
    /// What `src/objects/cancel.rs` includes.
    pub(crate) fn list(&self) -> String {
        let name = self.random_integer;
        format!(
            "unsafe extern \"C\" {{\n    #[link_name = \"{name}\"]\n    \
             fn random_integer(number: *mut c_void, bits: usize, random: *mut c_void) -> c_int;\n}}\n"
        )
    }
}

/// Makes it of the archive in `pinned`, a folder of `cache`.
pub(crate) fn obtain(cache: &Path, pinned: &Path) -> Result<Hooked, String> {
    let folder = pinned
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or("the archive's folder has no name")?;
    let directory = cache.join(format!("{folder}-{RECIPE}"));
    let library = pinned.join("libtpms.a");
    let names = run(Command::new("nm").arg("-A").arg(&library))?;
    let prime = member(&names, "CryptPrime.o")?;
    let sieve = member(&names, "CryptPrimeSieve.o")?;
    let helpers = member(&names, "Helpers.o")?;
    let random_integer = RANDOM_INTEGERS
        .into_iter()
        .find(|function| asks_for(&names, prime, function))
        .ok_or("libtpms makes primes of something else")?;
    let (search, own_search) = SEARCHES
        .into_iter()
        .find(|(function, _)| asks_for(&names, helpers, function))
        .ok_or("libtpms has keys made by something else")?;
    let renamed = [
        (prime, random_integer, RANDOM_INTEGER),
        (sieve, "MillerRabin", MILLER_RABIN),
        (helpers, search, own_search),
    ];
    if !asks_for(&names, sieve, "MillerRabin") {
        return Err("libtpms tests primes by something else".into());
    }
    if !directory.join("libtpms.a").exists() {
        let work = cache.join(format!("tpms-build-{}", std::process::id()));
        let made = make(&library, &work, &renamed);
        let moved = made.and_then(|()| match fs::rename(&work, &directory) {
            // Whoever was first wins; the results are equal.
            Err(error) if !directory.join("libtpms.a").exists() => {
                Err(format!("cannot make {}: {error}", directory.display()))
            }
            _ => Ok(()),
        });
        // A left-over only costs space.
        let _ = fs::remove_dir_all(&work);
        moved?;
    }
    Ok(Hooked {
        directory,
        random_integer,
    })
}

/// A copy of `library` in the new folder `work`, in which each member asks for another name.
fn make(library: &Path, work: &Path, renamed: &[(&str, &str, &str)]) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot make {}: {error}", work.display());
    // Left over from a process of the same number.
    let _ = fs::remove_dir_all(work);
    fs::create_dir_all(work).map_err(failed)?;
    let copy = work.join("libtpms.a");
    fs::copy(library, &copy).map_err(failed)?;
    for (member, from, to) in renamed {
        run(Command::new("ar")
            .current_dir(work)
            .arg("x")
            .arg(&copy)
            .arg(member))?;
        let object = work.join(member);
        run(Command::new("objcopy")
            .arg("--redefine-sym")
            .arg(format!("{from}={to}"))
            .arg(&object))?;
        run(Command::new("ar").arg("rD").arg(&copy).arg(&object))?;
        fs::remove_file(&object).map_err(failed)?;
    }
    run(Command::new("ranlib").arg("-D").arg(&copy))?;
    Ok(())
}

/// The name of the member that ends with `name`, of `nm -A`'s lines `ARCHIVE:MEMBER:ADDRESS T NAME`.
fn member<'a>(names: &'a str, name: &str) -> Result<&'a str, String> {
    let members = names.lines().filter_map(|line| line.rsplit(':').nth(1));
    let ending = format!("-{name}");
    members
        .into_iter()
        .find(|member| member.ends_with(&ending))
        .ok_or_else(|| format!("libtpms.a has no member {name}"))
}

/// Whether the member asks for `function` of another one.
fn asks_for(names: &str, member: &str, function: &str) -> bool {
    let (member, asks) = (format!(":{member}:"), format!(" U {function}"));
    names
        .lines()
        .any(|line| line.contains(&member) && line.ends_with(&asks))
}
