//! Quotes of version 5 and TDREPORTs of newer TDX modules: what they tell beside version 4 decides by name.

use attestation::bundle::Binary;
use attestation::report::Report;
use evidence::Evidence;
use quoting::QuotingEnclave;
use tdx_defs::quote::{BodyDescriptor, TdQuoteBody, TdQuoteBody15, TdQuoteBody15Ex};
use tdx_defs::report::{ReportType, TdReport};
use verifier::policy::{Allowed, Bits};
use verifier::{Id, Outcome, Verdict};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::forgery::forge;
use crate::subjects::HONEST;
use crate::{Lie, assert_seen, judge};

/// A TDREPORT of version 3 for L1.
fn partitioned(report: &mut TdReport) {
    report.report_mac.report_type.version = ReportType::WITH_PARTITION;
    // VALID: SERVTD_HASH, TDID, VMID.
    report.td_info.reserved[..32].fill(0x1D);
    report.td_info.reserved[60..].copy_from_slice(&0x301u32.to_le_bytes());
}

/// Evidence of a newer platform: a TDREPORT of this form, and a quote of version 5 that has a body of this kind.
fn newer(
    kind: BodyDescriptor,
    of_report: impl FnOnce(&mut TdReport),
    of_quote: impl FnOnce(&mut TdQuoteBody15Ex),
) -> Evidence {
    let mut evidence = HONEST.clone();
    forge(&mut evidence, |forgery| of_report(&mut forgery.td));
    let report = evidence.bundle.report.0.clone();
    let report = Report::parse(&report).expect("a report").td_report;
    let report = TdReport::read_from_bytes(report).expect("1024 bytes");
    let base = TdQuoteBody::of(&report);
    let mut body = TdQuoteBody15Ex {
        base: TdQuoteBody15 {
            tee_tcb_svn2: base.tee_tcb_svn,
            mrservicetd: report.td_info.servtd_hash,
            base,
        },
        vmid: report.td_info.partition().vmid,
        td_id: report.td_info.partition().td_id,
        ..TdQuoteBody15Ex::new_zeroed()
    };
    of_quote(&mut body);
    let size = u32::from_le_bytes(kind.size) as usize;
    let quote = QuotingEnclave::default().sign_version_5(kind, &body.as_bytes()[..size]);
    evidence.bundle.td_quote = Some(Binary(quote));
    evidence
}

fn outcome(evidence: &Evidence, id: Id) -> Outcome {
    let report = evidence.verify();
    report.check(id).expect("a check").outcome.clone()
}

#[test]
fn a_quote_of_version_5_is_trusted_whatever_its_body() {
    for (kind, tells_service_td, tells_vm) in [
        (BodyDescriptor::TDX_1_0, false, false),
        (BodyDescriptor::TDX_1_5, true, false),
        (BodyDescriptor::TDX_1_5_EX, true, true),
    ] {
        let evidence = newer(kind, |_| {}, |_| {});
        assert_eq!(evidence.verify().first_failure(), None, "{kind:?}");
        for (id, tells) in [
            (Id::TdBindings, tells_service_td),
            (Id::TdPartition, tells_vm),
        ] {
            let passed = outcome(&evidence, id) == Outcome::Passed;
            assert_eq!(passed, tells, "{kind:?}: {id}");
        }
    }
}

#[test]
fn a_version_or_a_body_that_is_not_known_is_named() {
    let known = newer(BodyDescriptor::TDX_1_5, |_| {}, |_| {});
    // Offsets in a quote of version 5: the version, the body's type and size.
    for (at, value, said) in [
        (0, 6, "version is 6, not 4 or 5"),
        (48, 9, "body type is 9, of 648 bytes, not 2, 3 or 4"),
        (50, 0, "body type is 3, of 512 bytes, not 2, 3 or 4"),
    ] {
        let mut evidence = known.clone();
        evidence.bundle.td_quote.as_mut().expect("a quote").0[at] = value;
        assert_eq!(judge(said, Id::QuoteFormat, &evidence), None);
        let report = evidence.verify();
        let failure = report.first_failure().expect("it fails");
        assert!(failure.found.contains(said), "{failure:?}");
    }
}

#[test]
fn a_tdreport_with_partition_information_is_read() {
    let evidence = newer(BodyDescriptor::TDX_1_5_EX, partitioned, |_| {});
    assert_eq!(evidence.verify().first_failure(), None);
    // Beside a quote of version 4, too.
    let mut evidence = HONEST.clone();
    forge(&mut evidence, |forgery| partitioned(&mut forgery.td));
    assert_eq!(evidence.verify().first_failure(), None);
    assert_eq!(outcome(&evidence, Id::TdPartition), Outcome::Passed);
}

