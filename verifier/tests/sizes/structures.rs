//! Records, structures of the TPM, quotes and HOB lists.

use crate::{HONEST, linear};
use attestation::{
    claims::Claims,
    digest::{Algorithm, Digest},
    journal::Record,
    report::Report,
    tpm::{Attest, Fields, PcrSelect, PcrSelection, Public, Signature},
};
use verifier::quote::TdQuote;
#[test]
fn items_of_a_record_of_the_journal() {
    let digests = vec![Digest::zero(Algorithm::Sha256); 16];
    let most = Record::PcrExtend { pcr: 1, digests }.to_cbor();
    assert!(Record::from_cbor(&most).is_ok());
    // CBOR: array(4) of 9, 1, 1 and an array with a count of 32 bits.
    let pcr_extend = |count: usize| {
        let mut cbor = vec![0x84, 9, 1, 1, 0x9A];
        cbor.extend((count as u32).to_be_bytes());
        let digest = [&[0x82, 0x0B, 0x58, 32][..], &[0; 32]].concat();
        cbor.extend(digest.repeat(count));
        cbor
    };
    linear("digests of a record", 20_000, pcr_extend, |cbor| {
        assert!(Record::from_cbor(cbor).is_err());
    });
    linear(
        "items of a record",
        200_000,
        |count| {
            let mut cbor = vec![0x9A];
            cbor.extend((count as u32).to_be_bytes());
            cbor.extend([3, 1]);
            cbor.extend(vec![0; count]);
            cbor
        },
        |cbor| assert!(Record::from_cbor(cbor).is_err()),
    );
    linear(
        "arrays in arrays, and maps",
        200_000,
        |count| [vec![0x81; count], vec![0xA1; count]].concat(),
        |cbor| assert!(Record::from_cbor(cbor).is_err()),
    );
    linear(
        "bytes of a parameter",
        500_000,
        |count| {
            Record::Hierarchy {
                command: 1,
                handle: 2,
                parameters: vec![0; count],
            }
            .to_cbor()
        },
        |cbor| drop(Record::from_cbor(cbor).unwrap()),
    );
    linear(
        "characters of a name of an engine",
        500_000,
        |count| {
            let mut cbor = vec![0x8A, 1, 1, 0x7A];
            cbor.extend((count as u32).to_be_bytes());
            cbor.extend(vec![b'a'; count]);
            cbor
        },
        |cbor| assert!(Record::from_cbor(cbor).is_err()),
    );
}

#[test]
fn structures_of_the_tpm_and_claims() {
    linear(
        "banks of a PCR selection",
        100_000,
        |count| {
            let selection = PcrSelection::from(PcrSelect::all(Algorithm::Sha256)).to_bytes();
            let one = &selection[4..];
            [&(count as u32).to_be_bytes()[..], &one.repeat(count)].concat()
        },
        |bytes| assert!(PcrSelection::read(&mut Fields::new(bytes)).is_err()),
    );
    let bundle = &HONEST.bundle;
    for (what, structure) in [
        ("an attestation structure", &bundle.quote.attest.0),
        ("a signature", &bundle.quote.signature.0),
        ("a public area", &bundle.ak_public.0),
    ] {
        linear(
            what,
            500_000,
            |count| [&structure[..], &vec![0; count]].concat(),
            |bytes| {
                assert!(Attest::parse(bytes).is_err());
                assert!(Signature::parse(bytes).is_err());
                assert!(Public::parse_sized(bytes).is_err());
            },
        );
    }
    let claims = Report::parse(&bundle.report.0).unwrap().claims;
    let claims = Claims::from_json(claims).unwrap();
    linear(
        "bytes of the modulus in the claims",
        200_000,
        |count| {
            let mut claims = claims.clone();
            claims.ak_modulus = vec![0xFF; count];
            claims.to_json()
        },
        |json| drop(Claims::from_json(json).unwrap()),
    );
}

#[test]
fn certification_data_of_a_quote() {
    let quote = &HONEST.bundle.td_quote.as_ref().unwrap().0;
    assert!(TdQuote::parse(quote).is_ok());
    // Header, body, length, signature, key, type and length of the certification; the enclave's report and its signature.
    let authentication = 48 + 584 + 4 + 64 + 64 + 6 + 384 + 64;
    linear(
        "authentication data",
        10_000,
        |count| {
            let mut quote = quote.clone();
            let size = (count as u16).to_le_bytes();
            quote[authentication..authentication + 2].copy_from_slice(&size);
            quote.extend(vec![0; count]);
            quote
        },
        |quote| assert!(TdQuote::parse(quote).is_err()),
    );
    linear(
        "certificates",
        1_000,
        |count| {
            let mut quote = quote.clone();
            let at = quote
                .windows(11)
                .position(|text| text == b"-----BEGIN ")
                .unwrap();
            let pem = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";
            let chain = pem.repeat(count);
            for (place, inside) in [
                (at - 4, 0),
                (authentication - 64 - 384 - 4, at - (authentication - 448)),
            ] {
                let size = (chain.len() + inside) as u32;
                quote[place..place + 4].copy_from_slice(&size.to_le_bytes());
            }
            quote.truncate(at);
            quote.extend(chain.as_bytes());
            quote
        },
        |quote| assert!(TdQuote::parse(quote).is_err()),
    );
    linear(
        "bytes behind the quote",
        500_000,
        |count| [&quote[..], &vec![0; count]].concat(),
        |quote| drop(TdQuote::parse(quote)),
    );
}

#[test]
fn hobs_of_a_list() {
    let hob = |kind: u16| [&kind.to_le_bytes()[..], &[8, 0, 0, 0, 0, 0]].concat();
    linear(
        "HOBs",
        50_000,
        // The hand-off table, then the smallest HOBs that there are.
        |count| [hob(1), hob(0xFFFE).repeat(count)].concat(),
        |list| assert!(tdshim_config::hob_list::walk(list).count() > 50_000),
    );
}
