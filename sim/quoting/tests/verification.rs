//! An independent verifier (`dcap-qvl`) on quotes of this crate, with the test root for its root.
#![allow(
    clippy::unwrap_used,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

use dcap_qvl::QuoteCollateralV3;
use dcap_qvl::quote::Report;
use dcap_qvl::verify::{QuoteVerifier, VerifiedReport};
use quoting::pki::{FOREVER, ISSUED, Options, Pki, Subject, platform};
use quoting::{QuotingEnclave, body_of};
use tdx_defs::quote::TdQuoteBody;
use tdx_module::{Configuration, Module};
use zerocopy::IntoBytes;

/// 2030-01-01T00:00:00Z.
const NOW: u64 = 1_893_456_000;

fn report() -> [u8; 1024] {
    let module = Module::new(Configuration::default());
    let report = module.report([0x5a; 64]);
    assert!(module.is_local_report(&report.report_mac));
    report.as_bytes().try_into().unwrap()
}

fn body() -> TdQuoteBody {
    body_of(&report()).unwrap()
}

fn collateral(pki: &Pki) -> QuoteCollateralV3 {
    serde_json::from_str(&pki.collateral().unwrap().json().unwrap()).unwrap()
}

/// Verifies with the committed root and collateral.
fn verify(quote: &[u8]) -> Result<VerifiedReport, String> {
    let root = include_bytes!("../pki/root-ca.der").to_vec();
    let collateral = serde_json::from_str(include_str!("../pki/collateral.json")).unwrap();
    QuoteVerifier::new(root)
        .verify(quote, &collateral, NOW)
        .map_err(|error| format!("{error:#}"))
}

/// Verifies a quote of an enclave of `pki`, with the committed root.
fn verify_with(pki: &Pki, now: u64) -> Result<VerifiedReport, String> {
    let root = include_bytes!("../pki/root-ca.der").to_vec();
    let quote = pki.quoting_enclave().unwrap().sign_body(&body());
    QuoteVerifier::new(root)
        .verify(&quote, &collateral(pki), now)
        .map_err(|error| format!("{error:#}"))
}

#[test]
fn a_quote_of_the_models_report_is_verified_and_up_to_date() {
    let verified = verify(&quoting::quote(&report()).unwrap()).unwrap();
    assert_eq!(verified.status, "UpToDate");
    assert!(verified.advisory_ids.is_empty());
    assert_eq!(verified.ppid, platform::PPID);
    let Report::TD10(td) = verified.report else {
        panic!("{:?}", verified.report)
    };
    assert_eq!(td.report_data, [0x5a; 64]);
    assert_eq!(td.mr_seam, body().mrseam);
}

#[test]
fn the_certificates_name_the_models_platform() {
    let tcb = Configuration::default().tcb;
    assert_eq!(tcb.cpusvn, platform::CPUSVN);
    assert_eq!(tcb.tee_tcb_svn, platform::TEE_TCB_SVN);
}

#[test]
fn quotes_are_the_same_every_time() {
    assert_eq!(quoting::quote(&report()), quoting::quote(&report()));
}

#[test]
fn an_older_module_is_out_of_date_and_a_much_older_one_revoked() {
    let quote = |minor| {
        let mut body = body();
        body.tee_tcb_svn[0] = minor;
        verify(&QuotingEnclave::default().sign_body(&body))
    };
    assert_eq!(quote(4).unwrap().status, "OutOfDate");
    assert!(quote(2).unwrap_err().contains("Revoked"));
}

#[test]
fn an_older_enclave_is_out_of_date() {
    let mut enclave = QuotingEnclave::default();
    enclave.identity.isvsvn = 3u16.to_le_bytes();
    let verified = verify(&enclave.sign_body(&body())).unwrap();
    assert_eq!(verified.status, "OutOfDate");
}

#[test]
fn a_debug_td_is_refused() {
    let mut body = body();
    body.td_attributes[0] |= 1;
    let error = verify(&QuotingEnclave::default().sign_body(&body)).unwrap_err();
    assert!(error.contains("Debug"), "{error}");
}

#[test]
fn every_byte_that_is_signed_is_covered() {
    let quote = quoting::quote(&report()).unwrap();
    // Header, body, signature, attestation key, QE report, its signature, authentication data.
    let signed = 48 + 584;
    let key = signed + 4 + 64;
    let qe_report = key + 64 + 6;
    for offset in (12..signed)
        .step_by(31)
        .chain([signed + 4, key, qe_report, qe_report + 320])
        .chain([qe_report + 384, qe_report + 384 + 64 + 2])
    {
        let mut changed = quote.clone();
        changed[offset] ^= 1;
        assert!(verify(&changed).is_err(), "byte {offset}");
    }
}

#[test]
fn certificates_that_are_not_to_be_trusted_are_not() {
    let pki = |options: Options| Pki::new(&options).unwrap();
    let revoked = |subject| {
        pki(Options {
            revoked: vec![subject],
            ..Options::default()
        })
    };
    assert!(verify_with(&pki(Options::default()), NOW).is_ok());
    for (pki, why) in [
        (revoked(Subject::Pck), "CertRevoked"),
        (revoked(Subject::PlatformCa), "CertRevoked"),
        (revoked(Subject::TcbSigning), "CertRevoked"),
        (
            pki(Options {
                keys: "other ".into(),
                ..Options::default()
            }),
            "CRL",
        ),
        (
            pki(Options {
                pck_expires: NOW - 1,
                ..Options::default()
            }),
            "CertExpired",
        ),
        (
            pki(Options {
                next_update: NOW - 1,
                ..Options::default()
            }),
            "CrlExpired",
        ),
    ] {
        let error = verify_with(&pki, NOW).unwrap_err();
        assert!(error.contains(why), "{error}, wanted {why}");
    }
}

#[test]
fn everything_is_valid_from_its_issue_until_the_end_of_time() {
    let pki = Pki::new(&Options::default()).unwrap();
    for now in [ISSUED, NOW, FOREVER - 1] {
        verify_with(&pki, now).unwrap();
    }
    assert!(verify_with(&pki, ISSUED - 1).is_err());
}
