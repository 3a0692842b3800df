//! Lies about PCR values and the TCG event log.

use attestation::digest::Algorithm;
use attestation::event_log::{EV_NO_ACTION, EV_SEPARATOR, TcgLog};
use attestation::pcr::PcrBanks;
use verifier::Id;

use crate::clippings::{
    drop_first, drop_last, edit_data, edit_digest, exchange, pieces, repeat, retype, rewrite,
};
use crate::subjects::{HONEST, MIRRORED, OLDER};
use crate::{Lie, assert_seen};

#[test]
fn values() {
    let lies = [
        Lie {
            name: "PCR 4 in SHA-256",
            breaks: Id::TpmQuotePcrs,
            tell: |lie| lie.bundle.pcrs.sha256[4] = "00".repeat(32),
        },
        Lie {
            name: "PCR 10 in SHA-256",
            breaks: Id::TpmQuotePcrs,
            tell: |lie| lie.bundle.pcrs.sha256[10] = "00".repeat(32),
        },
        Lie {
            name: "PCR 4 in SHA-1",
            breaks: Id::PcrBanks,
            tell: |lie| lie.bundle.pcrs.sha1[4] = "00".repeat(20),
        },
        Lie {
            name: "PCR 10 in SHA-384",
            breaks: Id::PcrBanks,
            tell: |lie| lie.bundle.pcrs.sha384[10] = "00".repeat(48),
        },
        Lie {
            name: "PCR 23 in SHA-512",
            breaks: Id::PcrBanks,
            tell: |lie| lie.bundle.pcrs.sha512[23] = "11".repeat(64),
        },
        Lie {
            name: "two PCRs exchanged",
            breaks: Id::TpmQuotePcrs,
            tell: |lie| lie.bundle.pcrs.sha256.swap(8, 9),
        },
        Lie {
            name: "the SHA-1 bank left out",
            breaks: Id::PcrBanks,
            tell: |lie| lie.bundle.pcrs.sha1.clear(),
        },
        Lie {
            name: "the SHA-256 bank left out",
            breaks: Id::BundleFormat,
            tell: |lie| lie.bundle.pcrs.sha256.clear(),
        },
        Lie {
            name: "a PCR left out",
            breaks: Id::BundleFormat,
            tell: |lie| drop(lie.bundle.pcrs.sha384.pop()),
        },
        Lie {
            name: "a value that the policy does not accept",
            breaks: Id::PcrPolicy,
            tell: |lie| {
                let values = &mut lie.policy.pcr.values;
                values.insert((Algorithm::Sha256.id(), 4), vec![vec![0; 32]]);
            },
        },
    ];
    assert_seen(&HONEST, &lies);
    assert_seen(&MIRRORED, &lies);
}

#[test]
fn the_log_of_another_boot() {
    assert_seen(
        &HONEST,
        &[
            Lie {
                name: "with another kernel",
                breaks: Id::PcrReplay,
                tell: |lie| lie.bundle.tcg_event_log = OLDER.bundle.tcg_event_log.clone(),
            },
            Lie {
                name: "the event of another kernel alone",
                breaks: Id::PcrReplay,
                tell: |lie| {
                    let older = pieces(&OLDER.bundle.tcg_event_log.0);
                    let kernel = crate::clippings::first_of(&lie.bundle.tcg_event_log.0, 4);
                    rewrite(&mut lie.bundle.tcg_event_log, |records| {
                        records[kernel].clone_from(&older[kernel]);
                    });
                },
            },
        ],
    );
}

#[test]
fn events_of_the_log() {
    assert_seen(
        &HONEST,
        &[
            Lie {
                name: "the version of L1 dropped",
                breaks: Id::PcrReplay,
                tell: |lie| drop_first(&mut lie.bundle.tcg_event_log, 0),
            },
            Lie {
                name: "the kernel dropped",
                breaks: Id::PcrReplay,
                tell: |lie| drop_first(&mut lie.bundle.tcg_event_log, 4),
            },
            Lie {
                name: "the last separator dropped",
                breaks: Id::PcrReplay,
                tell: |lie| drop_last(&mut lie.bundle.tcg_event_log),
            },
            Lie {
                name: "the initrd twice",
                breaks: Id::PcrReplay,
                tell: |lie| repeat(&mut lie.bundle.tcg_event_log, 9),
            },
            Lie {
                name: "two events of PCR 0 exchanged",
                breaks: Id::PcrReplay,
                tell: |lie| exchange(&mut lie.bundle.tcg_event_log, 0),
            },
            Lie {
                name: "kernel and command line exchanged, whose PCRs do not show it",
                breaks: Id::PcrLaunch,
                tell: |lie| exchange(&mut lie.bundle.tcg_event_log, 4),
            },
            Lie {
                name: "a SHA-1 digest edited",
                breaks: Id::PcrReplay,
                tell: |lie| edit_digest(&mut lie.bundle.tcg_event_log, 4),
            },
            Lie {
                name: "the kernel's name edited, which is not measured",
                breaks: Id::PcrLaunch,
                tell: |lie| edit_data(&mut lie.bundle.tcg_event_log, 4),
            },
            Lie {
                name: "the command line edited under its digest",
                breaks: Id::PcrLaunch,
                tell: |lie| edit_data(&mut lie.bundle.tcg_event_log, 8),
            },
            Lie {
                name: "the kernel's type edited, which is not measured",
                breaks: Id::PcrLaunch,
                tell: |lie| retype(&mut lie.bundle.tcg_event_log, 4, EV_SEPARATOR),
            },
            Lie {
                name: "the kernel said to extend nothing",
                breaks: Id::PcrReplay,
                tell: |lie| retype(&mut lie.bundle.tcg_event_log, 4, EV_NO_ACTION),
            },
            Lie {
                name: "an event that extends nothing added",
                breaks: Id::PcrLaunch,
                tell: |lie| {
                    rewrite(&mut lie.bundle.tcg_event_log, |records| {
                        let mut locality = records[1].clone();
                        locality[4..8].copy_from_slice(&EV_NO_ACTION.to_le_bytes());
                        records.insert(1, locality);
                    });
                },
            },
        ],
    );
}

#[test]
fn the_log_as_a_whole() {
    assert_seen(
        &HONEST,
        &[
            Lie {
                name: "cut off",
                breaks: Id::TcgLogFormat,
                tell: |lie| {
                    let _ = lie.bundle.tcg_event_log.0.pop();
                },
            },
            Lie {
                name: "the CC event log in its place",
                breaks: Id::TcgLogFormat,
                tell: |lie| lie.bundle.tcg_event_log = lie.bundle.cc_event_log.clone(),
            },
            Lie {
                name: "no event in it",
                breaks: Id::PcrReplay,
                tell: |lie| lie.bundle.tcg_event_log.0 = TcgLog::new(PcrBanks::ALL).into_bytes(),
            },
            Lie {
                name: "something behind it",
                breaks: Id::TcgLogFormat,
                tell: |lie| lie.bundle.tcg_event_log.0.extend(*b"\0\0\0\0\0\0\0\0more"),
            },
        ],
    );
}
