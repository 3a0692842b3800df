//! Lies with every signature in place: checks that rest on each other still judge for themselves.

use attestation::digest::Digest;
use attestation::journal::{self, Mode, PcrMirror, Processors, Record, Start, StartupType};
use attestation::tpm::{cc, rh};
use verifier::Id;
use verifier::policy::Allowed;

use crate::forgery::{forge, rewrite_events, rewrite_journal};
use crate::subjects::{HONEST, KEPT, MIRRORED, UNLOCK};
use crate::{Lie, assert_seen};

#[test]
fn a_forgery_of_the_truth_is_the_truth() {
    let nothing = Lie {
        name: "the bundle says another nonce",
        breaks: Id::NonceClaims,
        tell: |lie| {
            forge(lie, |_| {});
            assert!(lie.verify().is_trusted());
            lie.bundle.nonce.clear();
        },
    };
    assert_seen(&HONEST, &[nothing]);
}

fn start(records: &mut [Record]) -> &mut Start {
    match &mut records[0] {
        Record::Start(start) => start,
        other => panic!("the journal begins with {other:?}"),
    }
}

fn count(records: &mut [Record], td: u32, l2: u32) {
    start(records).processors = Processors::new(td, l2);
}

#[test]
fn the_start_in_the_journal() {
    assert_seen(
        &HONEST,
        &[
            Lie {
                name: "no start",
                breaks: Id::JournalStart,
                tell: |lie| rewrite_journal(lie, |records| drop(records.remove(0))),
            },
            Lie {
                name: "two starts",
                breaks: Id::JournalStart,
                tell: |lie| rewrite_journal(lie, |records| records.push(records[0].clone())),
            },
            Lie {
                name: "a record before the start",
                breaks: Id::JournalStart,
                tell: |lie| rewrite_journal(lie, |records| records.insert(0, Record::Reset)),
            },
            Lie {
                name: "no startup by L1",
                breaks: Id::JournalStart,
                tell: |lie| rewrite_journal(lie, |records| drop(records.remove(1))),
            },
            Lie {
                name: "started from a state of the guest's",
                breaks: Id::JournalStart,
                tell: |lie| {
                    rewrite_journal(lie, |records| {
                        records[1] = Record::Startup(StartupType::State);
                    });
                },
            },
            Lie {
                name: "another engine",
                breaks: Id::JournalStart,
                tell: |lie| rewrite_journal(lie, |records| start(records).engine.push('1')),
            },
            Lie {
                name: "another interface",
                breaks: Id::JournalStart,
                tell: |lie| {
                    rewrite_journal(lie, |records| start(records).interface = "PPI".into());
                },
            },
            Lie {
                name: "another mode",
                breaks: Id::JournalStart,
                tell: |lie| rewrite_journal(lie, |records| start(records).mode = Mode::Persistent),
            },
            Lie {
                name: "an unlock of no state",
                breaks: Id::JournalStart,
                tell: |lie| {
                    rewrite_journal(lie, |records| records.push(Record::Unlock(UNLOCK)));
                },
            },
            Lie {
                name: "another mirror",
                breaks: Id::JournalStart,
                tell: |lie| rewrite_journal(lie, |records| start(records).mirror = PcrMirror::Off),
            },
            Lie {
                name: "a processor more than when the CA was quoted",
                breaks: Id::CaQuote,
                tell: |lie| {
                    lie.policy.vtpm.processors = Some(Allowed::OneOf(vec![5]));
                    rewrite_journal(lie, |records| count(records, 5, 3));
                },
            },
            Lie {
                name: "a processor fewer in the TD than the policy accepts",
                breaks: Id::Processors,
                tell: |lie| lie.policy.vtpm.processors = Some(Allowed::OneOf(vec![5])),
            },
            Lie {
                name: "a processor more in L2 than the policy accepts",
                breaks: Id::Processors,
                tell: |lie| lie.policy.vtpm.l2_processors = Some(Allowed::OneOf(vec![2, 4])),
            },
            Lie {
                name: "no processor in L2",
                breaks: Id::JournalFormat,
                // CBOR: the last two numbers.
                tell: |lie| {
                    rewrite_events(lie, |events| {
                        let [.., td, l2] = &mut events[0][..] else {
                            panic!("a start");
                        };
                        (*td, *l2) = (4, 0);
                    });
                },
            },
            Lie {
                name: "more processors in L2 than in the TD",
                breaks: Id::JournalFormat,
                tell: |lie| {
                    rewrite_events(lie, |events| {
                        let [.., td, l2] = &mut events[0][..] else {
                            panic!("a start");
                        };
                        (*td, *l2) = (4, 5);
                    });
                },
            },
            Lie {
                name: "another number of processors that nobody measured",
                breaks: Id::Rtmr3,
                tell: |lie| {
                    let mut rewritten = lie.clone();
                    rewrite_journal(&mut rewritten, |records| count(records, 5, 3));
                    lie.bundle.cc_event_log = rewritten.bundle.cc_event_log;
                },
            },
            Lie {
                name: "another CA",
                breaks: Id::CaCertificate,
                tell: |lie| rewrite_journal(lie, |records| start(records).ca[0] ^= 1),
            },
        ],
    );
}

