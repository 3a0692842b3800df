//! Gets the pinned `libtpms.a`.
//!
//! The engine comes as Debian's static archive. The objects of this crate replace some of its
//! members symbol by symbol and know the layout of others, so an archive with another checksum is
//! refused wherever it comes from.
//!
//! A Debian mirror drops a package when a newer one is there. So several versions fit, the newest
//! first; each is looked for in a folder of the user's that keeps what was downloaded once, and in
//! the mirrors that apt knows on this machine. All that was ever in Debian is kept by its snapshot
//! service, which can be named as a mirror.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::command::run;

/// Names an archive to use instead of looking for one.
pub(crate) const VARIABLE: &str = "TPM2_REF_LIBTPMS_A";
/// Forbids the network.
pub(crate) const OFFLINE_VARIABLE: &str = "TPM2_REF_OFFLINE";
/// Mirrors to ask instead of apt's, separated by spaces: what is before `/pool/` in their URLs.
pub(crate) const MIRRORS_VARIABLE: &str = "TPM2_REF_MIRRORS";
/// What decides where the user's cache is (XDG Base Directory Specification).
pub(crate) const USER_CACHE_VARIABLES: [&str; 2] = ["XDG_CACHE_HOME", "HOME"];

const PACKAGE: &str = "libtpms-dev";
const PATH: &str = "usr/lib/x86_64-linux-gnu/libtpms.a";
const POOL: &str = "pool/main/libt/libtpms";
/// Downloads by URL with apt's settings (its proxy, say), without root; part of the package apt.
const DOWNLOADER: &str = "/usr/lib/apt/apt-helper";

/// One build of the archive that this crate is written for.
#[derive(Debug)]
pub(crate) struct Pinned {
    /// Debian's version of [`PACKAGE`], amd64.
    pub(crate) version: &'static str,
    /// SHA-256 of the package file.
    pub(crate) package: &'static str,
    /// SHA-256 of [`PATH`] in it.
    pub(crate) archive: &'static str,
}

/// Every archive that is known to fit, newest first. A version comes here once its symbols and
/// layouts have been compared and the tests have run on it.
pub(crate) const PINNED: &[Pinned] = &[
    Pinned {
        version: "0.10.2-5",
        package: "de53d091e099403c207793cbcd52f9da58d8c8eff874649096013936d67835a0",
        archive: "ee2e72db2d47c48e2f7b23c84f8ff4c64b2a4176b34413aba6c4c7f379b76189",
    },
    Pinned {
        version: "0.9.2-3.1+deb12u1",
        package: "314bb001a205ec00d4761ef48474687e0e730884f3e21fcb4c1b38678cb5263c",
        archive: "7c7e000632064f9ed4824b4ff2f2a177af81c47c495a702d05110345243342b5",
    },
];

impl Pinned {
    /// The package's file name in a mirror and in the user's cache.
    pub(crate) fn file(&self) -> String {
        format!("{PACKAGE}_{}_amd64.deb", self.version)
    }
}

/// Where to look.
pub(crate) struct Sources {
    /// Use this one and nothing else.
    pub(crate) given: Option<PathBuf>,
    /// The user's folder of packages, checked at each use.
    pub(crate) user_cache: Option<PathBuf>,
    /// What the installed package would provide.
    pub(crate) system: PathBuf,
    /// Mirrors to ask; none if the network is forbidden.
    pub(crate) mirrors: Vec<String>,
}

impl Sources {
    pub(crate) fn of_this_machine() -> Self {
        let mirrors = match (env::var_os(OFFLINE_VARIABLE), env::var(MIRRORS_VARIABLE)) {
            (Some(_), _) => Vec::new(),
            (None, Ok(given)) => given.split_whitespace().map(str::to_owned).collect(),
            (None, Err(_)) => mirrors_of_apt(),
        };
        Self {
            given: env::var_os(VARIABLE).map(PathBuf::from),
            user_cache: user_cache(|name| env::var_os(name).map(PathBuf::from)),
            system: Path::new("/").join(PATH),
            mirrors,
        }
    }
}

