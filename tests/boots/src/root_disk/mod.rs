//! A Debian root on a LUKS2 disk that only the TPM opens, under the launch that it was enrolled under: what its boots
//! must show, on the simulator and on plain QEMU with swtpm, from the same initrd and kinds of disk.
//!
//! `tests/guest/root-disk` is what the guest does: the disk, not the command line, says whether it is the first boot.

mod host;

use crate::devices::devices_option;
use crate::{BASE_COMMAND_LINE, Checks, LIMIT, Setup, Suite};
use anyhow::{Context, Result, ensure};
use simulator::{BootFiles, Clock, HostDevices, PlainQemu, Run, Simulation, Swtpm, Transcript};
use std::path::{Path, PathBuf};

/// How the names of its checks begin.
pub const NAME: &str = "encrypted root";
/// What comes behind [`BASE_COMMAND_LINE`]. The TPM opens the disk under the command line of its first boot alone.
pub const WORDS: &str = "quiet";
/// Enough memory for the guest, in MiB: it has the packed root in memory at the first boot.
pub const MEMORY_MIB: u64 = 512;

/// A TPM whose state only this platform opens, under this L1 (`docs/init-data.md`).
const INIT_DATA: &str = "version = \"0.1.0\"
algorithm = \"sha384\"

[data]
\"tdp-vtpm.toml\" = '''
machine = \"0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0\"
state = \"require\"
key = \"hardware\"
rollback = \"none\"
'''
";

/// What a boot comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The first boot made the volume, put the root onto it, and left no key but the TPM's.
    Enrolled,
    /// The TPM opened the volume, and Debian's systemd runs from it.
    Opened,
    /// The TPM did not open the volume.
    Closed,
    /// The TPM's key opened it, but as another volume than was enrolled: it was left.
    OtherVolume,
    /// The packed root is not the one that the initrd names: nothing was written.
    OtherImage,
}

impl Outcome {
    /// The steps of such a boot, in order.
    pub fn steps(self) -> Vec<&'static str> {
        let mut steps = vec!["disk-drivers", "tpm-driver", "command-line-measured"];
        steps.extend(match self {
            Self::Enrolled => &[
                "root-image-intact",
                "luks-format",
                "tpm2-enrol",
                "luks-open",
                "file-system",
                "root-install",
                "clevis-bind",
                "first-key-forgotten",
                "luks-close",
            ][..],
            Self::Opened => &[
                "unlock-by-tpm",
                "volume-as-enrolled",
                "root-mount",
                "root-systemd",
                "root-is-the-volume",
                "root-of-the-enrolment",
                "root-token-opens",
                "root-clevis-opens",
                "root-extend-pcr8",
                "root-token-refused-then",
                "root-clevis-refused-then",
            ],
            Self::Closed => &["unlock-by-tpm"],
            Self::OtherVolume => &["unlock-by-tpm", "volume-as-enrolled"],
            Self::OtherImage => &["root-image-intact"],
        });
        steps
    }

    /// The step that fails in such a boot: the refusal.
    pub const fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Enrolled | Self::Opened => None,
            Self::Closed => Some("unlock-by-tpm"),
            Self::OtherVolume => Some("volume-as-enrolled"),
            Self::OtherImage => Some("root-image-intact"),
        }
    }

    /// What the guest says of it.
    const fn word(self) -> &'static str {
        match self {
            Self::Enrolled => "@root-disk enrolled",
            Self::Opened => "@root-disk opened",
            Self::Closed | Self::OtherVolume => "@root-disk closed",
            Self::OtherImage => "@root-disk unusable",
        }
    }

    /// Whether a boot came to this, with each of its steps as it must be and no others.
    pub fn check(self, transcript: &Transcript) -> Result<()> {
        let steps = transcript.steps();
        let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
        let failed: Vec<&str> = steps
            .iter()
            .filter(|step| !step.passed)
            .map(|step| step.name.as_str())
            .collect();
        let refusal: Vec<&str> = self.refusal().into_iter().collect();
        ensure!(failed == refusal, "these steps failed: {failed:?}");
        ensure!(names == self.steps(), "the steps are {names:?}");
        let said: Vec<&String> = transcript
            .console
            .iter()
            .filter(|line| line.starts_with("@root-disk "))
            .collect();
        ensure!(said == [self.word()], "the guest says {said:?}");
        ensure!(transcript.steps_finished(), "it did not come to its end");
        Ok(())
    }
}

/// What the enrolment put into the root, random and the disk's own; a boot that opens it has the same.
pub fn enrolment(transcript: &Transcript) -> Option<&str> {
    let mut lines = transcript.console.iter();
    lines.find_map(|line| line.strip_prefix("@enrolled "))
}

/// What boots.
pub struct RootDisk {
    /// A stock bzImage.
    pub kernel: PathBuf,
    /// The initrd that enrols and opens the disk.
    pub initrd: PathBuf,
    /// The disk, which is new. The boots write to it.
    pub disk: PathBuf,
    /// Where swtpm's state, or L1's state disk, is kept; empty at first.
    pub tpm_state: PathBuf,
    /// Consoles are kept here.
    pub folder: PathBuf,
}

/// What it boots on.
#[derive(Clone, Copy)]
enum Place<'a> {
    /// QEMU with swtpm. No firmware of it measures the command line, so the initrd does.
    PlainQemu,
    /// The simulator: L1 has measured kernel, command line and initrd, its disk is behind L1's, and L1 keeps the TPM's
    /// state on a disk of its own, under the key of the hardware.
    Simulator(&'a Setup),
}

/// A boot.
struct Boot {
    name: &'static str,
    /// What comes behind [`BASE_COMMAND_LINE`].
    words: &'static str,
    /// Whether the initrd has a zero more at its end, which Linux does not mind.
    longer_initrd: bool,
    /// What the host makes of the disk, for this boot alone.
    alter: Option<Alter>,
    outcome: Outcome,
}

/// What a host makes of a disk.
type Alter = fn(&Path) -> Result<()>;

const ENROLLED: Boot = Boot {
    name: "enrolled",
    words: WORDS,
    longer_initrd: false,
    alter: None,
    outcome: Outcome::Enrolled,
};
const OPENED: Boot = Boot {
    name: "opened",
    outcome: Outcome::Opened,
    ..ENROLLED
};
const OTHER_COMMAND_LINE: Boot = Boot {
    name: "another-command-line",
    words: "quiet other",
    outcome: Outcome::Closed,
    ..ENROLLED
};
const OTHER_INITRD: Boot = Boot {
    name: "another-initrd",
    longer_initrd: true,
    outcome: Outcome::Closed,
    ..ENROLLED
};
const ALTERED_IMAGE: Boot = Boot {
    name: "host-altered-root-image",
    alter: Some(host::alter_root_image),
    outcome: Outcome::OtherImage,
    ..ENROLLED
};
const ALTERED_CIPHER: Boot = Boot {
    name: "host-altered-cipher",
    alter: Some(host::name_another_cipher),
    outcome: Outcome::OtherVolume,
    ..ENROLLED
};

/// The boots on plain QEMU.
pub fn on_plain_qemu(disk: &RootDisk) -> Suite<'_> {
    let boots = &[
        ALTERED_IMAGE,
        ENROLLED,
        OTHER_COMMAND_LINE,
        ALTERED_CIPHER,
        OPENED,
    ];
    suite(disk, Place::PlainQemu, boots)
}

/// The boots on the simulator.
pub fn on_simulator<'a>(setup: &'a Setup, disk: &'a RootDisk) -> Suite<'a> {
    let boots = &[ENROLLED, OTHER_COMMAND_LINE, OTHER_INITRD, OPENED];
    suite(disk, Place::Simulator(setup), boots)
}

fn suite<'a>(disk: &'a RootDisk, place: Place<'a>, boots: &'static [Boot]) -> Suite<'a> {
    let mut suite = Suite::new();
    suite.add(move |_| {
        let mut checks = Checks::new();
        let result = one_after_another(disk, place, boots, &mut checks);
        if let Err(error) = result {
            checks.push((format!("{NAME} {}", place.name()), Err(error)));
        }
        checks
    });
    suite
}

/// Each boot finds disk and TPM as the one before left them: no refusal changes what comes after.
fn one_after_another(
    root: &RootDisk,
    place: Place<'_>,
    boots: &[Boot],
    checks: &mut Checks,
) -> Result<()> {
    let what = format!("{NAME} {}", place.name());
    let mut enrolments = Vec::new();
    for boot in boots {
        let run = boot.run(root, place)?;
        let log = format!("root-disk-{}-{}.console.log", place.file(), boot.name);
        let console = root.folder.join(log);
        std::fs::write(&console, run.transcript.console.join("\n"))?;
        let result = boot.outcome.check(&run.transcript).and_then(|()| {
            ensure!(run.succeeded, "it ended so: {}", run.transcript.result());
            Ok(())
        });
        let result = result.with_context(|| format!("see {}", console.display()));
        let failed = result.is_err();
        checks.push((format!("{what}: {}", boot.name), result));
        if failed {
            // What follows would fail as well.
            return Ok(());
        }
        enrolments.extend(enrolment(&run.transcript).map(str::to_owned));
    }
    let same = matches!(&enrolments[..], [first, second] if first == second);
    let same = same.then_some(());
    let same = same.with_context(|| format!("the enrolments are {enrolments:?}"));
    checks.push((format!("{what}: same root"), same));
    Ok(())
}

impl Place<'_> {
    const fn name(self) -> &'static str {
        match self {
            Self::PlainQemu => "on plain QEMU",
            Self::Simulator(_) => "on the simulator",
        }
    }

    const fn file(self) -> &'static str {
        match self {
            Self::PlainQemu => "plain",
            Self::Simulator(_) => "simulator",
        }
    }
}

impl Boot {
    fn run(&self, root: &RootDisk, place: Place<'_>) -> Result<Run> {
        let mut initrd = root.initrd.clone();
        if self.longer_initrd {
            let mut bytes = std::fs::read(&initrd)?;
            bytes.push(0);
            initrd = root.disk.with_extension("initrd");
            std::fs::write(&initrd, bytes)?;
        }
        let mut disk = root.disk.clone();
        if let Some(alter) = self.alter {
            disk = root.disk.with_extension("altered");
            std::fs::copy(&root.disk, &disk)?;
            alter(&disk)?;
        }
        let boot = BootFiles {
            kernel: &root.kernel,
            initrd: Some(&initrd),
            command_line: &format!("{BASE_COMMAND_LINE} {}", self.words),
        };
        let run = match place {
            Place::PlainQemu => on_qemu(root, boot, &disk),
            Place::Simulator(setup) => on_l1(setup, root, boot, disk.clone()),
        };
        if self.alter.is_some() {
            std::fs::remove_file(disk)?;
        }
        run
    }
}

fn on_qemu(root: &RootDisk, boot: BootFiles<'_>, disk: &Path) -> Result<Run> {
    let swtpm = Swtpm::with_state(&root.tpm_state)?;
    PlainQemu {
        boot,
        memory_mib: MEMORY_MIB,
        cpus: 1,
        clock: Clock::Paced,
        tpm_socket: Some(swtpm.socket()),
        disk: Some(disk),
        no_medium: None,
        network: None,
        limit: LIMIT,
    }
    .run(&mut |_| {})
}

fn on_l1(setup: &Setup, root: &RootDisk, boot: BootFiles<'_>, disk: PathBuf) -> Result<Run> {
    std::fs::create_dir_all(&root.tpm_state)?;
    let state_disk = root.tpm_state.join("state.disk");
    let init_data = root.tpm_state.join("init-data.toml");
    std::fs::write(&init_data, INIT_DATA)?;
    Simulation {
        init_data: Some(&init_data),
        devices: HostDevices {
            state_disk: Some(&state_disk),
            disks: &[disk],
            ..HostDevices::default()
        },
        options: &[devices_option("disks")],
        ..setup.simulation("root-disk", boot, MEMORY_MIB)
    }
    .run(&mut |_| {})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(outcome: Outcome, failed: Option<&str>) -> Transcript {
        let result = |name| {
            if failed == Some(name) { "fail" } else { "pass" }
        };
        let steps = outcome.steps().into_iter();
        let mut console: Vec<String> = steps
            .map(|name| format!("@step {name} {}", result(name)))
            .collect();
        console.push(outcome.word().to_owned());
        console.push("@enrolled 00ff".to_owned());
        console.push("@steps 1 passed, 0 failed".to_owned());
        Transcript::new(console, "")
    }

    #[test]
    fn each_boot_comes_to_its_own_outcome_and_no_other() {
        let all = [
            Outcome::Enrolled,
            Outcome::Opened,
            Outcome::Closed,
            Outcome::OtherVolume,
            Outcome::OtherImage,
        ];
        for outcome in all {
            let transcript = said(outcome, outcome.refusal());
            for wanted in all {
                assert_eq!(wanted.check(&transcript).is_ok(), wanted == outcome);
            }
            assert_eq!(enrolment(&transcript), Some("00ff"));
        }
    }

    #[test]
    fn a_step_that_fails_or_a_closed_disk_that_opens_is_seen() {
        let root = said(Outcome::Opened, Some("root-is-the-volume"));
        assert!(Outcome::Opened.check(&root).is_err());
        let refused = said(Outcome::Opened, Some("unlock-by-tpm"));
        assert!(Outcome::Opened.check(&refused).is_err());
        assert!(Outcome::Closed.check(&refused).is_err());
        assert!(Outcome::Closed.check(&said(Outcome::Closed, None)).is_err());
        assert!(
            Outcome::Closed
                .check(&said(Outcome::Closed, Some("tpm-driver")))
                .is_err()
        );
    }

    #[test]
    fn a_boot_that_is_cut_off_is_no_success() {
        let mut transcript = said(Outcome::Enrolled, None);
        transcript.console.pop();
        assert!(Outcome::Enrolled.check(&transcript).is_err());
    }
}
