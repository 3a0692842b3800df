//! What the host needs to have: checked, and installed with apt where that is allowed.

use anyhow::{Context, Result, bail};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

/// A Debian package and a file of it, by which its presence is known.
struct Needed {
    package: &'static str,
    file: &'static str,
    why: &'static str,
}

/// What building and booting takes, on Debian 12.
const NEEDED: &[Needed] = &[
    Needed {
        package: "qemu-system-x86",
        file: "/usr/bin/qemu-system-x86_64",
        why: "runs the simulator",
    },
    Needed {
        package: "qemu-system-data",
        file: "/usr/share/qemu/qboot.rom",
        why: "its firmware",
    },
    Needed {
        package: "busybox-static",
        file: "/bin/busybox",
        why: "the guest's user space",
    },
    Needed {
        package: "tpm2-tools",
        file: "/usr/bin/tpm2",
        why: "the guest's TPM client",
    },
    Needed {
        package: "libtss2-tcti-device0",
        file: "/usr/lib/x86_64-linux-gnu/libtss2-tcti-device.so.0",
        why: "how the TPM client reaches /dev/tpm0",
    },
    Needed {
        package: "gcc",
        file: "/usr/bin/gcc",
        why: "compiles OpenSSL and links",
    },
    Needed {
        package: "libc6-dev",
        file: "/usr/lib/x86_64-linux-gnu/libc.a",
        why: "headers for OpenSSL, a static guest program",
    },
    Needed {
        package: "make",
        file: "/usr/bin/make",
        why: "builds OpenSSL",
    },
    Needed {
        package: "openssl",
        file: "/usr/bin/openssl",
        why: "reads the vTPM's certificates in the tests",
    },
    Needed {
        package: "perl",
        file: "/usr/bin/perl",
        why: "configures OpenSSL",
    },
];

/// What only `cargo xtask test` takes.
const NEEDED_BY_TESTS: &[Needed] = &[
    SWTPM,
    Needed {
        package: "golang-go",
        file: "/usr/bin/go",
        why: "verifies the vTPM's certificates in the tests",
    },
    Needed {
        package: "chromium-headless-shell",
        file: "/usr/bin/chromium-headless-shell",
        why: "looks at the verifier's page in the tests",
    },
];

/// What only `cargo xtask bench` takes.
const NEEDED_BY_BENCH: &[Needed] = &[SWTPM];

const SWTPM: Needed = Needed {
    package: "swtpm",
    file: "/usr/bin/swtpm",
    why: "the TPM of plain QEMU, with which ours is compared",
};

/// Makes sure that everything for builds and runs is installed.
pub(crate) fn prepare() -> Result<()> {
    install(NEEDED)
}

/// Makes sure that everything for tests is installed.
pub(crate) fn prepare_for_tests() -> Result<()> {
    install(NEEDED)?;
    install(NEEDED_BY_TESTS)
}

/// Makes sure that everything for the figures is installed.
pub(crate) fn prepare_for_bench() -> Result<()> {
    install(NEEDED)?;
    install(NEEDED_BY_BENCH)
}

/// A whole test's target folder takes this at its end.
const DISK_OF_TESTS: u64 = 14 << 30;

/// Says so where a whole test may not find the disk that it needs: what fails then fails in odd places.
pub(crate) fn warn_of_a_full_disk(target: &Path) {
    let Ok(disk) = rustix::fs::statvfs(target) else {
        return;
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let still = DISK_OF_TESTS.saturating_sub(size_below(target));
    if free < still {
        eprintln!(
            "{} has {:.1} GiB left, and the tests may fill {:.1} GiB more: what fails may fail for that; make room, or set \
             CARGO_TARGET_DIR to a folder on another disk",
            target.display(),
            in_gib(free),
            in_gib(still)
        );
    }
}

fn in_gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// What the files below take on the disk.
fn size_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .map(|(path, data)| match data.is_dir() {
            true => size_below(&path),
            false => data.blocks().saturating_mul(512),
        })
        .sum()
}

fn install(needed: &[Needed]) -> Result<()> {
    let missing: Vec<&Needed> = needed
        .iter()
        .filter(|needed| !Path::new(needed.file).exists())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|needed| needed.package).collect();
    eprintln!("Debian packages to install:");
    for needed in &missing {
        eprintln!("  {:22} {}", needed.package, needed.why);
    }
    let by_hand = format!(
        "apt-get install --no-install-recommends {}",
        packages.join(" ")
    );
    let Some(apt) = privileged_apt() else {
        bail!(
            "these packages are missing and cannot be installed from here (neither root nor password-less sudo); as root: {by_hand}"
        );
    };
    apt_get(&apt, &["update", "-qq"])?;
    let mut arguments = vec!["install", "-qq", "--yes", "--no-install-recommends"];
    arguments.extend(&packages);
    apt_get(&apt, &arguments).with_context(|| format!("to do it by hand: {by_hand}"))?;
    match missing
        .iter()
        .find(|needed| !Path::new(needed.file).exists())
    {
        Some(needed) => bail!(
            "{} was installed but {} is still absent: is this Debian 12?",
            needed.package,
            needed.file
        ),
        None => Ok(()),
    }
}

/// The words before apt-get's arguments, if it may be run as root.
fn privileged_apt() -> Option<Vec<&'static str>> {
    let exists = Path::new("/usr/bin/apt-get").exists();
    let succeeds = |program: &str, arguments: &[&str]| {
        Command::new(program)
            .args(arguments)
            .output()
            .is_ok_and(|output| output.status.success())
    };
    let is_root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout == b"0\n");
    match (exists, is_root) {
        (false, _) => None,
        (true, true) => Some(vec!["apt-get"]),
        (true, false) => succeeds("sudo", &["-n", "true"]).then(|| vec!["sudo", "-n", "apt-get"]),
    }
}

fn apt_get(apt: &[&str], arguments: &[&str]) -> Result<()> {
    eprintln!("running: {} {}", apt.join(" "), arguments.join(" "));
    let (program, first) = apt.split_first().context("no apt-get")?;
    let status = Command::new(program)
        .args(first)
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(std::process::Stdio::null())
        .status()
        .with_context(|| format!("cannot run {program}"))?;
    if !status.success() {
        bail!(
            "apt-get {} failed ({status})",
            arguments.first().unwrap_or(&"")
        );
    }
    Ok(())
}
