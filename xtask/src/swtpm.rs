//! A running swtpm, for the machine that ours is compared with.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Ends with the value.
pub(crate) struct Swtpm {
    process: Child,
    socket: PathBuf,
    _state: TempDir,
}

/// Starts swtpm with an empty state.
pub(crate) fn start() -> Result<Swtpm> {
    let state = tempfile::tempdir()?;
    let socket = state.path().join("control");
    let process = Command::new("swtpm")
        .args(["socket", "--tpm2", "--flags", "not-need-init", "--tpmstate"])
        .arg(format!("dir={}", state.path().display()))
        .arg("--ctrl")
        .arg(format!("type=unixio,path={}", socket.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot run swtpm")?;
    let swtpm = Swtpm {
        process,
        socket,
        _state: state,
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

impl Swtpm {
    /// The control socket for QEMU.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
