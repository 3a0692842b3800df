//! X.509 certificates: what of RFC 5280 the checks of this crate read.

use crate::public_key::PublicKey;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_cert::{
    certificate::{Rfc5280, Version},
    crl::CertificateList,
    der::{
        Decode, Encode, Reader, SliceReader,
        oid::{
            AssociatedOid, ObjectIdentifier,
            db::rfc5912::{ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384},
        },
    },
    ext::{
        Extension,
        pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName, name::GeneralName},
    },
    name::Name,
};

/// Largest certificate that is looked at: the CA's carries a quote and an event log.
pub const CERTIFICATE_LIMIT: usize = 2 << 20;

/// Why bytes are not a certificate that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Not DER of a certificate, or more than one.
    #[error("it is not one DER-encoded X.509 certificate: {0}")]
    Der(String),
    /// Larger than [`CERTIFICATE_LIMIT`].
    #[error("it is larger than {CERTIFICATE_LIMIT} bytes")]
    TooLarge,
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
}

/// A certificate and the bytes that its issuer signed.
#[derive(Clone, Debug)]
pub struct Certificate {
    inner: x509_cert::Certificate,
    signed: Vec<u8>,
    spki: Vec<u8>,
    key: PublicKey,
}

/// The certificates of a PEM text, DER, up to something that is not PEM as RFC 7468 has it; text between
/// them and objects of other kinds are left out.
pub fn from_pem(text: &str) -> Vec<Vec<u8>> {
    CertificateDer::pem_slice_iter(text.as_bytes())
        .map_while(Result::ok)
        .map(|certificate| certificate.to_vec())
        .collect()
}

/// Whether a CRL (DER) is of the CA that issued a certificate (DER).
pub fn crl_is_of_issuer(crl: &[u8], certificate: &[u8]) -> bool {
    let crl = CertificateList::<Rfc5280>::from_der(crl);
    let certificate = x509_cert::Certificate::from_der(certificate);
    matches!((crl, certificate), (Ok(crl), Ok(certificate))
        if crl.tbs_cert_list.issuer == *certificate.tbs_certificate().issuer())
}

impl Certificate {
    /// A certificate from its DER.
    ///
    /// # Errors
    /// See [`CertificateError`].
    pub fn parse(der: &[u8]) -> Result<Certificate, CertificateError> {
        if der.len() > CERTIFICATE_LIMIT {
            return Err(CertificateError::TooLarge);
        }
        let malformed = |error: x509_cert::der::Error| CertificateError::Der(error.to_string());
        let inner = x509_cert::Certificate::from_der(der).map_err(malformed)?;
        let signed = SliceReader::new(der)
            .and_then(|mut reader| {
                reader.sequence(|reader| {
                    let signed = reader.tlv_bytes()?.to_vec();
                    reader.drain(reader.remaining_len())?;
                    Ok::<_, x509_cert::der::Error>(signed)
                })
            })
            .map_err(malformed)?;
        let tbs = inner.tbs_certificate();
        if tbs.version() != Version::V3 {
            return Err(CertificateError::Version);
        }
        if tbs.signature() != inner.signature_algorithm() {
            return Err(CertificateError::Algorithm);
        }
        let extensions = tbs.extensions().map_or(&[][..], |list| list.as_slice());
        for (index, extension) in extensions.iter().enumerate() {
            let earlier = extensions.iter().take(index);
            if earlier
                .clone()
                .any(|other| other.extn_id == extension.extn_id)
            {
                return Err(CertificateError::Duplicate(extension.extn_id));
            }
        }
        let spki = tbs.subject_public_key_info().to_der().map_err(malformed)?;
        let key = PublicKey::from_spki(&spki).ok_or(CertificateError::PublicKey)?;
        Ok(Certificate {
            inner,
            signed,
            spki,
            key,
        })
    }

    /// SubjectPublicKeyInfo, DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The key in it.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The subject, as RFC 4514 writes it.
    pub fn subject(&self) -> String {
        self.subject_name().to_string()
    }

    /// The issuer, as RFC 4514 writes it.
    pub fn issuer(&self) -> String {
        self.inner.tbs_certificate().issuer().to_string()
    }

    /// Whether the subject has no attributes.
    pub fn subject_is_empty(&self) -> bool {
        self.subject_name().is_empty()
    }

