//! Lies about the CA of L1 and the certificates of the TPM's keys.

use attestation::bundle::Binary;
use der::asn1::{BitString, ObjectIdentifier, OctetString};
use der::{Decode, Encode, Reader, SliceReader};
use evidence::{Boot, QuotingHost, Service};
use p384::ecdsa::signature::Signer;
use p384::ecdsa::{DerSignature, SigningKey};
use quoting::QuotingEnclave;
use quoting::pki::{Options, Pki};
use verifier::Id;
use vtpm::identity::TD_QUOTE;

use crate::subjects::{HONEST, TWIN};
use crate::{Lie, OtherBoot, assert_refused, assert_seen, judge};

/// The elements that a constructed value has (X.690, 8.1).
fn elements(value: &[u8]) -> Vec<Vec<u8>> {
    let header = match value[1] {
        0x82 => 4,
        0x81 => 3,
        _ => 2,
    };
    let mut reader = SliceReader::new(&value[header..]).expect("DER");
    let mut elements = Vec::new();
    while !reader.is_finished() {
        elements.push(reader.tlv_bytes().expect("an element").to_vec());
    }
    elements
}

/// A constructed value of elements, with a tag.
fn constructed(tag: u8, elements: &[Vec<u8>]) -> Vec<u8> {
    let content = elements.concat();
    let length = u16::try_from(content.len()).expect("less than 64 KiB");
    let header = match length {
        0..0x80 => vec![tag, length as u8],
        0x80..0x100 => vec![tag, 0x81, length as u8],
        _ => [&[tag, 0x82][..], &length.to_be_bytes()].concat(),
    };
    [header, content].concat()
}

const SEQUENCE: u8 = 0x30;
/// `extensions [3]` of a TBSCertificate (RFC 5280, 4.1).
const EXTENSIONS: u8 = 0xA3;

/// Signs a certificate anew, with a key of the attacker's.
fn sign_again(certificate: &mut Binary) {
    sign(certificate, &[7; 48]);
}

fn sign(certificate: &mut Binary, key: &[u8; 48]) {
    let key = SigningKey::from_slice(key).expect("a scalar");
    let mut parts = elements(&certificate.0);
    let signature: DerSignature = key.sign(&parts[0]);
    let signature = BitString::from_bytes(signature.as_bytes()).expect("short");
    parts[2] = signature.to_der().expect("DER");
    certificate.0 = constructed(SEQUENCE, &parts);
    x509_cert::Certificate::from_der(&certificate.0).expect("still a certificate");
}

/// Adds an extension, and leaves the signature as it is.
fn add_extension(certificate: &mut Binary, critical: bool) {
    let mut identifier = ObjectIdentifier::new_unwrap("1.2.3.4")
        .to_der()
        .expect("DER");
    if critical {
        identifier.extend(true.to_der().expect("DER"));
    }
    let content = OctetString::new(*b"trust me").expect("short");
    let extension = constructed(SEQUENCE, &[identifier, content.to_der().expect("DER")]);
    edit_extensions(certificate, |extensions| extensions.push(extension));
}

/// Edits the extensions, each a SEQUENCE, and leaves the signature as it is.
fn edit_extensions(certificate: &mut Binary, edit: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let mut parts = elements(&certificate.0);
    let mut fields = elements(&parts[0]);
    let last = fields.last_mut().expect("extensions come last");
    let mut list = elements(&elements(last)[0]);
    edit(&mut list);
    *last = constructed(EXTENSIONS, &[constructed(SEQUENCE, &list)]);
    parts[0] = constructed(SEQUENCE, &fields);
    certificate.0 = constructed(SEQUENCE, &parts);
    x509_cert::Certificate::from_der(&certificate.0).expect("still a certificate");
}

/// The place of the extension that has `id`, and the extension.
fn extension(certificate: &Binary, id: ObjectIdentifier) -> (usize, Vec<u8>) {
    let id = id.to_der().expect("DER");
    let mut found = None;
    edit_extensions(&mut certificate.clone(), |extensions| {
        let mut numbered = extensions.iter().enumerate();
        found = numbered
            .find(|(_, extension)| elements(extension)[0] == id)
            .map(|(index, extension)| (index, extension.clone()));
    });
    found.expect("the certificate has it")
}

fn flip_last(bytes: &mut Binary) {
    *bytes.0.last_mut().expect("not empty") ^= 1;
}

/// Changes one byte of the only place where `part` is in a certificate.
fn edit(certificate: &mut Binary, part: &[u8]) {
    let mut windows = certificate.0.windows(part.len());
    let place = windows
        .position(|window| window == part)
        .expect("it is there");
    certificate.0[place] ^= 1;
}

#[test]
fn of_the_ca() {
    assert_seen(
        &HONEST,
        &[
            Lie {
                name: "a bit of the signature",
                breaks: Id::CaCertificate,
                tell: |lie| flip_last(&mut lie.bundle.ca_certificate),
            },
            Lie {
                name: "signed by the attacker's CA",
                breaks: Id::CaCertificate,
                tell: |lie| sign_again(&mut lie.bundle.ca_certificate),
            },
            Lie {
                name: "the event log in it edited",
                breaks: Id::CaCertificate,
                tell: |lie| edit(&mut lie.bundle.ca_certificate, b"kernel_cmdline"),
            },
            Lie {
                name: "an extension added, not critical",
                breaks: Id::CaCertificate,
                tell: |lie| add_extension(&mut lie.bundle.ca_certificate, false),
            },
            Lie {
                name: "a critical extension added, and signed by the attacker",
                breaks: Id::CaCertificate,
                tell: |lie| {
                    add_extension(&mut lie.bundle.ca_certificate, true);
                    sign_again(&mut lie.bundle.ca_certificate);
                },
            },
            Lie {
                name: "something behind it",
                breaks: Id::CaCertificate,
                tell: |lie| lie.bundle.ca_certificate.0.push(0),
            },
            Lie {
                name: "an EK certificate in its place",
                breaks: Id::CaCertificate,
                tell: |lie| lie.bundle.ca_certificate = lie.bundle.ek_certificates[1].clone(),
            },
        ],
    );
}

