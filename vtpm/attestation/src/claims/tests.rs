//! The claims as bytes, and what binds them.

use super::*;
use crate::digest::Algorithm;
use crate::pcr::{self, Bank};
use crate::report;
use crate::tpm::Name;
use proptest::prelude::*;
use std::format;
use std::string::String;
use std::vec;

fn claims() -> Claims {
    Claims {
        ak_modulus: vec![0xFF; 256],
        ak_exponent: 65537,
        user_data: [0xAB; 64],
        eks: [0; 32],
        pcrs: [0xFB; 32],
        journal: [1; 48],
        records: 7,
    }
}

/// The line of `docs/measurement.md`, section 5.
fn line() -> String {
    format!(
        concat!(
            r#"{{"keys":[{{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA","e":"AQAB","n":"{}"}}],"#,
            r#""user-data":"{}","tdp-vtpm":{{"v":1,"eks":"{}","pcrs":"{}","journal":"{}","records":7}}}}"#,
        ),
        "_".repeat(341) + "w",
        "AB".repeat(64),
        "A".repeat(43),
        "-_v7".repeat(10) + "-_s",
        "AQEB".repeat(16),
    )
}

#[test]
fn the_claims_are_one_line_of_json() {
    assert_eq!(String::from_utf8(claims().to_json()).unwrap(), line());
    assert_eq!(Claims::from_json(line().as_bytes()), Ok(claims()));
}

/// Clients of Azure's report read them with a JSON library, and look for these members.
#[test]
fn a_json_library_finds_what_azures_clients_look_for() {
    let json: serde_json::Value = serde_json::from_slice(&claims().to_json()).unwrap();
    let key = &json["keys"][0];
    assert_eq!(
        (&key["kid"], &key["kty"]),
        (&"HCLAkPub".into(), &"RSA".into())
    );
    assert_eq!(key["e"], "AQAB");
    assert_eq!(json["user-data"], "AB".repeat(64));
    assert_eq!(json["tdp-vtpm"]["v"], 1);
}

#[test]
fn the_longest_claims_fit_the_report() {
    let longest = Claims {
        ak_exponent: u32::MAX,
        records: u32::MAX,
        ..claims()
    };
    let length = longest.to_json().len();
    assert!(length <= report::CLAIMS_MAX, "{length}");
    assert_eq!(report::CLAIMS_MAX, 812);
}

#[test]
fn what_l1_would_not_write_is_refused() {
    let before_eks = line().find(r#"","tdp-vtpm""#).unwrap();
    let cases = [
        (r#"{"keys""#, r#"{ "keys""#, ClaimsError::Form(0)),
        (r#""v":1"#, r#""v":2"#, ClaimsError::Form(before_eks)),
        ("AQAB", "AQB", ClaimsError::Member("e")),
        ("AQAB", "AAEAAQ", ClaimsError::NotCanonical),
        ("AQAB", "AAEAAQAB", ClaimsError::Member("e")),
        (r#""n":""#, r#""n":"=="#, ClaimsError::Member("n")),
        ("ABAB", "abAB", ClaimsError::NotCanonical),
        ("ABAB", "ABA", ClaimsError::Member("user-data")),
        ("ABAB", "ABABA", ClaimsError::Member("user-data")),
        (r#""eks":"A"#, r#""eks":""#, ClaimsError::Member("eks")),
        ("\"-_v7", "\"-", ClaimsError::Member("pcrs")),
        ("\"AQEB", "\"", ClaimsError::Member("journal")),
        (":7}}", ":07}}", ClaimsError::NotCanonical),
        (":7}}", ":}}", ClaimsError::Member("records")),
        (":7}}", ":4294967296}}", ClaimsError::Member("records")),
        (":7}}", ":-7}}", ClaimsError::Member("records")),
    ];
    for (written, other, error) in cases {
        let changed = line().replacen(written, other, 1);
        assert_eq!(Claims::from_json(changed.as_bytes()), Err(error), "{other}");
    }
    let longer = line() + "\n";
    let end = ClaimsError::Form(line().len());
    assert_eq!(Claims::from_json(longer.as_bytes()), Err(end));
    assert_eq!(Claims::from_json(b"{\"\xFF"), Err(ClaimsError::Form(2)));
}

#[test]
fn the_names_of_the_eks_are_bound_with_their_sizes() {
    let names = [1, 2, 3].map(|byte| {
        let algorithm = Algorithm::ALL[usize::from(byte)];
        Name::of(algorithm, &[byte])
    });
    let mut bytes = b"TDP-VTPM EKS v1\0".to_vec();
    for (size, name) in [34u8, 50, 66].into_iter().zip(&names) {
        bytes.extend([0, size]);
        bytes.extend(name.as_bytes());
    }
    let digest = Algorithm::Sha256.digest(&bytes);
    assert_eq!(ek_names_digest(&names), digest.bytes());
}

#[test]
fn pcr_banks_are_bound_in_order_of_their_algorithms() {
    let banks = pcr::PcrBanks::ALL.at_startup();
    let reversed: Vec<Bank> = banks.iter().rev().cloned().collect();
    assert_eq!(pcr_banks_digest(&banks), pcr_banks_digest(&reversed));
    assert_ne!(pcr_banks_digest(&banks), pcr_banks_digest(&banks[1..]));
    let mut bytes = b"TDP-VTPM PCRS v1\0\x00\x04".to_vec();
    bytes.extend([[0; 20]; 17].as_flattened());
    bytes.extend([[0xFF; 20]; 6].as_flattened());
    bytes.extend([0; 20]);
    let digest = Algorithm::Sha256.digest(&bytes);
    assert_eq!(pcr_banks_digest(&banks[..1]), digest.bytes());
}

#[test]
fn the_two_reports_are_told_apart() {
    let party = report_data(b"bytes");
    assert_eq!(party[..32], *Algorithm::Sha256.digest(b"bytes").bytes());
    assert_eq!(party[32..], [0; 32]);
    let ca = ca_report_data(b"key");
    assert_eq!(
        ca[..48],
        *Algorithm::Sha384.digest(b"TDP-VTPM CA v1\0key").bytes()
    );
    assert_eq!(ca[48..], [0; 16]);
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        ak_modulus in proptest::collection::vec(any::<u8>(), 0..300),
        ak_exponent in any::<u32>(),
        user_data in any::<[[u8; 32]; 2]>(),
        eks in any::<[u8; 32]>(),
        pcrs in any::<[u8; 32]>(),
        journal in any::<[[u8; 24]; 2]>(),
        records in any::<u32>(),
    ) {
        let claims = Claims {
            ak_modulus,
            ak_exponent,
            user_data: user_data.as_flattened().try_into().unwrap(),
            eks,
            pcrs,
            journal: journal.as_flattened().try_into().unwrap(),
            records,
        };
        prop_assert_eq!(Claims::from_json(&claims.to_json()), Ok(claims));
    }

    #[test]
    fn what_is_read_is_written_as_it_was(
        place in any::<proptest::sample::Index>(),
        value in any::<u8>(),
        cut in any::<proptest::sample::Index>(),
        noise in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut bytes = line().into_bytes();
        let place = place.index(bytes.len());
        bytes[place] = value;
        let cut = bytes[..cut.index(bytes.len())].to_vec();
        for bytes in [bytes, cut, noise] {
            if let Ok(claims) = Claims::from_json(&bytes) {
                prop_assert_eq!(claims.to_json(), bytes);
            }
        }
    }
}
