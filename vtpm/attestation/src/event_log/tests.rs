//! Both logs, written and read.

use super::*;
use crate::digest::{Algorithm, Digest, Digests, extend_sha384, sha384};
use crate::pcr::PcrBanks;
use proptest::prelude::*;
use std::format;
use std::vec;
use std::vec::Vec;
use zerocopy::IntoBytes;

fn cc_log(records: &[(u8, u32, Vec<u8>)]) -> Vec<u8> {
    let mut log = SpecId::new(*b"td-shim").as_bytes().to_vec();
    for (rtmr, event_type, data) in records {
        log.extend(cc_record(*rtmr, *event_type, sha384(data), data).unwrap());
    }
    log
}

fn tcg_log(records: &[(u8, u32, Vec<u8>)]) -> Vec<u8> {
    let mut log = TcgLog::new(PcrBanks::ALL);
    for (pcr, event_type, data) in records {
        log.append(*pcr, *event_type, &Digests::of(data), data);
    }
    log.into_bytes()
}

/// PFP, table "Events", by number.
#[test]
fn event_types_have_the_specifications_names() {
    let names = [
        (0x3, "EV_NO_ACTION"),
        (0x4, "EV_SEPARATOR"),
        (0x6, "EV_EVENT_TAG"),
        (0x7, "EV_S_CRTM_CONTENTS"),
        (0x8, "EV_S_CRTM_VERSION"),
        (0xA, "EV_PLATFORM_CONFIG_FLAGS"),
        (0xC, "EV_COMPACT_HASH"),
        (0xD, "EV_IPL"),
        (0x8000_000A, "EV_EFI_PLATFORM_FIRMWARE_BLOB2"),
        (0x8000_000B, "EV_EFI_HANDOFF_TABLES2"),
    ];
    for event_type in (0..0x20).chain(0x8000_0000..0x8000_0020) {
        let name = names.iter().find(|(number, _)| *number == event_type);
        assert_eq!(event_type_name(event_type), name.map(|(_, name)| *name));
    }
}

/// Field by field from the PFP: TCG_PCR_EVENT, TCG_EfiSpecIdEvent, TCG_PCR_EVENT2.
#[test]
fn the_tcg_log_has_the_specifications_layout() {
    let log = tcg_log(&[(4, EV_IPL, b"kernel".to_vec())]);
    let header = [
        "00000000",                                 // pcrIndex
        "03000000",                                 // EV_NO_ACTION
        "0000000000000000000000000000000000000000", // digest
        "2d000000",                                 // eventSize
        "53706563204944204576656e74303300",         // "Spec ID Event03"
        "00000000",                                 // platformClass
        "00020002",                                 // minor, major, errata, uintnSize
        "04000000",                                 // numberOfAlgorithms
        "04001400",
        "0b002000",
        "0c003000",
        "0d004000",
        "00", // vendorInfoSize
    ]
    .concat();
    let digests = Digests::of(b"kernel");
    let record = [
        "04000000",
        "0d000000",
        "04000000",
        &format!("0400{}", digests.get(Algorithm::Sha1).unwrap()),
        &format!("0b00{}", digests.get(Algorithm::Sha256).unwrap()),
        &format!("0c00{}", digests.get(Algorithm::Sha384).unwrap()),
        &format!("0d00{}", digests.get(Algorithm::Sha512).unwrap()),
        "06000000",
        "6b65726e656c",
    ]
    .concat();
    assert_eq!(hex::encode(&log), header + &record);
}

#[test]
fn a_cc_record_has_the_register_after_its_rtmr() {
    let record = cc_record(3, EV_EVENT_TAG, [0xAB; 48], b"x").unwrap();
    let expected = [
        "04000000",
        "06000000",
        "01000000",
        "0c00",
        &"ab".repeat(48),
        "01000000",
        "78",
    ];
    assert_eq!(hex::encode(record), expected.concat());
}

#[test]
fn a_log_ends_where_nothing_was_written() {
    let whole = cc_log(&[(0, EV_SEPARATOR, vec![0; 4]), (1, EV_SEPARATOR, vec![0; 4])]);
    for (fill, count) in [
        (0xFF, 0),
        (0xFF, 3),
        (0xFF, 8),
        (0xFF, 500),
        (0, 3),
        (0, 500),
    ] {
        let area = [whole.clone(), vec![fill; count]].concat();
        let log = Log::parse(&area).unwrap();
        assert_eq!((log.events.len(), log.length), (2, whole.len()));
        assert_eq!(log.vendor_info, b"td-shim");
        assert_eq!(log.algorithms, [Algorithm::Sha384]);
    }
}

#[test]
fn a_log_that_is_cut_off_is_no_log() {
    let whole = cc_log(&[
        (0, EV_SEPARATOR, vec![0; 4]),
        (1, EV_IPL, b"kernel".to_vec()),
    ]);
    let starts = [72, 72 + 66 + 4];
    for length in 0..whole.len() {
        let parsed = Log::parse(&whole[..length]);
        assert_eq!(parsed.is_ok(), starts.contains(&length), "{length}");
    }
}

