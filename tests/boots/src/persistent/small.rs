//! A machine that boots lists of TPM commands, each with the state that the boot before left.

use super::broker::{Broker, Proxy, empty, policy, terms};
use super::scripted::Scripted;
use crate::Setup;
use crate::blobs::script::{self, Step};
use anyhow::{Context, Result, ensure};
use attestation::journal::TpmInterface;
use simulator::{BootFiles, Console, HostDevices, Run, Simulation, Window};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The least that L1 runs with, and something over, in MiB.
pub(super) const MEMORY_MIB: u64 = 128;
/// The machine's name at the broker.
const MACHINE: &str = "machine";
/// How long a boot may take.
const LIMIT: Duration = Duration::from_secs(240);

/// What keeps the machine's state.
#[derive(Clone, Copy)]
pub(super) enum Keys<'a> {
    /// The hardware's half alone: no broker and no ledger.
    Hardware,
    /// Both halves, by a broker whose programs are in this folder; further options of its `enrol`.
    Broker(&'a Path, &'a [&'a str]),
    /// Both halves, by a broker that the test scripts; what L1 is to do without its state.
    Scripted(&'a str),
}

/// The machine.
pub(super) struct Machine<'a> {
    setup: &'a Setup,
    folder: PathBuf,
    name: String,
    /// Its attested configuration.
    pub(super) document: PathBuf,
    /// Its broker and the proxy to it; none with the hardware's half alone.
    pub(super) broker: Option<Broker>,
    proxy: Option<Proxy>,
    /// The broker that the test scripts, if it is one.
    pub(super) scripted: Option<Scripted>,
}

/// A boot of it.
#[derive(Clone, Copy)]
pub(super) struct Boot<'b> {
    /// Its files' name.
    pub(super) name: &'b str,
    /// What the guest does.
    pub(super) steps: &'b [Step],
    /// The state disk.
    pub(super) disk: &'b Path,
    /// Further options of the simulator.
    pub(super) options: &'b [&'b str],
    /// In place of the machine's own.
    pub(super) document: Option<&'b Path>,
    /// The seed of L1's random numbers, among others.
    pub(super) seed: u32,
    /// Where the machine's memory is kept.
    pub(super) memory: Option<&'b Path>,
    /// The other end of its console.
    pub(super) channel: Channel<'b>,
}

/// The other end of a machine's console.
#[derive(Clone, Copy)]
pub(super) enum Channel<'b> {
    /// The machine's broker, if it has one.
    Own,
    /// Another host's proxy.
    Proxy(&'b Proxy),
    /// The simulator's options say.
    Options,
}

/// What the guest says before [`Step::Listen`]; it is answered when whoever watches the boot is done with this line.
pub(super) const LISTENS: &str = "@listens";

impl<'a> Machine<'a> {
    /// A machine whose files are kept under `name`.
    pub(super) fn new(setup: &'a Setup, name: &str, keys: Keys<'_>) -> Result<Self> {
        let folder = setup.folder.join(name);
        empty(&folder)?;
        let document = folder.join("init-data.toml");
        let (mut broker, mut proxy, mut scripted) = (None, None, None);
        match keys {
            Keys::Hardware => {
                let text =
                    document_text(name, "require", "key = \"hardware\"\nrollback = \"none\"");
                fs::write(&document, text)?;
            }
            Keys::Scripted(otherwise) => {
                let new = Scripted::start(&folder, identity(name))?;
                let key = new.identity();
                let text =
                    format!("key = \"both\"\nrollback = \"ledger\"\n[broker]\nkey = \"{key}\"");
                fs::write(&document, document_text(name, otherwise, &text))?;
                scripted = Some(new);
            }
            Keys::Broker(programs, wishes) => {
                let new = Broker::new(programs, &folder)?.serve(&setup.pki)?;
                new.enrol(MACHINE, &[&["--key", "both"], wishes].concat(), &document)?;
                proxy = Some(new.proxy("broker")?);
                broker = Some(new);
            }
        }
        let new = Self {
            setup,
            folder,
            name: name.into(),
            document,
            broker,
            proxy,
            scripted,
        };
        if let Some(broker) = &new.broker {
            broker.allow(MACHINE, "policy", &new.policy()?)?;
        }
        Ok(new)
    }

