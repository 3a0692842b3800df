//! Public keys as certificates, TPM structures and claims have them, in one form that can be compared.

use attestation::tpm::{Curve, Key, Public};
use p256::ecdsa::signature::{Verifier, hazmat::PrehashVerifier};
use rsa::pkcs8::DecodePublicKey;
use rsa::{BoxedUint, RsaPublicKey, traits::PublicKeyParts};
use std::fmt;

/// A public key of one of the kinds that this system uses.
#[derive(Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// RSA.
    Rsa {
        /// The modulus, big-endian, without leading zeros.
        modulus: Vec<u8>,
        /// The public exponent.
        exponent: u32,
    },
    /// NIST P-256.
    P256 {
        /// x, y.
        point: [[u8; 32]; 2],
    },
    /// NIST P-384.
    P384 {
        /// x, y.
        point: [[u8; 48]; 2],
    },
}

impl PublicKey {
    /// A key from its SubjectPublicKeyInfo (DER). `None` if it is of another kind, or no valid key.
    pub fn from_spki(der: &[u8]) -> Option<PublicKey> {
        if let Ok(key) = p384::PublicKey::from_public_key_der(der) {
            return Self::from_sec1(&key.to_sec1_bytes());
        }
        if let Ok(key) = p256::PublicKey::from_public_key_der(der) {
            return Self::from_sec1(&key.to_sec1_bytes());
        }
        let key = RsaPublicKey::from_public_key_der(der).ok()?;
        let exponent = key.e_bytes();
        Some(PublicKey::Rsa {
            modulus: key.n_bytes().to_vec(),
            exponent: exponent.iter().try_fold(0u32, |value, byte| {
                value.checked_mul(256)?.checked_add(u32::from(*byte))
            })?,
        })
    }

    /// A key on P-256 or P-384 from its uncompressed point (SEC 1, 2.3.3).
    pub fn from_sec1(point: &[u8]) -> Option<PublicKey> {
        let (4, coordinates) = point.split_first().map(|(tag, rest)| (*tag, rest))? else {
            return None;
        };
        let (x, y) = coordinates.split_at_checked(coordinates.len() / 2)?;
        match coordinates.len() {
            64 => {
                p256::PublicKey::from_sec1_bytes(point).ok()?;
                Some(PublicKey::P256 {
                    point: [x.try_into().ok()?, y.try_into().ok()?],
                })
            }
            96 => {
                p384::PublicKey::from_sec1_bytes(point).ok()?;
                Some(PublicKey::P384 {
                    point: [x.try_into().ok()?, y.try_into().ok()?],
                })
            }
            _ => None,
        }
    }

    /// The key in a public area. `None` for other curves, and for what is no key.
    pub fn from_tpm(public: &Public) -> Option<PublicKey> {
        match &public.key {
            Key::Rsa {
                exponent, modulus, ..
            } => Some(PublicKey::Rsa {
                modulus: modulus.clone(),
                exponent: match exponent {
                    0 => Public::DEFAULT_EXPONENT,
                    other => *other,
                },
            }),
            Key::Ecc {
                curve: Curve::P256,
                x,
                y,
            } => Self::from_sec1(&Self::sec1(&[scalar::<32>(x)?, scalar::<32>(y)?])),
            Key::Ecc {
                curve: Curve::P384,
                x,
                y,
            } => Self::from_sec1(&Self::sec1(&[scalar::<48>(x)?, scalar::<48>(y)?])),
            Key::Ecc { .. } => None,
        }
    }

    /// What kind of key it is.
    pub fn kind(&self) -> &'static str {
        match self {
            PublicKey::Rsa { .. } => "RSA",
            PublicKey::P256 { .. } => "P-256",
            PublicKey::P384 { .. } => "P-384",
        }
    }

    fn sec1<const N: usize>(point: &[[u8; N]; 2]) -> Vec<u8> {
        let [x, y] = point;
        [&[4][..], x, y].concat()
    }

    /// Whether `signature` (DER, `ECDSA-Sig-Value`) is this key's over the hash of `message`, with SHA-256 for P-256 and SHA-384 for P-384.
    pub fn verifies_ecdsa_der(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            PublicKey::P256 { point } => {
                let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(&Self::sec1(point));
                let signature = p256::ecdsa::DerSignature::from_bytes(signature);
                matches!((key, signature), (Ok(key), Ok(signature)) if key.verify(message, &signature).is_ok())
            }
            PublicKey::P384 { point } => {
                let key = p384::ecdsa::VerifyingKey::from_sec1_bytes(&Self::sec1(point));
                let signature = p384::ecdsa::DerSignature::from_bytes(signature);
                matches!((key, signature), (Ok(key), Ok(signature)) if key.verify(message, &signature).is_ok())
            }
            PublicKey::Rsa { .. } => false,
        }
    }

    /// Whether `r` and `s` are this key's ECDSA signature of a digest.
    pub fn verifies_ecdsa(&self, digest: &[u8], r: &[u8], s: &[u8]) -> bool {
        match self {
            PublicKey::P256 { point } => {
                let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(&Self::sec1(point));
                let Some((r, s)) = scalar::<32>(r).zip(scalar::<32>(s)) else {
                    return false;
                };
                let signature = p256::ecdsa::Signature::from_scalars(r, s);
                matches!((key, signature), (Ok(key), Ok(signature)) if key.verify_prehash(digest, &signature).is_ok())
            }
            PublicKey::P384 { point } => {
                let key = p384::ecdsa::VerifyingKey::from_sec1_bytes(&Self::sec1(point));
                let Some((r, s)) = scalar::<48>(r).zip(scalar::<48>(s)) else {
                    return false;
                };
                let signature = p384::ecdsa::Signature::from_scalars(r, s);
                matches!((key, signature), (Ok(key), Ok(signature)) if key.verify_prehash(digest, &signature).is_ok())
            }
            PublicKey::Rsa { .. } => false,
        }
    }

    /// The key for RSA signatures; `None` for other keys, and for moduli that are not of 2048 to 4096 bits.
    pub fn rsa(&self) -> Option<RsaPublicKey> {
        let PublicKey::Rsa { modulus, exponent } = self else {
            return None;
        };
        if !(256..=512).contains(&modulus.len()) {
            return None;
        }
        let modulus = BoxedUint::from_be_slice_vartime(modulus);
        RsaPublicKey::new(modulus, BoxedUint::from(u64::from(*exponent))).ok()
    }
}

/// A number of at most `N` bytes, with zeros in front.
fn scalar<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    let start = bytes.iter().position(|byte| *byte != 0)?;
    let significant = bytes.get(start..)?;
    let mut scalar = [0; N];
    let at = N.checked_sub(significant.len())?;
    scalar.get_mut(at..)?.copy_from_slice(significant);
    Some(scalar)
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// The kind of key and the first bytes of it: enough to tell two keys apart in a report.
impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = match self {
            PublicKey::Rsa { modulus, .. } => modulus.as_slice(),
            PublicKey::P256 { point: [x, _] } => x,
            PublicKey::P384 { point: [x, _] } => x,
        };
        let start = bytes.get(..8).unwrap_or(bytes);
        write!(formatter, "{} {}…", self.kind(), hex::encode(start))
    }
}
