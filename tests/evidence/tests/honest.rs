//! Evidence of honest boots passes every check.

use attestation::digest::Digests;
use attestation::journal::PcrMirror;
use attestation::pcr::PcrBanks;
use attestation::tpm::{commands, rh};
use evidence::guest::{self, Device};
use evidence::{Boot, Evidence, Machine, QuotingHost, Service};
use std::path::Path;
use verifier::{Id, Outcome, Policy};

/// Trusted, and nothing skipped but what is said to be.
#[track_caller]
fn assert_trusted(evidence: &Evidence, skipped: &[Id]) {
    let report = evidence.verify();
    assert_eq!(report.first_failure(), None);
    assert!(report.is_trusted());
    let found: Vec<Id> = report
        .checks
        .iter()
        .filter(|check| matches!(check.outcome, Outcome::Skipped { .. }))
        .map(|check| check.id)
        .filter(|id| !NOT_TOLD.contains(id))
        .collect();
    assert_eq!(found, skipped);
}

/// What a quote of version 4 and a TDREPORT of version 0 do not tell.
const NOT_TOLD: [Id; 2] = [Id::TdBindings, Id::TdPartition];

#[test]
fn a_boot_is_trusted_whatever_it_mirrors() {
    for mirror in [PcrMirror::Off, PcrMirror::Summary, PcrMirror::Full] {
        let boot = Boot {
            mirror,
            ..Boot::default()
        };
        let mut skipped = vec![Id::AkCertified];
        if mirror == PcrMirror::Off {
            skipped.push(Id::PcrJournal);
        }
        assert_trusted(&boot.evidence(), &skipped);
    }
}

#[test]
fn a_boot_is_trusted_whatever_banks_its_tpm_has() {
    for names in [
        "sha256+sha384",
        "sha1+sha256+sha384",
        "sha256+sha384+sha512",
    ] {
        for mirror in [PcrMirror::Summary, PcrMirror::Full] {
            let boot = Boot {
                mirror,
                banks: PcrBanks::from_names(names).expect("names"),
                ..Boot::default()
            };
            let evidence = boot.evidence_after(|machine| {
                machine.ok(&commands::pcr_extend(10, &Digests::of(b"/init").all()));
            });
            assert_trusted(&evidence, &[Id::AkCertified]);
        }
    }
}

#[test]
fn a_boot_without_an_initrd_is_trusted() {
    let boot = Boot {
        initrd: None,
        ..Boot::default()
    };
    assert_trusted(&boot.evidence(), &[Id::AkCertified]);
}

#[test]
fn what_ima_measures_later_is_no_lie() {
    for mirror in [PcrMirror::Off, PcrMirror::Summary, PcrMirror::Full] {
        let boot = Boot {
            mirror,
            ..Boot::default()
        };
        let evidence = boot.evidence_after(|machine| {
            for file in [b"/init", b"/sh  "] {
                machine.ok(&commands::pcr_extend(10, &Digests::of(file).all()));
            }
        });
        let report = evidence.verify();
        assert_eq!(report.first_failure(), None);
    }
}

#[test]
fn a_reset_is_in_the_journal_and_its_launch_is_the_same() {
    let boot = Boot {
        mirror: PcrMirror::Full,
        ..Boot::default()
    };
    let mut evidence = boot.evidence_after(|machine| {
        machine.ok(&commands::pcr_extend(10, &Digests::of(b"before").all()));
        machine.reset();
    });
    evidence.policy.vtpm.max_resets = Some(1);
    assert_trusted(&evidence, &[Id::AkCertified]);
}

#[test]
fn a_clear_that_policy_allows_keeps_the_identity() {
    let mut evidence = Boot::default().evidence_after(|machine| {
        machine.ok(&commands::clear());
    });
    evidence.policy.vtpm.allow_clear = true;
    assert_trusted(&evidence, &[Id::AkCertified]);
}