#[test]
fn a_broken_log_says_what_is_wrong() {
    let whole = cc_log(&[(0, EV_SEPARATOR, vec![0; 4])]);
    let at = 72;
    let cases: [(usize, &[u8], LogError); 9] = [
        (4, &[4], LogError::NoSpecId),
        (32, b"s", LogError::NoSpecId),
        (28, &[39], LogError::SpecIdSize),
        (28, &[41], LogError::SpecIdSize),
        (56, &[0], LogError::SpecIdSize),
        (60, &[0x12], LogError::Algorithm { id: 0x12, size: 48 }),
        (62, &[47], LogError::Algorithm { id: 0xC, size: 47 }),
        (at + 8, &[2], LogError::Digests { offset: at }),
        (at + 12, &[0xB], LogError::Digests { offset: at }),
    ];
    for (place, bytes, error) in cases {
        let mut log = whole.clone();
        log[place..place + bytes.len()].copy_from_slice(bytes);
        assert_eq!(Log::parse(&log), Err(error), "{place:#x}");
    }
}

#[test]
fn an_algorithm_twice_in_a_record_is_refused() {
    let mut log = tcg_log(&[(0, EV_SEPARATOR, vec![0; 4])]);
    // SHA-1 becomes the first of two SHA-256: the sizes do not fit then either, but the
    // identifier of a later one is what is looked at.
    let first = 32 + 45 + 12;
    log[first + 2 + 20 + 2 + 32..][..2].copy_from_slice(&[0x0B, 0]);
    let offset = 32 + 45;
    assert_eq!(Log::parse(&log), Err(LogError::Digests { offset }));
}

#[test]
fn rtmrs_are_replayed_in_order() {
    let log = cc_log(&[
        (0, EV_SEPARATOR, vec![0; 4]),
        (3, EV_EVENT_TAG, b"one".to_vec()),
        (2, EV_NO_ACTION, b"not extended".to_vec()),
        (3, EV_EVENT_TAG, b"two".to_vec()),
    ]);
    let log = Log::parse(&log).unwrap();
    let rtmrs = replay_rtmrs(&log.events).unwrap();
    let zero = [0; 48];
    assert_eq!(rtmrs[0], extend_sha384(&zero, &sha384(&[0; 4])));
    assert_eq!((rtmrs[1], rtmrs[2]), (zero, zero));
    let one = extend_sha384(&zero, &sha384(b"one"));
    assert_eq!(rtmrs[3], extend_sha384(&one, &sha384(b"two")));
}

#[test]
fn a_record_of_a_register_that_no_guest_extends_is_not_replayed() {
    for register in [0u32, 5, u32::MAX] {
        let mut bytes = cc_log(&[(0, EV_SEPARATOR, vec![0; 4])]);
        bytes[72..76].copy_from_slice(&register.to_le_bytes());
        let log = Log::parse(&bytes).unwrap();
        let error = ReplayError::Register {
            register,
            offset: 72,
        };
        assert_eq!(replay_rtmrs(&log.events), Err(error));
    }
    let tcg = tcg_log(&[(24, EV_SEPARATOR, vec![0; 4])]);
    assert!(replay_pcrs(&Log::parse(&tcg).unwrap()).is_err());
    let tcg = tcg_log(&[(1, EV_SEPARATOR, vec![0; 4])]);
    let mut log = Log::parse(&tcg).unwrap();
    log.events[0]
        .digests
        .retain(|digest| digest.algorithm() != Algorithm::Sha384);
    assert_eq!(
        replay_rtmrs(&log.events),
        Err(ReplayError::NoSha384 { offset: 77 })
    );
}

#[test]
fn pcrs_are_replayed_in_every_bank() {
    let log = tcg_log(&[
        (7, EV_SEPARATOR, vec![0; 4]),
        (0, EV_NO_ACTION, b"not extended".to_vec()),
    ]);
    let banks = replay_pcrs(&Log::parse(&log).unwrap()).unwrap();
    for (bank, algorithm) in banks.iter().zip(Algorithm::ALL) {
        let zero = Digest::zero(algorithm);
        let separator = zero.extended(&algorithm.digest(&[0; 4])).unwrap();
        assert_eq!(bank.value(7), Ok(separator));
        assert_eq!(bank.value(0), Ok(zero));
        assert_eq!(bank.value(17), Ok(Digest::ones(algorithm)));
    }
    assert_eq!(banks.len(), 4);
}

fn records() -> impl Strategy<Value = Vec<(u8, u32, Vec<u8>)>> {
    // Event type 0 would be the end of a log.
    let record = (
        0..4u8,
        1..0x20u32,
        proptest::collection::vec(any::<u8>(), 0..40),
    );
    proptest::collection::vec(record, 0..8)
}

proptest! {
    #[test]
    fn what_is_written_is_read(records in records()) {
        for (bytes, offset) in [(cc_log(&records), 1), (tcg_log(&records), 0)] {
            let log = Log::parse(&bytes).unwrap();
            prop_assert_eq!(log.length, bytes.len());
            prop_assert_eq!(log.events.len(), records.len());
            for (event, (register, event_type, data)) in log.events.iter().zip(&records) {
                prop_assert_eq!(event.register, u32::from(*register) + offset);
                prop_assert_eq!(event.event_type, *event_type);
                prop_assert_eq!(event.data, data.as_slice());
                for digest in &event.digests {
                    prop_assert_eq!(*digest, digest.algorithm().digest(data));
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_the_parser_panic(
        records in records(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<proptest::sample::Index>(),
        noise in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = tcg_log(&records);
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        for bytes in [&bytes, &noise] {
            if let Ok(log) = Log::parse(bytes) {
                let _ = replay_pcrs(&log);
                let _ = replay_rtmrs(&log.events);
            }
        }
    }
}
