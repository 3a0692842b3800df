//! A key broker of the test's at the other end of a machine's console: what it says is scripted, and what goes over the
//! wire is kept.

use anyhow::{Context, Result};
use broker_client::scripted::{Broker, Lie};
use broker_protocol::MachineId;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What the thread at the socket has in common with the test.
struct Shared {
    broker: Mutex<Broker>,
    wire: Mutex<Vec<u8>>,
    /// Its answers, one for each time that something was sent.
    answers: Mutex<Vec<Vec<u8>>>,
    /// What is answered in their place.
    played: Mutex<VecDeque<Vec<u8>>>,
    /// How long it waits before each answer.
    waits: Mutex<Duration>,
    ended: AtomicBool,
}

/// The broker, as long as this lives.
pub(super) struct Scripted {
    socket: PathBuf,
    shared: Arc<Shared>,
}

impl Scripted {
    /// For one machine; its socket is in `folder`.
    pub(super) fn start(folder: &Path, machine: [u8; 32]) -> Result<Self> {
        let socket = folder.join("scripted.sock");
        let listener = UnixListener::bind(&socket).context("the scripted broker's socket")?;
        let shared = Arc::new(Shared {
            broker: Mutex::new(Broker::new(MachineId(machine))),
            wire: Mutex::default(),
            answers: Mutex::default(),
            played: Mutex::default(),
            waits: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let its = Arc::clone(&shared);
        std::thread::spawn(move || {
            for channel in listener.incoming().flatten() {
                if its.ended.load(Ordering::SeqCst) {
                    break;
                }
                // The machine has ended when its channel has.
                let _ = serve(&its, channel);
            }
        });
        Ok(Self { socket, shared })
    }

    /// The other end of the machine's console.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Who is to be believed, as documents name it.
    pub(super) fn identity(&self) -> String {
        hex::encode(self.broker().identity().to_sec1())
    }

    /// What it says and does.
    pub(super) fn broker(&self) -> MutexGuard<'_, Broker> {
        lock(&self.shared.broker)
    }

    /// Its answers so far.
    pub(super) fn answers(&self) -> Vec<Vec<u8>> {
        lock(&self.shared.answers).clone()
    }

    /// It answers this, whatever it is asked, until nothing is left of it.
    pub(super) fn play(&self, answers: Vec<Vec<u8>>) {
        *lock(&self.shared.played) = answers.into();
    }

    /// It waits that long before each answer from now on.
    pub(super) fn wait(&self, time: Duration) {
        *lock(&self.shared.waits) = time;
    }

    /// All that went over the wire.
    pub(super) fn wire(&self) -> Vec<u8> {
        lock(&self.shared.wire).clone()
    }

    /// It does this wrong from now on, and nothing else.
    pub(super) fn lie(&self, lie: Lie) {
        lock(&self.shared.played).clear();
        self.broker().lie = lie;
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        let _ = UnixStream::connect(&self.socket);
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(shared: &Shared, mut channel: UnixStream) -> std::io::Result<()> {
    let mut sent = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let length = channel.read(&mut piece)?;
        let received = piece.get(..length).unwrap_or_default();
        if received.is_empty() {
            return Ok(());
        }
        sent.extend_from_slice(received);
        let mut answer = lock(&shared.broker).serve(&mut sent);
        if !answer.is_empty() {
            if let Some(played) = lock(&shared.played).pop_front() {
                answer = played;
            }
            lock(&shared.answers).push(answer.clone());
            let time = *lock(&shared.waits);
            std::thread::sleep(time);
        }
        let mut wire = lock(&shared.wire);
        wire.extend_from_slice(received);
        wire.extend_from_slice(&answer);
        drop(wire);
        channel.write_all(&answer)?;
    }
}
