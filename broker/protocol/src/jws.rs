//! What the broker signs: a JWS in the compact serialization (RFC 7515, section 3.1) with ES256 (RFC 7518, section 3.4).

use crate::encoding::{array_from_url, from_json, from_url, url, within};
use crate::{Error, jwk, limits};
use alloc::string::String;
use alloc::vec::Vec;
use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};
use serde::Deserialize;
use zeroize::Zeroizing;

/// The signature's algorithm (RFC 7518, section 3.4).
const ALG: &str = "ES256";

/// The broker's identity: a P-256 key that the machine's attested configuration names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity(VerifyingKey);

impl Identity {
    /// From a point as SEC 1 has it, compressed or not.
    ///
    /// # Errors
    /// [`Error::NoPoint`].
    pub fn from_sec1(point: &[u8]) -> Result<Self, Error> {
        VerifyingKey::from_sec1_bytes(point)
            .map(Self)
            .map_err(|_| Error::NoPoint)
    }

    /// The point, compressed (SEC 1, section 2.3.3): 33 bytes.
    pub fn to_sec1(&self) -> [u8; 33] {
        let mut bytes = [0; 33];
        let point = self.0.to_sec1_point(true);
        for (to, from) in bytes.iter_mut().zip(point.as_bytes()) {
            *to = *from;
        }
        bytes
    }

    /// Its thumbprint (RFC 7638).
    pub fn thumbprint(&self) -> jwk::Thumbprint {
        jwk::thumbprint(&p256::PublicKey::from(&self.0))
    }
}

/// The broker's key. Erased when dropped.
pub struct IdentityKey(SigningKey);

impl IdentityKey {
    /// The key whose scalar is `random`; `None` if that is none: take other numbers.
    pub fn from_random(random: &Zeroizing<[u8; 32]>) -> Option<Self> {
        SigningKey::from_slice(&**random).ok().map(Self)
    }

    /// The scalar, to be kept.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes().into())
    }

    /// Its public half.
    pub fn identity(&self) -> Identity {
        Identity(*self.0.verifying_key())
    }
}

impl core::fmt::Debug for IdentityKey {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("IdentityKey(..)")
    }
}

/// What kind of content a JWS has (RFC 7515, section 4.1.9): one that was signed as the one is not taken as the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A [`Release`](crate::release::Release).
    Release,
    /// The token that KBS answers an attestation with.
    Token,
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Type::Release => "tdp-vtpm-release",
            Type::Token => "JWT",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
}

