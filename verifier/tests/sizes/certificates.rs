//! Certificates, revocation lists, and the collateral that they sign.

use crate::{HONEST, linear};
use evidence::Evidence;
use p256::ecdsa::{SigningKey, signature::Signer};
use verifier::{
    Id,
    certificate::{Certificate, CertificateError, Contents, crl_issuer, from_pem},
    collateral::Signed,
};
/// A value in DER, with its header.
pub(crate) fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    let header = match content.len() {
        0..0x80 => vec![tag, length[3]],
        _ => [&[tag, 0x84][..], &length].concat(),
    };
    [minimal(header), content.to_vec()].concat()
}

/// DER's lengths have no zeros in front.
fn minimal(header: Vec<u8>) -> Vec<u8> {
    let [tag, 0x84, length @ ..] = &header[..] else {
        return header;
    };
    let zeros = length.iter().take_while(|byte| **byte == 0).count();
    [&[*tag, 0x84 - zeros as u8][..], &length[zeros..]].concat()
}

pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// An object identifier of its own for each number: 1.2 and two arcs.
pub(crate) fn identifier(number: usize) -> Vec<u8> {
    let arcs = [number >> 14 & 0x7F, number >> 7 & 0x7F, number & 0x7F];
    let [high, middle, low] = arcs.map(|arc| arc as u8);
    der(6, &[0x2A, 0x81, 0x80 | high, 0x80 | middle, low])
}

pub(crate) fn extensions(count: usize) -> Vec<u8> {
    let one = |number| der(SEQUENCE, &[identifier(number), der(4, b"x")].concat());
    der(SEQUENCE, &(0..count).flat_map(one).collect::<Vec<_>>())
}

/// A name with so many attributes in one set, in the order that takes sorting longest.
pub(crate) fn name(attributes: usize) -> Vec<u8> {
    let one = |number| {
        let value = der(0x0C, format!("{:08}", attributes - number).as_bytes());
        der(SEQUENCE, &[identifier(number), value].concat())
    };
    let set = der(SET, &(0..attributes).flat_map(one).collect::<Vec<_>>());
    der(SEQUENCE, &set)
}

/// A certificate that signs itself.
pub(crate) fn certificate(name: &[u8], spki_padding: usize, extensions: &[u8]) -> Vec<u8> {
    let key = SigningKey::from_slice(&[5; 32]).unwrap();
    // id-ecPublicKey, prime256v1; ecdsa-with-SHA256.
    let algorithm = [
        der(6, &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 2, 1]),
        der(6, &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 3, 1, 7]),
    ];
    let signature_algorithm = der(SEQUENCE, &der(6, &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 2]));
    let point = key.verifying_key().to_sec1_point(false);
    let point = [&[0][..], point.as_bytes(), &vec![0; spki_padding]].concat();
    let spki = [der(SEQUENCE, &algorithm.concat()), der(3, &point)].concat();
    let validity = [b"700101000000Z", b"491231235959Z"].map(|time| der(0x17, time));
    let signed = der(
        SEQUENCE,
        &[
            der(0xA0, &der(2, &[2])),
            der(2, &[1]),
            signature_algorithm.clone(),
            name.to_vec(),
            der(SEQUENCE, &validity.concat()),
            name.to_vec(),
            der(SEQUENCE, &spki),
            der(0xA3, extensions),
        ]
        .concat(),
    );
    let signature: p256::ecdsa::DerSignature = key.sign(&signed);
    let signature = der(3, &[&[0][..], signature.as_bytes()].concat());
    der(SEQUENCE, &[signed, signature_algorithm, signature].concat())
}

#[test]
fn extensions_of_a_certificate() {
    let few = certificate(&name(1), 0, &extensions(3));
    let few = Certificate::parse(&few).unwrap();
    assert!(few.open(&few).is_ok());
    linear(
        "extensions, signed",
        30_000,
        |count| certificate(&name(1), 0, &extensions(count)),
        |der| {
            let certificate = Certificate::parse(der).unwrap();
            let opened = certificate.open(&certificate);
            assert_eq!(opened.unwrap_err(), CertificateError::TooManyExtensions);
        },
    );
    // The one that took 68 s.
    let mut evidence = HONEST.clone();
    evidence.bundle.ca_certificate.0 = certificate(&name(1), 0, &extensions(110_000));
    let failures: Vec<Id> = evidence.verify().failures().collect();
    assert!(failures.contains(&Id::CaCertificate), "{failures:?}");
}