#[test]
fn a_quote_of_version_5_that_tells_of_others() {
    type Tell = fn(&mut TdQuoteBody15Ex);
    let lies: [(&str, Id, Tell); 5] = [
        ("devices bound", Id::TdBindings, |body| body.dev_info[0] = 1),
        ("a service TD bound later", Id::TdBindings, |body| {
            body.cur_service_td_hash[0] = 1;
        }),
        ("for the second VM", Id::ReportMatchesQuote, |body| {
            body.vmid = 2;
        }),
        ("of another TD", Id::ReportMatchesQuote, |body| {
            body.td_id[0] ^= 1;
        }),
        (
            "a service TD that the TDREPORT has not",
            Id::ReportMatchesQuote,
            |body| body.base.mrservicetd[0] = 1,
        ),
    ];
    for (name, breaks, tell) in lies {
        let evidence = newer(BodyDescriptor::TDX_1_5_EX, partitioned, tell);
        assert_eq!(judge(name, breaks, &evidence), None);
    }
    let vm = newer(BodyDescriptor::TDX_1_5_EX, |_| {}, |body| body.vmid = 2);
    assert_eq!(judge("for the second VM", Id::TdPartition, &vm), None);
}

/// MRSERVICETD is not zero, and a policy that says which may be.
#[test]
fn a_service_td() {
    let bind = |report: &mut TdReport| {
        report.report_mac.report_type.version = 1;
        report.td_info.servtd_hash = [7; 48];
    };
    for kind in [BodyDescriptor::TDX_1_5, BodyDescriptor::TDX_1_5_EX] {
        let current = |body: &mut TdQuoteBody15Ex| body.cur_service_td_hash = [7; 48];
        let mut evidence = newer(kind, bind, current);
        assert_eq!(judge("bound", Id::TdBindings, &evidence), None);
        evidence.policy.td.mrservicetd = Allowed::OneOf(vec![[8; 48]]);
        assert_eq!(judge("another", Id::TdBindings, &evidence), None);
        evidence.policy.td.mrservicetd = Allowed::OneOf(vec![[8; 48], [7; 48]]);
        assert_eq!(evidence.verify().verdict(), Verdict::Checked);
        evidence.policy.td.mrservicetd = Allowed::Any;
        assert_eq!(evidence.verify().verdict(), Verdict::Accepted);
    }
    let mut none = newer(BodyDescriptor::TDX_1_5, |_| {}, |_| {});
    none.policy.td.mrservicetd = Allowed::OneOf(vec![[7; 48]]);
    assert_eq!(judge("asked for", Id::TdBindings, &none), None);
}

#[test]
fn tdreports() {
    assert_seen(
        &HONEST,
        &[
            Lie {
                name: "a service TD bound, beside a quote that does not tell",
                breaks: Id::TdBindings,
                tell: |lie| {
                    forge(lie, |forgery| {
                        forgery.td.report_mac.report_type.version = 1;
                        forgery.td.td_info.servtd_hash[0] = 1;
                    });
                },
            },
            Lie {
                name: "for the second VM",
                breaks: Id::TdPartition,
                tell: |lie| {
                    forge(lie, |forgery| {
                        partitioned(&mut forgery.td);
                        forgery.td.td_info.reserved[56] = 2;
                    });
                },
            },
            Lie {
                name: "a service TD in a version that has none",
                breaks: Id::ReportMatchesQuote,
                tell: |lie| forge(lie, |forgery| forgery.td.td_info.servtd_hash[0] = 1),
            },
            Lie {
                name: "a version that is not known",
                breaks: Id::ReportMatchesQuote,
                tell: |lie| {
                    forge(lie, |forgery| forgery.td.report_mac.report_type.version = 4);
                },
            },
            Lie {
                name: "fields that are not known",
                breaks: Id::ReportMatchesQuote,
                tell: |lie| {
                    forge(lie, |forgery| {
                        partitioned(&mut forgery.td);
                        forgery.td.td_info.reserved[62] = 1;
                    });
                },
            },
        ],
    );
}

/// A TD to which service TDs can be bound later (SERVTD_EXT), by quotes that do not tell whether any is.
#[test]
fn service_tds_that_may_come_later() {
    let judged = |kind| {
        let later = |report: &mut TdReport| report.td_info.attributes[2] |= 2;
        let mut evidence = newer(kind, later, |_| {});
        evidence.policy.td.attributes = Bits::Any;
        let failures: Vec<Id> = evidence.verify().failures().collect();
        evidence.policy.td.mrservicetd = Allowed::Any;
        (failures, evidence.verify().failures().collect::<Vec<Id>>())
    };
    // The CA's quote is of the honest TD.
    let refused = vec![Id::TdBindings, Id::CaQuote];
    let none = judged(BodyDescriptor::TDX_1_0);
    assert_eq!(none, (refused.clone(), refused.clone()));
    let at_creation = judged(BodyDescriptor::TDX_1_5);
    assert_eq!(at_creation, (refused, vec![Id::CaQuote]));
    let now = judged(BodyDescriptor::TDX_1_5_EX);
    assert_eq!(now, (vec![Id::CaQuote], vec![Id::CaQuote]));
}
