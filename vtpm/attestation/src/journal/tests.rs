//! Every record, in its bytes and back.

use super::*;
use crate::digest::{Algorithm, Digest, Digests};
use crate::pcr::PcrBanks;
use proptest::collection::vec as vec_of;
use proptest::prelude::*;
use std::boxed::Box;
use std::format;
use std::string::{String, ToString};
use std::vec;

fn name(byte: u8) -> Name {
    Name::of(Algorithm::Sha256, &[byte])
}

fn start(state: Option<[u8; 48]>) -> Start {
    Start {
        engine: "libtpms 0.10.1".into(),
        interface: "PTP FIFO".into(),
        mode: Mode::Ephemeral,
        mirror: PcrMirror::Summary,
        banks: PcrBanks::default(),
        state,
        eks: [name(1), name(2), Name::of(Algorithm::Sha384, &[3])],
        ak: name(4),
        ca: [0xCA; 48],
        processors: None,
    }
}

fn start_of(td: u32, l2: u32) -> Record {
    let processors = Processors::new(td, l2);
    Record::Start(Start {
        processors,
        ..start(None)
    })
}

const UNLOCK: Unlock = Unlock {
    machine: [0x4D; 32],
    broker: Some([0xB0; 32]),
    key: KeyHalves::Both,
    rollback: Rollback::Ledger,
    epoch: 500,
    counter: 3,
};

/// Bytes worked out by hand from RFC 8949, section 3, and the CDDL.
#[test]
fn records_are_the_cbor_that_the_cddl_says() {
    let eks = [name(1).to_string(), name(2).to_string()];
    let start_fields = format!(
        "{engine}{interface}0001820b0cf6835822{}5822{}5832{}5822{}5830{}",
        eks[0],
        eks[1],
        Name::of(Algorithm::Sha384, &[3]),
        name(4),
        "ca".repeat(48),
        engine = "6e6c696274706d7320302e31302e31",
        interface = "68505450204649464f",
    );
    let sha1 = Algorithm::Sha1.digest(b"x");
    let cases: [(Record, String); 18] = [
        (Record::Start(start(None)), format!("8b0101{start_fields}")),
        (start_of(4, 3), format!("8d0102{start_fields}0403")),
        (start_of(576, 16), format!("8d0102{start_fields}19024010")),
        (Record::Startup(StartupType::Clear), "83020100".into()),
        (Record::Reset, "820301".into()),
        (Record::Shutdown(StartupType::State), "83040101".into()),
        (Record::Clear, "820501".into()),
        (
            Record::Hierarchy {
                command: 0x121,
                handle: 0x4000_000C,
                parameters: vec![0x40, 0, 0, 1, 0],
            },
            "850601190121 1a4000000c 454000000100".replace(' ', ""),
        ),
        (
            Record::NvIndex {
                defined: true,
                index: 0x0140_0009,
                attributes: 0x6206_0002,
            },
            "850701f51a014000091a62060002".into(),
        ),
        (
            Record::NvCommit { state: [0x5A; 48] },
            format!("8308015830{}", "5a".repeat(48)),
        ),
        (
            Record::PcrExtend {
                pcr: 23,
                digests: vec![sha1],
            },
            format!("84090117818204 54{sha1}").replace(' ', ""),
        ),
        (Record::PcrReset { pcr: 16 }, "830a0110".into()),
        (
            Record::PcrValue {
                pcr: 17,
                values: vec![],
            },
            "840b011180".into(),
        ),
        (
            Record::PcrSummary {
                changes: 300,
                banks: [1; 32],
            },
            format!("840c0119012c5820{}", "01".repeat(32)),
        ),
        (Record::LogFull { records: 24 }, "830d011818".into()),
        (
            Record::Unlock(UNLOCK),
            format!(
                "880e015820{}5820{}03011901f403",
                "4d".repeat(32),
                "b0".repeat(32)
            ),
        ),
        (
            Record::Unlock(Unlock {
                broker: None,
                key: KeyHalves::Hardware,
                rollback: Rollback::None,
                ..UNLOCK
            }),
            format!("880e015820{}f602001901f403", "4d".repeat(32)),
        ),
        (
            Record::StateRefused {
                reason: "fenced".into(),
            },
            "830f016666656e636564".into(),
        ),
    ];
    let names = [
        "start",
        "start",
        "start",
        "startup",
        "reset",
        "shutdown",
        "clear",
        "hierarchy",
        "nv-index",
        "nv-commit",
        "pcr-extend",
        "pcr-reset",
        "pcr-value",
        "pcr-summary",
        "log-full",
        "unlock",
        "unlock",
        "state-refused",
    ];
    for ((record, bytes), name) in cases.into_iter().zip(names) {
        assert_eq!(record.name(), name);
        assert_eq!(hex::encode(record.to_cbor()), bytes, "{name}");
        assert_eq!(Record::from_cbor(&hex::decode(bytes).unwrap()), Ok(record));
    }
}

