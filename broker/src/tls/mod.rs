//! TLS 1.3 by `rustls`: of the server's addresses ([`Server`]), and of the proxy to the broker ([`Client`]).
//!
//! Machines need none of it: what they say is signed, encrypted and under a session's code, and their channel ends at the
//! host in any case. It is for operators, for balancers, and for networks where nothing goes without.

mod client;
mod files;
mod server;

pub use client::{Authorities, Client};
pub use server::{Certificate, Clients, Server};

use rustls::SupportedProtocolVersion;
use rustls::crypto::CryptoProvider;
use std::path::PathBuf;
use std::sync::Arc;

/// Version 1.3 alone: all clients that this is for have had it since 2018.
const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
/// HTTP/1.1 is what is spoken inside.
const PROTOCOL: &[u8] = b"http/1.1";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Why there can be no TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is no PEM.
    #[error("{}: it is no PEM: {source}", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// A file has no certificate.
    #[error("{}: there is no certificate in it (PEM, `BEGIN CERTIFICATE`)", .0.display())]
    NoCertificate(PathBuf),
    /// A file has no private key.
    #[error(
        "{}: there is no private key in it that can be used (PEM of PKCS #8, PKCS #1 or SEC 1, not encrypted)",
        .0.display()
    )]
    NoKey(PathBuf),
    /// The private key is of another certificate.
    #[error("the key in {} is not that of the first certificate in {}", key.display(), chain.display())]
    OtherKey {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        chain: PathBuf,
    },
    /// A certificate or key of a kind that cannot be used.
    #[error("{}: {source}", path.display())]
    Unusable {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// This machine trusts no issuer.
    #[error(
        "this machine has no certificates of issuers that it trusts: --ca names a file of them"
    )]
    NoAuthorities,
    /// No name or address that a certificate could be for.
    #[error("{0:?} is neither the name nor the address of a host")]
    Name(String),
    /// The library cannot do what is asked of it.
    #[error("{0}")]
    Library(#[from] rustls::Error),
}
