//! A running swtpm, the TPM of [`PlainQemu`](crate::PlainQemu).

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// swtpm's process, which ends with the value.
pub struct Swtpm {
    process: Child,
    socket: PathBuf,
    /// The socket's, and that of a state that nobody keeps.
    _folder: TempDir,
}

impl Swtpm {
    /// Starts it with an empty state, which ends with it.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let state = folder.path().to_owned();
        Self::start(&state, folder)
    }

    /// Starts it with the state that one before it left in this folder, or with an empty one.
    pub fn with_state(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        Self::start(folder, tempfile::tempdir()?)
    }

    fn start(state: &Path, folder: TempDir) -> Result<Self> {
        let socket = folder.path().join("control");
        let process = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init", "--tpmstate"])
            .arg(format!("dir={}", state.display()))
            .arg("--ctrl")
            .arg(format!("type=unixio,path={}", socket.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot run swtpm")?;
        let swtpm = Self {
            process,
            socket,
            _folder: folder,
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !swtpm.socket.exists() {
            if Instant::now() > deadline {
                bail!("swtpm does not open its control socket");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(swtpm)
    }

    /// The control socket for QEMU.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