#[test]
fn what_the_cddl_does_not_allow_is_refused_by_name() {
    let unknown_version = RecordError::UnknownVersion {
        code: 3,
        version: 2,
    };
    let cases = [
        ("", RecordError::Malformed),
        ("00", RecordError::Malformed),
        ("8203", RecordError::Malformed),
        ("82420301", RecordError::Malformed),
        ("820301ff", RecordError::NotDeterministic),
        ("9f0301ff", RecordError::NotDeterministic),
        ("82180301", RecordError::NotDeterministic),
        ("83030100", RecordError::NotDeterministic),
        ("821001", RecordError::UnknownType(16)),
        ("820001", RecordError::UnknownType(0)),
        ("820302", unknown_version),
        ("83020102", RecordError::Field("type")),
        ("830a011818", RecordError::Field("pcr")),
        ("83080140", RecordError::Field("state")),
        ("8409010081820440", RecordError::Field("digests")),
        ("840901008182054100", RecordError::Field("digests")),
        ("84090100818104", RecordError::Field("digests")),
        ("8409010091", RecordError::Field("digests")),
        ("840901009800", RecordError::NotDeterministic),
    ];
    for (bytes, error) in cases {
        let bytes = hex::decode(bytes).unwrap();
        assert_eq!(Record::from_cbor(&bytes), Err(error), "{bytes:02x?}");
    }
}

#[test]
fn a_start_with_an_unknown_mode_mirror_bank_or_name_is_refused() {
    let good = Record::Start(start(Some([7; 48]))).to_cbor();
    assert!(Record::from_cbor(&good).is_ok());
    let mode = 3 + 15 + 9;
    let banks = mode + 2;
    let state = banks + 3;
    let places = [
        (mode, 2, "mode"),
        (mode + 1, 3, "mirror"),
        // No bank, SHA-1 for SHA-256, no algorithm, SHA-384 twice.
        (banks, 0x80, "banks"),
        (banks + 1, 0x4, "banks"),
        (banks + 1, 0x5, "banks"),
        (banks + 1, 0xC, "banks"),
        (state + 2 + 48, 0x82, "eks"),
        // The name algorithm of the first EK.
        (state + 2 + 48 + 1 + 2 + 1, 0xD, "eks"),
    ];
    for (place, value, field) in places {
        let mut bytes = good.clone();
        bytes[place] = value;
        assert_eq!(Record::from_cbor(&bytes), Err(RecordError::Field(field)));
    }
}

/// L1 of before told no processors: its journals are read.
#[test]
fn a_start_tells_processors_from_version_2_on() {
    let old = Record::Start(start(None));
    assert_eq!((old.version(), old.to_cbor()[2]), (1, 1));
    assert_eq!(Record::from_cbor(&old.to_cbor()), Ok(old.clone()));
    let new = start_of(2, 2);
    assert_eq!((new.version(), new.to_cbor()[2]), (2, 2));
    for version in [0, 3, 23] {
        let mut bytes = new.to_cbor();
        bytes[2] = version;
        let unknown = RecordError::UnknownVersion { code: 1, version };
        assert_eq!(Record::from_cbor(&bytes), Err(unknown));
    }
    // Each version has its own number of fields.
    let mut bytes = new.to_cbor();
    bytes[2] = 1;
    assert_eq!(
        Record::from_cbor(&bytes),
        Err(RecordError::NotDeterministic)
    );
    let mut bytes = old.to_cbor();
    bytes[2] = 2;
    assert_eq!(Record::from_cbor(&bytes), Err(RecordError::Malformed));
}

