//! Lies about the TD quote, and collateral that does not vouch for it.

use attestation::bundle::Binary;
use attestation::claims::Claims;
use attestation::report::Report;
use evidence::{Boot, Evidence, NOW, QuotingHost, Service};
use quoting::QuotingEnclave;
use quoting::pki::{Options, Pki, Subject};
use tdx_defs::quote::EnclaveReport;
use verifier::collateral::Signed;
use verifier::{Collateral, Id};

use crate::subjects::{HONEST, OLDER};
use crate::{Lie, assert_seen, judge};

/// Offsets in a quote (Intel TDX DCAP Quoting Library API, appendix 3).
mod at {
    pub(super) const MRTD: usize = 48 + 136;
    pub(super) const SIGNATURE: usize = 48 + 584 + 4;
    pub(super) const ATTESTATION_KEY: usize = SIGNATURE + 64;
    pub(super) const QE_REPORT: usize = ATTESTATION_KEY + 64 + 6;
    pub(super) const QE_REPORT_SIGNATURE: usize = QE_REPORT + 384;
    pub(super) const AUTHENTICATION_DATA: usize = QE_REPORT_SIGNATURE + 64 + 2;
}

fn bytes(evidence: &mut Evidence) -> &mut Vec<u8> {
    &mut evidence
        .bundle
        .td_quote
        .as_mut()
        .expect("there is a quote")
        .0
}

/// Has another quoting enclave quote the report in the bundle.
fn quote_by(evidence: &mut Evidence, enclave: &QuotingEnclave) {
    let report = Report::parse(&evidence.bundle.report.0).expect("a report");
    let quote = enclave.quote(report.td_report).expect("a report of a TD");
    *bytes(evidence) = quote;
}

/// An enclave that is not the one that the QE identity describes.
fn quote_by_enclave(evidence: &mut Evidence, edit: fn(&mut EnclaveReport)) {
    let mut enclave = QuotingEnclave::default();
    edit(&mut enclave.identity);
    quote_by(evidence, &enclave);
}

fn pki(edit: fn(&mut Options)) -> Pki {
    let mut options = Options::default();
    edit(&mut options);
    Pki::new(&options).expect("certificates")
}

/// What a relying party has of these certificates' owner.
fn collateral(pki: &Pki) -> Collateral {
    let files = pki.files().expect("files");
    let file = |name: &str| {
        let (_, bytes) = files.iter().find(|(other, _)| *other == name).expect(name);
        bytes.clone()
    };
    let text = |name| String::from_utf8(file(name)).expect("text");
    Collateral {
        root: file("root-ca.der"),
        root_crl: Some(file("root-ca-crl.der")),
        pck_crls: vec![file("pck-crl.der")],
        tcb_infos: Signed::parse(&text("tcb-info.json"), "tcbInfo")
            .into_iter()
            .collect(),
        qe_identity: Signed::parse(&text("qe-identity.json"), "enclaveIdentity"),
        tcb_signing_chain: Some(text("tcb-signing-chain.pem")),
    }
}

#[test]
fn signatures() {
    assert_seen(
        &HONEST,
        &[
            Lie {
                name: "another MRTD",
                breaks: Id::QuoteSignature,
                tell: |lie| bytes(lie)[at::MRTD] ^= 1,
            },
            Lie {
                name: "a bit of the signature",
                breaks: Id::QuoteSignature,
                tell: |lie| bytes(lie)[at::SIGNATURE] ^= 1,
            },
            Lie {
                name: "another attestation key",
                breaks: Id::QuoteSignature,
                tell: |lie| {
                    let key = quoting::TestKey::named("a key of the host's").public();
                    bytes(lie)[at::ATTESTATION_KEY..][..64].copy_from_slice(&key);
                },
            },
            Lie {
                name: "a bit of the quoting enclave's report",
                breaks: Id::QuoteSignature,
                tell: |lie| bytes(lie)[at::QE_REPORT] ^= 1,
            },
            Lie {
                name: "a bit of the signature of the quoting enclave's report",
                breaks: Id::QuoteSignature,
                tell: |lie| bytes(lie)[at::QE_REPORT_SIGNATURE] ^= 1,
            },
            Lie {
                name: "a bit of the authentication data",
                breaks: Id::QuoteSignature,
                tell: |lie| bytes(lie)[at::AUTHENTICATION_DATA] ^= 1,
            },
            Lie {
                name: "the PCK certificate of another platform",
                breaks: Id::QuoteSignature,
                tell: |lie| {
                    let other = pki(|options| options.platform = "another platform: ".into());
                    let other = other.quoting_enclave().expect("an enclave");
                    let enclave = QuotingEnclave {
                        certificates: other.certificates,
                        ..QuotingEnclave::default()
                    };
                    quote_by(lie, &enclave);
                },
            },
            Lie {
                name: "a quote that the host signed itself",
                breaks: Id::QuoteSignature,
                tell: |lie| {
                    let enclave = QuotingEnclave {
                        pck: quoting::TestKey::named("a key of the host's"),
                        ..QuotingEnclave::default()
                    };
                    quote_by(lie, &enclave);
                },
            },
        ],
    );
}

