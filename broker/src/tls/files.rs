//! Certificates and keys in files.

use super::TlsError;
use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use zeroize::Zeroizing;

/// Largest file, in bytes: those of a system's issuers have a quarter of it.
const FILE: u64 = 1 << 20;

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let bytes = verifier::files::read_bounded(path, FILE);
    bytes.map(Zeroizing::new).map_err(|source| TlsError::File {
        path: path.into(),
        source,
    })
}

fn malformed(path: &Path) -> impl Fn(pem::Error) -> TlsError {
    move |source| TlsError::Pem {
        path: path.into(),
        source,
    }
}

/// All certificates of a file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(malformed(path))?;
    match found.is_empty() {
        true => Err(TlsError::NoCertificate(path.into())),
        false => Ok(found),
    }
}

/// The first private key of a file.
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::NoKey(path.into()),
        other => malformed(path)(other),
    })
}

/// The issuers in a file, each of which is trusted.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store
            .add(certificate)
            .map_err(|source| TlsError::Unusable {
                path: path.into(),
                source,
            })?;
    }
    Ok(store)
}