#[test]
fn numbers_of_processors_that_cannot_be_are_refused() {
    let bytes = start_of(4, 3).to_cbor();
    let last = bytes.len() - 1;
    for (td, l2, good) in [
        (4, 4, true),
        (1, 1, true),
        (4, 0, false),
        (0, 0, false),
        (3, 4, false),
    ] {
        let mut bytes = bytes.clone();
        bytes[last - 1] = td;
        bytes[last] = l2;
        let read = Record::from_cbor(&bytes);
        match good {
            true => assert_eq!(read, Ok(start_of(td.into(), l2.into()))),
            false => assert_eq!(read, Err(RecordError::Field("processors"))),
        }
    }
}

#[test]
fn a_tagged_event_is_all_of_the_data() {
    let event = Record::Reset.to_event();
    assert_eq!(hex::encode(&event), "5650445403000000820301");
    assert_eq!(unwrap(&event), Ok([0x82, 3, 1].as_slice()));
    for length in 0..event.len() {
        assert_eq!(unwrap(&event[..length]), Err(TaggedEventError::Length));
    }
    let longer = [event.as_slice(), &[0]].concat();
    assert_eq!(unwrap(&longer), Err(TaggedEventError::Length));
    let other = [&[1, 0, 0, 0], &event[4..]].concat();
    assert_eq!(unwrap(&other), Err(TaggedEventError::OtherTag(1)));
}

#[test]
fn names_of_policies_are_read_back() {
    for mirror in [PcrMirror::Off, PcrMirror::Summary, PcrMirror::Full] {
        assert_eq!(PcrMirror::from_name(mirror.name()), Some(mirror));
        assert_eq!(PcrMirror::from_code(mirror.code()), Some(mirror));
    }
    assert_eq!(PcrMirror::from_name("FULL"), None);
    assert_eq!([Mode::Ephemeral, Mode::Persistent].map(Mode::code), [0, 1]);
    assert_eq!(
        [0, 1, 2].map(Mode::from_code),
        [Some(Mode::Ephemeral), Some(Mode::Persistent), None]
    );
    assert_eq!(PcrMirror::default(), PcrMirror::Summary);
}

/// `docs/measurement.md` says what `full` costs: so many bytes are hashed for a change.
#[test]
fn an_extend_of_every_bank_is_about_200_bytes() {
    let digests = Digests::of(b"measured").all().to_vec();
    let record = Record::PcrExtend { pcr: 10, digests };
    assert_eq!(
        record.to_event().len(),
        8 + 5 + (2 + 1 + 20) + (2 + 34) + (2 + 50) + (2 + 66)
    );
}

fn digests() -> impl Strategy<Value = Vec<Digest>> {
    let digest = (0..4usize, any::<u8>())
        .prop_map(|(algorithm, byte)| Algorithm::ALL[algorithm].digest(&[byte]));
    vec_of(digest, 0..5)
}

fn startup_types() -> impl Strategy<Value = StartupType> {
    prop_oneof![Just(StartupType::Clear), Just(StartupType::State)]
}

fn starts() -> impl Strategy<Value = Start> {
    let texts = ("[ -~]{0,40}", "[ -~]{0,40}");
    (texts, 0..2u8, 0..3u8, any::<Option<u8>>(), any::<u8>()).prop_map(
        |((engine, interface), mode, mirror, state, byte)| {
            let banks = [PcrBanks::default(), PcrBanks::ALL];
            Start {
                engine,
                interface,
                mode: Mode::from_code(mode).unwrap(),
                mirror: PcrMirror::from_code(mirror).unwrap(),
                banks: banks[usize::from(byte % 2)],
                state: state.map(|byte| [byte; 48]),
                processors: Processors::new(byte.into(), (byte / 2).into()),
                ..start(None)
            }
            .with_ca([byte; 48])
        },
    )
}

