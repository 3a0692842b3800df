//! What stands in the certificates.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use attestation::certificate;
use const_oid::AssociatedOid;
use const_oid::ObjectIdentifier;
use der::asn1::{Any, OctetString, SetOfVec, Utf8StringRef};
use der::{Decode, Encode, Sequence};
use spki::SubjectPublicKeyInfoRef;
use tcg_defs::oid;
use x509_cert::attr::{Attribute, AttributeTypeAndValue};
use x509_cert::builder::{Result, profile::BuilderProfile};
use x509_cert::certificate::TbsCertificate;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages,
    SubjectAltName, SubjectDirectoryAttributes, SubjectKeyIdentifier,
};
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};

/// TD quote, or TDREPORT, of a certified key.
pub const TD_QUOTE: ObjectIdentifier = ObjectIdentifier::new_unwrap(certificate::TD_QUOTE);

/// CC event log that goes with it.
pub const CC_EVENT_LOG: ObjectIdentifier = ObjectIdentifier::new_unwrap(certificate::CC_EVENT_LOG);

const TPM_MANUFACTURER: ObjectIdentifier = ObjectIdentifier::new_unwrap(oid::TPM_MANUFACTURER);
const TPM_MODEL: ObjectIdentifier = ObjectIdentifier::new_unwrap(oid::TPM_MODEL);
const TPM_VERSION: ObjectIdentifier = ObjectIdentifier::new_unwrap(oid::TPM_VERSION);
const TPM_SPECIFICATION: ObjectIdentifier = ObjectIdentifier::new_unwrap(oid::TPM_SPECIFICATION);
const EK_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap(oid::EK_CERTIFICATE);
const AIK_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap(oid::AIK_CERTIFICATE);

/// What the TPM says of itself (TPM2_GetCapability, TPM_CAP_TPM_PROPERTIES).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TpmIdentity {
    /// TPM_PT_MANUFACTURER.
    pub manufacturer: u32,
    /// TPM_PT_VENDOR_STRING_1 to _4, without what pads it.
    pub model: String,
    /// TPM_PT_FIRMWARE_VERSION_1.
    pub version: u32,
    /// TPM_PT_LEVEL.
    pub level: u32,
    /// TPM_PT_REVISION: 183 for 1.83.
    pub revision: u32,
}

/// What a certified key of the TPM is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyUse {
    /// An endorsement key that decrypts (RSA).
    EndorsementDecrypt,
    /// An endorsement key that agrees on a key (ECC).
    EndorsementAgree,
    /// An attestation key.
    Attest,
}

impl KeyUse {
    fn key_usage(self) -> KeyUsages {
        match self {
            Self::EndorsementDecrypt => KeyUsages::KeyEncipherment,
            Self::EndorsementAgree => KeyUsages::KeyAgreement,
            Self::Attest => KeyUsages::DigitalSignature,
        }
    }

    /// As the subject of its certificate has it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::EndorsementDecrypt | Self::EndorsementAgree => "EK",
            Self::Attest => "AK",
        }
    }

    fn extended_key_usage(self) -> ObjectIdentifier {
        match self {
            Self::EndorsementDecrypt | Self::EndorsementAgree => EK_CERTIFICATE,
            Self::Attest => AIK_CERTIFICATE,
        }
    }
}

/// A certificate of a key of the TPM.
pub(super) struct KeyProfile<'a> {
    pub(super) issuer: Name,
    pub(super) subject: Name,
    pub(super) key_use: KeyUse,
    pub(super) tpm: &'a TpmIdentity,
}

