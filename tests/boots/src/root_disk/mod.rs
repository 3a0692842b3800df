//! A Debian root on a LUKS2 disk that only the TPM opens, under the launch that it was enrolled under: what its boots
//! must show, and the boots on plain QEMU with swtpm, which are held against those on the simulator.
//!
//! `tests/guest/root-disk` is what the guest does: the disk, not the command line, says whether it is the first boot.

mod host;

use crate::{BASE_COMMAND_LINE, Checks, LIMIT, Suite};
use anyhow::{Context, Result, ensure};
use simulator::{BootFiles, Clock, PlainQemu, Run, Swtpm, Transcript};
use std::path::{Path, PathBuf};

/// How the names of its checks begin.
pub const NAME: &str = "encrypted root";
/// What comes behind [`BASE_COMMAND_LINE`]. The TPM opens the disk under the command line of its first boot alone.
pub const WORDS: &str = "quiet";
/// Enough memory for the guest, in MiB: it has the packed root in memory at the first boot.
pub const MEMORY_MIB: u64 = 512;

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
    /// Where the TPM's state is kept, empty at first.
    pub tpm_state: PathBuf,
    /// Consoles are kept here.
    pub folder: PathBuf,
}

/// The boots on plain QEMU.
pub fn suite(disk: &RootDisk) -> Suite<'_> {
    let mut suite = Suite::new();
    suite.add(|_| {
        let mut checks = Checks::new();
        let result = on_plain_qemu(disk, &mut checks);
        if let Err(error) = result {
            checks.push((NAME.to_owned(), Err(error)));
        }
        checks
    });
    suite
}

/// Enrols and opens, and is refused with another command line and what the host made of the disk: none of it changes
/// what comes after. No firmware of plain QEMU's measures the command line, so the initrd does it there.
fn on_plain_qemu(disk: &RootDisk, checks: &mut Checks) -> Result<()> {
    let altered = disk.disk.with_extension("altered");
    let mut enrolments = Vec::new();
    for (name, words, alter, outcome) in [
        (
            "host-altered-root-image",
            WORDS,
            Some(host::alter_root_image as Alter),
            Outcome::OtherImage,
        ),
        ("enrolled", WORDS, None, Outcome::Enrolled),
        ("another-command-line", "quiet other", None, Outcome::Closed),
        (
            "host-altered-cipher",
            WORDS,
            Some(host::name_another_cipher),
            Outcome::OtherVolume,
        ),
        ("opened", WORDS, None, Outcome::Opened),
    ] {
        let run = match alter {
            Some(alter) => {
                std::fs::copy(&disk.disk, &altered)?;
                alter(&altered)?;
                let run = boot(disk, &altered, words)?;
                std::fs::remove_file(&altered)?;
                run
            }
            None => boot(disk, &disk.disk, words)?,
        };
        let console = disk.folder.join(format!("root-disk-{name}.console.log"));
        std::fs::write(&console, run.transcript.console.join("\n"))?;
        let result = outcome.check(&run.transcript);
        let ended = result.and_then(|()| {
            ensure!(run.succeeded, "it did not power off");
            Ok(())
        });
        let ended = ended.with_context(|| format!("see {}", console.display()));
        let failed = ended.is_err();
        checks.push((format!("{NAME} on plain QEMU: {name}"), ended));
        if failed {
            // What follows would fail as well.
            return Ok(());
        }
        enrolments.extend(enrolment(&run.transcript).map(str::to_owned));
    }
    let same = matches!(&enrolments[..], [first, second] if first == second);
    let same = same.then_some(());
    let same = same.with_context(|| format!("the enrolments are {enrolments:?}"));
    checks.push((format!("{NAME} on plain QEMU: same root"), same));
    Ok(())
}

/// What a host makes of a disk.
type Alter = fn(&Path) -> Result<()>;

/// A boot on plain QEMU, with the TPM as the boot before left it.
fn boot(root: &RootDisk, disk: &Path, words: &str) -> Result<Run> {
    let swtpm = Swtpm::with_state(&root.tpm_state)?;
    PlainQemu {
        boot: BootFiles {
            kernel: &root.kernel,
            initrd: Some(&root.initrd),
            command_line: &format!("{BASE_COMMAND_LINE} {words}"),
        },
        memory_mib: MEMORY_MIB,
        clock: Clock::Paced,
        tpm_socket: Some(swtpm.socket()),
        disk: Some(disk),
        limit: LIMIT,
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
