//! What a client of Trustee's sends, and reads with its own types.

use crate::machine::Enrolled;
use crate::machine::Start;
use crate::running::Place;
use broker_protocol::kbs::{PATH_AUTH, resource_path};

/// As `kbs_protocol` of guest-components sends it.
const REQUEST: &str = include_str!("../../protocol/tests/trustee/request.json");

#[test]
fn a_client_of_trustee_reads_what_the_broker_answers() {
    let place = Place::new();
    let one = Enrolled::new(&place, "one");
    let broker = place.serve();
    let mut connection = broker.connect();
    let answer = connection.post(
        PATH_AUTH,
        &[("content-type", "application/json")],
        REQUEST.as_bytes(),
    );
    assert_eq!(
        (answer.status, answer.headers["content-type"].as_str()),
        (200, "application/json")
    );
    let challenge: kbs_types::Challenge = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(challenge.extra_params, "");

    let mut start = Start::new(&one, connection);
    let attestation = start.attestation(&one.boot, &one.init_data);
    let answer = start.attest(&attestation);
    let token: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(token["token"].as_str().unwrap().split('.').count(), 3);

    let answer = start.resource(&one.machine);
    let response: kbs_types::Response = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        (
            response.protected.alg.as_str(),
            response.protected.enc.as_str()
        ),
        ("ECDH-ES+A256KW", "A256GCM")
    );
    // Trustee's client makes the header again, and takes that for what was authenticated.
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let again = response.protected.generate_aad().unwrap();
    assert_eq!(again, body["protected"].as_str().unwrap().as_bytes());

    let path = resource_path(&one.machine);
    let refused = start.connection.get(&path, &[]);
    let error: kbs_types::ErrorInformation = serde_json::from_slice(&refused.body).unwrap();
    assert_eq!(refused.status, 401);
    assert!(
        error.error_type.ends_with("/TokenNotFound"),
        "{}",
        error.error_type
    );
}
