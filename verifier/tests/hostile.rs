//! The entry points of the fuzz targets with mutated evidence, bounded and always the same: nothing panics.
#![allow(
    clippy::indexing_slicing,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

// Public in the crate of the fuzz targets.
#[allow(unreachable_pub)]
#[path = "../fuzz/src/lib.rs"]
mod entry_points;

use attestation::{
    bundle::Binary, digest::Digests, event_log::Log, journal::PcrMirror, tpm::commands,
};
use evidence::{Boot, Evidence, guest::Device};
use std::sync::LazyLock;

/// With every PCR change in the journal.
static HONEST: LazyLock<Evidence> = LazyLock::new(|| {
    let boot = Boot {
        mirror: PcrMirror::Full,
        ..Boot::default()
    };
    boot.evidence_after(|machine| {
        machine.ok(&commands::pcr_extend(10, &Digests::of(b"/init").all()));
    })
});

/// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled").
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        value as usize % limit.max(1)
    }

    /// Changes bytes as a fuzzer does: bits, runs, sizes, ends.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            match self.below(6) {
                _ if bytes.is_empty() => bytes.push(0),
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                2 => bytes.truncate(at),
                3 => drop(bytes.drain(at..bytes.len().min(at + 1 + self.below(8)))),
                4 => bytes.insert(at, self.below(256) as u8),
                _ => {
                    let end = bytes.len().min(at + 4);
                    bytes[at..end].fill([0, 0xff][self.below(2)]);
                }
            }
        }
    }
}

/// Feeds an entry point with a seed, and with what becomes of it.
fn mutations(entry_point: fn(&[u8]), seeds: &[&[u8]], count: u32) {
    let mut random = Random(0x7464_702d_7674_706d);
    for seed in seeds {
        entry_point(seed);
        for _ in 0..count {
            let mut bytes = seed.to_vec();
            random.mutate(&mut bytes);
            entry_point(&bytes);
        }
    }
}

#[test]
fn parsers_survive_mutated_evidence() {
    let bundle = &HONEST.bundle;
    let records: Vec<_> = Log::parse(&bundle.cc_event_log.0)
        .unwrap()
        .events
        .iter()
        .filter(|event| event.register == 4)
        .map(|event| event.data)
        .collect();
    mutations(entry_points::cc_event_log, &[&bundle.cc_event_log.0], 2000);
    mutations(
        entry_points::tcg_event_log,
        &[&bundle.tcg_event_log.0],
        2000,
    );
    mutations(entry_points::journal, &records, 200);
    let bare: Vec<_> = records.iter().map(|record| &record[8..]).collect();
    mutations(entry_points::journal, &bare, 200);
    mutations(entry_points::report, &[&bundle.report.0], 2000);
    mutations(
        entry_points::tpm_structures,
        &[
            &bundle.ak_public.0,
            &bundle.ak_public.0[2..],
            &bundle.quote.attest.0,
            &bundle.quote.signature.0,
        ],
        500,
    );
    mutations(
        entry_points::quote,
        &[&bundle.td_quote.as_ref().unwrap().0],
        60,
    );
    let json = bundle.to_json().unwrap();
    mutations(entry_points::bundle, &[json.as_bytes()], 60);
}

#[test]
fn certificates_survive_mutation() {
    let bundle = &HONEST.bundle;
    let seeds: Vec<&[u8]> = bundle
        .ek_certificates
        .iter()
        .chain([&bundle.ak_certificate])
        .map(|certificate| certificate.0.as_slice())
        .collect();
    mutations(entry_points::certificate, &seeds, 150);
    mutations(entry_points::certificate, &[&bundle.ca_certificate.0], 30);
}

/// Whatever is done to a member, the verifier does not panic, and does not trust it unless nothing that counts changed.
#[test]
fn a_mutated_member_is_never_trusted() {
    let mut random = Random(1);
    for round in 0..60 {
        let mut evidence = HONEST.clone();
        let bundle = &mut evidence.bundle;
        let members: [&mut Binary; 11] = {
            let [rsa, p256, p384] = &mut bundle.ek_certificates;
            [
                &mut bundle.report,
                bundle.td_quote.as_mut().unwrap(),
                &mut bundle.cc_event_log,
                &mut bundle.tcg_event_log,
                &mut bundle.ca_certificate,
                rsa,
                p256,
                p384,
                &mut bundle.ak_certificate,
                &mut bundle.ak_public,
                &mut bundle.quote.attest,
            ]
        };
        let member = round % members.len();
        let bytes = &mut members.into_iter().nth(member).unwrap().0;
        let before = bytes.clone();
        random.mutate(bytes);
        // Zeros behind a log, a quote or a report are room that was not used.
        let significant = |bytes: &[u8]| {
            let zeros = bytes.iter().rev().take_while(|byte| **byte == 0).count();
            bytes[..bytes.len() - zeros].to_vec()
        };
        let same = significant(bytes) == significant(&before);
        let report = evidence.verify();
        assert!(
            same || !report.is_trusted(),
            "round {round}, member {member}"
        );
    }
}
