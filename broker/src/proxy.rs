//! The host's pipe: bytes between a machine's channel, a socket of its QEMU or of the kernel, and the broker's address.
//!
//! It reads nothing of what it moves: messages are signed, encrypted and under a session's code, and the host that runs
//! this could as well replace it. What it does is begin again: a channel or a connection that ends is opened anew.
//!
//! The channel has one connection to the broker at a time, made when L1 has something to say. When the broker ends it, the
//! channel stays: L1's request goes unanswered, L1 asks again, and that makes a new connection. What L1 sends while the
//! broker is away waits.

use crate::tls::{Authorities, Client, TlsError};
use axum::http::uri::{InvalidUri, Scheme, Uri};
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
/// How long a connection to the broker may take until it is there, a handshake of TLS included.
const CONNECTED: Duration = Duration::from_secs(10);
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

/// Where the broker is.
#[derive(Clone)]
pub struct Address {
    /// Host and port.
    place: String,
    /// TLS to it, where it wants that.
    tls: Option<Client>,
}

/// Why an address cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Not one.
    #[error("{0:?} is not HOST:PORT, http://HOST:PORT or https://HOST:PORT")]
    Malformed(String),
    /// A file of issuers, and no TLS.
    #[error("--ca is of https:// alone: without it nobody shows a certificate")]
    NoTls,
    /// See [`TlsError`].
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Address {
    /// Reads HOST:PORT or a URL without a path. The port of a URL is 80 or 443 if it has none.
    ///
    /// # Errors
    /// See [`AddressError`].
    pub fn parse(text: &str, ca: Option<PathBuf>) -> Result<Self, AddressError> {
        let malformed = || AddressError::Malformed(text.into());
        let uri: Uri = match text.contains("://") {
            true => text.parse(),
            false => format!("http://{text}").parse(),
        }
        .map_err(|_: InvalidUri| malformed())?;
        let authority = uri.authority().ok_or_else(malformed)?;
        let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        if !bare || authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(malformed());
        }
        let tls = uri.scheme() == Some(&Scheme::HTTPS);
        if !tls && uri.scheme() != Some(&Scheme::HTTP) {
            return Err(malformed());
        }
        let port = match (authority.port_u16(), text.contains("://"), tls) {
            (Some(port), _, _) => port,
            // Without a scheme there is no port that goes without saying; a port that is no number is none.
            (None, false, _) => return Err(malformed()),
            (None, true, _) if authority.as_str() != authority.host() => return Err(malformed()),
            (None, true, true) => 443,
            (None, true, false) => 80,
        };
        let host = authority.host();
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let tls = match (tls, ca) {
            (true, Some(file)) => Some(Client::to(name, &Authorities::In(file))?),
            (true, None) => Some(Client::to(name, &Authorities::System)?),
            (false, Some(_)) => return Err(AddressError::NoTls),
            (false, None) => None,
        };
        Ok(Self {
            place: format!("{host}:{port}"),
            tls,
        })
    }

    async fn connect(&self) -> io::Result<Box<dyn Connection>> {
        let made = async {
            let stream = TcpStream::connect(&self.place).await?;
            let _ = stream.set_nodelay(true);
            Ok(match &self.tls {
                Some(tls) => Box::new(tls.connect(stream).await?) as Box<dyn Connection>,
                None => Box::new(stream),
            })
        };
        match tokio::time::timeout(CONNECTED, made).await {
            Ok(made) => made,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// A connection to the broker.
trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection for S {}

/// Moves bytes until it is ended.
///
/// # Errors
/// The socket cannot be listened at.
pub async fn run(channel: &Channel, broker: &Address) -> io::Result<()> {
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
    broker: &Address,
    next: impl AsyncFn() -> io::Result<S>,
) -> ! {
    let places = Arc::new(Semaphore::new(CHANNELS));
    loop {
        // The semaphore is never closed.
        let place = Arc::clone(&places).acquire_owned().await.ok();
        match next().await {
            Ok(stream) => {
                let broker = broker.clone();
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
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut channel: S, broker: &Address) {
    // Bytes that L1 sent and the broker has not got: they begin a request, when nothing else was sent.
    let mut first = vec![0; 16 * 1024];
    loop {
        // A connection only when there is something to say: L1 may be silent for days.
        let length = match channel.read(&mut first).await {
            Ok(length) if length > 0 => length,
            _ => return,
        };
        let mut said = false;
        let mut connection = loop {
            match broker.connect().await {
                Ok(connection) => break connection,
                Err(error) => {
                    // Once for a request of L1: it is tried five times a second.
                    if !std::mem::replace(&mut said, true) {
                        tracing::warn!(%error, broker = broker.place, "the broker is not there");
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            }
        };
        let sent = first.get(..length).unwrap_or_default();
        if send(&mut connection, sent).await.is_err() {
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
    connection: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> Ended {
    let (mut from_channel, mut to_channel) = tokio::io::split(channel);
    let (mut from_broker, mut to_broker) = tokio::io::split(connection);
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
        if send(to, bytes).await.is_err() {
            return Side::Writer;
        }
    }
}

/// All of it, and now: what is under TLS may be kept back otherwise.
async fn send(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port_or_a_url_without_a_path() {
        for (text, place, tls) in [
            ("broker.example:8080", "broker.example:8080", false),
            ("127.0.0.1:1", "127.0.0.1:1", false),
            ("[::1]:8080", "[::1]:8080", false),
            ("http://broker.example", "broker.example:80", false),
            ("https://broker.example", "broker.example:443", true),
            ("https://broker.example/", "broker.example:443", true),
            ("https://[::1]:8443", "[::1]:8443", true),
        ] {
            let ca = tls.then(|| "src/tls/mod.rs".into());
            match Address::parse(text, ca) {
                Ok(address) => assert_eq!((address.place.as_str(), tls), (place, false), "{text}"),
                // It came as far as the file of issuers.
                Err(AddressError::Tls(TlsError::NoCertificate(_))) => assert!(tls, "{text}"),
                Err(error) => panic!("{text}: {error}"),
            }
        }
        for text in [
            "",
            "broker.example",
            "broker.example:port",
            "broker.example:99999",
            "https://broker.example:99999",
            "https://broker.example:",
            "https://",
            "https://broker.example/kbs",
            "https://broker.example/?x",
            "https://user@broker.example",
            "ftp://broker.example:21",
            "https://:8443",
        ] {
            let refused = Address::parse(text, None).err();
            assert!(
                matches!(refused, Some(AddressError::Malformed(_))),
                "{text}: {refused:?}"
            );
        }
        let refused = Address::parse("b.example:1", Some("ca.pem".into())).err();
        assert!(matches!(refused, Some(AddressError::NoTls)), "{refused:?}");
    }
}