/// `payload`, signed. Erased when dropped: it has what the payload has.
///
/// # Errors
/// [`Error::TooLong`].
pub fn sign(key: &IdentityKey, kind: Type, payload: &[u8]) -> Result<Zeroizing<String>, Error> {
    within(payload.len(), limits::RESOURCE, "JWS")?;
    let header = alloc::format!(r#"{{"alg":"{ALG}","typ":"{}"}}"#, kind.name());
    // With room for all of it, so that no copy is left behind.
    let mut text = Zeroizing::new(String::with_capacity(payload.len() * 4 / 3 + 256));
    text.push_str(&url(header.as_bytes()));
    text.push('.');
    text.push_str(&Zeroizing::new(url(payload)));
    let signature: Signature = key.0.sign(text.as_bytes());
    text.push('.');
    text.push_str(&url(&signature.to_bytes()));
    Ok(text)
}

/// What `identity` signed as a `kind`.
///
/// # Errors
/// See [`Error`]; nothing is given out before the signature holds.
pub fn verify(jws: &[u8], identity: &Identity, kind: Type) -> Result<Zeroizing<Vec<u8>>, Error> {
    within(jws.len(), limits::BODY, "JWS")?;
    let jws = core::str::from_utf8(jws).map_err(|_| Error::Malformed("JWS"))?;
    let (signed, signature) = jws.rsplit_once('.').ok_or(Error::Malformed("JWS"))?;
    let (header, payload) = signed.split_once('.').ok_or(Error::Malformed("JWS"))?;
    within(header.len(), limits::PROTECTED, "JWS's header")?;
    let header = from_url(header, "JWS's header")?;
    let header: Header = from_json(&header, limits::PROTECTED, "JWS's header")?;
    if header.alg != ALG {
        return Err(Error::Algorithm("JWS"));
    }
    if header.typ != kind.name() {
        return Err(Error::Malformed("JWS's type"));
    }
    let signature: [u8; 64] = array_from_url(signature, "JWS's signature")?;
    let signature = Signature::from_slice(&signature).map_err(|_| Error::Signature)?;
    identity
        .0
        .verify(signed.as_bytes(), &signature)
        .map_err(|_| Error::Signature)?;
    Ok(Zeroizing::new(from_url(payload, "JWS's payload")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(byte: u8) -> IdentityKey {
        IdentityKey::from_random(&Zeroizing::new([byte; 32])).unwrap()
    }

    /// RFC 7515, appendix A.3, has no `typ`; its key, payload and signature, verified as the RFC has them.
    #[test]
    fn the_signature_of_the_rfc_holds() {
        let mut point = [4; 65];
        let x: [u8; 32] =
            array_from_url("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "").unwrap();
        let y: [u8; 32] =
            array_from_url("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0", "").unwrap();
        point[1..33].copy_from_slice(&x);
        point[33..].copy_from_slice(&y);
        let identity = Identity::from_sec1(&point).unwrap();
        let signed = concat!(
            "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt",
            "cGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
        );
        let signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        let bytes: [u8; 64] = array_from_url(signature, "").unwrap();
        let parsed = Signature::from_slice(&bytes).unwrap();
        identity.0.verify(signed.as_bytes(), &parsed).unwrap();
        let jws = alloc::format!("{signed}.{signature}");
        let refused = verify(jws.as_bytes(), &identity, Type::Release);
        assert_eq!(refused.unwrap_err(), Error::Malformed("JWS's header"));
    }

    #[test]
    fn what_is_signed_is_verified_with_its_key_and_as_its_kind_alone() {
        let jws = sign(&key(1), Type::Release, b"{}").unwrap();
        let verify = |key: &IdentityKey, kind| verify(jws.as_bytes(), &key.identity(), kind);
        assert_eq!(verify(&key(1), Type::Release).unwrap().as_slice(), b"{}");
        assert_eq!(
            verify(&key(2), Type::Release).unwrap_err(),
            Error::Signature
        );
        assert_eq!(
            verify(&key(1), Type::Token).unwrap_err(),
            Error::Malformed("JWS's type")
        );
    }

    #[test]
    fn no_algorithm_but_es256() {
        let jws = sign(&key(1), Type::Release, b"{}").unwrap();
        let rest = jws.split_once('.').unwrap().1;
        for (header, error) in [
            (
                r#"{"alg":"none","typ":"tdp-vtpm-release"}"#,
                Error::Algorithm("JWS"),
            ),
            (
                r#"{"alg":"HS256","typ":"tdp-vtpm-release"}"#,
                Error::Algorithm("JWS"),
            ),
            (
                r#"{"alg":"ES256","typ":"tdp-vtpm-release","crit":["b64"]}"#,
                Error::Malformed("JWS's header"),
            ),
            (
                r#"{"typ":"tdp-vtpm-release","alg":"ES256"}"#,
                Error::Signature,
            ),
        ] {
            let lie = alloc::format!("{}.{rest}", url(header.as_bytes()));
            let verdict = verify(lie.as_bytes(), &key(1).identity(), Type::Release);
            assert_eq!(verdict.unwrap_err(), error, "{header}");
        }
        for text in ["", ".", "..", "a.b", "a.b.c.d"] {
            assert!(verify(text.as_bytes(), &key(1).identity(), Type::Release).is_err());
        }
    }

    #[test]
    fn an_identity_is_33_bytes() {
        let identity = key(1).identity();
        let bytes = identity.to_sec1();
        assert_eq!(Identity::from_sec1(&bytes).unwrap(), identity);
        assert_eq!(Identity::from_sec1(&bytes[..32]), Err(Error::NoPoint));
        assert_eq!(
            IdentityKey::from_random(&key(1).to_bytes())
                .unwrap()
                .identity(),
            identity
        );
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_refused(at in any::<prop::sample::Index>(), to in any::<u8>()) {
            let jws = sign(&key(1), Type::Release, br#"{"a":"b"}"#).unwrap();
            let mut bytes = jws.as_bytes().to_vec();
            let at = at.index(bytes.len());
            prop_assume!(bytes[at] != to);
            bytes[at] = to;
            prop_assert!(verify(&bytes, &key(1).identity(), Type::Release).is_err());
        }
    }
}
