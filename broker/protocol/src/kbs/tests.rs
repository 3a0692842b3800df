use super::*;
use crate::jwk::TeeKey;
use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec;
use zeroize::Zeroizing;

fn runtime_data() -> RuntimeData {
    let key = TeeKey::from_random(&Zeroizing::new([7; 32])).unwrap();
    RuntimeData {
        nonce: "bm9uY2U=".into(),
        tee_pubkey: key.public(),
    }
}

/// `kbs-types` is what Trustee's server and client read and write these messages with.
#[test]
fn the_messages_are_those_of_kbs_types() {
    let request: kbs_types::Request = serde_json::from_slice(&Request::to_json()).unwrap();
    assert_eq!(
        (request.version.as_str(), request.tee),
        (VERSION, kbs_types::Tee::Tdx)
    );

    let challenge: kbs_types::Challenge =
        serde_json::from_slice(&Challenge::to_json(&[1; 32])).unwrap();
    assert_eq!(challenge.nonce, standard(&[1; 32]));
    let theirs = serde_json::to_vec(&challenge).unwrap();
    assert_eq!(
        Challenge::from_json(&theirs).unwrap().nonce,
        challenge.nonce
    );

    let ours = Attestation::new(
        Some("version = \"0.1.0\"\n"),
        runtime_data(),
        b"quote",
        b"log",
    );
    let json = ours.to_json().unwrap();
    let theirs: kbs_types::Attestation = serde_json::from_slice(&json).unwrap();
    assert_eq!(theirs.init_data.as_ref().unwrap().format, "toml");
    assert_eq!(
        theirs.tee_evidence.primary_evidence["quote"],
        standard(b"quote")
    );
    let again = Attestation::from_json(&serde_json::to_vec(&theirs).unwrap()).unwrap();
    assert_eq!(again, ours);
    assert_eq!(again.quote().unwrap(), b"quote");
    assert_eq!(again.event_log().unwrap(), b"log");

    let error = ErrorInformation::new("PolicyDeny", "no");
    let theirs: kbs_types::ErrorInformation =
        serde_json::from_slice(&serde_json::to_vec(&error).unwrap()).unwrap();
    assert_eq!(theirs.detail, "no");
    assert_eq!(error.name(), "PolicyDeny");
}

/// Trustee's server makes a value of the members, whose map sorts them, and hashes its text. (A map of `serde_json` sorts
/// unless some other crate of the build wants it not to.)
#[test]
fn the_canonical_text_is_that_of_sorted_members() {
    let data = runtime_data();
    let key: BTreeMap<String, String> =
        serde_json::from_str(&serde_json::to_string(&data.tee_pubkey).unwrap()).unwrap();
    let members = BTreeMap::from([
        ("tee-pubkey", serde_json::to_string(&key).unwrap()),
        ("nonce", serde_json::to_string(&data.nonce).unwrap()),
        ("additional-evidence", "\"{}\"".to_string()),
    ]);
    let theirs: Vec<String> = members
        .iter()
        .map(|(name, value)| alloc::format!("\"{name}\":{value}"))
        .collect();
    let theirs = alloc::format!("{{{}}}", theirs.join(","));
    let canonical = data.canonical("{}").unwrap();
    assert_eq!(core::str::from_utf8(&canonical).unwrap(), theirs);
    let report_data = data.report_data("{}").unwrap();
    assert_eq!(report_data[..48], Sha384::digest(&canonical)[..]);
    assert_eq!(report_data[48..], [0; 16]);
    assert_ne!(report_data, data.report_data("").unwrap());
}

#[test]
fn what_a_server_may_say_beyond_its_nonce() {
    let read = |text: &str| Challenge::from_json(text.as_bytes()).map(|challenge| challenge.nonce);
    for text in [
        r#"{"nonce":"n","extra-params":""}"#,
        r#"{"nonce":"n","extra-params":{}}"#,
        r#"{"nonce":"n"}"#,
        r#"{"nonce":"n","extra-params":{"selected-hash-algorithm":"sha384"},"more":[1]}"#,
    ] {
        assert_eq!(read(text).unwrap(), "n", "{text}");
    }
    let long = alloc::format!(r#"{{"nonce":"{}"}}"#, "n".repeat(limits::NONCE + 1));
    for (text, error) in [
        (
            r#"{"nonce":"n","extra-params":{"selected-hash-algorithm":"sha512"}}"#,
            Error::Algorithm("challenge"),
        ),
        (
            r#"{"nonce":"","extra-params":""}"#,
            Error::Malformed("nonce"),
        ),
        (
            r#"{"nonce":"\"","extra-params":""}"#,
            Error::Malformed("nonce"),
        ),
        (
            r#"{"nonce":"\u00e9","extra-params":""}"#,
            Error::Malformed("nonce"),
        ),
        (
            r#"{"nonce":1,"extra-params":""}"#,
            Error::Malformed("challenge"),
        ),
        (r#"{"extra-params":""}"#, Error::Malformed("challenge")),
        (&long, Error::TooLong("nonce")),
        (&" ".repeat(limits::BODY + 1), Error::TooLong("challenge")),
    ] {
        assert_eq!(read(text).unwrap_err(), error);
    }
}

/// The request of Trustee's client of 0.21.
#[test]
fn a_clients_extra_parameters_are_passed_over() {
    let text = br#"{"version":"0.4.0","tee":"tdx","extra-params":{"supported-hash-algorithms":["sha256","sha384"]}}"#;
    let request = Request::from_json(text).unwrap();
    assert_eq!(
        (request.version.as_str(), request.tee.as_str()),
        (VERSION, TEE)
    );
}

#[test]
fn a_session_is_found_among_cookies() {
    for (header, session) in [
        (
            "kbs-session-id=5fbe; Expires=Fri, 21 Aug 2026 09:11:50 GMT",
            Some("5fbe"),
        ),
        ("a=b; kbs-session-id=5-_Z", Some("5-_Z")),
        ("kbs-session-id=", None),
        ("kbs-session-id=a b", None),
        ("kbs-session-id=a\r\nX: y", None),
        ("xkbs-session-id=a", None),
        ("", None),
    ] {
        assert_eq!(session_of(header), session, "{header}");
    }
    let long = alloc::format!("{COOKIE}={}", "a".repeat(limits::SESSION + 1));
    assert_eq!(session_of(&long), None);
}

#[test]
fn what_a_server_says_for_people_is_bounded_and_plain() {
    let text = "\u{1b}[2J".to_string() + &"x".repeat(limits::TEXT);
    let json = serde_json::to_vec(&ErrorInformation::new("JweError", &text)).unwrap();
    let error = ErrorInformation::from_json(&json).unwrap();
    assert_eq!(error.detail.len(), limits::TEXT);
    assert!(error.detail.starts_with(" [2Jx"));
    assert_eq!(error.name(), "JweError");
}

#[test]
fn an_attestation_with_more_than_the_protocol_has_is_refused() {
    let json = Attestation::new(None, runtime_data(), b"q", b"l")
        .to_json()
        .unwrap();
    for (from, to) in [
        ("\"nonce\"", "\"more\":1,\"nonce\""),
        ("P-256", "P-521"),
        ("tee-evidence", "x"),
    ] {
        let lie = core::str::from_utf8(&json).unwrap().replacen(from, to, 1);
        assert_eq!(
            Attestation::from_json(lie.as_bytes()).unwrap_err(),
            Error::Malformed("attestation"),
            "{to}"
        );
    }
    let long = vec![b' '; limits::ATTEST_BODY + 1];
    assert_eq!(
        Attestation::from_json(&long),
        Err(Error::TooLong("attestation"))
    );
}
