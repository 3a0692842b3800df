//! Signatures by the kinds of attestation keys that a guest may have of its own.
#![allow(
    clippy::unwrap_used,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

mod story;

use attestation::{
    bundle::{Binary, Certify},
    digest::Algorithm,
    tpm::{
        Attest, Attested, Curve, Key, Name, ObjectAttributes, Public, Scheme, Signature, template,
    },
};
use p256::ecdsa::signature::Signer;
use story::Story;
use verifier::{
    Bundle, Id,
    tpm_signature::{SignatureError, verify},
};

const STATEMENT: &[u8] = b"a statement";

fn p256_key() -> p256::ecdsa::SigningKey {
    p256::ecdsa::SigningKey::from_slice(&[5; 32]).unwrap()
}

/// A restricted signing key of the guest's own.
fn p256_ak() -> Public {
    let point = p256_key().verifying_key().to_sec1_point(false);
    Public {
        scheme: Scheme::Ecdsa(Algorithm::Sha256),
        key: Key::Ecc {
            curve: Curve::P256,
            x: point.x().unwrap().to_vec(),
            y: point.y().unwrap().to_vec(),
        },
        ..template::ak_rsa_2048()
    }
}

fn p256_sign(message: &[u8]) -> Vec<u8> {
    let signature: p256::ecdsa::Signature = p256_key().sign(message);
    let (r, s) = signature.split_bytes();
    Signature::Ecdsa {
        hash: Algorithm::Sha256,
        r: r.to_vec(),
        s: s.to_vec(),
    }
    .to_bytes()
}

/// A bundle that an own AK quoted for, with L1's certification of a key named so.
fn own_ak(own: &Public, certified: Name) -> (Story, Bundle) {
    let story = Story::default();
    let mut bundle = story.tell();
    let certification = Attest {
        attested: Attested::Certify {
            name: certified.clone(),
            qualified_name: certified,
        },
        ..Attest::parse(&bundle.quote.attest.0).unwrap()
    }
    .to_bytes();
    bundle.certify = Some(Certify {
        signature: Binary(story::sign(&certification)),
        attest: Binary(certification),
        ak_public: bundle.ak_public.clone(),
    });
    bundle.quote.signature = Binary(p256_sign(&bundle.quote.attest.0));
    bundle.ak_public = Binary(own.to_sized_bytes());
    (story, bundle)
}

#[test]
fn an_own_ak_that_l1_certified_is_trusted() {
    let own = p256_ak();
    let (story, bundle) = own_ak(&own, own.name());
    let report = story.verify(&bundle);
    assert_eq!(report.first_failure(), None);
    assert!(report.is_trusted());
}

#[test]
fn an_own_ak_that_l1_did_not_certify_is_seen() {
    let own = p256_ak();
    let (story, bundle) = own_ak(&own, template::ek_p256().name());
    let failures: Vec<_> = story.verify(&bundle).failures().collect();
    assert_eq!(failures, [Id::AkCertified]);
}

#[test]
fn an_own_ak_that_signs_anything_proves_nothing() {
    let own = Public {
        attributes: ObjectAttributes::FIXED_TPM
            | ObjectAttributes::SENSITIVE_DATA_ORIGIN
            | ObjectAttributes::SIGN,
        ..p256_ak()
    };
    let (story, bundle) = own_ak(&own, own.name());
    let failures: Vec<_> = story.verify(&bundle).failures().collect();
    assert_eq!(failures, [Id::TpmQuoteSignature]);
}

#[test]
fn pss_is_accepted_with_either_salt() {
    let [.., ak] = story::keys();
    let ak = Public {
        scheme: Scheme::RsaPss(Algorithm::Sha256),
        ..ak
    };
    let signatures: [&[u8]; 2] = [
        include_bytes!("keys/pss-salt-32.sig"),
        include_bytes!("keys/pss-salt-222.sig"),
    ];
    for signature in signatures {
        let signature = Signature::RsaPss {
            hash: Algorithm::Sha256,
            signature: signature.to_vec(),
        }
        .to_bytes();
        assert_eq!(verify(STATEMENT, &signature, &ak), Ok(()));
        assert_eq!(
            verify(b"another statement", &signature, &ak),
            Err(SignatureError::Invalid)
        );
    }
}

#[test]
fn a_signature_of_another_scheme_or_hash_is_refused() {
    let [.., ak] = story::keys();
    let signature = p256_sign(STATEMENT);
    assert_eq!(
        verify(STATEMENT, &signature, &ak),
        Err(SignatureError::Scheme)
    );
    let sha1 = Public {
        scheme: Scheme::RsaSsa(Algorithm::Sha1),
        ..ak
    };
    let signature = Signature::RsaSsa {
        hash: Algorithm::Sha1,
        signature: vec![1; 256],
    }
    .to_bytes();
    assert_eq!(
        verify(STATEMENT, &signature, &sha1),
        Err(SignatureError::Weak)
    );
}
