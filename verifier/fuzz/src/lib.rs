//! What the verifier does with hostile bytes: one entry point for each kind of input. None of them may
//! panic, whatever the bytes.
//!
//! The fuzz targets beside this file and `tests/hostile.rs` call the same functions.

use attestation::{
    bundle::Bundle,
    claims::Claims,
    digest::Algorithm,
    event_log::{EV_EVENT_TAG, Event, Log, replay_pcrs, replay_rtmrs},
    journal,
    report::Report,
    tpm::{Attest, Public, Signature},
};
use verifier::{
    About, Account, Collateral, Policy,
    account::File,
    cc_event::CcEvent,
    certificate::{Certificate, Contents, crl_issuer, from_pem},
    quote::TdQuote,
    td_body::consistent_report,
    tpm_signature,
};

/// 2026-01-01, in Unix seconds.
const NOW: u64 = 1_767_225_600;

/// A bundle of evidence, as a file.
pub fn bundle(data: &[u8]) {
    let collateral = Collateral::intel_root_only();
    let report = verifier::verify_json(data, &Policy::default(), &collateral, NOW, &[1; 32]);
    assert!(!report.is_trusted());
    let bundle = Bundle::from_json(data).ok();
    if let Some(bundle) = &bundle {
        verifier::explain(bundle);
    }
    let file = || File::new("file", data);
    let about = About {
        verifier: "fuzzed",
        time: String::new(),
        nonce: String::new(),
        evidence: file(),
        policy: file(),
        root_sha256: String::new(),
    };
    let page = verifier::page(&Account::new(report, about, bundle.as_ref()));
    assert!(!page.contains("<script"));
}

/// A CC event log.
pub fn cc_event_log(data: &[u8]) {
    if let Ok(log) = Log::parse(data) {
        let _ = replay_rtmrs(&log.events);
        for event in &log.events {
            let what = CcEvent::of(event);
            what.describe(event);
            what.is_consistent(event);
        }
    }
}

/// A TCG event log.
pub fn tcg_event_log(data: &[u8]) {
    if let Ok(log) = Log::parse(data) {
        let _ = replay_pcrs(&log);
    }
}

/// The data of an event of RTMR3.
pub fn journal(data: &[u8]) {
    let event = Event {
        register: 4,
        event_type: EV_EVENT_TAG,
        digests: vec![Algorithm::Sha384.digest(data)],
        data,
        offset: 0,
    };
    CcEvent::of(&event).describe(&event);
    if let Ok(record) = journal::Record::from_cbor(data) {
        assert_eq!(record.to_cbor(), data);
    }
}

/// NV index 0x01400001, and the claims in it.
pub fn report(data: &[u8]) {
    if let Ok(report) = Report::parse(data) {
        consistent_report(report.td_report);
        let _ = Claims::from_json(report.claims);
    }
    let _ = Claims::from_json(data);
    consistent_report(data);
}

/// Public areas, attestation structures and signatures.
pub fn tpm_structures(data: &[u8]) {
    let _ = Attest::parse(data);
    let _ = Signature::parse(data);
    if let Ok(public) = Public::parse_sized(data) {
        assert_eq!(public.to_sized_bytes(), data);
        let _ = tpm_signature::verify(data, data, &public);
    }
    if let Ok(public) = Public::parse(data) {
        verifier::public_key::PublicKey::from_tpm(&public);
    }
}

/// A certificate, DER; as PEM, as a CRL, and as the extensions of a certificate.
pub fn certificate(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        from_pem(text);
    }
    crl_issuer(data);
    if let Ok(contents) = Contents::parse(data) {
        contents.unknown_critical();
        let _ = contents.basic_constraints();
        let _ = contents.key_usage();
        let _ = contents.alternative_directory_name();
    }
    let Ok(certificate) = Certificate::parse(data) else {
        return;
    };
    let _ = certificate.open(&certificate);
    certificate.is_valid_at(NOW);
    let _ = (certificate.subject(), certificate.issuer());
}

/// A TD quote.
pub fn quote(data: &[u8]) {
    let Ok(quote) = TdQuote::parse(data) else {
        return;
    };
    let collateral = Collateral::intel_root_only();
    let _ = quote.verify_signatures();
    let _ = quote.verify_chain(&collateral, NOW);
    let _ = quote.verify_tcb(&collateral, NOW);
}
