//! Lies about the CC event log.

use attestation::digest::sha384;
use attestation::event_log::{
    EV_COMPACT_HASH, EV_EVENT_TAG, EV_IPL, EV_NO_ACTION, EV_SEPARATOR, cc_record,
};
use attestation::journal::Record;
use attestation::launch::KERNEL;
use evidence::Evidence;
use verifier::Id;

use crate::clippings::{
    drop_first, drop_last, edit_data, edit_digest, exchange, first_of, repeat, retype, rewrite,
};
use crate::subjects::HONEST;
use crate::{Lie, assert_seen};

/// MR indices: RTMR + 1.
const RTMR0: u32 = 1;
const RTMR1: u32 = 2;
const RTMR2: u32 = 3;
const RTMR3: u32 = 4;

fn add(evidence: &mut Evidence, rtmr: u8, event_type: u32, data: &[u8]) {
    let record = cc_record(rtmr, event_type, sha384(data), data).expect("a small record");
    evidence.bundle.cc_event_log.0.extend(record);
}

#[test]
fn events_of_the_firmware() {
    assert_seen(
        &HONEST,
        &[
            Lie {
                name: "the TD HOB dropped",
                breaks: Id::Rtmr0,
                tell: |lie| drop_first(&mut lie.bundle.cc_event_log, RTMR0),
            },
            Lie {
                name: "the TD HOB and its separator exchanged",
                breaks: Id::Rtmr0,
                tell: |lie| exchange(&mut lie.bundle.cc_event_log, RTMR0),
            },
            Lie {
                name: "the digest of the TD HOB edited",
                breaks: Id::Rtmr0,
                tell: |lie| edit_digest(&mut lie.bundle.cc_event_log, RTMR0),
            },
            Lie {
                name: "the TD HOB edited under its digest",
                breaks: Id::EventsExplained,
                tell: |lie| edit_data(&mut lie.bundle.cc_event_log, RTMR0),
            },
            Lie {
                name: "the TD HOB passed off as a separator",
                breaks: Id::EventsOrder,
                tell: |lie| retype(&mut lie.bundle.cc_event_log, RTMR0, EV_SEPARATOR),
            },
            Lie {
                name: "the TD HOB said to be no event",
                breaks: Id::Rtmr0,
                tell: |lie| retype(&mut lie.bundle.cc_event_log, RTMR0, EV_NO_ACTION),
            },
            Lie {
                name: "the separator of RTMR1 dropped",
                breaks: Id::Rtmr1,
                tell: |lie| drop_first(&mut lie.bundle.cc_event_log, RTMR1),
            },
            Lie {
                name: "the separator of RTMR1 passed off as the kernel",
                breaks: Id::EventsOrder,
                tell: |lie| {
                    let index = first_of(&lie.bundle.cc_event_log.0, RTMR1);
                    rewrite(&mut lie.bundle.cc_event_log, |records| {
                        let kernel = records
                            .iter()
                            .rfind(|record| record[0] == RTMR1 as u8)
                            .expect("the kernel's event")
                            .clone();
                        let digest = records[index][14..14 + 48].to_vec();
                        records[index] = kernel;
                        records[index][14..14 + 48].copy_from_slice(&digest);
                    });
                },
            },
            Lie {
                name: "the kernel passed off as a separator",
                breaks: Id::EventsOrder,
                tell: |lie| {
                    rewrite(&mut lie.bundle.cc_event_log, |records| {
                        let kernel = records
                            .iter_mut()
                            .rfind(|record| record[0] == RTMR1 as u8)
                            .expect("the kernel's event");
                        kernel[4..8].copy_from_slice(&EV_SEPARATOR.to_le_bytes());
                    });
                },
            },
            Lie {
                name: "a separator of RTMR1 twice",
                breaks: Id::Rtmr1,
                tell: |lie| repeat(&mut lie.bundle.cc_event_log, RTMR1),
            },
        ],
    );
}

