//! The protocol over two pipes, which the browser has as its descriptors 3 and 4 (`--remote-debugging-pipe`): JSON
//! messages, each with a NUL behind it.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// The longest that a browser runs: one that hangs fails its test, and does not hold it up.
const LIMIT: Duration = Duration::from_secs(300);

/// A browser that runs; it ends with this.
pub(crate) struct Pipe {
    child: Child,
    /// Dropped when the browser need not be watched any more.
    _watched: Sender<()>,
    to: File,
    from: BufReader<File>,
    last: u64,
    /// Its profile and the pipes.
    _folder: tempfile::TempDir,
}

/// Opens the pipes where the browser looks for them, and becomes it.
const SCRIPT: &str = r#"exec "$0" "$@" 3<"$TDP_PIPE_TO" 4>"$TDP_PIPE_FROM""#;

impl Pipe {
    pub(crate) fn to(program: &Path) -> Result<Pipe> {
        let folder = tempfile::tempdir()?;
        let [to, from] = ["to", "from"].map(|name| folder.path().join(name));
        let made = Command::new("mkfifo").args([&to, &from]).status()?;
        ensure!(made.success(), "mkfifo failed");
        let child = Command::new("sh")
            .args(["-c", SCRIPT])
            .arg(program)
            // Without privileges to make a sandbox of its own: it loads one file of ours.
            .args(["--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"])
            .arg(format!(
                "--user-data-dir={}",
                folder.path().join("profile").display()
            ))
            .env("TDP_PIPE_TO", &to)
            .env("TDP_PIPE_FROM", &from)
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run sh")?;
        let process = child.id().to_string();
        let (watched, ended) = channel();
        std::thread::spawn(move || {
            if ended.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
                let _ = Command::new("kill").args(["-9", &process]).status();
            }
        });
        // In the order in which the shell opens them.
        let to = File::options().write(true).open(&to)?;
        let from = File::open(&from)?;
        Ok(Pipe {
            child,
            _watched: watched,
            to,
            from: BufReader::new(from),
            last: 0,
            _folder: folder,
        })
    }

    /// Sends a call, and returns its number.
    pub(crate) fn send(&mut self, method: &str, parameters: Value, session: &str) -> Result<u64> {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": parameters});
        if !session.is_empty() {
            message["sessionId"] = session.into();
        }
        let mut bytes = serde_json::to_vec(&message)?;
        bytes.push(0);
        self.to.write_all(&bytes).context("the browser ended")?;
        Ok(self.last)
    }

    /// The next message.
    pub(crate) fn receive(&mut self) -> Result<Value> {
        let mut bytes = Vec::new();
        self.from.read_until(0, &mut bytes)?;
        ensure!(bytes.pop() == Some(0), "the browser ended");
        Ok(serde_json::from_slice(&bytes)?)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