    /// Any guest of this L1.
    fn policy(&self) -> Result<String> {
        let kernel = self.file("any.kernel");
        fs::write(&kernel, script::kernel(&[])?)?;
        let boot = BootFiles {
            kernel: &kernel,
            initrd: None,
            command_line: "",
        };
        let text = policy(
            self.setup,
            Window::Accepted,
            &boot,
            MEMORY_MIB,
            &self.document,
            terms(self.setup, TpmInterface::Fifo),
        )?;
        let lines = text.lines().map(|line| match line.starts_with("kernel =") {
            true => "kernel = \"any\"",
            false => line,
        });
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    /// A file of the machine's.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A boot of these steps with the machine's own disk.
    pub(super) fn boot<'b>(&self, name: &'b str, steps: &'b [Step], disk: &'b Path) -> Boot<'b> {
        Boot {
            name,
            steps,
            disk,
            options: &[],
            document: None,
            seed: simulator::SEED,
            memory: None,
            channel: Channel::Own,
        }
    }

    /// The socket that the machine's console is connected to.
    fn socket<'b>(&'b self, channel: Channel<'b>) -> Option<&'b Path> {
        let own = self.proxy.as_ref().map(Proxy::socket);
        match channel {
            Channel::Own => own.or(self.scripted.as_ref().map(Scripted::socket)),
            Channel::Proxy(proxy) => Some(proxy.socket()),
            Channel::Options => None,
        }
    }

    /// Boots; `on_line` sees the lines of the guest's console.
    pub(super) fn run(&self, boot: &Boot<'_>, on_line: &mut dyn FnMut(&str)) -> Result<Run> {
        let name = format!("{}-{}", self.name, boot.name);
        let kernel = self.file(&format!("{}.kernel", boot.name));
        fs::write(&kernel, script::kernel(boot.steps)?)?;
        let files = BootFiles {
            kernel: &kernel,
            initrd: None,
            command_line: "",
        };
        let options: Vec<String> = boot.options.iter().map(|&word| word.to_owned()).collect();
        let listens = boot.steps.iter().any(|step| matches!(step, Step::Listen));
        let resets = boot
            .steps
            .iter()
            .any(|step| matches!(step, Step::ResetUpTo(_)));
        let answer = simulator::Answer {
            question: LISTENS,
            answer: "go on",
        };
        Simulation {
            init_data: Some(boot.document.unwrap_or(&self.document)),
            devices: HostDevices {
                state_disk: Some(boot.disk),
                broker_socket: self.socket(boot.channel),
                ..HostDevices::default()
            },
            seed: boot.seed,
            memory_file: boot.memory,
            no_reboot: !resets,
            options: &options,
            console: match listens {
                true => Console::Asked(answer),
                false => Console::Kept,
            },
            limit: Some(LIMIT),
            ..self.setup.simulation(&name, files, MEMORY_MIB)
        }
        .run(on_line)
        .with_context(|| name.clone())
    }

    /// Boots, and the guest's steps must all come to what they say.
    pub(super) fn runs(&self, boot: &Boot<'_>) -> Result<Run> {
        let run = self.run(boot, &mut |_| {})?;
        ran(boot, &run)?;
        Ok(run)
    }

    /// Boots, and L1 must refuse by this name: there is no guest.
    pub(super) fn refuses(&self, boot: &Boot<'_>, reason: &str) -> Result<Run> {
        let run = self.run(boot, &mut |_| {})?;
        let said = run.transcript.result();
        let expected = format!("the TPM's state: {reason}: ");
        ensure!(
            said.contains(&expected),
            "{}: the end is not {expected:?}: {said}",
            boot.name
        );
        let console = &run.transcript.console;
        ensure!(
            console.iter().all(String::is_empty),
            "{}: there was a guest: {console:?}",
            boot.name
        );
        Ok(run)
    }
}

/// Whether the guest's steps came to what they say, and it powered off.
pub(super) fn ran(boot: &Boot<'_>, run: &Run) -> Result<()> {
    let said = run.transcript.result();
    script::check(&run.transcript.console, boot.steps)
        .with_context(|| format!("{}, which ended with: {said}", boot.name))?;
    ensure!(run.succeeded, "{}: it ended with: {said}", boot.name);
    Ok(())
}

/// Whether L1's log has a line with this.
pub(super) fn logged(run: &Run, words: &str) -> Result<()> {
    let found = run.transcript.log.iter().any(|line| line.contains(words));
    ensure!(found, "the log has no {words:?}");
    Ok(())
}

/// The machine whose files are called so.
pub(super) fn identity(name: &str) -> [u8; 32] {
    let digest = attestation::digest::sha384(name.as_bytes());
    let mut machine = [0; 32];
    machine.copy_from_slice(&digest[..32]);
    machine
}

/// Its init-data document (`docs/init-data.md`), with what is said of its key.
pub(super) fn document_text(name: &str, otherwise: &str, key: &str) -> String {
    let machine = hex::encode(identity(name));
    format!(
        "version = \"0.1.0\"
algorithm = \"sha384\"

[data]
\"tdp-vtpm.toml\" = '''
machine = \"{machine}\"
state = \"{otherwise}\"
{key}
'''
"
    )
}
