//! P-256 keys as JSON Web Keys (RFC 7517; RFC 7518, section 6.2).

use crate::Error;
use crate::encoding::{array_from_url, url};
use alloc::string::String;
use p256::elliptic_curve::sec1::ToSec1Point;
use p256::{PublicKey, SecretKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Type of a key on an elliptic curve (RFC 7518, section 6.1).
pub const KTY: &str = "EC";
/// The curve's name (RFC 7518, section 6.2.1.1).
pub const CRV: &str = "P-256";
/// How a secret is encrypted to the key (RFC 7518, section 4.6).
pub const ALG: &str = "ECDH-ES+A256KW";

/// Thumbprint of a key: SHA-256 over its required members (RFC 7638).
pub type Thumbprint = [u8; 32];

/// L1's key pair of one start: what is released is encrypted to it. Erased when dropped.
pub struct TeeKey(SecretKey);

impl TeeKey {
    /// The key whose scalar is `random`; `None` with a probability of 2^-32, when that is none: take other numbers.
    pub fn from_random(random: &Zeroizing<[u8; 32]>) -> Option<Self> {
        SecretKey::from_slice(&**random).ok().map(Self)
    }

    /// Its public half.
    pub fn public(&self) -> TeePubKey {
        TeePubKey(self.0.public_key())
    }

    /// The secret that it shares with the owner of `other` (RFC 7518, section 4.6: Z).
    pub(crate) fn agree(&self, other: &PublicKey) -> Zeroizing<[u8; 32]> {
        let shared = self.0.diffie_hellman(other);
        Zeroizing::new((*shared.raw_secret_bytes()).into())
    }
}

impl core::fmt::Debug for TeeKey {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("TeeKey(..)")
    }
}

/// A `tee-pubkey` of KBS: a point of P-256 that secrets are encrypted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TeePubKey(PublicKey);

/// Members in the order of their names: JSON that is made of them is canonical (RFC 8785, RFC 7638).
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Members {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
    crv: String,
    kty: String,
    x: String,
    y: String,
}

impl Members {
    fn new(key: &PublicKey, alg: Option<&str>) -> Self {
        let point = key.to_sec1_point(false);
        // An uncompressed point of a public key has both.
        let coordinate =
            |bytes: Option<&p256::FieldBytes>| bytes.map_or_else(String::new, |b| url(b));
        Self {
            alg: alg.map(String::from),
            crv: CRV.into(),
            kty: KTY.into(),
            x: coordinate(point.x()),
            y: coordinate(point.y()),
        }
    }

    fn key(&self, alg: Option<&str>) -> Result<PublicKey, Error> {
        if (self.kty.as_str(), self.crv.as_str(), self.alg.as_deref()) != (KTY, CRV, alg) {
            return Err(Error::KeyType);
        }
        let mut point = [4; 65];
        let x: [u8; 32] = array_from_url(&self.x, "key's x")?;
        let y: [u8; 32] = array_from_url(&self.y, "key's y")?;
        for (to, from) in point.iter_mut().skip(1).zip(x.iter().chain(&y)) {
            *to = *from;
        }
        PublicKey::from_sec1_bytes(&point).map_err(|_| Error::NoPoint)
    }
}

impl TeePubKey {
    /// Its thumbprint, which tells it from every other key.
    pub fn thumbprint(&self) -> Thumbprint {
        thumbprint(&self.0)
    }

    pub(crate) fn point(&self) -> &PublicKey {
        &self.0
    }
}

/// SHA-256 of the JSON of `crv`, `kty`, `x` and `y` (RFC 7638, section 3).
pub(crate) fn thumbprint(key: &PublicKey) -> Thumbprint {
    let Members { crv, kty, x, y, .. } = Members::new(key, None);
    // Values of base64url and constants: nothing needs an escape.
    let json = alloc::format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}","y":"{y}"}}"#);
    Sha256::digest(json).into()
}

impl Serialize for TeePubKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Members::new(&self.0, Some(ALG)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for TeePubKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let members = Members::deserialize(deserializer)?;
        members
            .key(Some(ALG))
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

/// The key that a JWE was agreed with (RFC 7518, section 4.6.1.1: `epk`), which has no `alg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EphemeralPubKey(pub(crate) PublicKey);

impl Serialize for EphemeralPubKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Members::new(&self.0, None).serialize(serializer)
    }
}

/// Whose key it is, is said after the header's algorithms were looked at.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct UncheckedEpk(Members);

impl UncheckedEpk {
    pub(crate) fn check(&self) -> Result<PublicKey, Error> {
        self.0.key(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of RFC 7517, appendix A.1.
    const RFC_7517: &str = r#"{"kty":"EC","crv":"P-256","alg":"ECDH-ES+A256KW",
        "x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}"#;

    #[test]
    fn a_key_is_read_and_written_in_the_order_of_names() {
        let key: TeePubKey = serde_json::from_str(RFC_7517).unwrap();
        let json = serde_json::to_string(&key).unwrap();
        let expected = concat!(
            r#"{"alg":"ECDH-ES+A256KW","crv":"P-256","kty":"EC","#,
            r#""x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","#,
            r#""y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}"#
        );
        assert_eq!(json, expected);
    }

    /// Calculated with `printf %s '{"crv":…}' | sha256sum`.
    #[test]
    fn a_thumbprint_is_that_of_the_required_members() {
        let key: TeePubKey = serde_json::from_str(RFC_7517).unwrap();
        assert_eq!(
            url(&key.thumbprint()),
            "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s"
        );
    }

    #[test]
    fn another_key_is_refused_by_name() {
        for (from, to, problem) in [
            ("EC", "RSA", "no P-256 key"),
            ("P-256", "P-521", "no P-256 key"),
            ("ECDH-ES+A256KW", "ECDH-ES", "no P-256 key"),
            ("MKBC", "MKBD", "no point"),
            ("MKBCTN", "MKBC", "key's x"),
            ("7D4", "7D4=", "key's x"),
            ("\"kty\"", "\"d\":\"\",\"kty\"", "unknown field"),
        ] {
            let text = RFC_7517.replace(from, to);
            let error = serde_json::from_str::<TeePubKey>(&text).unwrap_err();
            assert!(alloc::format!("{error}").contains(problem), "{to}: {error}");
        }
    }

    #[test]
    fn zero_and_the_order_are_no_keys() {
        assert!(TeeKey::from_random(&Zeroizing::new([0; 32])).is_none());
        assert!(TeeKey::from_random(&Zeroizing::new([0xff; 32])).is_none());
        assert!(TeeKey::from_random(&Zeroizing::new([1; 32])).is_some());
    }
}
