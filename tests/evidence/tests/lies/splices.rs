//! Bundles put together from good ones: of machines that are as good as each other, and of several times of one.

use attestation::tpm::Name;
use evidence::Evidence;
use verifier::policy::KnownEks;
use verifier::{Bundle, Id};

use crate::subjects::{HONEST, OLDER, TIMES, TWIN};
use crate::{Lie, assert_seen, judge};

#[test]
fn one_member_of_another_machine() {
    type Member = fn(&mut Bundle, &Bundle);
    let members: [(&str, Id, Member); 9] = [
        ("report", Id::ReportData, |to, from| {
            to.report = from.report.clone();
        }),
        ("td_quote", Id::ReportData, |to, from| {
            to.td_quote = from.td_quote.clone();
        }),
        ("cc_event_log", Id::Rtmr3, |to, from| {
            to.cc_event_log = from.cc_event_log.clone();
        }),
        ("ca_certificate", Id::CaCertificate, |to, from| {
            to.ca_certificate = from.ca_certificate.clone();
        }),
        ("ek_certificates", Id::EkCertificates, |to, from| {
            to.ek_certificates = from.ek_certificates.clone();
        }),
        ("ak_certificate", Id::AkCertificate, |to, from| {
            to.ak_certificate = from.ak_certificate.clone();
        }),
        ("ek_public", Id::EkNames, |to, from| {
            to.ek_public = Some(from.ak_public.clone());
        }),
        ("ak_public", Id::AkName, |to, from| {
            to.ak_public = from.ak_public.clone();
        }),
        ("quote", Id::TpmQuoteSignature, |to, from| {
            to.quote = from.quote.clone();
        }),
    ];
    let (honest, twin) = (&*HONEST, &*TWIN);
    assert!(honest.verify().is_trusted() && twin.verify().is_trusted());
    let mut wrong = Vec::new();
    for (name, breaks, take) in members {
        let mut evidence = honest.clone();
        take(&mut evidence.bundle, &twin.bundle);
        wrong.extend(judge(name, breaks, &evidence));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn several_members_of_another_machine() {
    assert_seen(
        &HONEST,
        &[
            Lie {
                name: "claims and quote",
                breaks: Id::Rtmr3,
                tell: |lie| claims_and_quote(lie, &TWIN),
            },
            Lie {
                name: "claims, quote and journal, but not the CA",
                breaks: Id::CaCertificate,
                tell: |lie| {
                    claims_and_quote(lie, &TWIN);
                    lie.bundle.cc_event_log = TWIN.bundle.cc_event_log.clone();
                },
            },
            Lie {
                name: "all of the TD's, but not the TPM's quote and AK",
                breaks: Id::AkName,
                tell: |lie| {
                    let own = lie.bundle.clone();
                    lie.bundle = TWIN.bundle.clone();
                    lie.bundle.quote = own.quote;
                    lie.bundle.ak_public = own.ak_public;
                },
            },
            Lie {
                name: "all of the TPM's keys and quote, but not the TD's",
                breaks: Id::EkCertificates,
                tell: |lie| {
                    // The AK is the machine's own: its certificate would be a second lie.
                    lie.bundle.ek_certificates = TWIN.bundle.ek_certificates.clone();
                },
            },
            Lie {
                name: "a machine with an older kernel, under this one's claims",
                breaks: Id::ReportData,
                tell: |lie| {
                    let own = lie.bundle.report.clone();
                    lie.bundle = OLDER.bundle.clone();
                    lie.bundle.report = own;
                },
            },
            Lie {
                name: "a machine with an older kernel, under this one's CC event log",
                breaks: Id::Rtmr1,
                tell: |lie| {
                    // Its journal is its own: RTMR1 alone is the lie.
                    let kernel = crate::clippings::first_of(&lie.bundle.cc_event_log.0, 4);
                    let own = crate::clippings::pieces(&lie.bundle.cc_event_log.0);
                    let theirs = crate::clippings::pieces(&OLDER.bundle.cc_event_log.0);
                    lie.bundle = OLDER.bundle.clone();
                    lie.bundle.cc_event_log.0 =
                        [&own[..kernel], &theirs[kernel..]].concat().concat();
                },
            },
        ],
    );
}

/// What the policy for a kind of machine cannot see, and the one for a machine does.
#[test]
fn a_relay_to_a_machine_as_good() {
    let report = HONEST.verify();
    let named = report.checks.iter().find(|check| check.id == Id::EkPolicy);
    let names: Vec<Name> = named
        .expect("a check of the EKs")
        .found
        .split(' ')
        .filter_map(|name| Name::new(&hex::decode(name).ok()?))
        .collect();
    assert_eq!(names.len(), 3);
    let mut honest = HONEST.clone();
    honest.bundle = TWIN.bundle.clone();
    assert!(honest.verify().is_trusted());
    honest.bundle = HONEST.bundle.clone();
    for name in names {
        honest.policy.vtpm.ek = KnownEks::OneOf(vec![name]);
        assert_seen(
            &honest,
            &[Lie {
                name: "the whole bundle of a twin",
                breaks: Id::EkPolicy,
                tell: |lie| lie.bundle = TWIN.bundle.clone(),
            }],
        );
    }
}

fn claims_and_quote(lie: &mut Evidence, of: &Evidence) {
    lie.bundle.report = of.bundle.report.clone();
    lie.bundle.td_quote = of.bundle.td_quote.clone();
}

#[test]
fn other_times_of_the_same_machine() {
    assert_seen(
        &TIMES.first,
        &[
            Lie {
                name: "the whole bundle of another request",
                breaks: Id::NonceClaims,
                tell: |lie| lie.bundle = TIMES.other_nonce.clone(),
            },
            Lie {
                name: "the TPM quote of another request",
                breaks: Id::TpmQuoteNonce,
                tell: |lie| lie.bundle.quote = TIMES.other_nonce.quote.clone(),
            },
            Lie {
                name: "the quote of another request",
                breaks: Id::ReportData,
                tell: |lie| lie.bundle.td_quote = TIMES.other_nonce.td_quote.clone(),
            },
            Lie {
                name: "the report of another request",
                breaks: Id::NonceClaims,
                tell: |lie| {
                    lie.bundle.report = TIMES.other_nonce.report.clone();
                    lie.bundle.td_quote = TIMES.other_nonce.td_quote.clone();
                },
            },
            Lie {
                name: "a TPM quote of later PCRs",
                breaks: Id::TpmQuotePcrs,
                tell: |lie| lie.bundle.quote = TIMES.later.quote.clone(),
            },
            Lie {
                name: "later PCRs with their TPM quote",
                breaks: Id::PcrBanks,
                tell: |lie| {
                    lie.bundle.quote = TIMES.later.quote.clone();
                    lie.bundle.pcrs = TIMES.later.pcrs.clone();
                },
            },
            Lie {
                name: "a later journal",
                breaks: Id::Rtmr3,
                tell: |lie| lie.bundle.cc_event_log = TIMES.later.cc_event_log.clone(),
            },
            Lie {
                name: "malware hidden behind the PCRs and TPM quote from before it ran",
                breaks: Id::PcrBanks,
                tell: |lie| {
                    let before = lie.bundle.clone();
                    lie.bundle = TIMES.later.clone();
                    lie.bundle.quote = before.quote;
                    lie.bundle.pcrs = before.pcrs;
                },
            },
            Lie {
                name: "malware hidden behind the claims from before it ran",
                breaks: Id::PcrBanks,
                tell: |lie| {
                    lie.bundle.quote = TIMES.later.quote.clone();
                    lie.bundle.pcrs = TIMES.later.pcrs.clone();
                    lie.bundle.ca_certificate = TIMES.later.ca_certificate.clone();
                },
            },
        ],
    );
}
