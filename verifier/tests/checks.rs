//! Good evidence passes every check, and each lie fails the one check that is about it.

mod story;

use attestation::{
    bundle::{Binary, Certify},
    journal::{Mode, PcrMirror, Record},
    pcr::banks_at_startup,
};
use story::{NOW, Story};
use verifier::{Bundle, Collateral, Id, Outcome, Report, policy::Allowed};

#[track_caller]
fn assert_fails(report: &Report, id: Id) {
    let failures: Vec<_> = report.failures().collect();
    assert_eq!(failures, [id], "{:#?}", report.first_failure());
}

#[test]
fn good_evidence_passes() {
    for mirror in [PcrMirror::Off, PcrMirror::Summary, PcrMirror::Full] {
        let story = Story {
            mirror,
            ..Story::default()
        };
        let report = story.verify(&story.tell());
        assert_eq!(report.first_failure(), None);
        assert!(report.is_trusted());
        for check in &report.checks {
            // The story's policy knows no EK.
            let may_skip = check.id == Id::EkPolicy
                || check.id == Id::AkCertified
                || check.id == Id::PcrJournal && mirror == PcrMirror::Off;
            assert_eq!(
                matches!(check.outcome, Outcome::Skipped { .. }),
                may_skip,
                "{check:?}"
            );
        }
    }
}

#[test]
fn good_evidence_survives_json() {
    let story = Story::default();
    let json = story.tell().to_json().unwrap();
    let report = verifier::verify_json(
        json.as_bytes(),
        &story.policy(),
        &story::collateral(),
        NOW,
        &story.nonce,
    );
    assert!(report.is_trusted());
    assert!(verifier::explain(&story.tell()).contains("console=ttyS0 quiet"));
}

/// Changes the bundle behind the TD's back.
#[test]
fn each_lie_fails_its_check() {
    fn flip(bytes: &mut Binary, at: usize) {
        bytes.0[at] ^= 1;
    }
    fn shorten(bytes: &mut Binary) {
        bytes.0.truncate(bytes.0.len() - 1);
    }
    fn quote(bundle: &mut Bundle) -> &mut Binary {
        bundle.td_quote.as_mut().unwrap()
    }
    /// Offset of the first record of a register (MR index) in a log.
    fn event_at(log: &Binary, register: u32) -> (usize, usize) {
        let parsed = attestation::event_log::Log::parse(&log.0).unwrap();
        let mut events = parsed.events.iter();
        let offset = events
            .find(|event| event.register == register)
            .unwrap()
            .offset;
        let next = events.next().map_or(parsed.length, |event| event.offset);
        (offset, next)
    }
    fn drop_event(log: &mut Binary, register: u32) {
        let (from, to) = event_at(log, register);
        log.0.drain(from..to);
    }
    type Lie = fn(&mut Bundle);
    let lies: [(Id, Lie); 31] = [
        (Id::BundleFormat, |bundle| bundle.version = 2),
        (Id::BundleFormat, |bundle| bundle.report.0.truncate(1000)),
        (Id::BundleFormat, |bundle| drop(bundle.pcrs.sha256.pop())),
        (Id::NonceClaims, |bundle| bundle.nonce = "00".into()),
        (Id::QuoteFormat, |bundle| bundle.td_quote = None),
        (Id::QuoteFormat, |bundle| quote(bundle).0.truncate(700)),
        (Id::QuoteFormat, |bundle| quote(bundle).0.push(1)),
        (Id::QuoteSignature, |bundle| flip(quote(bundle), 48 + 136)),
        (Id::QuoteSignature, |bundle| {
            flip(quote(bundle), 48 + 584 + 4)
        }),
        (Id::ReportMatchesQuote, |bundle| {
            flip(&mut bundle.report, 32 + 600)
        }),
        (Id::CcLogFormat, |bundle| shorten(&mut bundle.cc_event_log)),
        (Id::Rtmr0, |bundle| drop_event(&mut bundle.cc_event_log, 1)),
        (Id::Rtmr1, |bundle| drop_event(&mut bundle.cc_event_log, 2)),
        (Id::Rtmr2, |bundle| drop_event(&mut bundle.cc_event_log, 3)),
        (Id::Rtmr3, |bundle| drop_event(&mut bundle.cc_event_log, 4)),
        (Id::EventsExplained, |bundle| {
            let (_, end) = event_at(&bundle.cc_event_log, 1);
            flip(&mut bundle.cc_event_log, end - 1);
        }),
        (Id::JournalFormat, |bundle| {
            let (_, end) = event_at(&bundle.cc_event_log, 4);
            flip(&mut bundle.cc_event_log, end - 1);
        }),
        (Id::CaCertificate, |bundle| {
            bundle.ca_certificate.0.truncate(100)
        }),
        (Id::CaCertificate, |bundle| {
            let last = bundle.ca_certificate.0.len() - 1;
            flip(&mut bundle.ca_certificate, last);
        }),
        (Id::EkCertificates, |bundle| {
            let last = bundle.ek_certificates[1].0.len() - 1;
            flip(&mut bundle.ek_certificates[1], last);
        }),
        (Id::EkCertificates, |bundle| {
            bundle.ek_certificates[0] = bundle.ak_certificate.clone();
        }),
        (Id::EkNames, |bundle| bundle.ek_certificates.swap(1, 2)),
        (Id::AkCertificate, |bundle| {
            bundle.ak_certificate = bundle.ek_certificates[0].clone();
        }),
        (Id::AkName, |bundle| {
            bundle.ak_public = bundle.ek_public.clone().unwrap();
        }),
        (Id::TpmQuoteSignature, |bundle| {
            flip(&mut bundle.quote.attest, 60)
        }),
        (Id::TpmQuoteSignature, |bundle| {
            flip(&mut bundle.quote.signature, 60)
        }),
        (Id::TpmQuoteNonce, |bundle| {
            let attest = story::attest(b"another nonce", &banks_at_startup()).to_bytes();
            let mut quoted = attestation::tpm::Attest::parse(&bundle.quote.attest.0).unwrap();
            quoted.extra_data = attestation::tpm::Attest::parse(&attest).unwrap().extra_data;
            bundle.quote.attest = Binary(quoted.to_bytes());
            bundle.quote.signature = Binary(story::sign(&bundle.quote.attest.0));
        }),
        (Id::TpmQuotePcrs, |bundle| {
            bundle.pcrs.sha256[10] = "00".repeat(32);
        }),
        (Id::PcrBanks, |bundle| bundle.pcrs.sha1[4] = "00".repeat(20)),
        (Id::TcgLogFormat, |bundle| {
            shorten(&mut bundle.tcg_event_log)
        }),
        (Id::PcrReplay, |bundle| {
            drop_event(&mut bundle.tcg_event_log, 4)
        }),
    ];
    let story = Story::default();
    let told = story.tell();
    let policy = story.policy();
    let collateral = story::collateral();
    for (index, (id, lie)) in lies.into_iter().enumerate() {
        let mut bundle = told.clone();
        lie(&mut bundle);
        let report = verifier::verify(&bundle, &policy, &collateral, NOW, &story.nonce);
        let failures: Vec<_> = report.failures().collect();
        assert_eq!(failures, [id], "lie {index}: {:#?}", report.first_failure());
    }
}

