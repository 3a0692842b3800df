//! Bundles that are not well-formed, as files and member by member.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use verifier::{Bundle, Id};

use crate::judge;
use crate::subjects::{HONEST, OWN_AK};

/// The script that collects evidence in a guest.
const SCRIPT: &str = include_str!("../../../guest/vtpm-evidence");

#[test]
fn files() {
    let honest = &*HONEST;
    let json = honest.bundle.to_json().expect("JSON");
    assert!(honest.verify_file(json.as_bytes()).is_trusted());
    let value: Value = serde_json::from_str(&json).expect("JSON");
    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut value = value.clone();
        edit(&mut value);
        value.to_string()
    };
    let cases = [
        ("nothing", String::new()),
        ("garbage", "\u{0}garbage".into()),
        ("another value", "[]".into()),
        ("cut off", json[..json.len() / 2].into()),
        ("something behind it", json.clone() + "{}"),
        (
            "a member twice",
            json.replacen('{', "{\"nonce\": \"00\",", 1),
        ),
        (
            "another format",
            edited(&|value| value["format"] = json!("evidence")),
        ),
        (
            "another version",
            edited(&|value| value["version"] = json!(2)),
        ),
        (
            "a member that is not known",
            edited(&|value| value["trust"] = json!("me")),
        ),
        (
            "a number for bytes",
            edited(&|value| value["report"] = json!(1)),
        ),
        ("no base64", edited(&|value| value["report"] = json!("%"))),
        (
            "no certificates",
            edited(&|value| value["ek_certificates"] = json!([])),
        ),
        ("no quote", edited(&|value| value["quote"] = Value::Null)),
        ("deep nesting", "[".repeat(100_000)),
    ];
    for (name, json) in cases {
        let report = honest.verify_file(json.as_bytes());
        let failures: Vec<Id> = report.failures().collect();
        assert_eq!(
            (failures, report.is_trusted()),
            (vec![Id::BundleFormat], false),
            "{name}"
        );
    }
    let too_large = vec![b' '; verifier::BUNDLE_LIMIT + 1];
    assert!(!honest.verify_file(&too_large).is_trusted());
}

/// Each member loses its last byte, its second half, or all.
#[test]
fn truncated_members() {
    type Member = fn(&mut Bundle) -> &mut Vec<u8>;
    let members: [(&str, Id, Member); 15] = [
        ("report", Id::BundleFormat, |bundle| &mut bundle.report.0),
        ("td_quote", Id::QuoteFormat, |bundle| {
            &mut bundle.td_quote.as_mut().expect("a quote").0
        }),
        ("cc_event_log", Id::CcLogFormat, |bundle| {
            &mut bundle.cc_event_log.0
        }),
        ("tcg_event_log", Id::TcgLogFormat, |bundle| {
            &mut bundle.tcg_event_log.0
        }),
        ("ca_certificate", Id::CaCertificate, |bundle| {
            &mut bundle.ca_certificate.0
        }),
        ("RSA EK", Id::EkCertificates, |bundle| {
            &mut bundle.ek_certificates[0].0
        }),
        ("P-256 EK", Id::EkCertificates, |bundle| {
            &mut bundle.ek_certificates[1].0
        }),
        ("P-384 EK", Id::EkCertificates, |bundle| {
            &mut bundle.ek_certificates[2].0
        }),
        ("ak_certificate", Id::AkCertificate, |bundle| {
            &mut bundle.ak_certificate.0
        }),
        ("ak_public", Id::AkCertified, |bundle| {
            &mut bundle.ak_public.0
        }),
        ("attest", Id::TpmQuoteSignature, |bundle| {
            &mut bundle.quote.attest.0
        }),
        ("signature", Id::TpmQuoteSignature, |bundle| {
            &mut bundle.quote.signature.0
        }),
        ("certify.attest", Id::AkCertified, |bundle| {
            &mut bundle.certify.as_mut().expect("an own AK").attest.0
        }),
        ("certify.signature", Id::AkCertified, |bundle| {
            &mut bundle.certify.as_mut().expect("an own AK").signature.0
        }),
        ("certify.ak_public", Id::AkName, |bundle| {
            &mut bundle.certify.as_mut().expect("an own AK").ak_public.0
        }),
    ];
    let honest = &*OWN_AK;
    assert!(honest.verify().is_trusted());
    let mut wrong = Vec::new();
    for (name, breaks, member) in members {
        for left in [|length| length - 1, |length| length / 2, |_| 0] {
            let left: fn(usize) -> usize = left;
            let mut evidence = honest.clone();
            let bytes = member(&mut evidence.bundle);
            bytes.truncate(left(bytes.len()));
            let length = bytes.len();
            // Zeros behind the claims may be left out.
            if name == "report" && length + 1 == attestation::report::NV_SIZE {
                bytes.truncate(attestation::report::TD_REPORT_SIZE);
            }
            let name = format!("{name}: {length} bytes left");
            wrong.extend(judge(&name, breaks, &evidence));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The members of a JSON object and of those in it.
fn members(value: &Value, into: &mut BTreeSet<String>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        into.insert(name.clone());
        members(value, into);
    }
}

#[test]
fn the_guests_script_prints_the_same_members() {
    let json = OWN_AK.bundle.to_json().expect("JSON");
    let mut ours = BTreeSet::new();
    members(&serde_json::from_str(&json).expect("JSON"), &mut ours);
    // In the script: `"name":` in what it prints, and the first word after the functions that print a member.
    let mut theirs = BTreeSet::new();
    for line in SCRIPT.lines().map(str::trim) {
        for function in ["member ", "optional_member ", "bank "] {
            let name = line
                .strip_prefix(function)
                .and_then(|rest| rest.split(' ').next());
            theirs.extend(name.map(str::to_owned));
        }
        if line.starts_with("printf") {
            let names = line.split('"').collect::<Vec<_>>();
            let names = names.windows(2).filter(|pair| pair[1].starts_with(':'));
            theirs.extend(names.map(|pair| pair[0].to_owned()));
        }
    }
    // The functions' own formats.
    theirs.retain(|name| !name.contains(['%', '$']));
    assert_eq!(theirs, ours);
}
