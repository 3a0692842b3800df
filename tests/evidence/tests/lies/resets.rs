//! Lies about a machine that was reset, and launched again in the same TD.

use std::sync::LazyLock;

use attestation::digest::Digests;
use attestation::journal::{PcrMirror, Record, StartupType};
use attestation::tpm::commands;
use evidence::guest::Device;
use evidence::{Boot, Evidence};
use verifier::{Bundle, Id};

use crate::clippings::rewrite;
use crate::forgery::rewrite_journal;
use crate::{Lie, assert_seen};

/// A TD in which L2 was reset once.
struct Reset {
    /// Evidence of before, for the same nonce.
    before: Bundle,
    after: Evidence,
}

static RESET: LazyLock<Reset> = LazyLock::new(|| {
    let boot = Boot {
        mirror: PcrMirror::Full,
        ..Boot::default()
    };
    let mut machine = boot.start();
    let nonce: Vec<u8> = (1..=32).collect();
    machine.ok(&commands::pcr_extend(10, &Digests::of(b"/malware").all()));
    let before = machine.collect(&nonce);
    machine.reset();
    machine.ok(&commands::pcr_extend(10, &Digests::of(b"/init").all()));
    let bundle = machine.collect(&nonce);
    let mut after = boot.judged(bundle, nonce);
    after.policy.vtpm.max_resets = Some(1);
    Reset { before, after }
});

/// Where the reset is in the journal.
fn place(records: &[Record]) -> usize {
    let found = records.iter().position(|record| *record == Record::Reset);
    found.expect("there was a reset")
}

#[test]
fn a_reset_that_is_hidden_or_made_up() {
    let reset = &RESET.after;
    assert!(reset.verify().is_trusted());
    assert_seen(
        reset,
        &[
            Lie {
                name: "the record left out",
                breaks: Id::Rtmr3,
                tell: |lie| {
                    let reset = Record::Reset.to_event();
                    rewrite(&mut lie.bundle.cc_event_log, |records| {
                        records.retain(|record| !record.ends_with(&reset));
                    });
                },
            },
            Lie {
                name: "the log of before it",
                breaks: Id::Rtmr3,
                tell: |lie| lie.bundle.cc_event_log = RESET.before.cc_event_log.clone(),
            },
            Lie {
                name: "reset and startup left out, every signature in place",
                breaks: Id::PcrJournal,
                tell: |lie| {
                    rewrite_journal(lie, |records| {
                        let at = place(records);
                        assert_eq!(records[at + 1], Record::Startup(StartupType::Clear));
                        records.drain(at..at + 2);
                    });
                },
            },
            Lie {
                name: "no startup after it, every signature in place",
                breaks: Id::PcrJournal,
                tell: |lie| {
                    rewrite_journal(lie, |records| {
                        let at = place(records);
                        records.remove(at + 1);
                    });
                },
            },
            Lie {
                name: "two of one, every signature in place",
                breaks: Id::JournalPolicy,
                tell: |lie| {
                    rewrite_journal(lie, |records| records.insert(place(records), Record::Reset));
                },
            },
            Lie {
                name: "the launch not measured again, every signature in place",
                breaks: Id::PcrJournal,
                tell: |lie| {
                    rewrite_journal(lie, |records| {
                        let at = place(records);
                        records.remove(at + 2);
                    });
                },
            },
        ],
    );
}

#[test]
fn evidence_of_before_a_reset() {
    assert_seen(
        &RESET.after,
        &[
            Lie {
                name: "the values of PCRs",
                breaks: Id::TpmQuotePcrs,
                tell: |lie| lie.bundle.pcrs = RESET.before.pcrs.clone(),
            },
            Lie {
                name: "the TPM's quote",
                breaks: Id::TpmQuotePcrs,
                tell: |lie| lie.bundle.quote = RESET.before.quote.clone(),
            },
            Lie {
                name: "the report, and the TD's quote of it",
                breaks: Id::Rtmr3,
                tell: |lie| {
                    lie.bundle.report = RESET.before.report.clone();
                    lie.bundle.td_quote = RESET.before.td_quote.clone();
                },
            },
            Lie {
                name: "both, and the log",
                breaks: Id::PcrBanks,
                tell: |lie| {
                    lie.bundle.report = RESET.before.report.clone();
                    lie.bundle.td_quote = RESET.before.td_quote.clone();
                    lie.bundle.cc_event_log = RESET.before.cc_event_log.clone();
                },
            },
        ],
    );
}

/// It is the same TPM: certificates and names of the first boot are those of the second.
#[test]
fn the_identity_is_the_same() {
    let (before, after) = (&RESET.before, &RESET.after.bundle);
    assert_eq!(before.ek_certificates, after.ek_certificates);
    assert_eq!(before.ak_certificate, after.ak_certificate);
    assert_eq!(before.ak_public, after.ak_public);
    assert_eq!(before.ca_certificate, after.ca_certificate);
    assert_eq!(before.tcg_event_log, after.tcg_event_log);
    assert_ne!(before.cc_event_log, after.cc_event_log);
    assert_ne!(before.pcrs.sha256[10], after.pcrs.sha256[10]);
    assert_eq!(before.pcrs.sha256[..10], after.pcrs.sha256[..10]);
}
