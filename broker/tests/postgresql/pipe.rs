//! A pipe between broker and server that can break where it hurts.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Bind names a statement by what the driver calls it; this is of the text that it prepares once for each connection, and
/// of a digest of 48 bytes that is bound.
const UPDATE: &[u8] = &[0, 0, 0, 48];

/// What the pipe does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Breaks {
    /// It moves bytes.
    Not,
    /// The connection ends at the next BEGIN.
    AtBegin,
    /// The connection ends at the next change.
    AtUpdate,
    /// The next COMMIT does not reach the server, and the connection ends.
    BeforeCommit,
    /// The next COMMIT reaches the server, its answer does not come back, and the connection ends.
    AfterCommit,
    /// Nothing moves, and nothing ends.
    Silent,
}

/// The pipe, at an address of its own.
pub(crate) struct Pipe {
    pub(crate) address: String,
    shared: Arc<Shared>,
}

struct Shared {
    socket: PathBuf,
    breaks: AtomicU8,
}

impl Pipe {
    pub(crate) fn to(socket: &Path) -> Pipe {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            socket: socket.into(),
            breaks: AtomicU8::new(Breaks::Not as u8),
        });
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let shared = Arc::clone(&of_thread);
                std::thread::spawn(move || shared.serve(client.unwrap()));
            }
        });
        Pipe { address, shared }
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!(
            "postgres://postgres@{}/{database}?sslmode=disable",
            self.address
        )
    }

    /// What it does from now on; a break is made once.
    pub(crate) fn set(&self, breaks: Breaks) {
        self.shared.breaks.store(breaks as u8, Ordering::SeqCst);
    }

    /// Whether the break was made.
    pub(crate) fn is_whole(&self) -> bool {
        self.shared.breaks.load(Ordering::SeqCst) == Breaks::Not as u8
    }
}

impl Shared {
    fn serve(&self, mut client: TcpStream) {
        let Ok(mut server) = UnixStream::connect(&self.socket) else {
            return;
        };
        let (mut from_server, mut to_client) =
            (server.try_clone().unwrap(), client.try_clone().unwrap());
        let answers = std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(length @ 1..) = from_server.read(&mut buffer) {
                if to_client.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
            let _ = to_client.shutdown(Shutdown::Both);
        });
        let mut buffer = [0; 65536];
        while let Ok(length @ 1..) = client.read(&mut buffer) {
            let bytes = &buffer[..length];
            let says = |words: &[u8]| bytes.windows(words.len()).any(|window| window == words);
            let commits = says(b"COMMIT\0");
            while self.breaks.load(Ordering::SeqCst) == Breaks::Silent as u8 {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            let cut = [
                (says(b"BEGIN "), Breaks::AtBegin),
                (says(UPDATE), Breaks::AtUpdate),
                (commits, Breaks::BeforeCommit),
            ];
            if cut
                .into_iter()
                .any(|(said, breaks)| said && self.take(breaks))
            {
                break;
            }
            if commits && self.take(Breaks::AfterCommit) {
                // Nobody hears the answer.
                client.shutdown(Shutdown::Both).unwrap();
                server.write_all(bytes).unwrap();
                break;
            }
            if server.write_all(bytes).is_err() {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Write);
        let _ = answers.join();
    }

    fn take(&self, breaks: Breaks) -> bool {
        let (from, to) = (breaks as u8, Breaks::Not as u8);
        self.breaks
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
}
