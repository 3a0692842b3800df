//! The broker's own program, in a folder of its own.

use crate::http::Connection;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tdp-vtpm-broker");
const ROOTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../sim/quoting/pki");

/// A broker's folder.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    /// With a broker in it.
    pub(crate) fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        place.ok(&["init"]);
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        let folder = self.path("broker");
        Command::new(PROGRAM)
            .arg("--directory")
            .arg(folder)
            .args(arguments)
            .output()
            .unwrap()
    }

    /// What a command prints that succeeds.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command says that fails.
    pub(crate) fn fails(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Serves, with the root of the simulated platform.
    pub(crate) fn serve(&self) -> Running {
        self.serve_at("127.0.0.1:0")
    }

    pub(crate) fn serve_at(&self, address: &str) -> Running {
        Running::start(&self.path("broker"), address)
    }
}

/// A server; killed when dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) machines: String,
    pub(crate) operator: String,
}

impl Running {
    pub(crate) fn start(folder: &Path, address: &str) -> Running {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(folder.join("log"))
            .unwrap();
        let mut child = Command::new(PROGRAM)
            .arg("--directory")
            .arg(folder)
            .args([
                "serve",
                "--listen",
                address,
                "--operator-listen",
                "127.0.0.1:0",
            ])
            .args(["--roots", ROOTS, "--accept-simulated-platform"])
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["machines", machines, "operator", operator] = words[..] else {
            panic!("{line:?}");
        };
        let address = |url: &str| url.strip_prefix("http://").unwrap().to_owned();
        Running {
            machines: address(machines),
            operator: address(operator),
            child,
        }
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::to(&self.machines).unwrap()
    }

    /// What the operator's address says.
    pub(crate) fn look(&self, path: &str) -> String {
        let answer = Connection::to(&self.operator).unwrap().get(path, &[]);
        assert_eq!(answer.status, 200, "{path}");
        // Roles are for readers of tables that a narrow page shows as lists.
        answer.text().replace(" role=\"cell\"", "")
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill_quietly();
    }
}

impl Running {
    fn kill_quietly(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
