//! A PostgreSQL of the test's own: a cluster in a new folder, reached by a socket in it. Where the test is root, which
//! PostgreSQL refuses to run as, it is `nobody`'s.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Names the folder into which Debian's packages were unpacked; `cargo xtask` sets it.
const UNPACKED: &str = "TDP_VTPM_POSTGRESQL";
/// Where `cargo xtask test` unpacks them.
const USUAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/xtask/postgresql");
/// That of PostgreSQL, which is a part of its socket's name.
const PORT: u16 = 5432;
/// Debian's `nobody`.
const NOBODY: u32 = 65534;
/// Ends the server when whoever started it is gone, and takes its folder away where that is asked for.
const KEEPER: &str = r#"folder=$1; shift; "$@" & server=$!; cat >/dev/null; kill -QUIT $server; wait $server; rm -rf "$folder""#;

/// As an operator may have set it up: what was acknowledged may be 10 seconds from the disk, unless a session says
/// otherwise.
const CARELESS: [&str; 2] = ["synchronous_commit=off", "wal_writer_delay=10s"];

/// A cluster; ended when dropped, or when the test is.
pub(crate) struct Cluster {
    folder: Option<tempfile::TempDir>,
    path: PathBuf,
    programs: Programs,
    settings: Vec<String>,
    keeper: Option<(Child, ChildStdin)>,
    databases: AtomicUsize,
    pub(crate) port: u16,
}

