//! One bit wrong, anywhere: each is a lie about one thing.

use std::ops::Range;

use attestation::report::Report;
use verifier::{Bundle, Id};

use crate::clippings::first_of;
use crate::subjects::OWN_AK;

/// Bits that are tried in each member.
const SAMPLES: usize = 6;

/// A member, and the bytes of it that say something: the rest, such as a TDREPORT's MAC or the root in a quote's chain,
/// nobody reads.
type Member = fn(&mut Bundle) -> (&mut Vec<u8>, Range<usize>);

fn whole(bytes: &mut Vec<u8>) -> (&mut Vec<u8>, Range<usize>) {
    let all = 0..bytes.len();
    (bytes, all)
}

fn events(log: &mut Vec<u8>, first_register: u32) -> (&mut Vec<u8>, Range<usize>) {
    let header = crate::clippings::pieces(log)[0].len();
    assert_eq!(first_of(log, first_register), 1);
    let events = header..log.len();
    (log, events)
}

#[test]
fn a_bit_breaks_one_link() {
    let members: [(&str, Member); 15] = [
        ("TDINFO", |bundle| {
            const TDINFO: Range<usize> = 32 + 512..32 + 1024;
            (&mut bundle.report.0, TDINFO)
        }),
        ("claims", |bundle| {
            const CLAIMS: usize = 1236;
            let length = Report::parse(&bundle.report.0)
                .expect("a report")
                .claims
                .len();
            (&mut bundle.report.0, CLAIMS..CLAIMS + length)
        }),
        ("td_quote", |bundle| {
            // Header, body, signatures and the quoting enclave's report; then comes the chain.
            const SIGNATURES: Range<usize> = 0..1252;
            let quote = bundle.td_quote.as_mut().expect("a quote");
            (&mut quote.0, SIGNATURES)
        }),
        ("cc_event_log", |bundle| {
            events(&mut bundle.cc_event_log.0, 1)
        }),
        ("tcg_event_log", |bundle| {
            events(&mut bundle.tcg_event_log.0, 0)
        }),
        ("ca_certificate", |bundle| {
            whole(&mut bundle.ca_certificate.0)
        }),
        ("RSA EK", |bundle| whole(&mut bundle.ek_certificates[0].0)),
        ("P-256 EK", |bundle| whole(&mut bundle.ek_certificates[1].0)),
        ("P-384 EK", |bundle| whole(&mut bundle.ek_certificates[2].0)),
        ("ak_certificate", |bundle| {
            whole(&mut bundle.ak_certificate.0)
        }),
        ("ak_public", |bundle| whole(&mut bundle.ak_public.0)),
        ("attest", |bundle| whole(&mut bundle.quote.attest.0)),
        ("signature", |bundle| whole(&mut bundle.quote.signature.0)),
        ("certify.attest", |bundle| {
            whole(&mut bundle.certify.as_mut().expect("an own AK").attest.0)
        }),
        ("certify.ak_public", |bundle| {
            whole(&mut bundle.certify.as_mut().expect("an own AK").ak_public.0)
        }),
    ];
    let mut wrong = Vec::new();
    for (name, member) in members {
        for sample in 0..SAMPLES {
            let mut evidence = OWN_AK.clone();
            let (bytes, range) = member(&mut evidence.bundle);
            // The first byte, the last, and some between.
            let place = range.start + sample * (range.len() - 1) / (SAMPLES - 1);
            bytes[place] ^= 1 << (place % 8);
            let report = evidence.verify();
            let failures: Vec<Id> = report.failures().collect();
            if failures.len() != 1 || report.is_trusted() {
                wrong.push(format!("{name}, byte {place}: {failures:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