#[test]
fn of_the_eks() {
    assert_seen(
        &HONEST,
        &[
            Lie {
                name: "a bit of the signature",
                breaks: Id::EkCertificates,
                tell: |lie| flip_last(&mut lie.bundle.ek_certificates[0]),
            },
            Lie {
                name: "signed by the attacker's CA",
                breaks: Id::EkCertificates,
                tell: |lie| sign_again(&mut lie.bundle.ek_certificates[1]),
            },
            Lie {
                name: "an extension added",
                breaks: Id::EkCertificates,
                tell: |lie| add_extension(&mut lie.bundle.ek_certificates[0], false),
            },
            Lie {
                name: "for two keys in each other's place",
                breaks: Id::EkNames,
                tell: |lie| lie.bundle.ek_certificates.swap(1, 2),
            },
            Lie {
                name: "one three times",
                breaks: Id::EkNames,
                tell: |lie| {
                    let [rsa, ..] = lie.bundle.ek_certificates.clone();
                    lie.bundle.ek_certificates = [rsa.clone(), rsa.clone(), rsa];
                },
            },
            Lie {
                name: "the AK's in an EK's place",
                breaks: Id::EkCertificates,
                tell: |lie| lie.bundle.ek_certificates[0] = lie.bundle.ak_certificate.clone(),
            },
            Lie {
                name: "the CA's in an EK's place",
                breaks: Id::EkCertificates,
                tell: |lie| lie.bundle.ek_certificates[2] = lie.bundle.ca_certificate.clone(),
            },
            Lie {
                name: "something behind it",
                breaks: Id::EkCertificates,
                tell: |lie| lie.bundle.ek_certificates[2].0.push(0xFF),
            },
            Lie {
                name: "the AK said to be the EK",
                breaks: Id::EkNames,
                tell: |lie| lie.bundle.ek_public = Some(lie.bundle.ak_public.clone()),
            },
        ],
    );
}

#[test]
fn of_the_ak() {
    assert_seen(
        &HONEST,
        &[
            Lie {
                name: "a bit of the signature",
                breaks: Id::AkCertificate,
                tell: |lie| flip_last(&mut lie.bundle.ak_certificate),
            },
            Lie {
                name: "signed by the attacker's CA",
                breaks: Id::AkCertificate,
                tell: |lie| sign_again(&mut lie.bundle.ak_certificate),
            },
            Lie {
                name: "an EK's in its place",
                breaks: Id::AkCertificate,
                tell: |lie| lie.bundle.ak_certificate = lie.bundle.ek_certificates[0].clone(),
            },
        ],
    );
}

/// An L1 that gives the key of its CA away: what the certificate says is then anybody's, but not what is quoted.
#[test]
fn a_quote_of_another_ca() {
    let boot = Boot::default();
    let mut machine = boot.start();
    let nonce: Vec<u8> = (1..=32).collect();
    let bundle = machine.collect(&nonce);
    let key = machine.authority_key();
    drop(machine);
    let mut evidence = boot.judged(bundle, nonce);
    sign(&mut evidence.bundle.ca_certificate, &key);
    assert!(evidence.verify().is_trusted());
    let (place, own) = extension(&evidence.bundle.ca_certificate, TD_QUOTE);
    let (_, others) = extension(&TWIN.bundle.ca_certificate, TD_QUOTE);
    assert_ne!(own, others);
    let certificate = &mut evidence.bundle.ca_certificate;
    edit_extensions(certificate, |extensions| extensions[place] = others);
    sign(certificate, &key);
    assert_eq!(judge("", Id::CaQuote, &evidence), None);
    let report = evidence.verify();
    let failure = report.first_failure().expect("it fails");
    assert!(failure.sentence.contains("another key"), "{failure:?}");
}

/// The host answers L1's request for its CA with what only a relying party can tell from a quote.
#[test]
fn a_quote_of_the_ca_that_no_platform_made() {
    fn authority(boot: &mut Boot, enclave: QuotingEnclave) {
        boot.host = QuotingHost {
            authority: Service::Enclave(Box::new(enclave)),
            ..QuotingHost::default()
        };
    }
    assert_refused(&[
        OtherBoot {
            name: "a quoting enclave of another root",
            breaks: Id::CaQuote,
            boot: |boot| {
                let options = Options {
                    keys: "another root: ".into(),
                    ..Options::default()
                };
                let pki = Pki::new(&options).expect("certificates");
                authority(boot, pki.quoting_enclave().expect("an enclave"));
            },
            act: |_| {},
        },
        OtherBoot {
            name: "a quoting enclave that is out of date",
            breaks: Id::CaQuoteTcb,
            boot: |boot| {
                let mut enclave = QuotingEnclave::default();
                enclave.identity.isvsvn = [0; 2];
                authority(boot, enclave);
            },
            act: |_| {},
        },
        OtherBoot {
            name: "a quote that the host signed itself",
            breaks: Id::CaQuote,
            boot: |boot| {
                let enclave = QuotingEnclave {
                    pck: quoting::TestKey::named("a key of the host's"),
                    ..QuotingEnclave::default()
                };
                authority(boot, enclave);
            },
            act: |_| {},
        },
    ]);
}
