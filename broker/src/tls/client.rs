//! The client's side.

use super::{PROTOCOL, TlsError, VERSIONS, files, provider};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Whose certificates are believed.
#[derive(Clone, Debug)]
pub enum Authorities {
    /// Of the issuers that this machine trusts.
    System,
    /// Of the issuers in this file, PEM, and no other.
    In(PathBuf),
}

/// TLS to one server.
#[derive(Clone)]
pub struct Client {
    connector: TlsConnector,
    server: ServerName<'static>,
}

impl Client {
    /// To the server of this name or address, as its certificate has to have it.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn to(server: &str, authorities: &Authorities) -> Result<Self, TlsError> {
        let name = ServerName::try_from(server.to_owned());
        let roots = match authorities {
            Authorities::System => system()?,
            Authorities::In(path) => files::authorities(path)?,
        };
        let mut made = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        made.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Self {
            connector: TlsConnector::from(Arc::new(made)),
            server: name.map_err(|_| TlsError::Name(server.into()))?,
        })
    }

    /// Makes the handshake.
    ///
    /// # Errors
    /// The connection broke, or the server is not the one that is wanted.
    pub async fn connect(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.server.clone(), stream).await
    }
}

fn system() -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    // Those that cannot be read are not trusted.
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = store.add_parsable_certificates(found.certs);
    match added {
        0 => Err(TlsError::NoAuthorities),
        _ => Ok(store),
    }
}
