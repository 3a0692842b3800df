//! What Trustee's server and client say (`trustee/README.md`), read and made by this crate.
#![allow(clippy::unwrap_used, reason = "a test")]

use broker_protocol::jwe::{self, Fresh};
use broker_protocol::jwk::TeeKey;
use broker_protocol::kbs::{Attestation, Challenge, ErrorInformation, Request};
use zeroize::Zeroizing;

const REQUEST: &str = include_str!("trustee/request.json");
const CHALLENGE: &str = include_str!("trustee/challenge.json");
const ATTESTATION: &str = include_str!("trustee/attestation.json");
const RUNTIME_DATA: &str = include_str!("trustee/runtime-data.sha384");
const RESOURCE: &str = include_str!("trustee/resource.json");
const ERROR: &str = include_str!("trustee/error.json");

fn key(byte: u8) -> TeeKey {
    TeeKey::from_random(&Zeroizing::new([byte; 32])).unwrap()
}

#[test]
fn a_clients_messages_are_read() {
    let request = Request::from_json(REQUEST.as_bytes()).unwrap();
    assert_eq!(
        (request.version.as_str(), request.tee.as_str()),
        ("0.4.0", "tdx")
    );
    let attestation = Attestation::from_json(ATTESTATION.as_bytes()).unwrap();
    assert_eq!(attestation.quote().unwrap(), b"quote");
    assert_eq!(attestation.event_log().unwrap(), b"log");
    assert_eq!(attestation.runtime_data.tee_pubkey, key(7).public());
}

#[test]
fn a_servers_messages_are_read() {
    let challenge = Challenge::from_json(CHALLENGE.as_bytes()).unwrap();
    let nonce: Vec<u8> = (0..32).collect();
    assert_eq!(
        CHALLENGE.trim_end().as_bytes(),
        Challenge::to_json(&nonce.try_into().unwrap())
    );
    assert_eq!(challenge.nonce.len(), 44);
    let resource = jwe::decrypt(RESOURCE.as_bytes(), &key(7)).unwrap();
    assert_eq!(resource.as_slice(), b"this is a test data");
    assert_eq!(
        ErrorInformation::from_json(ERROR.as_bytes())
            .unwrap()
            .name(),
        "PolicyDeny"
    );
}

#[test]
fn report_data_is_that_of_another_implementation() {
    let attestation = Attestation::from_json(ATTESTATION.as_bytes()).unwrap();
    let report_data = attestation.runtime_data.report_data("").unwrap();
    assert_eq!(hex::encode(&report_data[..48]), RUNTIME_DATA.trim_end());
}

/// With the same keys and numbers, the same bytes.
#[test]
fn a_resource_is_encrypted_as_another_implementation_does() {
    let fresh = Fresh {
        ephemeral: key(9),
        content_key: Zeroizing::new([3; 32]),
        iv: [4; 12],
    };
    let ours = jwe::encrypt(b"this is a test data", &key(7).public(), &fresh).unwrap();
    assert_eq!(std::str::from_utf8(&ours).unwrap(), RESOURCE.trim_end());
}
