//! Signatures of schemes that a guest may choose for an attestation key of its own.
#![allow(
    clippy::unwrap_used,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

use attestation::{
    digest::Algorithm,
    tpm::{Key, Public, Scheme, Signature, template},
};
use p256::ecdsa::signature::Signer;
use rsa::{RsaPrivateKey, pkcs8::DecodePrivateKey, traits::PublicKeyParts};
use verifier::tpm_signature::{SignatureError, verify};

const STATEMENT: &[u8] = b"a statement";

/// An AK by the template of L1's.
fn rsa_ak() -> Public {
    let key = RsaPrivateKey::from_pkcs8_pem(include_str!("keys/ak.pem")).unwrap();
    Public {
        key: Key::Rsa {
            bits: 2048,
            exponent: 0,
            modulus: key.n_bytes().to_vec(),
        },
        ..template::ak_rsa_2048()
    }
}

fn p256_sign(message: &[u8]) -> Vec<u8> {
    let key = p256::ecdsa::SigningKey::from_slice(&[5; 32]).unwrap();
    let signature: p256::ecdsa::Signature = key.sign(message);
    let (r, s) = signature.split_bytes();
    Signature::Ecdsa {
        hash: Algorithm::Sha256,
        r: r.to_vec(),
        s: s.to_vec(),
    }
    .to_bytes()
}

#[test]
fn pss_is_accepted_with_either_salt() {
    let ak = Public {
        scheme: Scheme::RsaPss(Algorithm::Sha256),
        ..rsa_ak()
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
    let ak = rsa_ak();
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