/// The mirrors that apt is set up with, each once; none where there is no apt. Any suite will do:
/// all share the mirror's pool.
fn mirrors_of_apt() -> Vec<String> {
    let listed = run(Command::new("apt-get").args([
        "indextargets",
        "--no-release-info",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
    ]));
    let mut mirrors: Vec<String> = Vec::new();
    for mirror in listed.unwrap_or_default().lines() {
        if !mirrors.iter().any(|known| known == mirror) {
            mirrors.push(mirror.to_owned());
        }
    }
    mirrors
}

/// The folder for packages below the user's cache directory: `$XDG_CACHE_HOME`, else `~/.cache`.
pub(crate) fn user_cache(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let [cache, home] = USER_CACHE_VARIABLES;
    let absolute = |path: &PathBuf| path.is_absolute();
    variable(cache)
        .filter(absolute)
        .or_else(|| Some(variable(home).filter(absolute)?.join(".cache")))
        .map(|cache| cache.join("tdp-vtpm/packages"))
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// The directory that holds `libtpms.a`.
    pub(crate) directory: PathBuf,
    /// Which one it is.
    pub(crate) pinned: &'static Pinned,
    /// Why it is none of the newer ones, a line each. Empty for the newest.
    pub(crate) passed_over: Vec<String>,
}

/// A pinned `libtpms.a`: the newest that can be had.
pub(crate) fn obtain(
    cache: &Path,
    sources: &Sources,
    pins: &'static [Pinned],
) -> Result<Found, String> {
    if let Some(given) = &sources.given {
        let pinned =
            check(given, pins).map_err(|why| format!("{VARIABLE} cannot be used: {why}"))?;
        return Ok(Found {
            directory: keep(cache, given, pinned)?,
            pinned,
            passed_over: Vec::new(),
        });
    }
    let mut tried = Vec::new();
    for pinned in pins {
        let before = tried.len();
        if let Some(directory) = obtain_one(cache, sources, pinned, &mut tried) {
            // What was tried for this one is of no interest any more.
            tried.truncate(before);
            return Ok(Found {
                directory,
                pinned,
                passed_over: tried,
            });
        }
    }
    let versions: Vec<&str> = pins.iter().map(|known| known.version).collect();
    let files: String = pins
        .iter()
        .map(|known| format!("\n    {}  sha256 {}", known.file(), known.package))
        .collect();
    let folder = sources.user_cache.as_ref().map_or_else(
        || "the folder for them (set XDG_CACHE_HOME)".to_owned(),
        |folder| folder.display().to_string(),
    );
    Err(format!(
        "the TPM engine, libtpms.a of Debian's {PACKAGE} {}, could not be had.\n  \
         {}\n  \
         Remedies: put one of these files into {folder}:{files}\n  \
         or name a mirror that has one in {MIRRORS_VARIABLE} (Debian's snapshot service keeps all: \
         archive/debian/20260401T000000Z of it), or set {VARIABLE} to the libtpms.a of one.",
        versions.join(" or "),
        tried.join("\n  ")
    ))
}