/// Anybody's TD could have made the rest.
#[test]
fn a_policy_that_does_not_say_whose_td_trusts_none() {
    let story = Story::default();
    let verify = |mrtd| {
        let mut policy = story.policy();
        policy.td.mrtd = mrtd;
        let collateral = story::collateral();
        verifier::verify(&story.tell(), &policy, &collateral, NOW, &story.nonce)
    };
    assert_fails(&verify(Allowed::Unsaid), Id::Mrtd);
    assert!(verify(Allowed::Any).is_trusted());
}

/// Another TD, which tells the truth about itself, by the policy for this one.
#[test]
fn each_other_td_fails_its_check() {
    type Change = fn(&mut Story);
    let changes: [(Id, Change); 15] = [
        (Id::NonceClaims, |story| story.nonce = vec![9; 32]),
        (Id::TdDebug, |story| story.attributes |= 1),
        (Id::TdAttributes, |story| story.attributes |= 1 << 29),
        (Id::TdAttributes, |story| story.attributes = 0),
        (Id::Mrtd, |story| story.mrtd = [0xbb; 48]),
        (Id::TdConfig, |story| story.mrowner = [1; 48]),
        (Id::FirmwareEvents, |story| {
            story.hob = b"another machine".to_vec()
        }),
        (Id::LaunchKernel, |story| {
            story.kernel = b"another kernel".to_vec()
        }),
        (Id::LaunchCommandLine, |story| {
            story.command_line = b"init=/bin/sh".to_vec()
        }),
        (Id::LaunchInitrd, |story| story.initrd = None),
        (Id::EventsExplained, |story| {
            story.stray = Some((2, 0xd, b"what?".to_vec()))
        }),
        (Id::JournalStart, |story| {
            story.engine = "another engine".into()
        }),
        (Id::JournalStart, |story| story.mode = Mode::Persistent),
        (Id::JournalPolicy, |story| story.life.push(Record::Clear)),
        (Id::JournalComplete, |story| {
            story.life.push(Record::LogFull { records: 5 });
        }),
    ];
    let story = Story::default();
    for (index, (id, change)) in changes.into_iter().enumerate() {
        let mut other = story.clone();
        change(&mut other);
        let report = story.verify(&other.tell());
        let failures: Vec<_> = report.failures().collect();
        assert_eq!(
            failures,
            [id],
            "change {index}: {:#?}",
            report.first_failure()
        );
    }
}