#[test]
fn the_unlock_in_the_journal() {
    assert_seen(
        &KEPT,
        &[
            Lie {
                name: "no unlock",
                breaks: Id::JournalStart,
                tell: |lie| rewrite_journal(lie, |records| drop(records.remove(1))),
            },
            Lie {
                name: "two unlocks",
                breaks: Id::JournalStart,
                tell: |lie| rewrite_journal(lie, |records| records.push(records[1].clone())),
            },
            Lie {
                name: "an unlock after the startup",
                breaks: Id::JournalStart,
                tell: |lie| rewrite_journal(lie, |records| records.swap(1, 2)),
            },
            Lie {
                name: "an ephemeral vTPM with an unlock",
                breaks: Id::JournalStart,
                tell: |lie| rewrite_journal(lie, |records| start(records).mode = Mode::Ephemeral),
            },
            Lie {
                name: "a state that was refused",
                breaks: Id::JournalPolicy,
                tell: |lie| {
                    rewrite_journal(lie, |records| {
                        let reason = "fenced".into();
                        records.push(Record::StateRefused { reason });
                    });
                },
            },
        ],
    );
}

#[test]
fn the_claims() {
    assert_seen(
        &HONEST,
        &[
            Lie {
                name: "another head",
                breaks: Id::JournalHead,
                tell: |lie| forge(lie, |forgery| forgery.claims.journal[0] ^= 1),
            },
            Lie {
                name: "another count of records",
                breaks: Id::JournalHead,
                tell: |lie| forge(lie, |forgery| forgery.claims.records -= 1),
            },
            Lie {
                name: "other EKs",
                breaks: Id::EkNames,
                tell: |lie| forge(lie, |forgery| forgery.claims.eks[0] ^= 1),
            },
            Lie {
                name: "another AK",
                breaks: Id::AkName,
                tell: |lie| forge(lie, |forgery| forgery.claims.ak_modulus[9] ^= 1),
            },
            Lie {
                name: "other PCRs",
                breaks: Id::PcrBanks,
                tell: |lie| forge(lie, |forgery| forgery.claims.pcrs[0] ^= 1),
            },
            Lie {
                name: "another nonce",
                breaks: Id::NonceClaims,
                tell: |lie| forge(lie, |forgery| forgery.claims.user_data[0] ^= 1),
            },
            Lie {
                name: "a nonce with something behind it",
                breaks: Id::NonceClaims,
                tell: |lie| forge(lie, |forgery| forgery.claims.user_data[63] = 1),
            },
        ],
    );
}

#[test]
fn the_td() {
    assert_seen(
        &HONEST,
        &[
            Lie {
                name: "another MRTD",
                breaks: Id::Mrtd,
                tell: |lie| forge(lie, |forgery| forgery.td.td_info.mrtd[0] ^= 1),
            },
            Lie {
                name: "a reserved attribute",
                breaks: Id::TdAttributes,
                tell: |lie| forge(lie, |forgery| forgery.td.td_info.attributes[1] |= 1),
            },
            Lie {
                name: "a TD that can be migrated",
                breaks: Id::TdAttributes,
                tell: |lie| forge(lie, |forgery| forgery.td.td_info.attributes[3] |= 1 << 5),
            },
            Lie {
                name: "a TD under a profiler",
                breaks: Id::TdDebug,
                tell: |lie| forge(lie, |forgery| forgery.td.td_info.attributes[0] |= 1 << 5),
            },
            Lie {
                name: "another owner",
                breaks: Id::TdConfig,
                tell: |lie| forge(lie, |forgery| forgery.td.td_info.mrowner[0] ^= 1),
            },
            Lie {
                name: "another TD than the CA's",
                breaks: Id::CaQuote,
                tell: |lie| {
                    forge(lie, |forgery| forgery.td.td_info.mrowner[0] ^= 1);
                    lie.policy.td.mrowner = verifier::policy::Allowed::Any;
                },
            },
        ],
    );
}

