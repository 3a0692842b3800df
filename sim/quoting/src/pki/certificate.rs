//! Certificates with the extensions of Intel's (Intel SGX PCK Certificate and Certificate Revocation
//! List Profile Specification).

use std::str::FromStr;
use std::time::Duration;
use std::vec::Vec;

use der::DateTime;
use der::asn1::{GeneralizedTime, UtcTime};
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder, CertificateBuilder, Error};
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, KeyUsage, KeyUsages, SubjectKeyIdentifier,
};
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef};
use x509_cert::time::{Time, Validity};
use x509_cert::{Certificate, TbsCertificate};

use super::{ISSUED, sgx_extension};
use crate::key::TestKey;

/// The first year that UTCTime has no room for.
const GENERALIZED_FROM: u16 = 2050;

/// A date as RFC 5280 wants it, from seconds of Unix time.
pub(super) fn time(seconds: u64) -> der::Result<Time> {
    let date = DateTime::from_unix_duration(Duration::from_secs(seconds))?;
    Ok(if date.year() < GENERALIZED_FROM {
        Time::UtcTime(UtcTime::from_date_time(date)?)
    } else {
        Time::GeneralTime(GeneralizedTime::from_date_time(date))
    })
}

/// A certificate's place in the hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// SGX Root CA.
    Root,
    /// SGX PCK Platform CA.
    PlatformCa,
    /// SGX PCK certificate.
    Pck,
    /// SGX TCB Signing.
    TcbSigning,
}

impl Role {
    /// A certificate in this role.
    pub(super) fn certificate(
        self,
        key: &TestKey,
        issuer: &TestKey,
        expires: u64,
    ) -> Result<Certificate, Error> {
        let public = key.signing_key().verifying_key();
        let builder = CertificateBuilder::new(
            Profile(self),
            SerialNumber::from(self as u32 + 1),
            Validity::new(time(ISSUED)?, time(expires)?),
            SubjectPublicKeyInfoOwned::from_key(public)?,
        )?;
        builder.build::<_, p256::ecdsa::DerSignature>(issuer.signing_key())
    }

    fn name(self) -> Name {
        let common_name = match self {
            Role::Root => "SGX Root CA",
            Role::PlatformCa => "SGX PCK Platform CA",
            Role::Pck => "SGX PCK Certificate",
            Role::TcbSigning => "SGX TCB Signing",
        };
        let name = std::format!("CN=TEST ONLY {common_name},O=tdp-vtpm tests");
        Name::from_str(&name).expect("the text is a name")
    }

    fn issuer(self) -> Role {
        match self {
            Role::Root | Role::PlatformCa | Role::TcbSigning => Role::Root,
            Role::Pck => Role::PlatformCa,
        }
    }

    /// How many CA certificates may follow; `None` for a certificate of no CA.
    fn path_length(self) -> Option<u8> {
        match self {
            Role::Root => Some(1),
            Role::PlatformCa => Some(0),
            Role::Pck | Role::TcbSigning => None,
        }
    }
}

struct Profile(Role);

impl BuilderProfile for Profile {
    fn get_issuer(&self, _: &Name) -> Name {
        self.0.issuer().name()
    }

    fn get_subject(&self) -> Name {
        self.0.name()
    }

    fn build_extensions(
        &self,
        public: SubjectPublicKeyInfoRef<'_>,
        issuer: SubjectPublicKeyInfoRef<'_>,
        tbs: &TbsCertificate,
    ) -> Result<Vec<Extension>, Error> {
        let path_length = self.0.path_length();
        let usage = match path_length {
            Some(_) => KeyUsages::KeyCertSign | KeyUsages::CRLSign,
            None => KeyUsages::DigitalSignature | KeyUsages::NonRepudiation,
        };
        let issuer_identifier = AuthorityKeyIdentifier {
            key_identifier: Some(SubjectKeyIdentifier::try_from(issuer)?.0),
            ..AuthorityKeyIdentifier::default()
        };
        let constraints = BasicConstraints {
            ca: path_length.is_some(),
            path_len_constraint: path_length,
        };
        let subject = &tbs.subject().clone();
        let mut extensions = Vec::from([
            issuer_identifier.to_extension(subject, &[])?,
            SubjectKeyIdentifier::try_from(public)?.to_extension(subject, &[])?,
            KeyUsage(usage).to_extension(subject, &[])?,
            constraints.to_extension(subject, &[])?,
        ]);
        if self.0 == Role::Pck {
            extensions.push(sgx_extension::of_platform()?);
        }
        Ok(extensions)
    }
}
