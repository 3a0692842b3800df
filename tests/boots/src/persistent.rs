//! A TPM that is kept across boots: a key broker, the host's proxy to it, a state disk, and boots of one machine.
//!
//! The guest is one of two: `tests/guest/persistent`, for which the TPM says whether it is the machine's first boot, or a
//! Debian root on an encrypted disk ([`root_disk`]). A third one is small: a list of TPM commands, for boots in a world
//! that is hostile to the state.

mod broker;
mod debug_td;
mod disk_order;
mod failing_disk;
mod forgetful_disk;
mod lazy;
mod lying_broker;
mod memory;
mod power_cut;
mod registers;
mod resets;
mod scripted;
mod secrets;
mod small;
mod state_disk;
mod twins;

use crate::devices::devices_option;
use crate::{BASE_COMMAND_LINE, Checks, LIMIT, Setup, Suite, interface_option, root_disk};
use anyhow::{Context, Result, bail, ensure};
use attestation::journal::{Rollback, TpmInterface};
use broker::{Broker, Proxy, empty, policy, terms};
use simulator::{BootFiles, BrokerBy, HostDevices, Run, Simulation, Window};
use std::fs;
use std::path::{Path, PathBuf};

/// Memory of the TD, in MiB.
const MEMORY_MIB: u64 = 512;
/// The machine's name at the broker.
const MACHINE: &str = "machine";

/// What a boot came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest ran with a TPM that was new.
    New,
    /// It ran with the TPM of the boots before.
    Found,
    /// There was no guest: L1 gave this reason.
    Refused(&'static str),
    /// There was no guest: the broker's policy did not pass this check of the verifier's.
    NotAllowed(&'static str),
}

/// What the machine boots.
#[derive(Clone, Debug)]
pub struct Guest {
    initrd: PathBuf,
    /// What comes behind [`BASE_COMMAND_LINE`] at every boot.
    words: &'static str,
    disks: Vec<PathBuf>,
    kind: Kind,
    interface: TpmInterface,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Steps,
    Root,
    Timing,
}

impl Guest {
    /// The steps of `tests/guest/persistent`.
    pub fn steps(setup: &Setup) -> Self {
        Self {
            initrd: setup.initrd.clone(),
            words: "quiet tdp.mode=persistent",
            disks: Vec::new(),
            kind: Kind::Steps,
            interface: TpmInterface::Fifo,
        }
    }

    /// Debian on a LUKS2 volume in `disk`, which is new, opened by `initrd`.
    pub fn root(initrd: &Path, disk: &Path) -> Self {
        Self {
            initrd: initrd.into(),
            words: root_disk::WORDS,
            disks: vec![disk.into()],
            kind: Kind::Root,
            interface: TpmInterface::Fifo,
        }
    }

    /// A guest of `initrd` that measures, as these words behind [`BASE_COMMAND_LINE`] say.
    pub fn timing(initrd: &Path, words: &'static str) -> Self {
        Self {
            initrd: initrd.into(),
            words,
            disks: Vec::new(),
            kind: Kind::Timing,
            interface: TpmInterface::Fifo,
        }
    }

    /// With the TPM's registers these.
    #[must_use]
    pub fn by(self, interface: TpmInterface) -> Self {
        Self { interface, ..self }
    }

    fn command_line(&self, append: &str) -> String {
        format!("{BASE_COMMAND_LINE} {} {append}", self.words)
            .trim_end()
            .to_owned()
    }

    /// Whether a boot that was not refused came to this.
    fn check(&self, outcome: Outcome, run: &Run) -> Result<()> {
        let (outcome, word) = match outcome {
            Outcome::New => (root_disk::Outcome::Enrolled, "@persistent new"),
            Outcome::Found => (root_disk::Outcome::Opened, "@persistent found"),
            Outcome::Refused(reason) | Outcome::NotAllowed(reason) => {
                bail!("the guest ran, although L1 had to refuse: {reason}")
            }
        };
        let transcript = &run.transcript;
        match self.kind {
            Kind::Root => outcome.check(transcript),
            Kind::Timing => Ok(()),
            Kind::Steps => {
                let failed = transcript.steps().into_iter().filter(|step| !step.passed);
                let failed: Vec<_> = failed.map(|step| step.name).collect();
                ensure!(failed.is_empty(), "steps failed: {}", failed.join(", "));
                let said = transcript.console.iter().any(|line| line.starts_with(word));
                ensure!(said, "the guest did not say {word:?}");
                Ok(())
            }
        }
    }
}

/// How a boot differs from the machine's first one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change<'a> {
    /// Further words of the command line.
    pub append: &'a str,
    /// The TPM window of the host, and with it the L1 image.
    pub window: Option<Window>,
    /// In place of the machine's registers of the TPM.
    pub interface: Option<TpmInterface>,
    /// In place of the machine's initrd.
    pub initrd: Option<&'a Path>,
    /// In place of the machine's init-data document.
    pub init_data: Option<&'a Path>,
    /// Further options of the simulator.
    pub options: &'a [&'a str],
    /// What L1 reaches the broker by.
    pub broker_by: BrokerBy,
}

