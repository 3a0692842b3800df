//! The round trip of evidence: a relying party's nonce goes into the guest, the guest's evidence comes
//! out, and the verifier checks it against values that were predicted from files.

use crate::{BASE_COMMAND_LINE, Setup};
use anyhow::{Context, Result, ensure};
use attestation::bundle::Bundle;
use attestation::journal::{PcrMirror, TpmInterface};
use attestation::pcr::PcrBanks;
use prediction::{Configuration, Description, Prediction, Terms, predict};
use serde_json::Value;
use simulator::{Answer, Clock, Console, Gpaw, Run, Simulation, Window, td_ram};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The file of fw_cfg that tells L1 what to record of the PCRs.
const MIRROR_FILE: &str = "opt/org.tdp-vtpm/pcr-mirror";
/// What the guest says when it wants the nonce.
const QUESTION: &str = "@nonce?";
const BEGIN: &str = "@evidence begin";
const END: &str = "@evidence end";
/// Bytes of a nonce.
const NONCE_SIZE: usize = 32;

/// The file of fw_cfg that tells L1 whether to run ahead of L2.
const RUN_AHEAD_FILE: &str = "opt/org.tdp-vtpm/run-ahead";
/// The file of fw_cfg that tells L1 which registers the TPM gets.
const INTERFACE_FILE: &str = "opt/org.tdp-vtpm/tpm-interface";

/// The file of fw_cfg that tells L1 which PCR banks the TPM gets.
const BANKS_FILE: &str = "opt/org.tdp-vtpm/pcr-banks";

/// The simulator's option for the TPM's PCR banks.
pub fn banks_option(banks: PcrBanks) -> String {
    format!("fwcfg={BANKS_FILE}:{}", banks.names())
}

/// The simulator's option for the TPM's registers.
pub fn interface_option(interface: TpmInterface) -> String {
    format!("fwcfg={INTERFACE_FILE}:{}", interface.word())
}

/// The simulator's option for an L1 that does not run ahead of L2: each access to the TPM is an exit.
pub fn each_access_exits() -> String {
    format!("fwcfg={RUN_AHEAD_FILE}:off")
}

/// The simulator's option for what L1 is to record of the PCRs.
pub fn mirror_option(mirror: PcrMirror) -> String {
    format!("fwcfg={MIRROR_FILE}:{}", mirror.name())
}

/// One round trip.
pub struct RoundTrip<'a> {
    /// What boots.
    pub setup: &'a Setup,
    /// Its files are kept under this name.
    pub name: &'a str,
    /// The TPM's registers.
    pub interface: TpmInterface,
    /// What L1 is to record of the PCRs.
    pub mirror: PcrMirror,
    /// The TPM's PCR banks.
    pub banks: PcrBanks,
    /// What the simulator makes of GetQuote.
    pub quote: Option<&'a str>,
    /// Quote the PCRs with a key of the guest's own.
    pub own_ak: bool,
    /// Evidence is made after a reset of the guest's.
    pub resets: bool,
    /// Words to append to the kernel's command line.
    pub append: &'a str,
    /// The TD's memory in MiB.
    pub memory_mib: u64,
    /// The TD's address width.
    pub gpaw: Gpaw,
    /// How L2's accesses to the TPM window reach L1.
    pub window: Window,
    /// Further options of the simulator.
    pub options: &'a [String],
}

impl<'a> RoundTrip<'a> {
    /// The usual one.
    pub fn new(setup: &'a Setup, name: &'a str) -> Self {
        Self {
            setup,
            name,
            interface: TpmInterface::Fifo,
            mirror: PcrMirror::Summary,
            banks: PcrBanks::default(),
            quote: None,
            own_ak: false,
            resets: false,
            append: "",
            memory_mib: 1024,
            gpaw: Gpaw::Bits48,
            window: Window::Accepted,
            options: &[],
        }
    }

    fn file(&self, extension: &str) -> PathBuf {
        let name = format!("{}.{extension}", self.name);
        self.setup.folder.join(name)
    }

    fn image(&self) -> &[u8] {
        self.setup.firmware.image(self.window)
    }

    fn command_line(&self) -> String {
        let mode = if self.own_ak {
            "attest-own-ak"
        } else {
            "attest"
        };
        let mode = format!("tdp.mode={mode}");
        let words = [BASE_COMMAND_LINE, "quiet", &mode, self.append];
        let resets = self.resets.then_some("tdp.resets");
        let words = words.into_iter().filter(|word| !word.is_empty());
        words.chain(resets).collect::<Vec<_>>().join(" ")
    }