impl Start {
    fn with_ca(self, ca: [u8; 48]) -> Self {
        Self { ca, ..self }
    }
}

fn unlocks() -> impl Strategy<Value = Unlock> {
    let numbers = (any::<u64>(), any::<u64>());
    (0..4usize, 0..3usize, any::<u8>(), numbers).prop_map(
        |(key, rollback, byte, (epoch, counter))| Unlock {
            machine: [byte; 32],
            broker: Some([!byte; 32]),
            key: KeyHalves::ALL[key],
            rollback: Rollback::ALL[rollback],
            epoch,
            counter,
        },
    )
}

#[test]
fn what_only_a_broker_gives_is_not_told_without_one() {
    for key in KeyHalves::ALL {
        for rollback in Rollback::ALL {
            let record = Record::Unlock(Unlock {
                broker: None,
                key,
                rollback,
                ..UNLOCK
            });
            let expected = match (key, rollback) {
                (KeyHalves::Hardware, Rollback::None) => Ok(record.clone()),
                _ => Err(RecordError::Field("broker")),
            };
            assert_eq!(Record::from_cbor(&record.to_cbor()), expected);
        }
    }
}

#[test]
fn words_of_files_are_read_as_they_are_written() {
    for key in KeyHalves::ALL {
        assert_eq!(KeyHalves::from_name(key.name()), Some(key));
    }
    for rollback in Rollback::ALL {
        assert_eq!(Rollback::from_name(rollback.name()), Some(rollback));
    }
    assert_eq!(KeyHalves::from_name("none"), None);
    assert_eq!(Rollback::from_name(""), None);
}

fn any_record() -> impl Strategy<Value = Record> {
    let pcr = 0..24u8;
    prop_oneof![
        starts().prop_map(Record::Start),
        startup_types().prop_map(Record::Startup),
        Just(Record::Reset),
        startup_types().prop_map(Record::Shutdown),
        Just(Record::Clear),
        (any::<u32>(), any::<u32>(), vec_of(any::<u8>(), 0..300)).prop_map(
            |(command, handle, parameters)| Record::Hierarchy {
                command,
                handle,
                parameters
            }
        ),
        (any::<bool>(), any::<u32>(), any::<u32>()).prop_map(|(defined, index, attributes)| {
            Record::NvIndex {
                defined,
                index,
                attributes,
            }
        }),
        any::<u8>().prop_map(|byte| Record::NvCommit { state: [byte; 48] }),
        (pcr.clone(), digests()).prop_map(|(pcr, digests)| Record::PcrExtend { pcr, digests }),
        pcr.clone().prop_map(|pcr| Record::PcrReset { pcr }),
        (pcr, digests()).prop_map(|(pcr, values)| Record::PcrValue { pcr, values }),
        (any::<u64>(), any::<[u8; 32]>())
            .prop_map(|(changes, banks)| Record::PcrSummary { changes, banks }),
        any::<u64>().prop_map(|records| Record::LogFull { records }),
        unlocks().prop_map(Record::Unlock),
        "[ -~]{0,40}".prop_map(|reason| Record::StateRefused { reason }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(record in any_record()) {
        let event = record.to_event();
        prop_assert_eq!(Record::from_cbor(unwrap(&event).unwrap()), Ok(record));
    }

    #[test]
    fn what_is_read_is_written_as_it_was(
        record in any_record(),
        place in any::<proptest::sample::Index>(),
        value in any::<u8>(),
        noise in vec_of(any::<u8>(), 0..100),
    ) {
        let mut bytes = record.to_cbor();
        let place = place.index(bytes.len());
        bytes[place] = value;
        for bytes in [Box::from(bytes), Box::<[u8]>::from(noise)] {
            if let Ok(record) = Record::from_cbor(&bytes) {
                prop_assert_eq!(record.to_cbor(), Vec::from(bytes));
            }
        }
    }
}
