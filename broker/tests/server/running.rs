//! The broker's own program, in a folder of its own.

use crate::http::Connection;
use crate::storage::{Kind, Storage};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tdp-vtpm-broker");
const ROOTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../sim/quoting/pki");

/// A broker's folder, and its database.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    pub(crate) storage: Storage,
}

impl Place {
    /// With a broker in it, on the database of these tests.
    pub(crate) fn new() -> Place {
        Place::on(Storage::new(crate::KIND))
    }

    /// With a broker in it.
    pub(crate) fn on(storage: Storage) -> Place {
        let place = Place::empty(storage);
        place.ok(&["init"]);
        place
    }

    /// Without a broker.
    pub(crate) fn empty(storage: Storage) -> Place {
        let folder = tempfile::tempdir().unwrap();
        Place { folder, storage }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The broker, opened in this process.
    pub(crate) fn open(&self) -> anyhow::Result<broker::operator::Opened> {
        let place = broker::operator::Place {
            folder: self.path("broker"),
            key: None,
            database: broker::operator::Database::named(self.storage.url(), Default::default())?,
        };
        place.open()
    }

    /// Whether this is the database.
    pub(crate) fn is(&self, kind: Kind) -> bool {
        matches!(
            (kind, &self.storage),
            (Kind::Sqlite, Storage::Sqlite) | (Kind::Postgresql, Storage::Postgresql(_))
        )
    }

    pub(crate) fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .arg("--directory")
            .arg(self.path("broker"))
            .args(self.storage.arguments())
            .args(arguments);
        command
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        self.program(arguments).output().unwrap()
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
        self.serve_with(address, &[])
    }

    /// Serves, with these options of `serve`.
    pub(crate) fn serve_by(&self, of_serve: &[&str]) -> Running {
        let folder = self.path("broker");
        Running::start_by(&folder, "127.0.0.1:0", &self.storage.arguments(), of_serve)
    }

    /// Why it does not serve with these options.
    pub(crate) fn serves_not(&self, of_serve: &[&str]) -> String {
        self.fails(&[&["serve", "--listen", "127.0.0.1:0"][..], of_serve].concat())
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("broker").join("log")).unwrap()
    }

    pub(crate) fn serve_with(&self, address: &str, options: &[&str]) -> Running {
        let options = options.iter().map(|option| (*option).into());
        let all: Vec<String> = self
            .storage
            .arguments()
            .into_iter()
            .chain(options)
            .collect();
        Running::start(&self.path("broker"), address, &all)
    }
}

/// A server; killed when dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) machines: String,
    pub(crate) operator: String,
}

impl Running {
    pub(crate) fn start(folder: &Path, address: &str, options: &[String]) -> Running {
        Running::start_by(folder, address, options, &[])
    }

    fn start_by(folder: &Path, address: &str, options: &[String], of_serve: &[&str]) -> Running {
        let own: &[&str] = match of_serve.contains(&"--operator-listen") {
            true => &[],
            false => &["--operator-listen", "127.0.0.1:0"],
        };
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(folder.join("log"))
            .unwrap();
        let mut child = Command::new(PROGRAM)
            .arg("--directory")
            .arg(folder)
            .args(options)
            .args(["serve", "--listen", address])
            .args(own)
            .args(of_serve)
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
        let address = |url: &str| url.split_once("://").unwrap().1.to_owned();
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

    /// A signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(sent.unwrap().success());
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