/// A machine, and all that keeps its TPM.
pub struct Keeping<'a> {
    setup: &'a Setup,
    guest: Guest,
    name: String,
    folder: PathBuf,
    document: PathBuf,
    broker: Broker,
    proxy: Proxy,
    rollback: Rollback,
}

impl<'a> Keeping<'a> {
    /// A broker with one machine, whose policy names what [`Keeping::boot`] boots, and a proxy to it. `programs` is the
    /// folder with `tdp-vtpm-broker` and `tdp-vtpm-proxy`; files are kept under `name`.
    pub fn start(setup: &'a Setup, guest: Guest, programs: &Path, name: &str) -> Result<Self> {
        Self::start_with(setup, guest, programs, name, Rollback::Ledger)
    }

    /// As [`Keeping::start`], with a machine that is enrolled so.
    pub fn start_with(
        setup: &'a Setup,
        guest: Guest,
        programs: &Path,
        name: &str,
        rollback: Rollback,
    ) -> Result<Self> {
        let folder = setup.folder.join(name);
        empty(&folder)?;
        let broker = Broker::new(programs, &folder)?.serve(&setup.pki)?;
        let proxy = broker.proxy("broker")?;
        let new = Self {
            setup,
            guest,
            name: name.into(),
            document: folder.join("init-data.toml"),
            folder,
            broker,
            proxy,
            rollback,
        };
        new.enrol(MACHINE, &new.document)?;
        Ok(new)
    }

    /// Enrols a machine, allows it what is booted, and writes its document.
    pub fn enrol(&self, machine: &str, document: &Path) -> Result<()> {
        let wishes = ["--key", "both", "--rollback", self.rollback.name()];
        self.broker.enrol(machine, &wishes, document)?;
        self.allow(machine, document, Window::Accepted, "policy")
    }

    /// Allows a machine what is booted, with the L1 image for this window, under this policy's name.
    fn allow(&self, machine: &str, document: &Path, window: Window, name: &str) -> Result<()> {
        let command_line = self.guest.command_line("");
        let boot = BootFiles {
            initrd: Some(&self.guest.initrd),
            ..self.setup.linux(&command_line)
        };
        let terms = terms(self.setup, self.guest.interface);
        let policy = policy(self.setup, window, &boot, MEMORY_MIB, document, terms)?;
        self.broker.allow(machine, name, &policy)
    }

    /// Whether a boot came to this.
    pub fn check(&self, outcome: Outcome, run: &Run) -> Result<()> {
        let said = run.transcript.result();
        let refusal: &[&str] = match outcome {
            Outcome::New | Outcome::Found => &[],
            Outcome::Refused(reason) => &[reason],
            Outcome::NotAllowed(check) => &["broker-refused", check],
        };
        if !refusal.is_empty() {
            ensure!(
                run.to_user_space.is_none(),
                "the guest ran, although L1 had to refuse: {refusal:?}"
            );
            let missing = refusal
                .iter()
                .find(|name| !said.contains(&format!(": {name}: ")));
            if let Some(missing) = missing {
                bail!("the end does not name {missing:?}: {said}");
            }
            return Ok(());
        }
        let checked = self.guest.check(outcome, run);
        checked.with_context(|| format!("the run ended with: {said}"))?;
        ensure!(run.succeeded, "the run ended with: {said}");
        Ok(())
    }

