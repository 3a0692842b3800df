//! X.509 certificates: what of RFC 5280 the checks of this crate read.
//!
//! A [`Certificate`] is what has to be read of one to verify its signature: names, validity and key. What its issuer says
//! beside that is in its [`Contents`], which only a verified signature opens. Every part is bounded before it is read, so
//! that nothing here takes longer than a walk over the bytes.

mod contents;
mod crl;

pub use contents::{Contents, EXTENSION_LIMIT, EXTENSIONS_LIMIT};
pub use crl::crl_issuer;

use crate::public_key::PublicKey;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_cert::{
    certificate::{Rfc5280, Version},
    der::{
        self, Decode, Reader, SliceReader, Tag, TagMode, TagNumber,
        asn1::{AnyRef, BitStringRef},
        oid::{
            ObjectIdentifier,
            db::rfc5912::{ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384},
        },
    },
    name::Name,
    serial_number::SerialNumber,
    spki::AlgorithmIdentifierRef,
    time::Validity,
};

/// Largest certificate that is looked at: the CA's carries a quote and an event log.
pub const CERTIFICATE_LIMIT: usize = 2 << 20;
/// Largest subject or issuer.
pub const NAME_LIMIT: usize = 2 << 10;
/// Largest SubjectPublicKeyInfo; that of an RSA key of 4096 bits has 550 bytes.
pub const KEY_LIMIT: usize = 1 << 10;
/// Most certificates of a PEM text that are looked at.
pub const PEM_LIMIT: usize = 16;

/// Why bytes are not a certificate that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Not DER of a certificate, or more than one.
    #[error("it is not one DER-encoded X.509 certificate: {0}")]
    Der(String),
    /// A part is larger than this verifier reads.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Its limit.
        limit: usize,
    },
    /// More extensions than [`EXTENSIONS_LIMIT`].
    #[error("it has more than {EXTENSIONS_LIMIT} extensions")]
    TooManyExtensions,
    /// Extensions need version 3.
    #[error("it is not of version 3")]
    Version,
    /// RFC 5280, 4.2: an extension must not occur twice.
    #[error("extension {0} occurs twice")]
    Duplicate(ObjectIdentifier),
    /// The two signature algorithm members differ.
    #[error("its signature algorithm is not the one that was signed")]
    Algorithm,
    /// An extension does not parse as what its identifier says.
    #[error("extension {0} is malformed")]
    Extension(ObjectIdentifier),
    /// The public key is of a kind that is not used here, or not on its curve.
    #[error("its public key is neither RSA nor on P-256 or P-384")]
    PublicKey,
    /// Its issuer did not sign it: what it says is nobody's word.
    #[error("it is not signed by its issuer")]
    NotSigned,
}

impl From<der::Error> for CertificateError {
    fn from(error: der::Error) -> Self {
        CertificateError::Der(error.to_string())
    }
}

/// A certificate: who it is of, and what its issuer signed.
#[derive(Clone, Debug)]
pub struct Certificate<'a> {
    /// TBSCertificate.
    signed: &'a [u8],
    algorithm: AlgorithmIdentifierRef<'a>,
    signature: &'a [u8],
    issuer: &'a [u8],
    subject: &'a [u8],
    validity: Validity<Rfc5280>,
    spki: &'a [u8],
    key: PublicKey,
    /// `extensions [3]`, not looked into.
    extensions: Option<&'a [u8]>,
}

/// The certificates of a PEM text, DER, up to something that is not PEM as RFC 7468 has it, and [`PEM_LIMIT`] at most;
/// text between them and objects of other kinds are left out.
pub fn from_pem(text: &str) -> Vec<Vec<u8>> {
    CertificateDer::pem_slice_iter(text.as_bytes())
        .map_while(Result::ok)
        .take(PEM_LIMIT)
        .map(|certificate| certificate.to_vec())
        .collect()
}

/// A SEQUENCE with its header, of a bounded size.
fn sequence<'a>(
    reader: &mut SliceReader<'a>,
    what: &'static str,
    limit: usize,
) -> Result<&'a [u8], CertificateError> {
    Tag::peek(reader)?.assert_eq(Tag::Sequence)?;
    match reader.tlv_bytes()? {
        bytes if bytes.len() <= limit => Ok(bytes),
        _ => Err(CertificateError::TooLarge { what, limit }),
    }
}

