//! The key broker and the host's proxies to it, as processes, and what the operator allows.

use crate::Setup;
use anyhow::{Context, Result, ensure};
use attestation::journal::{PcrMirror, TpmInterface};
use attestation::pcr::PcrBanks;
use prediction::{Configuration, Description, Terms, predict};
use simulator::{BootFiles, Window, td_ram};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long broker and proxy may take until they serve.
const SERVES: Duration = Duration::from_secs(20);
/// A port of loopback that is free.
const ANY_PORT: &str = "127.0.0.1:0";

/// A child process that ends with its owner.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes a folder, with nothing in it.
pub(super) fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())
}

/// A key broker of its own.
pub(super) struct Broker {
    programs: PathBuf,
    folder: PathBuf,
    pki: PathBuf,
    /// Where machines reach it.
    address: String,
    served: Option<Served>,
}

impl Broker {
    /// A new one, in a folder `broker` of `folder`; `programs` is the folder with `tdp-vtpm-broker` and
    /// `tdp-vtpm-proxy`.
    pub(super) fn new(programs: &Path, folder: &Path) -> Result<Self> {
        let new = Self {
            programs: programs.into(),
            folder: folder.into(),
            pki: PathBuf::new(),
            address: ANY_PORT.into(),
            served: None,
        };
        new.command(&["init"])?;
        Ok(new)
    }

    /// Serves, and believes what the root in `pki` has signed.
    pub(super) fn serve(mut self, pki: &Path) -> Result<Self> {
        self.pki = pki.into();
        self.start()?;
        Ok(self)
    }

    fn program(&self, name: &str) -> Command {
        Command::new(self.programs.join(name))
    }

    fn operator(&self) -> Command {
        let mut command = self.program("tdp-vtpm-broker");
        command.arg("--directory").arg(self.database());
        command
    }

    /// The folder of its database.
    pub(super) fn database(&self) -> PathBuf {
        self.folder.join("broker")
    }

    /// The operator's command.
    pub(super) fn command(&self, arguments: &[&str]) -> Result<String> {
        let output = self.operator().args(arguments).output();
        let output = output.context("cannot run tdp-vtpm-broker")?;
        ensure!(
            output.status.success(),
            "tdp-vtpm-broker {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Enrols a machine, and writes its document.
    pub(super) fn enrol(&self, machine: &str, wishes: &[&str], document: &Path) -> Result<()> {
        let path = document.to_string_lossy();
        let mut arguments = vec!["enrol", machine, "--init-data", &path];
        arguments.extend(wishes);
        self.command(&arguments).map(drop)
    }

    /// Allows a policy of this name for a machine.
    pub(super) fn allow(&self, machine: &str, name: &str, policy: &str) -> Result<()> {
        let file = self.folder.join(format!("{machine}.{name}.toml"));
        fs::write(&file, policy)?;
        self.command(&["allow", machine, "--name", name, &file.to_string_lossy()])
            .map(drop)
    }

    /// Starts to serve, where it did before, if it did.
    pub(super) fn start(&mut self) -> Result<()> {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("broker.log"))?;
        let mut child = self
            .operator()
            .args(["serve", "--listen", &self.address])
            .args(["--operator-listen", ANY_PORT])
            .arg("--roots")
            .arg(&self.pki)
            .arg("--accept-simulated-platform")
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("cannot run tdp-vtpm-broker")?;
        let output = child.stdout.take();
        self.served = Some(Served(child));
        let mut line = String::new();
        if let Some(output) = output {
            BufReader::new(output).read_line(&mut line)?;
        }
        let mut words = line.split_whitespace();
        let address = words.find_map(|word| word.strip_prefix("http://"));
        self.address = address
            .with_context(|| format!("the broker does not say where it serves: {line:?}"))?
            .to_owned();
        Ok(())
    }

    /// The proxy of one host, whose socket and log are called `name`.
    pub(super) fn proxy(&self, name: &str) -> Result<Proxy> {
        let socket = self.folder.join(format!("{name}.sock"));
        let log = fs::File::create(self.folder.join(format!("{name}.proxy.log")))?;
        let child = self
            .program("tdp-vtpm-proxy")
            .arg("--listen")
            .arg(&socket)
            .args(["--broker", &self.address])
            .stderr(log)
            .spawn()
            .context("cannot run tdp-vtpm-proxy")?;
        let proxy = Proxy {
            socket,
            _served: Served(child),
        };
        let begin = Instant::now();
        while !proxy.socket.exists() {
            ensure!(begin.elapsed() < SERVES, "the proxy does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(proxy)
    }
}

/// A host's proxy to the broker.
pub(super) struct Proxy {
    socket: PathBuf,
    _served: Served,
}

impl Proxy {
    /// The other end of the machine's console.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }
}

/// What the operator allows besides what is booted, with the TPM's registers these.
pub(super) fn terms(setup: &Setup, interface: TpmInterface) -> Terms {
    Terms {
        interface,
        mirror: PcrMirror::Summary,
        processors: Some(setup.processors),
        quote_required: true,
    }
}

/// What the operator allows: the image for this window, kernel, command line and initrd, with this document.
pub(super) fn policy(
    setup: &Setup,
    window: Window,
    boot: &BootFiles<'_>,
    memory_mib: u64,
    document: &Path,
    terms: Terms,
) -> Result<String> {
    let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
    let initrd = boot.initrd.map(read).transpose()?;
    let prediction = predict(&Configuration {
        image: setup.firmware.image(window),
        host: Description::Ram(&td_ram(memory_mib)),
        kernel: &read(boot.kernel)?,
        initrd: initrd.as_deref(),
        command_line: boot.command_line,
        banks: PcrBanks::DEFAULT,
    })?;
    let digest = hex::encode(attestation::digest::sha384(&read(document)?));
    let text = prediction::policy(&prediction, boot.command_line, terms);
    let lines = text
        .lines()
        .map(|line| match line.starts_with("mrconfigid") {
            true => format!("mrconfigid = [\"{digest}\"]"),
            false => line.to_owned(),
        });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}