impl BuilderProfile for KeyProfile<'_> {
    fn get_issuer(&self, _subject: &Name) -> Name {
        self.issuer.clone()
    }

    /// Not empty, so that the subject alternative name, which names the TPM, is not critical (TCG EK Credential Profile
    /// 2.6, "Subject Alternative Name"; RFC 5280, section 4.2.1.6): Go's `crypto/x509` knows no directory name in it, and
    /// refuses what is critical and not known.
    fn get_subject(&self) -> Name {
        self.subject.clone()
    }

    fn build_extensions(
        &self,
        key: SubjectPublicKeyInfoRef<'_>,
        issuer_key: SubjectPublicKeyInfoRef<'_>,
        tbs: &TbsCertificate,
    ) -> Result<Vec<Extension>> {
        let mut extensions = Extensions::of(tbs);
        extensions.add(&BasicConstraints {
            ca: false,
            path_len_constraint: None,
        })?;
        extensions.add(&KeyUsage(self.key_use.key_usage().into()))?;
        extensions.add(&ExtendedKeyUsage(vec![self.key_use.extended_key_usage()]))?;
        let tpm = GeneralName::DirectoryName(self.tpm.directory_name()?);
        extensions.add(&SubjectAltName(vec![tpm]))?;
        if self.key_use != KeyUse::Attest {
            let specification = self.tpm.specification()?;
            extensions.add(&SubjectDirectoryAttributes(vec![specification]))?;
        }
        extensions.add(&AuthorityKeyIdentifier::try_from(issuer_key)?)?;
        extensions.add(&SubjectKeyIdentifier::try_from(key)?)?;
        Ok(extensions.list)
    }
}

/// The certificate of the authority itself.
pub(super) struct AuthorityProfile<'a> {
    pub(super) name: Name,
    pub(super) evidence: &'a [u8],
    pub(super) event_log: &'a [u8],
}

impl BuilderProfile for AuthorityProfile<'_> {
    fn get_issuer(&self, subject: &Name) -> Name {
        subject.clone()
    }

    fn get_subject(&self) -> Name {
        self.name.clone()
    }

    fn build_extensions(
        &self,
        key: SubjectPublicKeyInfoRef<'_>,
        issuer_key: SubjectPublicKeyInfoRef<'_>,
        tbs: &TbsCertificate,
    ) -> Result<Vec<Extension>> {
        let mut extensions = Extensions::of(tbs);
        extensions.add(&BasicConstraints {
            ca: true,
            path_len_constraint: Some(0),
        })?;
        extensions.add(&KeyUsage(KeyUsages::KeyCertSign.into()))?;
        extensions.add(&AuthorityKeyIdentifier::try_from(issuer_key)?)?;
        extensions.add(&SubjectKeyIdentifier::try_from(key)?)?;
        for (oid, content) in [(TD_QUOTE, self.evidence), (CC_EVENT_LOG, self.event_log)] {
            extensions.add((oid, false, &OctetString::new(content)?))?;
        }
        Ok(extensions.list)
    }
}

/// The extensions of one certificate, as far as they are known.
struct Extensions<'a> {
    subject: &'a Name,
    list: Vec<Extension>,
}

impl<'a> Extensions<'a> {
    fn of(tbs: &'a TbsCertificate) -> Self {
        Self {
            subject: tbs.subject(),
            list: Vec::new(),
        }
    }

    fn add<E: ToExtension<Error = der::Error>>(&mut self, extension: E) -> der::Result<()> {
        let extension = extension.to_extension(self.subject, &self.list)?;
        self.list.push(extension);
        Ok(())
    }
}

/// `TPMSpecification` of the EK Credential Profile.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
struct TpmSpecification<'a> {
    family: Utf8StringRef<'a>,
    level: u32,
    revision: u32,
}

impl AssociatedOid for TpmSpecification<'_> {
    const OID: ObjectIdentifier = TPM_SPECIFICATION;
}

impl TpmIdentity {
    /// TPMManufacturer, TPMModel, TPMVersion.
    fn directory_name(&self) -> der::Result<Name> {
        let mut name = RdnSequence::default();
        for (oid, value) in [
            (TPM_MANUFACTURER, format!("id:{:08X}", self.manufacturer)),
            (TPM_MODEL, self.model.clone()),
            (TPM_VERSION, format!("id:{:08X}", self.version)),
        ] {
            let mut part = RelativeDistinguishedName::default();
            part.insert(AttributeTypeAndValue {
                oid,
                value: Any::encode_from(&Utf8StringRef::new(&value)?)?,
            })?;
            name.push(part);
        }
        // What makes a `Name` of a sequence without this detour is for names that RFC 5280 forbids.
        Name::from_der(&name.to_der()?)
    }

    fn specification(&self) -> der::Result<Attribute> {
        let specification = TpmSpecification {
            family: Utf8StringRef::new("2.0")?,
            level: self.level,
            revision: self.revision,
        };
        let mut values = SetOfVec::new();
        values.insert(Any::encode_from(&specification)?)?;
        Ok(Attribute {
            oid: TpmSpecification::OID,
            values,
        })
    }
}
