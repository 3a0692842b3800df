//! The CA of the TD, and the certificates that it issues.

use rsa::pkcs8::EncodePublicKey;
use std::str::FromStr;
use x509_cert::{
    builder::{Builder, CertificateBuilder, profile::BuilderProfile},
    certificate::TbsCertificate,
    der::{
        Decode, Encode,
        asn1::{Any, OctetString, Utf8StringRef},
        oid::{AssociatedOid, ObjectIdentifier},
    },
    ext::{
        Extension,
        pkix::{
            BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName,
            name::GeneralName,
        },
    },
    name::Name,
    serial_number::SerialNumber,
    spki::{SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef},
    time::{Time, Validity},
};

/// Event log and quote in the CA's certificate.
const TD_QUOTE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.113741.1.5.5.4.2");
const CC_EVENT_LOG: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.113741.1.5.5.4.3");

/// The CA of the TD.
pub(crate) struct Authority(pub(crate) p384::ecdsa::SigningKey);

struct Profile {
    issuer: Name,
    subject: Name,
    extensions: Vec<Extension>,
}

impl BuilderProfile for Profile {
    fn get_issuer(&self, _subject: &Name) -> Name {
        self.issuer.clone()
    }

    fn get_subject(&self) -> Name {
        self.subject.clone()
    }

    fn build_extensions(
        &self,
        _key: SubjectPublicKeyInfoRef<'_>,
        _issuer_key: SubjectPublicKeyInfoRef<'_>,
        _tbs: &TbsCertificate,
    ) -> x509_cert::builder::Result<Vec<Extension>> {
        Ok(self.extensions.clone())
    }
}

fn extension(id: ObjectIdentifier, critical: bool, value: &impl Encode) -> Extension {
    Extension {
        extn_id: id,
        critical,
        extn_value: OctetString::new(value.to_der().unwrap()).unwrap(),
    }
}

impl Authority {
    pub(crate) fn spki(&self) -> Vec<u8> {
        self.0
            .verifying_key()
            .to_public_key_der()
            .unwrap()
            .into_vec()
    }

    fn name(&self) -> Name {
        Name::from_str("CN=TDP vTPM CA").unwrap()
    }

    fn build(&self, profile: Profile, spki: &[u8]) -> Vec<u8> {
        let validity = Validity::new(
            Time::try_from(std::time::UNIX_EPOCH).unwrap(),
            Time::INFINITY,
        );
        let serial = SerialNumber::new(&[1]).unwrap();
        let spki = SubjectPublicKeyInfoOwned::from_der(spki).unwrap();
        let builder = CertificateBuilder::new(profile, serial, validity, spki).unwrap();
        let certificate = builder.build::<_, p384::ecdsa::DerSignature>(&self.0);
        certificate.unwrap().to_der().unwrap()
    }

    /// Its own certificate.
    pub(crate) fn own(&self, quote: &[u8], log: &[u8]) -> Vec<u8> {
        let constraints = BasicConstraints {
            ca: true,
            path_len_constraint: Some(0),
        };
        let octets = |bytes: &[u8]| OctetString::new(bytes).unwrap();
        let profile = Profile {
            issuer: self.name(),
            subject: self.name(),
            extensions: vec![
                extension(BasicConstraints::OID, true, &constraints),
                extension(
                    KeyUsage::OID,
                    true,
                    &KeyUsage(KeyUsages::KeyCertSign.into()),
                ),
                extension(TD_QUOTE, false, &octets(quote)),
                extension(CC_EVENT_LOG, false, &octets(log)),
            ],
        };
        self.build(profile, &self.spki())
    }

    /// A certificate of a key of the TPM.
    pub(crate) fn certify(
        &self,
        spki: &[u8],
        usage: KeyUsages,
        purpose: ObjectIdentifier,
    ) -> Vec<u8> {
        let profile = Profile {
            issuer: self.name(),
            subject: Name::default(),
            extensions: vec![
                extension(KeyUsage::OID, true, &KeyUsage(usage.into())),
                extension(
                    ExtendedKeyUsage::OID,
                    false,
                    &ExtendedKeyUsage(vec![purpose]),
                ),
                extension(
                    SubjectAltName::OID,
                    true,
                    &SubjectAltName(vec![GeneralName::DirectoryName(tpm_name())]),
                ),
            ],
        };
        self.build(profile, spki)
    }
}

/// TPMManufacturer, TPMModel and TPMVersion.
fn tpm_name() -> Name {
    use x509_cert::{attr::AttributeTypeAndValue, name::RelativeDistinguishedName};
    let parts: Vec<_> = ["2.23.133.2.1", "2.23.133.2.2", "2.23.133.2.3"]
        .map(|oid| {
            let mut part = RelativeDistinguishedName::default();
            part.insert(AttributeTypeAndValue {
                oid: ObjectIdentifier::new_unwrap(oid),
                value: Any::encode_from(&Utf8StringRef::new("id:00000001").unwrap()).unwrap(),
            })
            .unwrap();
            part
        })
        .into();
    Name::from_der(&parts.to_der().unwrap()).unwrap()
}