#[test]
fn certificates() {
    assert_seen(
        &HONEST,
        &[
            Lie {
                name: "a platform of another root, with the same names",
                breaks: Id::QuotePckChain,
                tell: |lie| {
                    let other = pki(|options| options.keys = "another root: ".into());
                    quote_by(lie, &other.quoting_enclave().expect("an enclave"));
                },
            },
            Lie {
                name: "the PCK certificate of another root's platform, with this one's signatures",
                breaks: Id::QuotePckChain,
                tell: |lie| {
                    let other = pki(|options| options.keys = "another root: ".into());
                    let other = other.quoting_enclave().expect("an enclave");
                    let enclave = QuotingEnclave {
                        certificates: other.certificates,
                        ..QuotingEnclave::default()
                    };
                    quote_by(lie, &enclave);
                },
            },
            Lie {
                name: "another root trusted",
                breaks: Id::QuotePckChain,
                tell: |lie| lie.collateral = Collateral::intel_root_only(),
            },
            Lie {
                name: "the certificate of the platform CA left out",
                breaks: Id::QuotePckChain,
                tell: |lie| {
                    let mut enclave = QuotingEnclave::default();
                    let text = String::from_utf8(enclave.certificates).expect("PEM");
                    let certificates: Vec<&str> =
                        text.split_inclusive("END CERTIFICATE-----\n").collect();
                    enclave.certificates = [certificates[0], certificates[2]].concat().into_bytes();
                    quote_by(lie, &enclave);
                },
            },
            Lie {
                name: "a platform that is revoked",
                breaks: Id::QuotePckChain,
                tell: |lie| {
                    lie.collateral =
                        collateral(&pki(|options| options.revoked = vec![Subject::Pck]));
                },
            },
            Lie {
                name: "a platform CA that is revoked",
                breaks: Id::QuotePckChain,
                tell: |lie| {
                    lie.collateral =
                        collateral(&pki(|options| options.revoked = vec![Subject::PlatformCa]));
                },
            },
            Lie {
                name: "a PCK certificate that has expired",
                breaks: Id::QuotePckChain,
                tell: |lie| {
                    let expired = pki(|options| options.pck_expires = NOW - 1);
                    quote_by(lie, &expired.quoting_enclave().expect("an enclave"));
                },
            },
            Lie {
                name: "a clock before the certificates",
                breaks: Id::QuotePckChain,
                tell: |lie| lie.now = quoting::pki::ISSUED - 1,
            },
        ],
    );
}

#[test]
fn collateral_and_platform() {
    assert_seen(
        &HONEST,
        &[
            Lie {
                name: "collateral that has expired",
                breaks: Id::QuoteTcb,
                tell: |lie| {
                    lie.collateral = collateral(&pki(|options| options.next_update = NOW - 1));
                },
            },
            Lie {
                name: "a signer of collateral that is revoked",
                breaks: Id::QuoteTcb,
                tell: |lie| {
                    lie.collateral =
                        collateral(&pki(|options| options.revoked = vec![Subject::TcbSigning]));
                },
            },
            Lie {
                name: "TCB info of another owner",
                breaks: Id::QuoteTcb,
                tell: |lie| {
                    let other = collateral(&pki(|options| options.keys = "another root: ".into()));
                    lie.collateral.tcb_infos = other.tcb_infos;
                },
            },
            Lie {
                name: "TCB info edited",
                breaks: Id::QuoteTcb,
                tell: |lie| {
                    let info = &mut lie.collateral.tcb_infos[0].body;
                    assert!(info.contains("\"tcbEvaluationDataNumber\":17"));
                    *info = info.replace("DataNumber\":17", "DataNumber\":18");
                },
            },
            Lie {
                name: "no TCB info",
                breaks: Id::QuoteTcb,
                tell: |lie| lie.collateral.tcb_infos.clear(),
            },
            Lie {
                name: "a quoting enclave of another signer",
                breaks: Id::QuoteTcb,
                tell: |lie| quote_by_enclave(lie, |enclave| enclave.mrsigner[0] ^= 1),
            },
            Lie {
                name: "a quoting enclave that is out of date",
                breaks: Id::QuoteTcb,
                tell: |lie| quote_by_enclave(lie, |enclave| enclave.isvsvn = [0; 2]),
            },
            Lie {
                name: "another enclave of the same signer",
                breaks: Id::QuoteTcb,
                tell: |lie| quote_by_enclave(lie, |enclave| enclave.isvprodid = [1, 0]),
            },
            Lie {
                name: "a quoting enclave under a debugger",
                breaks: Id::QuoteTcb,
                tell: |lie| quote_by_enclave(lie, |enclave| enclave.attributes[0] |= 2),
            },
            Lie {
                name: "collateral older than the policy wants",
                breaks: Id::QuoteTcb,
                tell: |lie| lie.policy.tcb.min_evaluation_data_number = 18,
            },
        ],
    );
}