impl<'a> Certificate<'a> {
    /// Of a certificate's DER, everything but its extensions.
    ///
    /// # Errors
    /// See [`CertificateError`].
    pub fn parse(der: &'a [u8]) -> Result<Certificate<'a>, CertificateError> {
        if der.len() > CERTIFICATE_LIMIT {
            let (what, limit) = ("it", CERTIFICATE_LIMIT);
            return Err(CertificateError::TooLarge { what, limit });
        }
        let mut outer = SliceReader::new(der)?;
        let (signed, algorithm, signature) = outer.sequence(|reader| {
            let signed = sequence(reader, "it", CERTIFICATE_LIMIT)?;
            let algorithm = AlgorithmIdentifierRef::decode(reader)?;
            let signature = BitStringRef::decode(reader)?.as_bytes();
            Ok::<_, CertificateError>((signed, algorithm, signature))
        })?;
        outer.finish()?;
        let mut tbs = SliceReader::new(signed)?;
        tbs.sequence(|reader| {
            let version = reader.context_specific(TagNumber(0), TagMode::Explicit)?;
            if version != Some(Version::V3) {
                return Err(CertificateError::Version);
            }
            SerialNumber::<Rfc5280>::decode(reader)?;
            if AlgorithmIdentifierRef::decode(reader)? != algorithm {
                return Err(CertificateError::Algorithm);
            }
            let issuer = sequence(reader, "its issuer's name", NAME_LIMIT)?;
            let validity = Validity::decode(reader)?;
            let subject = sequence(reader, "its subject's name", NAME_LIMIT)?;
            let spki = sequence(reader, "its public key", KEY_LIMIT)?;
            for unique_id in [TagNumber(1), TagNumber(2)] {
                reader.context_specific::<BitStringRef<'_>>(unique_id, TagMode::Implicit)?;
            }
            let extensions = match reader.is_finished() {
                true => None,
                false => {
                    let tag = TagNumber(3).context_specific(true);
                    Tag::peek(reader)?.assert_eq(tag)?;
                    Some(AnyRef::decode(reader)?.value())
                }
            };
            Ok(Certificate {
                signed,
                algorithm,
                signature: signature.unwrap_or_default(),
                issuer,
                subject,
                validity,
                spki,
                key: PublicKey::from_spki(spki).ok_or(CertificateError::PublicKey)?,
                extensions,
            })
        })
    }

    /// SubjectPublicKeyInfo, DER.
    pub fn spki(&self) -> &'a [u8] {
        self.spki
    }

    /// The key in it.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The subject, as RFC 4514 writes it.
    pub fn subject(&self) -> String {
        written(self.subject)
    }

    /// The issuer, as RFC 4514 writes it.
    pub fn issuer(&self) -> String {
        written(self.issuer)
    }

    /// The issuer's Name, DER.
    pub fn issuer_name(&self) -> &'a [u8] {
        self.issuer
    }

    /// Whether the subject has no attributes.
    pub fn subject_is_empty(&self) -> bool {
        // SEQUENCE of length 0.
        self.subject == [0x30, 0]
    }

    /// Whether `issuer` is who this certificate names as its issuer, and signed it (ECDSA, with the hash of the curve's size).
    pub fn is_signed_by(&self, issuer: &Certificate<'_>) -> bool {
        let fits = match issuer.key {
            PublicKey::P256 { .. } => self.algorithm.oid == ECDSA_WITH_SHA_256,
            PublicKey::P384 { .. } => self.algorithm.oid == ECDSA_WITH_SHA_384,
            PublicKey::Rsa { .. } => false,
        };
        self.issuer == issuer.subject
            && fits
            && self.algorithm.parameters.is_none()
            && issuer.key.verifies_ecdsa_der(self.signed, self.signature)
    }

    /// What the issuer says in its extensions, once its signature is verified.
    ///
    /// # Errors
    /// [`CertificateError::NotSigned`], or what is wrong with the extensions.
    pub fn open(&self, issuer: &Certificate<'_>) -> Result<Contents<'a>, CertificateError> {
        if !self.is_signed_by(issuer) {
            return Err(CertificateError::NotSigned);
        }
        match self.extensions {
            None => Ok(Contents::default()),
            Some(extensions) => Contents::parse(extensions),
        }
    }

    /// Whether `now` (Unix seconds) is in its validity.
    pub fn is_valid_at(&self, now: u64) -> bool {
        let from = self.validity.not_before.to_unix_duration().as_secs();
        let to = self.validity.not_after.to_unix_duration().as_secs();
        (from..=to).contains(&now)
    }
}

fn written(name: &[u8]) -> String {
    Name::from_der(name).map_or_else(
        |_| format!("no name, but {} bytes", name.len()),
        |name| name.to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_is_read_up_to_what_is_malformed() {
        let one = "-----BEGIN CERTIFICATE-----\r\nAQ\r\nID\r\n-----END CERTIFICATE-----\r\n";
        let other = "-----BEGIN X509 CRL-----\nBAUG\n-----END X509 CRL-----\n";
        let broken = "-----BEGIN CERTIFICATE-----\nA%==\n-----END CERTIFICATE-----\n";
        let open = "-----BEGIN CERTIFICATE-----\nAQID\n";
        let certificate = vec![1, 2, 3];
        for (text, count) in [
            (format!("a text\n{one}more\n{other}{one}\0"), 2),
            (format!("{one}{broken}{one}"), 1),
            (format!("{one}{open}"), 1),
            (one.repeat(PEM_LIMIT + 1), PEM_LIMIT),
            (String::new(), 0),
        ] {
            assert_eq!(from_pem(&text), vec![certificate.clone(); count], "{text}");
        }
    }
}