/// The directory of this one, or lines in `tried`.
fn obtain_one(
    cache: &Path,
    sources: &Sources,
    pinned: &'static Pinned,
    tried: &mut Vec<String>,
) -> Option<PathBuf> {
    let is_it = |archive: &Path| sha256(archive).is_ok_and(|digest| digest == pinned.archive);
    let kept = directory(cache, pinned);
    if is_it(&kept.join("libtpms.a")) {
        return Some(kept);
    }
    let work = cache.join(format!("download-{}", std::process::id()));
    let mut attempt = |what: String, result: Result<PathBuf, String>| {
        let result = result.and_then(|archive| keep(cache, &archive, pinned));
        // A left-over only costs space.
        let _ = fs::remove_dir_all(&work);
        result
            .map_err(|why| tried.push(format!("{what}: {why}")))
            .ok()
    };

    let in_cache = sources
        .user_cache
        .as_ref()
        .map(|folder| folder.join(pinned.file()));
    if let Some(package) = &in_cache {
        let found = unpack(package, &work, pinned);
        if let Some(directory) = attempt(package.display().to_string(), found) {
            return Some(directory);
        }
    }
    let installed = match is_it(&sources.system) {
        true => Ok(sources.system.clone()),
        false => Err(format!("not that of {PACKAGE} {}", pinned.version)),
    };
    if let Some(directory) = attempt(sources.system.display().to_string(), installed) {
        return Some(directory);
    }
    for mirror in &sources.mirrors {
        let url = url(mirror, pinned);
        let found = download(&url, &work, pinned).and_then(|package| {
            if let Some(in_cache) = &in_cache {
                // Only the next build misses it.
                let _ = put(&package, in_cache);
            }
            unpack(&package, &work, pinned)
        });
        if let Some(directory) = attempt(url, found) {
            return Some(directory);
        }
    }
    if sources.mirrors.is_empty() {
        tried.push(format!(
            "{PACKAGE} {} not downloaded: {OFFLINE_VARIABLE} forbids the network, or neither apt nor {MIRRORS_VARIABLE} names a mirror",
            pinned.version
        ));
    }
    None
}

fn url(mirror: &str, pinned: &Pinned) -> String {
    format!("{}/{POOL}/{}", mirror.trim_end_matches('/'), pinned.file())
}

/// Which pinned archive `path` is.
pub(crate) fn check(path: &Path, pins: &'static [Pinned]) -> Result<&'static Pinned, String> {
    let digest = sha256(path).map_err(|error| format!("{}: {error}", path.display()))?;
    pins.iter()
        .find(|known| known.archive == digest)
        .ok_or_else(|| {
            format!(
                "{}: sha256 {digest} is not that of a pinned archive",
                path.display()
            )
        })
}

pub(crate) fn sha256(path: &Path) -> Result<String, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let digest = Sha256::digest(&bytes);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn directory(cache: &Path, known: &Pinned) -> PathBuf {
    cache.join(format!("libtpms-{}", &known.archive[..16]))
}

/// Puts a checked archive into the cache, all or nothing.
fn keep(cache: &Path, archive: &Path, pinned: &Pinned) -> Result<PathBuf, String> {
    let directory = directory(cache, pinned);
    put(archive, &directory.join("libtpms.a"))?;
    Ok(directory)
}

/// Copies a file to its place, all or nothing.
fn put(from: &Path, to: &Path) -> Result<(), String> {
    let failed = |error| format!("cannot write {}: {error}", to.display());
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut partial = to.as_os_str().to_owned();
    partial.push(format!(".{}", std::process::id()));
    fs::copy(from, &partial).map_err(failed)?;
    fs::rename(&partial, to).map_err(failed)
}

/// The package file, not yet checked.
fn download(url: &str, work: &Path, pinned: &Pinned) -> Result<PathBuf, String> {
    fs::create_dir_all(work).map_err(|error| error.to_string())?;
    let package = work.join(pinned.file());
    run(Command::new(DOWNLOADER)
        .args([
            "-o",
            "Acquire::Retries=2",
            "-o",
            "Acquire::http::Timeout=20",
        ])
        .args(["download-file", url])
        .arg(&package)
        .arg(format!("SHA256:{}", pinned.package)))?;
    Ok(package)
}

/// The archive out of a package file whose checksum is right.
fn unpack(package: &Path, work: &Path, pinned: &Pinned) -> Result<PathBuf, String> {
    let digest = sha256(package)?;
    if digest != pinned.package {
        return Err(format!("its sha256 is {digest}, not {}", pinned.package));
    }
    let unpacked = work.join("unpacked");
    fs::create_dir_all(&unpacked).map_err(|error| error.to_string())?;
    run(Command::new("dpkg-deb")
        .arg("-x")
        .arg(package)
        .arg(&unpacked))?;
    let archive = unpacked.join(PATH);
    match sha256(&archive)? {
        digest if digest == pinned.archive => Ok(archive),
        digest => Err(format!(
            "sha256 of its libtpms.a is {digest}, not {}",
            pinned.archive
        )),
    }
}