    fn subject_name(&self) -> &Name {
        self.inner.tbs_certificate().subject()
    }

    /// Whether `issuer` is who this certificate names as its issuer, and signed it (ECDSA, with the hash of the curve's size).
    pub fn is_signed_by(&self, issuer: &Certificate) -> bool {
        let named = self.inner.tbs_certificate().issuer() == issuer.subject_name();
        let algorithm = self.inner.signature_algorithm();
        let fits = match issuer.key {
            PublicKey::P256 { .. } => algorithm.oid == ECDSA_WITH_SHA_256,
            PublicKey::P384 { .. } => algorithm.oid == ECDSA_WITH_SHA_384,
            PublicKey::Rsa { .. } => false,
        };
        named
            && fits
            && algorithm.parameters.is_none()
            && self
                .inner
                .signature()
                .as_bytes()
                .is_some_and(|signature| issuer.key.verifies_ecdsa_der(&self.signed, signature))
    }

    /// Whether `now` (Unix seconds) is in its validity.
    pub fn is_valid_at(&self, now: u64) -> bool {
        let validity = self.inner.tbs_certificate().validity();
        let from = validity.not_before.to_unix_duration().as_secs();
        let to = validity.not_after.to_unix_duration().as_secs();
        (from..=to).contains(&now)
    }

    fn extensions(&self) -> &[Extension] {
        let extensions = self.inner.tbs_certificate().extensions();
        extensions.map_or(&[], |list| list.as_slice())
    }

    /// The content of an extension, and whether it is critical.
    pub fn extension(&self, id: ObjectIdentifier) -> Option<(bool, &[u8])> {
        self.extensions()
            .iter()
            .find(|extension| extension.extn_id == id)
            .map(|extension| (extension.critical, extension.extn_value.as_bytes()))
    }

    /// Critical extensions that the checks of this crate do not read: with one, a certificate must be refused.
    pub fn unknown_critical(&self) -> Option<ObjectIdentifier> {
        let known = [
            BasicConstraints::OID,
            KeyUsage::OID,
            ExtendedKeyUsage::OID,
            SubjectAltName::OID,
        ];
        self.extensions()
            .iter()
            .find(|extension| extension.critical && !known.contains(&extension.extn_id))
            .map(|extension| extension.extn_id)
    }

    fn parsed<'a, T: AssociatedOid + Decode<'a>>(
        &'a self,
    ) -> Result<Option<(bool, T)>, CertificateError> {
        match self.extension(T::OID) {
            None => Ok(None),
            Some((critical, content)) => T::from_der(content)
                .map(|value| Some((critical, value)))
                .map_err(|_| CertificateError::Extension(T::OID)),
        }
    }

    /// Basic constraints.
    ///
    /// # Errors
    /// The extension is malformed.
    pub fn basic_constraints(&self) -> Result<Option<(bool, BasicConstraints)>, CertificateError> {
        self.parsed()
    }

    /// Key usage.
    ///
    /// # Errors
    /// The extension is malformed.
    pub fn key_usage(&self) -> Result<Option<(bool, KeyUsage)>, CertificateError> {
        self.parsed()
    }

    /// Whether the extended key usage has `purpose`.
    ///
    /// # Errors
    /// The extension is malformed.
    pub fn has_purpose(&self, purpose: ObjectIdentifier) -> Result<bool, CertificateError> {
        let usage = self.parsed::<ExtendedKeyUsage>()?;
        Ok(usage.is_some_and(|(_, usage)| usage.0.contains(&purpose)))
    }

    /// The directory name of the subject alternative name, and whether the extension is critical.
    ///
    /// # Errors
    /// The extension is malformed.
    pub fn alternative_directory_name(&self) -> Result<Option<(bool, Name)>, CertificateError> {
        let Some((critical, names)) = self.parsed::<SubjectAltName>()? else {
            return Ok(None);
        };
        Ok(names.0.into_iter().find_map(|name| match name {
            GeneralName::DirectoryName(name) => Some((critical, name)),
            _ => None,
        }))
    }
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
            (String::new(), 0),
        ] {
            assert_eq!(from_pem(&text), vec![certificate.clone(); count], "{text}");
        }
    }
}
