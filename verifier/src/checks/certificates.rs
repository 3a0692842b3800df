//! Certificates of the CA that L1 made at this boot: its own, and those of the EKs and the AK.

use super::{broken, same};
use crate::{
    certificate::{Certificate, CertificateError, Contents},
    check::{Checked, Finding},
    evidence::{Envelope, Evidence},
};
use attestation::{digest::sha384, journal::Start};
use tcg_defs::oid;
use x509_cert::{der::oid::ObjectIdentifier, name::Name};

const EK_PURPOSE: ObjectIdentifier = ObjectIdentifier::new_unwrap(oid::EK_CERTIFICATE);
const AK_PURPOSE: ObjectIdentifier = ObjectIdentifier::new_unwrap(oid::AIK_CERTIFICATE);
/// What the subject alternative name has of a TPM.
const TPM_ATTRIBUTES: [(&str, ObjectIdentifier); 3] = [
    (
        "TPMManufacturer",
        ObjectIdentifier::new_unwrap(oid::TPM_MANUFACTURER),
    ),
    ("TPMModel", ObjectIdentifier::new_unwrap(oid::TPM_MODEL)),
    ("TPMVersion", ObjectIdentifier::new_unwrap(oid::TPM_VERSION)),
];

/// The journal's `start`.
pub(super) fn start<'a>(evidence: &'a Evidence<'_>) -> Result<&'a Start, Finding> {
    let journal = evidence
        .journal
        .as_ref()
        .map_err(broken("the journal does not parse"))?;
    match journal.first() {
        Some(attestation::journal::Record::Start(start)) => Ok(start),
        _ => Err(broken("the journal does not begin with start")("no start")),
    }
}

/// A certificate that cannot be used.
fn unusable(error: &CertificateError, whose: &str) -> Finding {
    Finding::failed(
        format!("the {whose} certificate cannot be used"),
        "one X.509 certificate, DER",
        error.to_string(),
    )
}

fn parsed<'a, 'e>(envelope: &'a Envelope<'e>, whose: &str) -> Result<&'a Certificate<'e>, Finding> {
    let certificate = envelope.certificate();
    certificate.map_err(|error| unusable(error, whose))
}

pub(super) fn ca_of<'a, 'e>(evidence: &'a Evidence<'e>) -> Result<&'a Certificate<'e>, Finding> {
    parsed(&evidence.certificates.ca, "CA")
}

pub(super) fn ca(evidence: &Evidence<'_>) -> Checked {
    let ca = ca_of(evidence)?;
    let start = start(evidence)?;
    same(
        "the CA's key is not the one that the journal names: another CA than L1's issued these certificates",
        &start.ca[..],
        &sha384(ca.spki())[..],
    )?;
    let contents = ca_contents(evidence)?;
    let is_ca = contents
        .basic_constraints()
        .map_err(broken("the CA's certificate is malformed"))?
        .is_some_and(|(critical, constraints)| critical && constraints.ca);
    let may_sign = contents
        .key_usage()
        .map_err(broken("the CA's certificate is malformed"))?
        .is_some_and(|(_, usage)| usage.key_cert_sign());
    if !is_ca || !may_sign {
        return Err(Finding::failed(
            "the CA's certificate is not a CA's",
            "basic constraints cA, critical; key usage keyCertSign",
            format!("cA: {is_ca}, keyCertSign: {may_sign}"),
        ));
    }
    usable(ca, contents, "CA", evidence.now)?;
    Ok(Finding::passed(
        "the CA's certificate is signed with its own key, and the journal names this key",
        ca.subject(),
    ))
}

/// What the CA says in its certificate, once its signature is verified.
pub(super) fn ca_contents<'a, 'e>(evidence: &'a Evidence<'e>) -> Result<&'a Contents<'e>, Finding> {
    let ca = ca_of(evidence)?;
    let contents = evidence.certificates.ca.open(ca);
    contents.map_err(|error| match error {
        CertificateError::NotSigned => Finding::failed(
            "the CA's certificate is not signed with its own key: it was changed after L1 made it",
            "a valid self-signature",
            format!("subject {}, issuer {}", ca.subject(), ca.issuer()),
        ),
        error => unusable(error, "CA"),
    })
}

/// What holds for every certificate here.
fn usable(
    certificate: &Certificate<'_>,
    contents: &Contents<'_>,
    whose: &str,
    now: u64,
) -> Result<(), Finding> {
    if let Some(extension) = contents.unknown_critical() {
        return Err(Finding::failed(
            format!("the {whose} certificate has a critical extension that is not known"),
            "none",
            extension.to_string(),
        ));
    }
    if !certificate.is_valid_at(now) {
        return Err(Finding::failed(
            format!("the {whose} certificate is not valid at the time of verification"),
            now.to_string(),
            "outside its validity",
        ));
    }
    Ok(())
}

