//! A boot of something odd, and what must come of it.

use crate::suite::steps;
use crate::{BASE_COMMAND_LINE, Checks, Setup};
use anyhow::{Result, bail, ensure};
use simulator::{BootFiles, Run, Simulation};
use std::path::PathBuf;
use std::time::Duration;

/// What a program that never ends is given: of the host's time, with other runs beside it.
const LONG_ENOUGH: Duration = Duration::from_secs(100);

/// How a run must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The guest's steps pass, and it powers off.
    Works,
    /// It comes to its end, but sees no TPM.
    WithoutTpm,
    /// The run's end begins with these words.
    Ends(&'static str),
    /// It does not end, but has put these words on its console before the limit.
    GoesOn(&'static str),
}

/// A boot.
pub(super) struct Trial {
    pub(super) name: String,
    /// A kernel other than the usual.
    pub(super) kernel: Option<PathBuf>,
    /// An initrd other than the usual.
    pub(super) initrd: Option<PathBuf>,
    /// What comes behind [`BASE_COMMAND_LINE`].
    pub(super) words: String,
    pub(super) memory_mib: u64,
    /// Further options of the simulator.
    pub(super) options: Vec<String>,
    pub(super) outcome: Outcome,
    /// What a run that works must have shown besides.
    pub(super) shows: fn(&Run) -> Result<()>,
}

impl Trial {
    /// A boot of the usual kernel and initrd with these words.
    pub(super) fn new(name: impl Into<String>, words: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kernel: None,
            initrd: None,
            words: words.into(),
            memory_mib: 1024,
            options: Vec::new(),
            outcome: Outcome::Works,
            shows: |_| Ok(()),
        }
    }

    /// The steps that the guest reported, and the whole.
    pub(super) fn check(&self, setup: &Setup) -> Checks {
        let mut checks = Checks::new();
        if let Outcome::GoesOn(words) = self.outcome {
            return vec![(self.name.clone(), self.goes_on(setup, words))];
        }
        let whole = self.run(setup, None, &mut |_| {}).and_then(|run| {
            if self.outcome == Outcome::Works {
                checks = steps(&self.name, &self.file_name(), &run);
            }
            self.judge(&run)
        });
        checks.push((self.name.clone(), whole));
        checks
    }

    fn judge(&self, run: &Run) -> Result<()> {
        let result = run.transcript.result();
        let tpm = |passed| {
            let steps = run.transcript.steps();
            let mut tpm = steps.iter().filter(|step| step.name == "tpm");
            tpm.all(|step| step.passed == passed)
        };
        match self.outcome {
            Outcome::Works => {
                ensure!(run.succeeded, "it ended so: {result}");
                ensure!(tpm(true), "the TPM does not work");
                (self.shows)(run)
            }
            Outcome::WithoutTpm => {
                // Without ACPI Linux cannot power off.
                let ended = run.succeeded || result.starts_with("halted: ");
                ensure!(ended, "it ended so: {result}");
                ensure!(tpm(false), "there is a TPM");
                Ok(())
            }
            Outcome::Ends(words) => {
                ensure!(result.starts_with(words), "it ended so: {result}");
                Ok(())
            }
            Outcome::GoesOn(_) => bail!("it ended so: {result}"),
        }
    }

    fn goes_on(&self, setup: &Setup, words: &str) -> Result<()> {
        let mut console = String::new();
        let run = self.run(setup, Some(LONG_ENOUGH), &mut |line| console.push_str(line));
        if let Ok(run) = run {
            bail!("it ended so: {}", run.transcript.result());
        }
        ensure!(
            console.contains(words),
            "its console does not show {words:?}"
        );
        Ok(())
    }

    /// A name for this trial's files.
    fn file_name(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        self.name.chars().map(plain).collect()
    }

    fn run(
        &self,
        setup: &Setup,
        limit: Option<Duration>,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<Run> {
        let command_line = format!("{BASE_COMMAND_LINE} {}", self.words);
        let boot = BootFiles {
            kernel: self.kernel.as_ref().unwrap_or(&setup.kernel),
            initrd: Some(self.initrd.as_ref().unwrap_or(&setup.initrd)),
            command_line: &command_line,
        };
        let name = self.file_name();
        let usual = setup.simulation(&name, boot, self.memory_mib);
        Simulation {
            limit: limit.or(usual.limit),
            options: &self.options,
            ..usual
        }
        .run(on_line)
    }
}
