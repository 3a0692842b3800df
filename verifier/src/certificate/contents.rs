//! What a certificate says in its extensions.

use super::CertificateError;
use x509_cert::{
    der::{
        Decode, Reader, SliceReader, Tag,
        asn1::OctetStringRef,
        oid::{AssociatedOid, ObjectIdentifier},
    },
    ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName, name::GeneralName},
    name::Name,
};

/// Most extensions of a certificate that is looked at: those of L1 have up to 7, Intel's up to 7.
pub const EXTENSIONS_LIMIT: usize = 32;
/// Largest extension of the kinds that are taken apart: usages, constraints, names.
pub const EXTENSION_LIMIT: usize = 4 << 10;

/// One extension.
#[derive(Clone, Copy, Debug)]
struct Extension<'a> {
    id: ObjectIdentifier,
    critical: bool,
    content: &'a [u8],
}

/// The extensions of a certificate whose signature was verified
/// ([`Certificate::open`](super::Certificate::open)).
#[derive(Clone, Debug, Default)]
pub struct Contents<'a> {
    extensions: Vec<Extension<'a>>,
}

impl<'a> Contents<'a> {
    /// From the DER of Extensions, whoever signed them: for those who have none that a signature would open.
    ///
    /// # Errors
    /// See [`CertificateError`].
    pub fn parse(der: &'a [u8]) -> Result<Contents<'a>, CertificateError> {
        let mut outer = SliceReader::new(der)?;
        let mut extensions: Vec<Extension<'a>> = Vec::new();
        outer.sequence(|reader| {
            while !reader.is_finished() {
                if extensions.len() == EXTENSIONS_LIMIT {
                    return Err(CertificateError::TooManyExtensions);
                }
                let extension: Extension<'a> = reader.sequence(extension)?;
                if extensions.iter().any(|other| other.id == extension.id) {
                    return Err(CertificateError::Duplicate(extension.id));
                }
                extensions.push(extension);
            }
            Ok(())
        })?;
        outer.finish()?;
        Ok(Contents { extensions })
    }

    /// The content of an extension, and whether it is critical.
    pub fn extension(&self, id: ObjectIdentifier) -> Option<(bool, &'a [u8])> {
        self.extensions
            .iter()
            .find(|extension| extension.id == id)
            .map(|extension| (extension.critical, extension.content))
    }

    /// Critical extensions that the checks of this crate do not read: with one, a certificate must be refused.
    pub fn unknown_critical(&self) -> Option<ObjectIdentifier> {
        let known = [
            BasicConstraints::OID,
            KeyUsage::OID,
            ExtendedKeyUsage::OID,
            SubjectAltName::OID,
        ];
        self.extensions
            .iter()
            .find(|extension| extension.critical && !known.contains(&extension.id))
            .map(|extension| extension.id)
    }

    fn parsed<T: AssociatedOid + Decode<'a>>(&self) -> Result<Option<(bool, T)>, CertificateError> {
        let malformed = || CertificateError::Extension(T::OID);
        match self.extension(T::OID) {
            None => Ok(None),
            Some((_, content)) if content.len() > EXTENSION_LIMIT => Err(malformed()),
            Some((critical, content)) => T::from_der(content)
                .map(|value| Some((critical, value)))
                .map_err(|_| malformed()),
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

/// The fields of an Extension.
fn extension<'a>(reader: &mut SliceReader<'a>) -> Result<Extension<'a>, CertificateError> {
    let id = ObjectIdentifier::decode(reader)?;
    let critical = match Tag::peek(reader)? {
        Tag::Boolean => bool::decode(reader)?,
        _ => false,
    };
    let content = <&OctetStringRef>::decode(reader)?.as_bytes();
    Ok(Extension {
        id,
        critical,
        content,
    })
}
