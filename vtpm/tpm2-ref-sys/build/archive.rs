//! Gets the pinned `libtpms.a`.
//!
//! The engine comes as Debian's static archive. The objects of this crate replace some of its
//! members symbol by symbol and know the layout of others, so an archive with another checksum is
//! refused wherever it comes from.

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

const PACKAGE: &str = "libtpms-dev";
const PATH: &str = "usr/lib/x86_64-linux-gnu/libtpms.a";

/// One build of the archive that this crate is written for.
pub(crate) struct Pinned {
    /// Debian's version of [`PACKAGE`], amd64.
    pub(crate) version: &'static str,
    /// SHA-256 of the package file.
    pub(crate) package: &'static str,
    /// SHA-256 of [`PATH`] in it.
    pub(crate) archive: &'static str,
}

/// Every archive that is known to fit. Debian keeps only its current package, so a point release
/// adds a row here once its symbols and layouts have been compared; rows are not removed.
pub(crate) const PINNED: &[Pinned] = &[Pinned {
    version: "0.9.2-3.1+deb12u1",
    package: "314bb001a205ec00d4761ef48474687e0e730884f3e21fcb4c1b38678cb5263c",
    archive: "7c7e000632064f9ed4824b4ff2f2a177af81c47c495a702d05110345243342b5",
}];

/// Where to look, in this order.
pub(crate) struct Sources {
    /// Use this one and nothing else.
    pub(crate) given: Option<PathBuf>,
    /// What the installed package would provide.
    pub(crate) system: PathBuf,
    /// Whether Debian's archive may be asked.
    pub(crate) network: bool,
}

impl Sources {
    pub(crate) fn of_this_machine() -> Self {
        Self {
            given: env::var_os(VARIABLE).map(PathBuf::from),
            system: Path::new("/").join(PATH),
            network: env::var_os(OFFLINE_VARIABLE).is_none(),
        }
    }
}

/// The directory that holds a pinned `libtpms.a`.
pub(crate) fn obtain(cache: &Path, sources: &Sources) -> Result<PathBuf, String> {
    if let Some(given) = &sources.given {
        let known = check(given).map_err(|why| format!("{VARIABLE} cannot be used: {why}"))?;
        return keep(cache, given, known);
    }
    for known in PINNED {
        let kept = directory(cache, known).join("libtpms.a");
        if check(&kept).is_ok_and(|found| found.archive == known.archive) {
            return Ok(directory(cache, known));
        }
    }
    let mut tried = Vec::new();
    match check(&sources.system) {
        Ok(known) => return keep(cache, &sources.system, known),
        Err(why) => tried.push(why),
    }
    if sources.network {
        for known in PINNED {
            match download(cache, known) {
                Ok(directory) => return Ok(directory),
                Err(why) => tried.push(why),
            }
        }
    } else {
        tried.push(format!(
            "download not tried: {OFFLINE_VARIABLE} forbids the network"
        ));
    }
    let versions: Vec<&str> = PINNED.iter().map(|known| known.version).collect();
    let versions = versions.join(" or ");
    Err(format!(
        "the TPM engine, libtpms.a of Debian's {PACKAGE} {versions}, could not be had.\n  \
         {}\n  \
         Remedies: `apt-get install {PACKAGE}={versions}`, or set {VARIABLE} to that version's libtpms.a.",
        tried.join("\n  ")
    ))
}

/// Which pinned archive `path` is.
pub(crate) fn check(path: &Path) -> Result<&'static Pinned, String> {
    let digest = sha256(path)?;
    PINNED
        .iter()
        .find(|known| known.archive == digest)
        .ok_or_else(|| {
            format!(
                "{}: sha256 {digest} is not that of a pinned archive",
                path.display()
            )
        })
}

fn sha256(path: &Path) -> Result<String, String> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let digest = Sha256::digest(&bytes);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn directory(cache: &Path, known: &Pinned) -> PathBuf {
    cache.join(format!("libtpms-{}", &known.archive[..16]))
}

/// Puts a checked archive into the cache, all or nothing.
fn keep(cache: &Path, archive: &Path, known: &Pinned) -> Result<PathBuf, String> {
    let directory = directory(cache, known);
    let failed = |error| format!("cannot fill {}: {error}", directory.display());
    fs::create_dir_all(&directory).map_err(failed)?;
    let partial = directory.join(format!("libtpms.a.{}", std::process::id()));
    fs::copy(archive, &partial).map_err(failed)?;
    fs::rename(&partial, directory.join("libtpms.a")).map_err(failed)?;
    Ok(directory)
}

fn download(cache: &Path, known: &Pinned) -> Result<PathBuf, String> {
    let work = cache.join(format!("download-{}", std::process::id()));
    let result = download_into(&work, known).and_then(|archive| keep(cache, &archive, known));
    // A left-over only costs space.
    let _ = fs::remove_dir_all(&work);
    result.map_err(|why| format!("{PACKAGE}={} from Debian: {why}", known.version))
}

/// First with the package lists of the machine, then, where it has none or older ones, with lists
/// of our own (25 MB, removed again), which needs no root.
fn download_into(work: &Path, known: &Pinned) -> Result<PathBuf, String> {
    for folder in ["lists/partial", "cache/archives/partial", "unpacked"] {
        fs::create_dir_all(work.join(folder)).map_err(|error| error.to_string())?;
    }
    let wanted = format!("{PACKAGE}={}", known.version);
    let apt = |own_lists: bool, arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.current_dir(work).arg("--quiet");
        if own_lists {
            command
                .arg("-o")
                .arg(format!(
                    "Dir::State::lists={}",
                    work.join("lists").display()
                ))
                .arg("-o")
                .arg(format!("Dir::Cache={}", work.join("cache").display()))
                .args(["-o", "Debug::NoLocking=true"]);
        }
        run(command.args(arguments))
    };
    apt(false, &["download", &wanted]).or_else(|first| {
        apt(true, &["update"])
            .and_then(|_| apt(true, &["download", &wanted]))
            .map_err(|second| format!("{first}\n  with package lists of our own: {second}"))
    })?;

    let package = fs::read_dir(work)
        .map_err(|error| error.to_string())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or("apt-get left no package file")?;
    let digest = sha256(&package)?;
    if digest != known.package {
        return Err(format!(
            "the package's sha256 is {digest}, not {}",
            known.package
        ));
    }
    let unpacked = work.join("unpacked");
    run(Command::new("dpkg-deb")
        .arg("-x")
        .arg(&package)
        .arg(&unpacked))?;
    let archive = unpacked.join(PATH);
    check(&archive)?;
    Ok(archive)
}