    /// Boots the guest and keeps the evidence that it prints.
    pub fn collect(&self, on_line: &mut dyn FnMut(&str)) -> Result<Collected> {
        let nonce = nonce()?;
        let mut options = vec![
            self.window.option(),
            interface_option(self.interface),
            mirror_option(self.mirror),
            banks_option(self.banks),
        ];
        options.extend(self.quote.map(|quote| format!("quote={quote}")));
        options.extend(self.options.iter().cloned());
        let command_line = self.command_line();
        let boot = self.setup.linux(&command_line);
        let simulation = Simulation {
            image: self.image(),
            gpaw: self.gpaw,
            // On a counted clock the guest would wait for the nonce for hours of its time.
            clock: Clock::Paced,
            no_reboot: !self.resets,
            options: &options,
            console: Console::Asked(Answer {
                question: QUESTION,
                answer: &nonce,
            }),
            ..self.setup.simulation(self.name, boot, self.memory_mib)
        };
        let mut in_evidence = false;
        let run = simulation.run(&mut |line| {
            in_evidence = line != END && (in_evidence || line == BEGIN);
            if !in_evidence {
                on_line(line);
            }
        })?;
        let console = &run.transcript.console;
        let evidence: Vec<&str> = console
            .iter()
            .map(String::as_str)
            .skip_while(|line| *line != BEGIN)
            .skip(1)
            .take_while(|line| *line != END)
            .collect();
        ensure!(
            !evidence.is_empty(),
            "the guest printed no evidence; the run ended with: {}",
            run.transcript.result()
        );
        let file = self.file("evidence.json");
        std::fs::write(&file, evidence.join("\n") + "\n")?;
        Ok(Collected {
            run,
            evidence: file,
            nonce,
            pki: self.setup.pki.clone(),
        })
    }

    /// The values that the verifier is to find.
    pub fn predict(&self) -> Result<Prediction> {
        let read = |path: &Path| {
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
        };
        let kernel = read(&self.setup.kernel)?;
        let initrd = read(&self.setup.initrd)?;
        predict(&Configuration {
            image: self.image(),
            host: Description::Ram(&td_ram(self.memory_mib)),
            kernel: &kernel,
            initrd: Some(&initrd),
            command_line: &self.command_line(),
            banks: self.banks,
        })
    }

    /// Writes the policy of a prediction and returns its path.
    pub fn policy(&self, prediction: &Prediction, quote_required: bool) -> Result<PathBuf> {
        let terms = Terms {
            interface: self.interface,
            mirror: self.mirror,
            processors: Some(self.setup.processors),
            quote_required,
        };
        let path = self.file("policy.toml");
        let mut text = prediction::policy(prediction, &self.command_line(), terms);
        if self.resets {
            text = text.replace("\nmax_resets = 0\n", "\nmax_resets = 1\n");
        }
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}

/// What came out of the guest.
pub struct Collected {
    /// The run.
    pub run: Run,
    /// The file with the bundle.
    pub evidence: PathBuf,
    /// In hexadecimal.
    pub nonce: String,
    /// The trusted root, and its collateral.
    pki: PathBuf,
}

impl Collected {
    /// The evidence.
    pub fn bundle(&self) -> Result<Bundle> {
        Ok(Bundle::from_json(&std::fs::read(&self.evidence)?)?)
    }

    /// The verifier's command for this evidence.
    pub fn verifier(&self, verifier: &Path, policy: &Path) -> Command {
        let mut command = Command::new(verifier);
        command
            .arg(&self.evidence)
            .args(["--nonce", &self.nonce, "--policy"])
            .arg(policy)
            .arg("--roots")
            .arg(&self.pki);
        command
    }

    /// The first broken link by the verifier's report, if there is one.
    pub fn first_failure(&self, verifier: &Path, policy: &Path) -> Result<Option<String>> {
        let output = self
            .verifier(verifier, policy)
            .arg("--json")
            .output()
            .context("cannot run the verifier")?;
        let report: Value = serde_json::from_slice(&output.stdout).with_context(|| {
            let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            format!("the verifier gives no report: {error}")
        })?;
        let checks = report.get("checks").and_then(Value::as_array);
        let failed = checks
            .context("the verifier's report has no checks")?
            .iter()
            .find(|check| {
                check
                    .get("outcome")
                    .is_some_and(|outcome| outcome == "failed")
            });
        let failure = failed.map(|check| {
            check
                .get("id")
                .map_or_else(String::new, |id| id.as_str().unwrap_or_default().to_owned())
        });
        // 3: the policy accepted something unseen, which it does where it asks for no quote.
        ensure!(
            matches!(
                (output.status.code(), failure.is_none()),
                (Some(0 | 3), true) | (Some(1), false)
            ),
            "the verifier's exit status ({}) is not its report's",
            output.status
        );
        Ok(failure)
    }

    /// How long the verifier takes, from its start to its end, each of `runs` times.
    pub fn time_to_verify(
        &self,
        verifier: &Path,
        policy: &Path,
        runs: usize,
    ) -> Result<Vec<Duration>> {
        (0..runs)
            .map(|_| {
                let started = std::time::Instant::now();
                let output = self.verifier(verifier, policy).output()?;
                ensure!(output.status.success(), "the evidence is not trusted");
                Ok(started.elapsed())
            })
            .collect()
    }
}

/// A fresh nonce in hexadecimal.
fn nonce() -> Result<String> {
    let mut bytes = [0; NONCE_SIZE];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("/dev/urandom")?;
    Ok(hex::encode(bytes))
}