#[test]
fn events_of_the_launch() {
    assert_seen(
        &HONEST,
        &[
            Lie {
                name: "a kernel added",
                breaks: Id::Rtmr1,
                tell: |lie| add(lie, 1, EV_COMPACT_HASH, KERNEL),
            },
            Lie {
                name: "the command line dropped",
                breaks: Id::Rtmr2,
                tell: |lie| drop_first(&mut lie.bundle.cc_event_log, RTMR2),
            },
            Lie {
                name: "the command line and the initrd exchanged",
                breaks: Id::Rtmr2,
                tell: |lie| exchange(&mut lie.bundle.cc_event_log, RTMR2),
            },
            Lie {
                name: "the command line edited under its digest",
                breaks: Id::EventsExplained,
                tell: |lie| edit_data(&mut lie.bundle.cc_event_log, RTMR2),
            },
            Lie {
                name: "the command line said to be in RTMR1 as well",
                breaks: Id::Rtmr1,
                tell: |lie| {
                    let index = first_of(&lie.bundle.cc_event_log.0, RTMR2);
                    rewrite(&mut lie.bundle.cc_event_log, |records| {
                        records.insert(index, records[index].clone());
                        records[index][0] = RTMR1 as u8;
                    });
                },
            },
            Lie {
                name: "an event that extends nothing added to RTMR2",
                breaks: Id::EventsExplained,
                tell: |lie| add(lie, 2, EV_NO_ACTION, b"StartupLocality\0\x03"),
            },
        ],
    );
}

#[test]
fn records_of_the_journal() {
    assert_seen(
        &HONEST,
        &[
            Lie {
                name: "the start dropped",
                breaks: Id::Rtmr3,
                tell: |lie| drop_first(&mut lie.bundle.cc_event_log, RTMR3),
            },
            Lie {
                name: "the last record dropped",
                breaks: Id::Rtmr3,
                tell: |lie| drop_last(&mut lie.bundle.cc_event_log),
            },
            Lie {
                name: "start and startup exchanged",
                breaks: Id::Rtmr3,
                tell: |lie| exchange(&mut lie.bundle.cc_event_log, RTMR3),
            },
            Lie {
                name: "the start edited, its digest made to fit",
                breaks: Id::Rtmr3,
                tell: |lie| {
                    edit_data(&mut lie.bundle.cc_event_log, RTMR3);
                    refit(lie);
                },
            },
            Lie {
                name: "the start edited under its digest",
                breaks: Id::JournalFormat,
                tell: |lie| edit_data(&mut lie.bundle.cc_event_log, RTMR3),
            },
            Lie {
                name: "a reset added",
                breaks: Id::Rtmr3,
                tell: |lie| add(lie, 3, EV_EVENT_TAG, &Record::Reset.to_event()),
            },
            Lie {
                name: "a second start added",
                breaks: Id::Rtmr3,
                tell: |lie| repeat(&mut lie.bundle.cc_event_log, RTMR3),
            },
            Lie {
                name: "a record that extends nothing added",
                breaks: Id::JournalFormat,
                tell: |lie| add(lie, 3, EV_NO_ACTION, &Record::Reset.to_event()),
            },
            Lie {
                name: "the start passed off as another type",
                breaks: Id::JournalFormat,
                tell: |lie| retype(&mut lie.bundle.cc_event_log, RTMR3, EV_IPL),
            },
        ],
    );
}

/// Makes the digest of the journal's first record that of its data.
fn refit(lie: &mut Evidence) {
    // Register, type, count, algorithm; then 48 bytes, and the size of the data.
    const DIGEST: usize = 14;
    let index = first_of(&lie.bundle.cc_event_log.0, RTMR3);
    rewrite(&mut lie.bundle.cc_event_log, |records| {
        let digest = sha384(&records[index][DIGEST + 48 + 4..]);
        records[index][DIGEST..DIGEST + 48].copy_from_slice(&digest);
    });
}

/// A record of any register, or of none.
fn add_of_register(evidence: &mut Evidence, register: u32, event_type: u32, data: &[u8]) {
    let mut record = cc_record(0, event_type, sha384(data), data).expect("a small record");
    record[..4].copy_from_slice(&register.to_le_bytes());
    evidence.bundle.cc_event_log.0.extend(record);
}

