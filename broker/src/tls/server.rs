//! The server's side.

use super::{PROTOCOL, TlsError, VERSIONS, files, provider};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{ConfigBuilder, InconsistentKeys, ServerConfig, WantsVerifier};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

/// The files of a certificate and its key, both PEM.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate, those of its issuers behind it.
    pub chain: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Who may connect.
#[derive(Clone, Debug)]
pub enum Clients {
    /// Whoever reaches the address.
    Anybody,
    /// Those with a certificate by an issuer in this file, PEM.
    Of(PathBuf),
}

/// TLS of an address. Its files can be read again while it serves.
pub struct Server {
    certificate: Certificate,
    clients: Clients,
    current: RwLock<Arc<ServerConfig>>,
}

impl Server {
    /// Reads the files.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn read(certificate: Certificate, clients: Clients) -> Result<Self, TlsError> {
        let current = RwLock::new(configuration(&certificate, &clients)?);
        Ok(Self {
            certificate,
            clients,
            current,
        })
    }

    /// Reads the files again, for connections from now on. What cannot be used leaves everything as it was.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn read_again(&self) -> Result<(), TlsError> {
        let read = configuration(&self.certificate, &self.clients)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current)
    }
}

fn configuration(
    certificate: &Certificate,
    clients: &Clients,
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider());
    let builder: ConfigBuilder<_, WantsVerifier> = builder.with_protocol_versions(VERSIONS)?;
    let builder = match clients {
        Clients::Anybody => builder.with_no_client_auth(),
        Clients::Of(path) => {
            let authorities = Arc::new(files::authorities(path)?);
            let verifier =
                WebPkiClientVerifier::builder_with_provider(authorities, provider()).build();
            builder.with_client_cert_verifier(
                verifier.map_err(|_| TlsError::NoCertificate(path.clone()))?,
            )
        }
    };
    let (chain, key) = (
        files::certificates(&certificate.chain)?,
        files::key(&certificate.key)?,
    );
    let unusable = |path: &PathBuf| {
        let path = path.clone();
        move |source| TlsError::Unusable { path, source }
    };
    let key = provider()
        .key_provider
        .load_private_key(key)
        .map_err(unusable(&certificate.key))?;
    let own = CertifiedKey::new(chain, key);
    match own.keys_match() {
        Ok(()) => {}
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            return Err(TlsError::OtherKey {
                key: certificate.key.clone(),
                chain: certificate.chain.clone(),
            });
        }
        Err(source) => return Err(unusable(&certificate.chain)(source)),
    }
    let resolver = rustls::sign::SingleCertAndKey::from(own);
    let mut made = builder.with_cert_resolver(Arc::new(resolver));
    made.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(Arc::new(made))
}