    /// A file of the machine's.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Boots the machine with the state in `disk`.
    pub fn boot(
        &self,
        disk: &Path,
        change: Change<'_>,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<Run> {
        let command_line = self.guest.command_line(change.append);
        let window = change.window.unwrap_or(Window::Accepted);
        let interface = change.interface.unwrap_or(self.guest.interface);
        let mut options = vec![window.option(), interface_option(interface)];
        options.extend(change.options.iter().map(|&option| option.to_owned()));
        if !self.guest.disks.is_empty() {
            options.push(devices_option("disks"));
        }
        let boot = BootFiles {
            initrd: Some(change.initrd.unwrap_or(&self.guest.initrd)),
            ..self.setup.linux(&command_line)
        };
        Simulation {
            image: self.setup.firmware.image(window),
            init_data: Some(change.init_data.unwrap_or(&self.document)),
            devices: HostDevices {
                state_disk: Some(disk),
                disks: &self.guest.disks,
                broker_socket: Some(self.proxy.socket()),
                broker_by: change.broker_by,
                ..HostDevices::default()
            },
            options: &options,
            limit: Some(LIMIT),
            ..self.setup.simulation(&self.name, boot, MEMORY_MIB)
        }
        .run(on_line)
    }
}

/// Boots a machine; sees each line of the guest's console.
type Stage = fn(&Keeping<'_>, &mut dyn FnMut(&str)) -> Result<Run>;

/// One boot of a machine's life.
pub struct Scene {
    /// What happens.
    pub title: &'static str,
    /// What it must come to.
    pub outcome: Outcome,
    stage: Stage,
}

impl Scene {
    /// Plays it.
    pub fn play(&self, keeping: &Keeping<'_>, on_line: &mut dyn FnMut(&str)) -> Result<Run> {
        (self.stage)(keeping, on_line)
    }
}

const DISK: &str = "state.img";
const OLD: &str = "old.img";
/// The policy of the next L1.
const NEXT: &str = "next";

/// A machine's life: its TPM is made, found again, and refused to everybody else.
pub const LIFE: [Scene; 9] = [
    Scene {
        title: "the first boot makes the TPM, and seals to it",
        outcome: Outcome::New,
        stage: |keeping, on_line| {
            let run = keeping.boot(&keeping.file(DISK), Change::default(), on_line)?;
            fs::copy(keeping.file(DISK), keeping.file(OLD))?;
            Ok(run)
        },
    },
    Scene {
        title: "the second boot finds it, and what was sealed to it opens",
        outcome: Outcome::Found,
        stage: |keeping, on_line| keeping.boot(&keeping.file(DISK), Change::default(), on_line),
    },
    Scene {
        title: "the host puts the disk of the first boot back",
        outcome: Outcome::Refused("rolled-back"),
        stage: |keeping, on_line| keeping.boot(&keeping.file(OLD), Change::default(), on_line),
    },
    Scene {
        title: "another command line",
        outcome: Outcome::NotAllowed("launch-command-line"),
        stage: |keeping, on_line| {
            let change = Change {
                append: "init=/bin/sh",
                ..Change::default()
            };
            keeping.boot(&keeping.file(DISK), change, on_line)
        },
    },
    Scene {
        title: "another initrd",
        outcome: Outcome::NotAllowed("launch-initrd"),
        stage: |keeping, on_line| {
            // Zero bytes behind the archive change nothing of what Linux unpacks.
            let longer = keeping.file("longer.initrd");
            let mut bytes = fs::read(&keeping.guest.initrd)?;
            bytes.extend([0; 4]);
            fs::write(&longer, bytes)?;
            let change = Change {
                initrd: Some(&longer),
                ..Change::default()
            };
            let run = keeping.boot(&keeping.file(DISK), change, on_line);
            fs::remove_file(longer)?;
            run
        },
    },
    Scene {
        title: "another L1",
        outcome: Outcome::NotAllowed("mrtd"),
        stage: |keeping, on_line| {
            let change = Change {
                window: Some(Window::Hole),
                ..Change::default()
            };
            keeping.boot(&keeping.file(DISK), change, on_line)
        },
    },
    Scene {
        title: "another machine's disk",
        outcome: Outcome::Refused("other-machine"),
        stage: |keeping, on_line| {
            let document = keeping.file("other.toml");
            keeping.enrol("other", &document)?;
            let change = Change {
                init_data: Some(&document),
                ..Change::default()
            };
            keeping.boot(&keeping.file(DISK), change, on_line)
        },
    },
    Scene {
        title: "the machine itself goes on, and gives its state away to another L1",
        outcome: Outcome::Found,
        stage: |keeping, on_line| {
            keeping.allow(MACHINE, &keeping.document, Window::Hole, NEXT)?;
            keeping
                .broker
                .command(&["upgrade", MACHINE, "--to", NEXT])?;
            keeping.boot(&keeping.file(DISK), Change::default(), on_line)
        },
    },
    Scene {
        title: "an update of L1 takes it, which the operator ordered",
        outcome: Outcome::Found,
        stage: |keeping, on_line| {
            let change = Change {
                window: Some(Window::Hole),
                ..Change::default()
            };
            let run = keeping.boot(&keeping.file(DISK), change, on_line)?;
            // The ledger tells that it has the state.
            keeping.broker.command(&["upgrade", MACHINE, "--end"])?;
            Ok(run)
        },
    },
];

/// A machine's life, boot by boot, and boots in a world that is hostile to its state: the parts whose name contains
/// `filter`. `programs` is the folder with the broker's.
pub fn suite<'a>(setup: &'a Setup, programs: &'a Path, filter: &str) -> Suite<'a> {
    let mut life_of_one = Suite::new();
    life_of_one.add(move |_| life(setup, programs));
    let parts = [
        ("life", life_of_one),
        ("registers", registers::suite(setup, programs)),
        ("power-cut", power_cut::suite(setup, programs)),
        ("lazy", lazy::suite(setup)),
        ("twins", twins::suite(setup, programs)),
        ("failing-disk", failing_disk::suite(setup)),
        ("forgetful-disk", forgetful_disk::suite(setup, programs)),
        ("lying-broker", lying_broker::suite(setup)),
        ("debug-td", debug_td::suite(setup, programs)),
        ("resets", resets::suite(setup, programs)),
        ("disk-order", disk_order::suite(setup)),
        ("secrets", secrets::suite(setup)),
    ];
    let parts = parts.into_iter().filter(|(name, _)| name.contains(filter));
    parts.fold(Suite::new(), |all, (_, part)| all.and(part))
}

fn life(setup: &Setup, programs: &Path) -> Checks {
    let keeping = match Keeping::start(setup, Guest::steps(setup), programs, "persistent") {
        Ok(keeping) => keeping,
        Err(error) => return vec![("persistent: the key broker".into(), Err(error))],
    };
    let scene = |scene: &Scene| {
        let mut ignored = |_: &str| {};
        let run = scene.play(&keeping, &mut ignored)?;
        keeping.check(scene.outcome, &run)
    };
    let mut checks: Checks = LIFE
        .iter()
        .map(|one| (format!("persistent: {}", one.title), scene(one)))
        .collect();
    let by_vsock = || {
        let change = Change {
            // The L1 that the state was given to.
            window: Some(Window::Hole),
            broker_by: BrokerBy::Vsock,
            ..Change::default()
        };
        let run = keeping.boot(&keeping.file(DISK), change, &mut |_| {})?;
        keeping.check(Outcome::Found, &run)
    };
    checks.push(("persistent: the broker by vsock".into(), by_vsock()));
    checks.push((
        "persistent: no key in what the host has".into(),
        no_key(&keeping),
    ));
    checks
}

/// What the guest sealed is in no file of the host's in the clear.
fn no_key(keeping: &Keeping<'_>) -> Result<()> {
    const SECRET: &[u8] = b"kept across boots";
    for name in [DISK, OLD] {
        let bytes = fs::read(keeping.file(name))?;
        if bytes.windows(SECRET.len()).any(|window| window == SECRET) {
            bail!("{name} has the sealed secret");
        }
    }
    Ok(())
}
