use super::*;
use proptest::prelude::*;

fn key(byte: u8) -> TeeKey {
    TeeKey::from_random(&Zeroizing::new([byte; 32])).unwrap()
}

fn fresh() -> Fresh {
    Fresh {
        ephemeral: key(9),
        content_key: Zeroizing::new([3; 32]),
        iv: [4; 12],
    }
}

fn scalar(text: &str) -> TeeKey {
    TeeKey::from_random(&Zeroizing::new(array_from_url(text, "scalar").unwrap())).unwrap()
}

/// RFC 7518, appendix C: Alice's and Bob's keys, ECDH-ES with A128GCM.
#[test]
fn the_key_that_is_derived_is_that_of_the_rfc() {
    let alice = scalar("0_NxaRPUMQoAJt50Gz8YiTr8gRTwyEaCumd-MToTmIo");
    let bob = scalar("VEmDZpDXXK8p8N0Cndsxs924q6nS1RXFASRl6BfUqdw");
    let z = alice.agree(bob.public().point());
    assert_eq!(z, bob.agree(alice.public().point()));
    let expected = [
        158, 86, 217, 29, 129, 113, 53, 211, 114, 131, 66, 131, 191, 132, 38, 156, 251, 49, 110,
        163, 218, 128, 106, 72, 246, 218, 167, 121, 140, 254, 144, 196,
    ];
    assert_eq!(*z, expected);
    let derived = concat_kdf(&z, "A128GCM", b"Alice", b"Bob", 128);
    assert_eq!(url(&derived[..16]), "VqqN6vgjbSBcIijNcacQGg");
}

#[test]
fn what_is_encrypted_is_decrypted_by_its_recipient_alone() {
    let recipient = key(7);
    for secret in [&b""[..], b"x", &[0xa5; limits::RESOURCE]] {
        let jwe = encrypt(secret, &recipient.public(), &fresh()).unwrap();
        assert_eq!(decrypt(&jwe, &recipient).unwrap().as_slice(), secret);
        assert_eq!(decrypt(&jwe, &key(8)).unwrap_err(), Error::OtherRecipient);
    }
    let long = [0; limits::RESOURCE + 1];
    assert_eq!(
        encrypt(&long, &recipient.public(), &fresh()).unwrap_err(),
        Error::TooLong("resource")
    );
}

fn member(jwe: &[u8], name: &str, value: serde_json::Value) -> Vec<u8> {
    let mut json: serde_json::Value = serde_json::from_slice(jwe).unwrap();
    json[name] = value;
    serde_json::to_vec(&json).unwrap()
}

#[test]
fn each_member_that_is_not_as_it_must_be_has_a_name() {
    let recipient = key(7);
    let jwe = encrypt(b"secret", &recipient.public(), &fresh()).unwrap();
    let header = |from: &str, to: &str| {
        let json: serde_json::Value = serde_json::from_slice(&jwe).unwrap();
        let header = from_url(json["protected"].as_str().unwrap(), "").unwrap();
        let header = String::from_utf8(header).unwrap();
        assert!(header.contains(from));
        member(
            &jwe,
            "protected",
            url(header.replacen(from, to, 1).as_bytes()).into(),
        )
    };
    for (lie, error) in [
        (member(&jwe, "aad", "".into()), Error::AdditionalData),
        (
            member(&jwe, "unprotected", "".into()),
            Error::Malformed("JWE"),
        ),
        (member(&jwe, "tag", 1.into()), Error::Malformed("JWE")),
        (
            member(&jwe, "tag", "AAAA".into()),
            Error::Encoding("JWE's tag"),
        ),
        (member(&jwe, "tag", url(&[0; 16]).into()), Error::Altered),
        (member(&jwe, "iv", url(&[0; 12]).into()), Error::Altered),
        (
            member(&jwe, "iv", url(&[0; 16]).into()),
            Error::Encoding("JWE's iv"),
        ),
        (
            member(&jwe, "encrypted_key", url(&[0; 40]).into()),
            Error::OtherRecipient,
        ),
        (member(&jwe, "ciphertext", "AA".into()), Error::Altered),
        (
            member(&jwe, "ciphertext", "A+".into()),
            Error::Encoding("JWE's ciphertext"),
        ),
        (
            member(&jwe, "protected", url(&[b' '; 1024]).into()),
            Error::TooLong("JWE's header"),
        ),
        (header("ECDH-ES+A256KW", "ECDH-ES"), Error::Algorithm("JWE")),
        (header("A256GCM", "A128GCM"), Error::Algorithm("JWE")),
        (header("P-256", "P-384"), Error::KeyType),
        (
            header("\"alg\"", "\"kid\":\"1\",\"alg\""),
            Error::Malformed("JWE's header"),
        ),
        (
            header("\"alg\"", "\"zip\":\"DEF\",\"alg\""),
            Error::Malformed("JWE's header"),
        ),
        // The same header in other words: the tag is over the text.
        (header("{", "{ "), Error::Altered),
        (Vec::new(), Error::Malformed("JWE")),
        (alloc::vec![b' '; limits::BODY + 1], Error::TooLong("JWE")),
    ] {
        let text = String::from_utf8_lossy(&lie);
        assert_eq!(decrypt(&lie, &recipient).unwrap_err(), error, "{text}");
    }
}

proptest! {
    /// Every byte matters: what was changed is refused, whatever it becomes.
    #[test]
    fn a_changed_byte_is_refused(at in 0_usize..450, to in any::<u8>()) {
        let recipient = key(7);
        let mut jwe = encrypt(b"secret", &recipient.public(), &fresh()).unwrap();
        let at = at % jwe.len();
        prop_assume!(jwe[at] != to);
        jwe[at] = to;
        prop_assert!(decrypt(&jwe, &recipient).is_err());
    }

    #[test]
    fn nonsense_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decrypt(&bytes, &key(7)).is_err());
    }
}