#[test]
fn a_guest_that_extends_what_the_log_does_not_explain_is_seen() {
    for (pcr, id) in [(4, Id::PcrReplay), (11, Id::PcrReplay), (16, Id::PcrReplay)] {
        let mut story = Story::default();
        story.extends.push((pcr, b"more".to_vec()));
        assert_fails(&story.verify(&story.tell()), id);
    }
    let mut story = Story::default();
    story.extends.push((16, b"more".to_vec()));
    let mut policy = story.policy();
    policy.pcr.beyond_log.push(16);
    let report = verifier::verify(
        &story.tell(),
        &policy,
        &story::collateral(),
        NOW,
        &story.nonce,
    );
    assert_fails(&report, Id::PcrPolicy);
}

#[test]
fn parts_of_another_boot_are_seen() {
    let story = Story::default();
    let other = Story {
        ca: 2,
        kernel: b"an older kernel".to_vec(),
        ..Story::default()
    }
    .tell();
    type Take = fn(&mut Bundle, Bundle);
    let takes: [(Id, Take); 5] = [
        (Id::ReportData, |bundle, other| {
            bundle.td_quote = other.td_quote
        }),
        (Id::PcrReplay, |bundle, other| {
            bundle.tcg_event_log = other.tcg_event_log
        }),
        (Id::CaCertificate, |bundle, other| {
            bundle.ca_certificate = other.ca_certificate
        }),
        (Id::EkCertificates, |bundle, other| {
            bundle.ek_certificates = other.ek_certificates
        }),
        (Id::AkCertificate, |bundle, other| {
            bundle.ak_certificate = other.ak_certificate
        }),
    ];
    for (id, take) in takes {
        let mut bundle = story.tell();
        take(&mut bundle, other.clone());
        assert_fails(&story.verify(&bundle), id);
    }
}

#[test]
fn the_ca_certificate_needs_a_quote_of_its_own_key() {
    let story = Story::default();
    let mut bundle = story.tell();
    let other = Story {
        ca: 2,
        ..Story::default()
    };
    // The journal's CA, with a quote that was made for another CA.
    let ca = story::Authority({
        let mut scalar = [0; 48];
        scalar[47] = 1;
        p384::ecdsa::SigningKey::from_slice(&scalar).unwrap()
    });
    let others = other.tell();
    let quote = others.td_quote.unwrap();
    bundle.ca_certificate = Binary(ca.own(&quote.0, &bundle.cc_event_log.0));
    assert_fails(&story.verify(&bundle), Id::CaQuote);
}

#[test]
fn an_own_ak_needs_a_certification() {
    let story = Story::default();
    let mut bundle = story.tell();
    bundle.certify = Some(Certify {
        attest: bundle.quote.attest.clone(),
        signature: bundle.quote.signature.clone(),
        ak_public: bundle.ak_public.clone(),
    });
    assert_fails(&story.verify(&bundle), Id::AkCertified);
}

#[test]
fn collateral_that_is_missing_is_named() {
    let story = Story::default();
    let full = story::collateral();
    let verify = |collateral: &Collateral| {
        verifier::verify(
            &story.tell(),
            &story.policy(),
            collateral,
            NOW,
            &story.nonce,
        )
    };
    type Take = fn(&mut Collateral);
    let cases: [(&str, Take); 5] = [
        ("tcb-info.json", |collateral| collateral.tcb_infos.clear()),
        ("qe-identity.json", |collateral| {
            collateral.qe_identity = None
        }),
        ("root-ca-crl.der", |collateral| collateral.root_crl = None),
        ("pck-crl.der", |collateral| collateral.pck_crls.clear()),
        ("tcb-signing-chain.pem", |collateral| {
            collateral.tcb_signing_chain = None
        }),
    ];
    for (file, take) in cases {
        let mut collateral = full.clone();
        take(&mut collateral);
        let report = verify(&collateral);
        assert_fails(&report, Id::QuoteTcb);
        let expected = &report.first_failure().unwrap().expected;
        assert!(expected.contains(file), "{file}: {expected}");
    }
    assert_fails(&verify(&Collateral::intel_root_only()), Id::QuotePckChain);
}

#[test]
fn without_a_quote_the_report_stands_where_policy_allows() {
    let story = Story::default();
    let mut bundle = story.tell();
    bundle.td_quote = None;
    bundle.td_quote_status = 3;
    let mut policy = story.policy();
    policy.quote.required = false;
    let report = verifier::verify(&bundle, &policy, &story::collateral(), NOW, &story.nonce);
    assert_eq!(report.first_failure(), None);
    assert!(matches!(
        report.check(Id::QuoteFormat).unwrap().outcome,
        Outcome::Skipped { .. }
    ));
    bundle.report.0[32 + 600] ^= 1;
    let report = verifier::verify(&bundle, &policy, &story::collateral(), NOW, &story.nonce);
    assert_fails(&report, Id::ReportData);
}