#[test]
fn collateral_that_is_missing_is_named() {
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
        let mut evidence = HONEST.clone();
        take(&mut evidence.collateral);
        assert_eq!(judge(file, Id::QuoteTcb, &evidence), None);
        let report = evidence.verify();
        let expected = &report.first_failure().expect("it fails").expected;
        assert!(expected.contains(file), "{file}: {expected}");
    }
}

/// A policy that asks for no quote still asks for a report that is consistent.
#[test]
fn a_report_in_the_place_of_a_quote() {
    let boot = Boot {
        host: QuotingHost::of(Service::Absent),
        ..Boot::default()
    };
    let mut honest = boot.evidence();
    honest.policy.quote.required = false;
    assert_seen(
        &honest,
        &[Lie {
            name: "MRCONFIGID in the TDREPORT",
            breaks: Id::ReportData,
            tell: |lie| lie.bundle.report.0[32 + 600] ^= 1,
        }],
    );
}

#[test]
fn what_is_quoted() {
    assert_seen(
        &HONEST,
        &[
            Lie {
                name: "no quote, though the policy requires one",
                breaks: Id::QuoteFormat,
                tell: |lie| {
                    lie.bundle.td_quote = None;
                    lie.bundle.td_quote_status = 3;
                },
            },
            Lie {
                name: "a quote of another version",
                breaks: Id::QuoteFormat,
                tell: |lie| bytes(lie)[0] = 3,
            },
            Lie {
                name: "a quote of an enclave",
                breaks: Id::QuoteFormat,
                tell: |lie| bytes(lie)[4] = 0,
            },
            Lie {
                name: "a quote of another vendor's enclave",
                breaks: Id::QuoteFormat,
                tell: |lie| bytes(lie)[12] ^= 1,
            },
            Lie {
                name: "something behind the quote",
                breaks: Id::QuoteFormat,
                tell: |lie| bytes(lie).push(1),
            },
            Lie {
                name: "the quote of another boot",
                breaks: Id::ReportData,
                tell: |lie| lie.bundle.td_quote = OLDER.bundle.td_quote.clone(),
            },
            Lie {
                name: "the TDREPORT of another boot",
                breaks: Id::ReportMatchesQuote,
                tell: |lie| {
                    let other = Report::parse(&OLDER.bundle.report.0).expect("a report");
                    let own = lie.bundle.report.0.clone();
                    let own = Report::parse(&own).expect("a report");
                    let report = Report {
                        td_report: other.td_report,
                        claims: own.claims,
                    };
                    lie.bundle.report = Binary(report.to_bytes().expect("it fits"));
                },
            },
            Lie {
                name: "an RTMR in the TDREPORT",
                breaks: Id::ReportMatchesQuote,
                tell: |lie| lie.bundle.report.0[32 + 720] ^= 1,
            },
            Lie {
                name: "something behind the claims",
                breaks: Id::BundleFormat,
                tell: |lie| *lie.bundle.report.0.last_mut().expect("bytes") = 1,
            },
            Lie {
                name: "the claims count another record",
                breaks: Id::ReportData,
                tell: |lie| claim(lie, |claims| claims.records += 1),
            },
            Lie {
                name: "the claims name other EKs",
                breaks: Id::ReportData,
                tell: |lie| claim(lie, |claims| claims.eks[0] ^= 1),
            },
        ],
    );
}

/// Edits the claims without asking the TD.
fn claim(evidence: &mut Evidence, edit: fn(&mut Claims)) {
    let report = evidence.bundle.report.0.clone();
    let report = Report::parse(&report).expect("a report");
    let mut claims = Claims::from_json(report.claims).expect("claims");
    edit(&mut claims);
    let claims = claims.to_json();
    let edited = Report {
        claims: &claims,
        ..report
    };
    evidence.bundle.report = Binary(edited.to_bytes().expect("it fits"));
}

#[test]
fn an_old_request_is_not_made_new() {
    assert_seen(
        &HONEST,
        &[
            Lie {
                name: "evidence for another nonce",
                breaks: Id::NonceClaims,
                tell: |lie| lie.nonce = vec![0xEE; 32],
            },
            Lie {
                name: "the same, with the bundle's nonce edited",
                breaks: Id::NonceClaims,
                tell: |lie| {
                    lie.nonce = vec![0xEE; 32];
                    lie.bundle.nonce = "ee".repeat(32);
                },
            },
            Lie {
                name: "the same, with the claims edited as well",
                breaks: Id::ReportData,
                tell: |lie| {
                    lie.nonce = vec![0xEE; 32];
                    lie.bundle.nonce = "ee".repeat(32);
                    claim(lie, |claims| claims.user_data[..32].fill(0xEE));
                },
            },
            Lie {
                name: "a nonce that the claims pad to the same bytes",
                breaks: Id::TpmQuoteNonce,
                tell: |lie| {
                    lie.nonce.push(0);
                    lie.bundle.nonce.push_str("00");
                },
            },
            Lie {
                name: "the bundle says another nonce",
                breaks: Id::NonceClaims,
                tell: |lie| lie.bundle.nonce = "ee".repeat(32),
            },
        ],
    );
}