#[test]
fn a_guest_may_keep_its_ek_where_the_tcg_says() {
    let evidence = Boot::default().evidence_after(Machine::persist_ek);
    assert!(evidence.bundle.ek_public.is_some());
    assert_trusted(&evidence, &[Id::AkCertified]);
}

#[test]
fn a_guest_may_quote_with_an_ak_of_its_own() {
    for template in [
        guest::own_ak_p256(),
        attestation::tpm::template::ak_rsa_2048(),
    ] {
        let boot = Boot::default();
        let mut evidence = boot.evidence();
        let mut machine = boot.start();
        let key = machine.handle(&commands::create_primary(rh::OWNER, &template));
        evidence.bundle = machine.collect_with(&evidence.nonce, Some(key));
        assert_trusted(&evidence, &[]);
    }
}

#[test]
fn a_report_stands_for_a_quote_where_policy_allows() {
    let boot = Boot {
        host: QuotingHost::of(Service::Absent),
        ..Boot::default()
    };
    let mut evidence = boot.evidence();
    assert_eq!(evidence.bundle.td_quote, None);
    evidence.policy.quote.required = false;
    let of_quote = [
        Id::QuotePckChain,
        Id::QuoteSignature,
        Id::QuoteTcb,
        Id::CaQuoteTcb,
        Id::AkCertified,
    ];
    assert_trusted(&evidence, &of_quote);
    // That nothing proves the report is not passed over.
    assert_eq!(accepted(&evidence), [Id::QuoteFormat]);
}

/// The checks that the policy made to accept whatever is there.
fn accepted(evidence: &Evidence) -> Vec<Id> {
    let report = evidence.verify();
    report.accepted().map(|check| check.id).collect()
}

#[test]
fn an_authority_whose_host_gave_no_quote_is_trusted_by_its_report() {
    let boot = Boot {
        host: QuotingHost {
            authority: Service::Absent,
            ..QuotingHost::default()
        },
        ..Boot::default()
    };
    assert_trusted(&boot.evidence(), &[Id::AkCertified]);
}

/// Whoever has the files needs no digests.
#[test]
fn a_policy_of_files_accepts_what_was_booted_from_them() {
    let boot = Boot::default();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let initrd = boot.initrd.as_deref().expect("an initrd");
    for (name, bytes) in [
        ("firmware.bin", &boot.firmware.bytes[..]),
        ("bzImage", &boot.kernel),
        ("initrd", initrd),
    ] {
        std::fs::write(folder.join(name), bytes).expect("the folder is for tests");
    }
    let text = format!(
        "[td]\nimage = \"firmware.bin\"\n\
         attributes = \"any\"\nxfam = \"any\"\nmrconfigid = \"any\"\nmrowner = \"any\"\nmrownerconfig = \"any\"\n\
         [firmware]\ntd_hob = \"any\"\n\
         [launch]\nkernel_file = \"bzImage\"\ninitrd_file = \"initrd\"\ncommand_line = [\"{}\"]\n\
         [vtpm]\nengines = \"any\"\ninterfaces = \"any\"\nmodes = \"any\"\nmirror = \"any\"\nek = \"any\"\n",
        boot.command_line
    );
    let mut evidence = boot.evidence();
    evidence.policy = Policy::parse(&text, folder).expect("a policy");
    assert_trusted(&evidence, &[Id::Processors, Id::AkCertified, Id::PcrPolicy]);
    let any = [
        Id::TdAttributes,
        Id::TdConfig,
        Id::FirmwareEvents,
        Id::JournalStart,
        Id::EkPolicy,
    ];
    assert_eq!(accepted(&evidence), any);
}

/// A kernel may show the whole area that it found a log in.
#[test]
fn what_was_never_written_may_follow_a_log() {
    for fill in [0, 0xFF] {
        let mut evidence = Boot::default().evidence();
        evidence.bundle.tcg_event_log.0.extend([fill; 4096]);
        evidence.bundle.cc_event_log.0.extend([fill; 4096]);
        assert_trusted(&evidence, &[Id::AkCertified]);
    }
}
