//! Lies about the CA of L1 and the certificates of the TPM's keys.

use attestation::bundle::Binary;
use der::{Decode, Encode, Reader, SliceReader, asn1::BitString};
use evidence::{Boot, QuotingHost, Service};
use p384::ecdsa::signature::Signer;
use p384::ecdsa::{DerSignature, SigningKey};
use quoting::QuotingEnclave;
use quoting::pki::{Options, Pki};
use verifier::Id;

use crate::subjects::HONEST;
use crate::{Lie, OtherBoot, assert_refused, assert_seen};

/// Signs a certificate anew, with a key of the attacker's.
fn sign_again(certificate: &mut Binary) {
    let key = SigningKey::from_slice(&[7; 48]).expect("a scalar");
    let mut reader = SliceReader::new(&certificate.0).expect("DER");
    let (signed, algorithm) = reader
        .sequence(|reader| {
            let signed = reader.tlv_bytes()?.to_vec();
            let algorithm = reader.tlv_bytes()?.to_vec();
            reader.tlv_bytes()?;
            Ok::<_, der::Error>((signed, algorithm))
        })
        .expect("a certificate");
    let signature: DerSignature = key.sign(&signed);
    let signature = BitString::from_bytes(signature.as_bytes()).expect("short");
    let content = [signed, algorithm, signature.to_der().expect("DER")].concat();
    let length = u16::try_from(content.len()).expect("less than 64 KiB");
    certificate.0 = [&[0x30, 0x82][..], &length.to_be_bytes(), &content].concat();
    x509_cert::Certificate::from_der(&certificate.0).expect("still a certificate");
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
