//! Keys that everybody has.

use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use sha2::{Digest, Sha256};

/// An ECDSA P-256 key whose private part is SHA-256 of a public text.
#[derive(Clone, Debug)]
pub struct TestKey(SigningKey);

impl TestKey {
    /// The key of a name.
    ///
    /// # Panics
    /// If the digest is not a P-256 scalar, which is so for one name in 2³².
    #[must_use]
    pub fn named(name: &str) -> TestKey {
        let secret = Sha256::new()
            .chain_update(b"TDP-VTPM TEST KEY, NEVER TRUST: ")
            .chain_update(name.as_bytes())
            .finalize();
        TestKey(SigningKey::from_slice(&secret).expect("choose another name"))
    }

    /// The public key's x and y.
    #[must_use]
    pub fn public(&self) -> [u8; 64] {
        let point = self.0.verifying_key().to_sec1_point(false);
        let mut public = [0; 64];
        public.copy_from_slice(&point.as_bytes()[1..]);
        public
    }

    /// ECDSA with SHA-256 and the nonce of RFC 6979: r and s.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let signature: Signature = self.0.sign(message);
        signature.to_bytes().into()
    }

    #[cfg(feature = "pki")]
    pub(crate) fn signing_key(&self) -> &SigningKey {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p256::ecdsa::VerifyingKey;
    use p256::ecdsa::signature::Verifier;

    #[test]
    fn a_name_always_gives_the_same_key_and_signature() {
        let key = TestKey::named("a");
        assert_eq!(key.public(), TestKey::named("a").public());
        assert_ne!(key.public(), TestKey::named("b").public());
        let signature = key.sign(b"message");
        assert_eq!(signature, TestKey::named("a").sign(b"message"));

        let mut point = [4; 65];
        point[1..].copy_from_slice(&key.public());
        let verifying = VerifyingKey::from_sec1_bytes(&point).unwrap();
        let signature = Signature::from_slice(&signature).unwrap();
        verifying.verify(b"message", &signature).unwrap();
    }
}