#[test]
fn the_vtpms_life() {
    assert_seen(
        &HONEST,
        &[
            Lie {
                name: "the seeds changed",
                breaks: Id::JournalPolicy,
                tell: |lie| life(lie, hierarchy(cc::CHANGE_EPS)),
            },
            Lie {
                name: "other banks allocated",
                breaks: Id::JournalPolicy,
                tell: |lie| life(lie, hierarchy(cc::PCR_ALLOCATE)),
            },
            Lie {
                name: "the end for want of room, and more",
                breaks: Id::JournalComplete,
                tell: |lie| {
                    lie.policy.vtpm.allow_log_full = true;
                    life(lie, Record::LogFull { records: 3 });
                },
            },
            Lie {
                name: "a summary of other PCRs",
                breaks: Id::PcrJournal,
                tell: |lie| {
                    rewrite_journal(lie, |records| {
                        for record in records {
                            if let Record::PcrSummary { banks, .. } = record {
                                banks[0] ^= 1;
                            }
                        }
                    });
                },
            },
            Lie {
                name: "no summary",
                breaks: Id::PcrJournal,
                tell: |lie| {
                    rewrite_journal(lie, |records| {
                        records.retain(|record| !matches!(record, Record::PcrSummary { .. }));
                    });
                },
            },
        ],
    );
}

fn hierarchy(command: u32) -> Record {
    Record::Hierarchy {
        command,
        handle: rh::PLATFORM,
        parameters: Vec::new(),
    }
}

/// Puts a record in front of the last.
fn life(lie: &mut evidence::Evidence, record: Record) {
    rewrite_journal(lie, |records| records.insert(records.len() - 1, record));
}

#[test]
fn every_pcr_change_in_the_journal() {
    assert_seen(
        &MIRRORED,
        &[
            Lie {
                name: "the guest's extend left out",
                breaks: Id::PcrJournal,
                tell: |lie| rewrite_journal(lie, |records| drop(records.pop())),
            },
            Lie {
                name: "another extend",
                breaks: Id::PcrJournal,
                tell: |lie| {
                    rewrite_journal(lie, |records| {
                        let last = records.last_mut().expect("records");
                        let Record::PcrExtend { digests, .. } = last else {
                            panic!("{last:?} is the last record");
                        };
                        digests[0] = Digest::zero(digests[0].algorithm());
                    });
                },
            },
            Lie {
                name: "an extend of one bank alone",
                breaks: Id::PcrJournal,
                tell: |lie| {
                    rewrite_journal(lie, |records| {
                        let last = records.last_mut().expect("records");
                        let Record::PcrExtend { digests, .. } = last else {
                            panic!("{last:?} is the last record");
                        };
                        digests.pop();
                    });
                },
            },
            Lie {
                name: "an extend more",
                breaks: Id::PcrJournal,
                tell: |lie| {
                    rewrite_journal(lie, |records| {
                        let last = records.last().expect("records").clone();
                        records.push(last);
                    });
                },
            },
            Lie {
                name: "a PCR that there is not",
                breaks: Id::JournalFormat,
                tell: |lie| {
                    rewrite_journal(lie, |records| records.push(Record::PcrReset { pcr: 24 }))
                },
            },
        ],
    );
}

#[test]
fn records_that_are_none() {
    assert_seen(
        &HONEST,
        &[
            Lie {
                name: "a type that there is not",
                breaks: Id::JournalFormat,
                // CBOR: [24, 1].
                tell: |lie| raw(lie, journal::wrap(&[0x82, 0x18, 24, 1])),
            },
            Lie {
                name: "a version that there is not",
                breaks: Id::JournalFormat,
                // CBOR: [3, 2], a reset of version 2.
                tell: |lie| raw(lie, journal::wrap(&[0x82, 3, 2])),
            },
            Lie {
                name: "a record and something behind it",
                breaks: Id::JournalFormat,
                tell: |lie| raw(lie, journal::wrap(&[0x82, 3, 1, 0])),
            },
            Lie {
                name: "a record that is not encoded as L1 encodes",
                breaks: Id::JournalFormat,
                // The version in two bytes.
                tell: |lie| raw(lie, journal::wrap(&[0x82, 3, 0x18, 1])),
            },
            Lie {
                name: "another tag",
                breaks: Id::JournalFormat,
                tell: |lie| {
                    let mut event = Record::Reset.to_event();
                    event[0] ^= 1;
                    raw(lie, event);
                },
            },
            Lie {
                name: "nothing",
                breaks: Id::JournalFormat,
                tell: |lie| raw(lie, Vec::new()),
            },
        ],
    );
}

fn raw(lie: &mut evidence::Evidence, event: Vec<u8>) {
    rewrite_events(lie, |events| events.insert(2, event));
}