/// Records that extend nothing: anybody can add them, and no register tells.
#[test]
fn records_that_extend_nothing() {
    assert_seen(
        &HONEST,
        &[
            Lie {
                name: "one in RTMR0",
                breaks: Id::EventsExplained,
                tell: |lie| add(lie, 0, EV_NO_ACTION, b"StartupLocality\0\0"),
            },
            Lie {
                name: "several, of no register",
                breaks: Id::EventsExplained,
                tell: |lie| {
                    for _ in 0..3 {
                        add_of_register(lie, u32::MAX, EV_NO_ACTION, b"SP800-155 Event\0");
                    }
                },
            },
            Lie {
                name: "one of a register that there is not",
                breaks: Id::EventsExplained,
                tell: |lie| add_of_register(lie, 9, EV_NO_ACTION, b""),
            },
            Lie {
                name: "an event of no register that would extend it",
                breaks: Id::CcLogFormat,
                tell: |lie| add_of_register(lie, u32::MAX, EV_IPL, b"kernel"),
            },
            Lie {
                name: "an event of MRTD",
                breaks: Id::CcLogFormat,
                tell: |lie| add_of_register(lie, 0, EV_IPL, b"kernel"),
            },
        ],
    );
    for (event_type, said) in [
        (EV_NO_ACTION, "MR index −1 at 0x"),
        (EV_IPL, "register -1,"),
    ] {
        let mut evidence = HONEST.clone();
        add_of_register(&mut evidence, u32::MAX, event_type, b"");
        let report = evidence.verify();
        let failure = report.first_failure().expect("it fails");
        assert!(failure.found.contains(said), "{failure:?}");
    }
}

#[test]
fn the_log_as_a_whole() {
    assert_seen(
        &HONEST,
        &[
            Lie {
                name: "cut off",
                breaks: Id::CcLogFormat,
                tell: |lie| {
                    let _ = lie.bundle.cc_event_log.0.pop();
                },
            },
            Lie {
                name: "empty",
                breaks: Id::CcLogFormat,
                tell: |lie| lie.bundle.cc_event_log.0.clear(),
            },
            Lie {
                name: "without its header",
                breaks: Id::CcLogFormat,
                tell: |lie| {
                    rewrite(&mut lie.bundle.cc_event_log, |records| {
                        drop(records.remove(0))
                    })
                },
            },
            Lie {
                name: "something behind it",
                breaks: Id::CcLogFormat,
                tell: |lie| lie.bundle.cc_event_log.0.extend(*b"\0\0\0\0\0\0\0\0more"),
            },
            Lie {
                name: "a record behind its end",
                breaks: Id::CcLogFormat,
                tell: |lie| {
                    lie.bundle.cc_event_log.0.extend([0xFF; 16]);
                    add(lie, 3, EV_EVENT_TAG, &Record::Clear.to_event());
                },
            },
            Lie {
                name: "an event of a register that there is not",
                breaks: Id::CcLogFormat,
                tell: |lie| add(lie, 4, EV_IPL, b"RTMR4"),
            },
            Lie {
                name: "a log of PCRs in its place",
                breaks: Id::CcLogFormat,
                tell: |lie| {
                    lie.bundle.cc_event_log = lie.bundle.tcg_event_log.clone();
                },
            },
        ],
    );
}

/// Nothing that a log says is shown as checked before the registers that a quote vouches for are those of the log.
#[test]
fn what_a_log_says_is_not_told_as_checked_before_it_is() {
    use verifier::{About, Account, account::File};
    type Tell = fn(&mut Evidence);
    let lies: [(&str, &[u32], Tell); 3] = [
        ("an unsigned quote", &[0, 1, 2, 3], |lie| {
            // ECDSA signature of the quote (Intel TDX DCAP Quoting Library API, appendix 3).
            lie.bundle.td_quote.as_mut().expect("a quote").0[48 + 584 + 4] ^= 1;
        }),
        ("the log of another boot", &[3], |lie| {
            lie.bundle.cc_event_log = crate::subjects::OLDER.bundle.cc_event_log.clone();
        }),
        ("claims of nobody's", &[0, 1, 2, 3], |lie| {
            lie.bundle.td_quote = crate::subjects::OLDER.bundle.td_quote.clone();
        }),
    ];
    for (name, rtmrs, tell) in lies {
        let mut evidence = HONEST.clone();
        tell(&mut evidence);
        let about = About {
            verifier: "test",
            time: String::new(),
            nonce: String::new(),
            evidence: File::new("evidence", &[]),
            policy: File::new("policy", &[]),
            root_sha256: String::new(),
        };
        let account = Account::new(evidence.verify(), about, Some(&evidence.bundle));
        assert!(!account.trusted, "{name}");
        for event in account.event_logs.iter().flat_map(|log| &log.events) {
            let of_cc_log = rtmrs
                .iter()
                .any(|rtmr| event.register == format!("RTMR{rtmr}"));
            if of_cc_log || event.register.starts_with("PCR") {
                let outcome = event.outcome.expect("it is judged");
                assert!(
                    ["failed", "not-reached"].contains(&outcome),
                    "{name}: {event:?}"
                );
            }
        }
    }
}