impl Cluster {
    /// The one that tests share that do not kill it.
    pub(crate) fn shared() -> &'static Cluster {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| {
            let mut cluster = Cluster::stopped(&CARELESS);
            // Nothing is dropped at the end of the tests: the keeper takes the folder away.
            cluster.path = cluster.folder.take().unwrap().keep();
            cluster.start();
            cluster
        })
    }

    /// One with these settings beside the careless ones.
    pub(crate) fn new(settings: &[&str]) -> Cluster {
        let mut cluster = Cluster::stopped(&[&CARELESS, settings].concat());
        cluster.start();
        cluster
    }

    /// One that is reached by TLS alone, at a port of loopback, and by its socket.
    pub(crate) fn with_tls(certificate: &Path, key: &Path) -> Cluster {
        let mut cluster = Cluster::stopped(&CARELESS);
        let data = cluster.path.join("data");
        for (from, name) in [(certificate, "server.crt"), (key, "server.key")] {
            let file = data.join(name);
            std::fs::copy(from, &file).unwrap();
            std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
            if is_root() {
                std::os::unix::fs::chown(&file, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        let who = "local all all trust\nhostssl all all 127.0.0.1/32 trust\n";
        std::fs::write(data.join("pg_hba.conf"), who).unwrap();
        // Free a moment ago; a port is not kept for one that ended.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        cluster.port = free.local_addr().unwrap().port();
        drop(free);
        let port = format!("port={}", cluster.port);
        cluster
            .settings
            .extend([port, "listen_addresses=127.0.0.1".into(), "ssl=on".into()]);
        cluster.start();
        cluster
    }

    fn stopped(settings: &[&str]) -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let programs = Programs::found(&path);
        std::fs::create_dir(path.join("socket")).unwrap();
        if is_root() {
            std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
            std::os::unix::fs::chown(path.join("socket"), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let made = programs
            .of_server("initdb")
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8"])
            .args(["--locale=C", "--no-sync", "--pgdata"])
            .arg(path.join("data"))
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "initdb: {error}");
        Cluster {
            folder: Some(folder),
            path,
            programs,
            settings: settings.iter().map(|setting| (*setting).into()).collect(),
            keeper: None,
            databases: AtomicUsize::new(0),
            port: PORT,
        }
    }

    /// Starts the server, and waits until it answers.
    pub(crate) fn start(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path.join("log"))
            .unwrap();
        let server = self.programs.of_server("postgres");
        let removed = match self.folder {
            Some(_) => PathBuf::new(),
            None => self.path.clone(),
        };
        let mut keeper = Command::new("sh");
        keeper
            .args(["-c", KEEPER, "sh"])
            .arg(removed)
            .arg(server.get_program())
            .args(server.get_args())
            .arg("-D")
            .arg(self.path.join("data"))
            .args(["-c", "listen_addresses=", "-c"])
            .arg(format!(
                "unix_socket_directories={}",
                self.path.join("socket").display()
            ))
            .args(["-c", "jit=off", "-c", "shared_buffers=32MB"])
            .args(["-c", "log_checkpoints=off"]);
        for setting in &self.settings {
            keeper.args(["-c", setting]);
        }
        for (name, value) in server.get_envs() {
            keeper.env(name, value.unwrap_or_default());
        }
        let mut child = keeper
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        self.keeper = Some((child, stdin));
        let begun = Instant::now();
        while self.try_sql("postgres", "SELECT 1").is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "PostgreSQL did not start: {}",
                std::fs::read_to_string(self.path.join("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the server as an operator does in haste: it writes nothing any more, but its processes say good-bye.
    pub(crate) fn stop(&mut self) {
        if let Some((mut child, stdin)) = self.keeper.take() {
            drop(stdin);
            child.wait().unwrap();
        }
    }

    /// SIGKILL to the postmaster and all that it started, at once.
    pub(crate) fn kill(&mut self) {
        let pid = std::fs::read_to_string(self.path.join("data/postmaster.pid")).unwrap();
        let postmaster: u32 = pid.lines().next().unwrap().parse().unwrap();
        // Stopped, it starts no more of them.
        signal("STOP", &[postmaster]);
        let mut all = children(postmaster);
        assert!(all.len() > 3, "{all:?} are not all processes of a server");
        all.push(postmaster);
        signal("KILL", &all);
        self.stop();
        let begun = Instant::now();
        while all.iter().any(|pid| is_alive(*pid)) {
            assert!(begun.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A new database; its name.
    pub(crate) fn database(&self) -> String {
        let name = format!("broker{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    /// How a broker reaches a database.
    pub(crate) fn url(&self, database: &str) -> String {
        format!(
            "postgres://postgres@localhost/{database}?host={}",
            self.path.join("socket").display()
        )
    }

    /// Where the server listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path.join(format!("socket/.s.PGSQL.{}", self.port))
    }

    /// What `psql` prints.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql).unwrap()
    }

    fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        self.client(
            "psql",
            database,
            &["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1"],
            sql,
        )
    }

    /// What `pg_dump` prints.
    pub(crate) fn dump(&self, database: &str) -> String {
        self.client("pg_dump", database, &[], "").unwrap()
    }

    fn client(
        &self,
        program: &str,
        database: &str,
        arguments: &[&str],
        input: &str,
    ) -> Result<String, String> {
        let mut child = self
            .programs
            .program(program)
            .args(arguments)
            .args(["-p", &self.port.to_string(), "-U", "postgres", "-h"])
            .arg(self.path.join("socket"))
            .arg(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout).unwrap()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

/// PostgreSQL's programs.
struct Programs {
    folder: PathBuf,
    /// The unpacked packages, whose libraries it takes.
    root: Option<PathBuf>,
}

impl Programs {
    /// Those that `cargo xtask` fetched, or of this machine's package.
    fn found(place: &Path) -> Programs {
        let named = std::env::var_os(UNPACKED).map(PathBuf::from);
        let unpacked = named.or_else(|| Some(PathBuf::from(USUAL)).filter(|usual| usual.exists()));
        let root = unpacked.clone().unwrap_or_else(|| "/".into());
        let versions = std::fs::read_dir(root.join("usr/lib/postgresql"))
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path().join("bin")));
        let folder = versions
            .filter(|folder| folder.join("postgres").exists() && folder.join("psql").exists())
            .max();
        let Some(folder) = folder else {
            panic!(
                "there is no PostgreSQL in {}: `cargo xtask test --hosted` and `cargo xtask bench --broker` fetch Debian's \
                 packages, and later `cargo test` finds them; or install Debian's postgresql-15",
                root.join("usr/lib/postgresql").display()
            );
        };
        let found = Programs {
            folder,
            root: unpacked,
        };
        // Asked of a program of its own: `setpriv` itself may still enter what `nobody` may not.
        let readable = as_nobody("test")
            .arg("-x")
            .arg(found.folder.join("postgres"))
            .status()
            .is_ok_and(|status| status.success());
        match readable {
            true => found,
            // Below a folder that only root may enter: `nobody` gets a copy.
            false => found.copied(&root, place),
        }
    }

    fn copied(self, root: &Path, place: &Path) -> Programs {
        assert!(
            root != Path::new("/"),
            "{} does not run",
            self.folder.display()
        );
        let copy = place.join("programs");
        let done = Command::new("cp").arg("-r").arg(root).arg(&copy).status();
        assert!(done.unwrap().success());
        let within = self.folder.strip_prefix(root).unwrap();
        Programs {
            folder: copy.join(within),
            root: Some(copy),
        }
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.folder.join(name));
        if let Some(root) = &self.root {
            // Packages of Debian 12 name the folder by either name.
            let [one, other] =
                ["usr/lib", "lib"].map(|lib| root.join(lib).join("x86_64-linux-gnu"));
            command.env(
                "LD_LIBRARY_PATH",
                format!("{}:{}", one.display(), other.display()),
            );
        }
        command
    }

    /// One that refuses to be root's.
    fn of_server(&self, name: &str) -> Command {
        let plain = self.program(name);
        let mut command = as_nobody(plain.get_program());
        for (name, value) in plain.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command
    }
}

/// A program that is not root's.
fn as_nobody(program: impl AsRef<OsStr>) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", &NOBODY.to_string()])
        .args(["--regid", &NOBODY.to_string(), "--clear-groups", "--"])
        .arg(program)
        .current_dir("/");
    command
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn signal(name: &str, processes: &[u32]) {
    let done = Command::new("kill")
        .arg(format!("-{name}"))
        .args(processes.iter().map(u32::to_string))
        .status();
    assert!(done.unwrap().success());
}

/// The word after the program's name in `/proc/PID/stat`, and the next one: state, parent.
fn state(pid: u32) -> Option<(String, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = stat.rsplit_once(") ")?.1.split(' ');
    Some((words.next()?.into(), words.next()?.parse().ok()?))
}

fn is_alive(pid: u32) -> bool {
    state(pid).is_some_and(|(state, _)| state != "Z")
}

fn children(parent: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap();
    all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| state(*pid).is_some_and(|(_, of)| of == parent))
        .collect()
}
