//! Who this TPM is: its endorsement keys, its attestation key, and the certificates for them.
//!
//! The keys are the TPM's own; the certificate authority is a key of L1 that lives as long as L1
//! and never leaves it. What makes the authority worth trusting is in its certificate: a TD quote
//! (or report) whose REPORTDATA names its key (docs/measurement.md §5 and §7).

mod authority;
mod keys;
mod profile;
mod public_key;
mod signing;

pub(crate) use authority::CertificateAuthority;
pub(crate) use keys::{Identity, Keys, Left, log_time};
pub use profile::{CC_EVENT_LOG, TD_QUOTE};
pub(crate) use profile::{KeyUse, TpmIdentity};
use public_key::subject_public_key_info;

/// Why there is no key or certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// A name, a key or an extension could not be encoded. Nothing that comes from outside L1 leads here.
    #[error("DER: {0}")]
    Encoding(#[from] der::Error),
    /// As [`Encoding`](Self::Encoding), for a public key.
    #[error("public key: {0}")]
    PublicKey(#[from] spki::Error),
    /// The signature could not be made.
    #[error("the certificate could not be signed")]
    Signature,
}

impl From<x509_cert::builder::Error> for CertificateError {
    fn from(error: x509_cert::builder::Error) -> Self {
        match error {
            x509_cert::builder::Error::Asn1(error) => Self::Encoding(error),
            x509_cert::builder::Error::PublicKey(error) => Self::PublicKey(error),
            _ => Self::Signature,
        }
    }
}
