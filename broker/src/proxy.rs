//! The host's pipe: bytes between a machine's channel, a socket of its QEMU or of the kernel, and the broker's address.
//!
//! It reads nothing of what it moves: messages are signed, encrypted and under a session's code, and the host that runs
//! this could as well replace it. What it does is begin again: a channel or a connection that ends is opened anew.
//!
//! The channel has one connection to the broker at a time, made when L1 has something to say. When the broker ends it, the
//! channel stays: L1's request goes unanswered, L1 asks again, and that makes a new connection. What L1 sends while the
//! broker is away waits.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener};

/// How long until something that failed is tried again.
const AGAIN: Duration = Duration::from_millis(200);
/// Channels at once of one listener: more wait.
const CHANNELS: usize = 64;

/// Where the channel is.
#[derive(Clone, Debug)]
pub enum Channel {
    /// QEMU listens at this socket (`-chardev socket,server=on`).
    Connect(PathBuf),
    /// QEMU connects to this socket (`-chardev socket,reconnect=1`), or a vsock device in a process of its own does.
    Listen(PathBuf),
    /// Machines connect to this port of the kernel's vsock (`vhost-vsock-pci`).
    Vsock(u32),
}

/// Moves bytes until it is ended.
///
/// # Errors
/// The socket cannot be listened at.
pub async fn run(channel: &Channel, broker: &str) -> io::Result<()> {
    match channel {
        Channel::Connect(path) => loop {
            match UnixStream::connect(path).await {
                Ok(stream) => serve(stream, broker).await,
                Err(error) => tracing::debug!(%error, "the channel is not there"),
            }
            tokio::time::sleep(AGAIN).await;
        },
        Channel::Listen(path) => {
            let listener = listen(path)?;
            accept(broker, async || Ok(listener.accept().await?.0)).await
        }
        Channel::Vsock(port) => {
            let listener = VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, *port))?;
            accept(broker, async || Ok(listener.accept().await?.0)).await
        }
    }
}

/// Serves each channel that comes, beside those that are there: of an older one of the same machine the end may not have
/// been seen.
async fn accept<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    broker: &str,
    next: impl AsyncFn() -> io::Result<S>,
) -> ! {
    let places = Arc::new(Semaphore::new(CHANNELS));
    loop {
        // The semaphore is never closed.
        let place = Arc::clone(&places).acquire_owned().await.ok();
        match next().await {
            Ok(stream) => {
                let broker = broker.to_owned();
                tokio::spawn(async move {
                    serve(stream, &broker).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the channel could not be accepted");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Listens at a path, in place of a socket that an earlier proxy left.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let left = std::fs::symlink_metadata(path)
        .is_ok_and(|found| std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()));
    if left && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    UnixListener::bind(path)
}

/// One life of the channel: as many connections to the broker as it takes.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut channel: S, broker: &str) {
    // Bytes that L1 sent and the broker has not got: they begin a request, when nothing else was sent.
    let mut first = vec![0; 16 * 1024];
    loop {
        // A connection only when there is something to say: L1 may be silent for days.
        let length = match channel.read(&mut first).await {
            Ok(length) if length > 0 => length,
            _ => return,
        };
        let mut connection = loop {
            match TcpStream::connect(broker).await {
                Ok(connection) => break connection,
                Err(error) => {
                    tracing::debug!(%error, broker, "the broker is not there");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        };
        let _ = connection.set_nodelay(true);
        let sent = first.get(..length).unwrap_or_default();
        if connection.write_all(sent).await.is_err() {
            continue;
        }
        match pipe(&mut channel, &mut connection).await {
            Ended::Channel => return,
            Ended::Broker => {}
        }
    }
}

/// Which end ended.
enum Ended {
    Channel,
    Broker,
}

/// Moves bytes both ways until one end ends. A broker that ends one way ends both.
async fn pipe<S: AsyncRead + AsyncWrite + Unpin>(
    channel: &mut S,
    connection: &mut TcpStream,
) -> Ended {
    let (mut from_channel, mut to_channel) = tokio::io::split(channel);
    let (mut from_broker, mut to_broker) = connection.split();
    tokio::select! {
        ended = copy(&mut from_channel, &mut to_broker) => match ended {
            Side::Reader => Ended::Channel,
            Side::Writer => Ended::Broker,
        },
        ended = copy(&mut from_broker, &mut to_channel) => match ended {
            Side::Reader => Ended::Broker,
            Side::Writer => Ended::Channel,
        },
    }
}

/// Which side of a copy ended.
enum Side {
    Reader,
    Writer,
}

async fn copy(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> Side {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = match from.read(&mut buffer).await {
            Ok(length) if length > 0 => length,
            _ => return Side::Reader,
        };
        let bytes = buffer.get(..length).unwrap_or_default();
        if to.write_all(bytes).await.is_err() {
            return Side::Writer;
        }
    }
}