/// What all certificates of keys have: the CA's signature, no CA of their own, one purpose, and the TPM's name.
fn of_key<'a, 'e>(
    evidence: &'a Evidence<'e>,
    envelope: &'a Envelope<'e>,
    whose: &str,
    purpose: ObjectIdentifier,
) -> Result<(&'a Certificate<'e>, &'a Contents<'e>), Finding> {
    let certificate = parsed(envelope, whose)?;
    let ca = ca_of(evidence)?;
    let contents = envelope.open(ca).map_err(|error| match error {
        CertificateError::NotSigned => Finding::failed(
            format!("the {whose} certificate is not signed by the CA of this TD"),
            ca.subject(),
            certificate.issuer(),
        ),
        error => unusable(error, whose),
    })?;
    let malformed = || broken("a certificate is malformed");
    let is_ca = contents
        .basic_constraints()
        .map_err(malformed())?
        .is_some_and(|(_, constraints)| constraints.ca);
    if is_ca {
        return Err(Finding::failed(
            format!("the {whose} certificate is a CA's"),
            "not a CA",
            "a CA",
        ));
    }
    if !contents.has_purpose(purpose).map_err(malformed())? {
        return Err(Finding::failed(
            format!("the {whose} certificate is for another purpose"),
            format!("extended key usage {purpose}"),
            "without it",
        ));
    }
    let Some((critical, name)) = contents.alternative_directory_name().map_err(malformed())? else {
        return Err(Finding::failed(
            format!("the {whose} certificate does not name the TPM"),
            "subject alternative name with a directory name",
            "none",
        ));
    };
    if certificate.subject_is_empty() && !critical {
        return Err(Finding::failed(
            format!(
                "the {whose} certificate has neither a subject nor a critical alternative name"
            ),
            "critical subject alternative name",
            "not critical",
        ));
    }
    for (attribute, id) in TPM_ATTRIBUTES {
        if !has_attribute(&name, id) {
            return Err(Finding::failed(
                format!("the {whose} certificate does not say what TPM it is of"),
                attribute,
                name.to_string(),
            ));
        }
    }
    usable(certificate, contents, whose, evidence.now)?;
    Ok((certificate, contents))
}

fn has_attribute(name: &Name, id: ObjectIdentifier) -> bool {
    name.iter().any(|attribute| attribute.oid == id)
}

/// Whose the EK certificates are, in their order.
const EKS: [&str; 3] = ["RSA EK", "P-256 EK", "P-384 EK"];

/// The EK certificates: RSA-2048, P-256, P-384.
pub(super) fn ek_certificates<'a, 'e>(
    evidence: &'a Evidence<'e>,
) -> Result<[(&'static str, &'a Certificate<'e>); 3], Finding> {
    let [rsa, p256, p384] = &evidence.certificates.eks;
    let [rsa_ek, p256_ek, p384_ek] = EKS;
    Ok([
        (rsa_ek, parsed(rsa, rsa_ek)?),
        (p256_ek, parsed(p256, p256_ek)?),
        (p384_ek, parsed(p384, p384_ek)?),
    ])
}

pub(super) fn eks(evidence: &Evidence<'_>) -> Checked {
    for (whose, envelope) in EKS.into_iter().zip(&evidence.certificates.eks) {
        let (certificate, contents) = of_key(evidence, envelope, whose, EK_PURPOSE)?;
        let usage = contents
            .key_usage()
            .map_err(broken("an EK certificate is malformed"))?
            .map(|(_, usage)| usage);
        let (fits, expected) = match certificate.key().kind() {
            "RSA" => (
                usage.is_some_and(|usage| usage.key_encipherment()),
                "keyEncipherment",
            ),
            _ => (
                usage.is_some_and(|usage| usage.key_agreement()),
                "keyAgreement",
            ),
        };
        if !fits || usage.is_some_and(|usage| usage.digital_signature()) {
            return Err(Finding::failed(
                format!("the {whose} certificate is for another use of the key"),
                format!("key usage {expected}"),
                "another",
            ));
        }
    }
    Ok(Finding::passed(
        "the CA of this TD signed the three EK certificates, and they have the profile of the TCG",
        "RSA, P-256, P-384",
    ))
}

pub(super) fn ak_certificate<'a, 'e>(
    evidence: &'a Evidence<'e>,
) -> Result<&'a Certificate<'e>, Finding> {
    parsed(&evidence.certificates.ak, "AK")
}

pub(super) fn ak(evidence: &Evidence<'_>) -> Checked {
    let (certificate, contents) = of_key(evidence, &evidence.certificates.ak, "AK", AK_PURPOSE)?;
    let signs = contents
        .key_usage()
        .map_err(broken("the AK certificate is malformed"))?
        .is_some_and(|(_, usage)| usage.digital_signature());
    if !signs {
        return Err(Finding::failed(
            "the AK certificate is for another use of the key",
            "key usage digitalSignature",
            "another",
        ));
    }
    Ok(Finding::passed(
        "the CA of this TD signed the AK certificate",
        certificate.key().to_string(),
    ))
}
