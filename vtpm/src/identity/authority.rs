//! The certificate authority of one boot of L1.

use alloc::format;
use alloc::vec::Vec;
use core::str::FromStr;

use der::{Decode, Encode};
use p384::ecdsa::DerSignature;
use p384::ecdsa::signature::Keypair;
use sha2::{Digest, Sha256};
use spki::{EncodePublicKey, SubjectPublicKeyInfoOwned};
use x509_cert::builder::{Builder, CertificateBuilder, profile::BuilderProfile};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::time::{Time, Validity};

use super::CertificateError;
use super::profile::{AuthorityProfile, KeyProfile, KeyUse, TpmIdentity};
use super::signing::SigningKey;
use crate::{Error, TrustDomain, TrustDomainError};

/// A P-384 key, and what it certifies.
///
/// Signing is deterministic (RFC 6979): once it has its key the authority needs no random numbers.
pub(crate) struct CertificateAuthority {
    key: SigningKey,
    public: SubjectPublicKeyInfoOwned,
    public_der: Vec<u8>,
    name: Name,
}

/// How often a draw that is no P-384 scalar is drawn again. Each fails with a chance of 2^-190.
const DRAWS: usize = 4;

impl CertificateAuthority {
    /// Draws a new key.
    pub(crate) fn generate(trust_domain: &mut impl TrustDomain) -> Result<Self, Error> {
        let mut key = None;
        for _ in 0..DRAWS {
            let mut scalar = [0; 48];
            trust_domain.random(&mut scalar)?;
            key = SigningKey::new(&scalar);
            scalar.fill(0);
            if key.is_some() {
                break;
            }
        }
        let key = key.ok_or(TrustDomainError::Random)?;
        Ok(Self::new(key)?)
    }

    fn new(key: SigningKey) -> Result<Self, CertificateError> {
        let public_der = key.verifying_key().to_public_key_der()?.into_vec();
        let public = SubjectPublicKeyInfoOwned::from_der(&public_der)?;
        let name = name_of("CA", &public_der)?;
        Ok(Self {
            key,
            public,
            public_der,
            name,
        })
    }

    /// SubjectPublicKeyInfo in DER.
    pub(crate) fn public_key(&self) -> &[u8] {
        &self.public_der
    }

    /// Its own certificate in DER, with `evidence` (a TD quote, else a TDREPORT) for its key and the
    /// CC event log that `evidence` covers.
    pub(crate) fn certificate(
        &self,
        evidence: &[u8],
        event_log: &[u8],
    ) -> Result<Vec<u8>, CertificateError> {
        let profile = AuthorityProfile {
            name: self.name.clone(),
            evidence,
            event_log,
        };
        self.sign(profile, self.public.clone(), evidence)
    }

    /// The certificate in DER of a key of the TPM.
    pub(crate) fn certify(
        &self,
        public: SubjectPublicKeyInfoOwned,
        key_use: KeyUse,
        tpm: &TpmIdentity,
    ) -> Result<Vec<u8>, CertificateError> {
        let profile = KeyProfile {
            issuer: self.name.clone(),
            subject: name_of(key_use.name(), &public.to_der()?)?,
            key_use,
            tpm,
        };
        self.sign(profile, public, &[])
    }

    fn sign(
        &self,
        profile: impl BuilderProfile,
        public: SubjectPublicKeyInfoOwned,
        content: &[u8],
    ) -> Result<Vec<u8>, CertificateError> {
        let serial_number = serial_number(&public.to_der()?, content)?;
        let builder = CertificateBuilder::new(profile, serial_number, always()?, public)?;
        let certificate = builder.build::<_, DerSignature>(&self.key)?;
        Ok(certificate.to_der()?)
    }
}

/// The name of a key that is `what`: with part of the digest of its SubjectPublicKeyInfo, so that the keys of two boots
/// have two names.
fn name_of(what: &str, public_der: &[u8]) -> der::Result<Name> {
    let digest = Sha256::digest(public_der);
    let prefix = digest
        .iter()
        .take(8)
        .fold(0, |prefix: u64, byte| prefix << 8 | u64::from(*byte));
    Name::from_str(&format!("CN=TDP vTPM {what} {prefix:016x}"))
}

/// Positive, and different for different certificates.
fn serial_number(public: &[u8], content: &[u8]) -> Result<SerialNumber, der::Error> {
    let digest = Sha256::new()
        .chain_update(public)
        .chain_update(content)
        .finalize();
    let mut number: [u8; 16] = core::array::from_fn(|at| digest.get(at).copied().unwrap_or(0));
    if let Some(first) = number.first_mut() {
        *first = *first & 0x3f | 0x40;
    }
    SerialNumber::new(&number)
}

/// From 1970 to 9999 (RFC 5280, section 4.1.2.5): there is no clock here that could be trusted.
fn always() -> Result<Validity, der::Error> {
    let epoch = der::DateTime::new(1970, 1, 1, 0, 0, 0)?;
    Ok(Validity::new(Time::from(epoch), Time::INFINITY))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5280, section 4.1.2.2: positive, 20 octets at most. 0x40 keeps the length constant.
    #[test]
    fn serial_numbers_are_positive_of_one_length_and_differ() {
        let mut seen = alloc::collections::BTreeSet::new();
        for content in 0..=255_u8 {
            let number = serial_number(b"public", &[content]).unwrap();
            let bytes = number.as_bytes();
            assert_eq!(bytes.len(), 16);
            assert!((0x40..0x80).contains(&bytes[0]), "{bytes:02x?}");
            seen.insert((bytes[0], bytes.to_vec()));
        }
        assert_eq!(seen.len(), 256);
        let mut first: Vec<u8> = seen.into_iter().map(|(first, _)| first).collect();
        first.dedup();
        assert!(first.len() > 32, "the first byte is the digest's as well");
    }
}