#[test]
fn names_keys_and_purposes_of_a_certificate() {
    linear(
        "attributes of a name",
        5_000,
        |count| certificate(&name(count), 0, &extensions(1)),
        |der| assert!(Certificate::parse(der).is_err()),
    );
    linear(
        "bytes of a key",
        100_000,
        |count| certificate(&name(1), count, &extensions(1)),
        |der| assert!(Certificate::parse(der).is_err()),
    );
    let san = der(6, &[0x55, 0x1D, 0x11]);
    let extended_key_usage = der(6, &[0x55, 0x1D, 0x25]);
    let with = |id: &[u8], content: Vec<u8>| {
        let extension = der(SEQUENCE, &[id, &der(4, &content)].concat());
        der(SEQUENCE, &extension)
    };
    linear(
        "alternative names",
        20_000,
        |count| with(&san, der(SEQUENCE, &der(0x82, b"a").repeat(count))),
        |der| {
            let contents = Contents::parse(der).unwrap();
            assert!(contents.alternative_directory_name().is_err());
        },
    );
    linear(
        "attributes of an alternative name",
        5_000,
        |count| with(&san, der(SEQUENCE, &der(0xA4, &name(count)))),
        |der| {
            let contents = Contents::parse(der).unwrap();
            assert!(contents.alternative_directory_name().is_err());
        },
    );
    linear(
        "purposes",
        20_000,
        |count| {
            let purposes: Vec<u8> = (0..count).flat_map(identifier).collect();
            with(&extended_key_usage, der(SEQUENCE, &purposes))
        },
        |der| {
            let contents = Contents::parse(der).unwrap();
            assert!(contents.has_purpose("1.2.3".parse().unwrap()).is_err());
        },
    );
}

#[test]
fn certificates_of_a_chain_and_entries_of_a_crl() {
    let pem = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";
    linear(
        "certificates of a PEM text",
        10_000,
        |count| pem.repeat(count),
        |text| drop(from_pem(text)),
    );
    linear(
        "what is no certificate in a PEM text",
        20_000,
        |count| "-----BEGIN CERTIFICATE----\n".repeat(count),
        |text| drop(from_pem(text)),
    );
    let authority = name(1);
    linear(
        "entries of a CRL",
        20_000,
        |count| {
            let entry = [der(2, &[1]), der(0x17, b"700101000000Z")].concat();
            let signed = [
                der(2, &[1]),
                der(SEQUENCE, &identifier(1)),
                authority.clone(),
                der(0x17, b"700101000000Z"),
                der(SEQUENCE, &der(SEQUENCE, &entry).repeat(count)),
            ];
            der(SEQUENCE, &der(SEQUENCE, &signed.concat()))
        },
        |crl| assert_eq!(crl_issuer(crl), Some(authority.as_slice())),
    );
}

#[test]
fn lists_of_the_collateral() {
    let advisories = |count: usize| -> String {
        let advisories: Vec<String> = (0..count)
            .map(|number| format!("\"INTEL-SA-{number:05}\""))
            .collect();
        advisories.join(",")
    };
    let with = |list: &str, entries: String| {
        let mut evidence = HONEST.clone();
        let info: &mut Signed = &mut evidence.collateral.tcb_infos[0];
        // Behind the lists of the TDX module's identities, which have the same name.
        let start = format!("\"{list}\":[");
        let at = info.body.rfind(&start).expect("the list is there") + start.len();
        info.body.insert_str(at, &entries);
        evidence
    };
    let level = {
        let body = &HONEST.collateral.tcb_infos[0].body;
        let start = body.rfind("\"tcbLevels\":[").unwrap() + "\"tcbLevels\":[".len();
        let mut depth = 0;
        let end = body[start..].find(|character| {
            depth += match character {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            depth == 0
        });
        body[start..=start + end.unwrap()].to_owned()
    };
    let refused = |evidence: &Evidence| {
        let failures: Vec<Id> = evidence.verify().failures().collect();
        assert_eq!(failures, [Id::QuoteTcb]);
    };
    linear(
        "TCB levels",
        1_000,
        |count| with("tcbLevels", format!("{level},").repeat(count)),
        refused,
    );
    linear(
        "advisories",
        5_000,
        |count| {
            let level = level.replacen(
                '{',
                &format!("{{\"advisoryIDs\":[{}],", advisories(count)),
                1,
            );
            with("tcbLevels", format!("{level},"))
        },
        refused,
    );
    let report = with("tcbLevels", format!("{level},").repeat(2_000)).verify();
    let failure = report.first_failure().unwrap();
    assert!(failure.found.contains("1024"), "{failure:?}");
}
