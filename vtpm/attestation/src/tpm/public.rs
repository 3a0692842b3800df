//! TPMT_PUBLIC and TPM2B_PUBLIC of RSA and ECC keys.

use super::wire::{Fields, Put, WireError};
use super::{Name, alg};
use crate::digest::Algorithm;
use alloc::vec::Vec;
use core::ops::BitOr;

/// TPMA_OBJECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectAttributes(pub u32);

impl ObjectAttributes {
    /// fixedTPM.
    pub const FIXED_TPM: Self = Self(1 << 1);
    /// fixedParent.
    pub const FIXED_PARENT: Self = Self(1 << 4);
    /// sensitiveDataOrigin.
    pub const SENSITIVE_DATA_ORIGIN: Self = Self(1 << 5);
    /// userWithAuth.
    pub const USER_WITH_AUTH: Self = Self(1 << 6);
    /// adminWithPolicy.
    pub const ADMIN_WITH_POLICY: Self = Self(1 << 7);
    /// noDA.
    pub const NO_DA: Self = Self(1 << 10);
    /// restricted.
    pub const RESTRICTED: Self = Self(1 << 16);
    /// decrypt.
    pub const DECRYPT: Self = Self(1 << 17);
    /// sign.
    pub const SIGN: Self = Self(1 << 18);

    /// Whether all of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOr for ObjectAttributes {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

/// TPMT_SYM_DEF_OBJECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symmetric {
    /// None: not a storage key.
    Null,
    /// AES in CFB mode, with keys of so many bits.
    AesCfb(u16),
}

/// TPMT_RSA_SCHEME or TPMT_ECC_SCHEME.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Chosen at use.
    Null,
    /// RSASSA-PKCS1-v1_5.
    RsaSsa(Algorithm),
    /// RSASSA-PSS.
    RsaPss(Algorithm),
    /// RSAES-PKCS1-v1_5.
    RsaEs,
    /// RSAES-OAEP.
    Oaep(Algorithm),
    /// ECDSA.
    Ecdsa(Algorithm),
}

/// TPM_ECC_CURVE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// TPM_ECC_NIST_P256.
    P256,
    /// TPM_ECC_NIST_P384.
    P384,
    /// TPM_ECC_NIST_P521.
    P521,
}

/// The parts of a public area that depend on its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// TPM_ALG_RSA.
    Rsa {
        /// Bits of the modulus.
        bits: u16,
        /// Public exponent; 0 stands for 65537.
        exponent: u32,
        /// Modulus, big-endian; in a template, what makes the key a different one.
        modulus: Vec<u8>,
    },
    /// TPM_ALG_ECC.
    Ecc {
        /// Its curve.
        curve: Curve,
        /// Of the point, big-endian.
        x: Vec<u8>,
        /// Of the point, big-endian.
        y: Vec<u8>,
    },
}

/// TPMT_PUBLIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Public {
    /// nameAlg.
    pub name_algorithm: Algorithm,
    /// objectAttributes.
    pub attributes: ObjectAttributes,
    /// authPolicy; empty if there is none.
    pub auth_policy: Vec<u8>,
    /// Of a storage key.
    pub symmetric: Symmetric,
    /// Of a key that has one alone.
    pub scheme: Scheme,
    /// Parameters and unique identifier.
    pub key: Key,
}

impl Public {
    /// The exponent 0 of a public area, spelt out.
    pub const DEFAULT_EXPONENT: u32 = 65537;

    /// TPMT_PUBLIC.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_u16(match self.key {
            Key::Rsa { .. } => alg::RSA,
            Key::Ecc { .. } => alg::ECC,
        });
        bytes.put_u16(self.name_algorithm.id());
        bytes.put_u32(self.attributes.0);
        bytes.put_sized(&self.auth_policy);
        match self.symmetric {
            Symmetric::Null => bytes.put_u16(alg::NULL),
            Symmetric::AesCfb(bits) => {
                for field in [alg::AES, bits, alg::CFB] {
                    bytes.put_u16(field);
                }
            }
        }
        self.scheme.write(&mut bytes);
        match &self.key {
            Key::Rsa {
                bits,
                exponent,
                modulus,
            } => {
                bytes.put_u16(*bits);
                bytes.put_u32(*exponent);
                bytes.put_sized(modulus);
            }
            Key::Ecc { curve, x, y } => {
                bytes.put_u16(curve.id());
                // The key derivation scheme: null for every restricted key.
                bytes.put_u16(alg::NULL);
                bytes.put_sized(x);
                bytes.put_sized(y);
            }
        }
        bytes
    }

    /// TPM2B_PUBLIC.
    pub fn to_sized_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_sized(&self.to_bytes());
        bytes
    }

    /// From a TPMT_PUBLIC, all of it.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::new(bytes);
        let public = Self::read(&mut fields)?;
        fields.end()?;
        Ok(public)
    }

    /// From a TPM2B_PUBLIC, all of it.
    pub fn parse_sized(bytes: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::new(bytes);
        let public = Self::parse(fields.sized()?)?;
        fields.end()?;
        Ok(public)
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, WireError> {
        let key_type = fields.u16()?;
        if key_type != alg::RSA && key_type != alg::ECC {
            return Err(WireError::KeyType(key_type));
        }
        Ok(Self {
            name_algorithm: fields.hash()?,
            attributes: ObjectAttributes(fields.u32()?),
            auth_policy: fields.sized()?.to_vec(),
            symmetric: match fields.u16()? {
                alg::NULL => Symmetric::Null,
                alg::AES => {
                    let bits = fields.u16()?;
                    match fields.u16()? {
                        alg::CFB => Symmetric::AesCfb(bits),
                        mode => return Err(WireError::Symmetric(mode)),
                    }
                }
                other => return Err(WireError::Symmetric(other)),
            },
            scheme: Scheme::read(fields)?,
            key: match key_type {
                alg::RSA => Key::read_rsa(fields)?,
                _ => Key::read_ecc(fields)?,
            },
        })
    }

    /// Its name: nameAlg and the digest of the TPMT_PUBLIC.
    pub fn name(&self) -> Name {
        Name::of(self.name_algorithm, &self.to_bytes())
    }
}

impl Key {
    fn read_rsa(fields: &mut Fields<'_>) -> Result<Self, WireError> {
        Ok(Self::Rsa {
            bits: fields.u16()?,
            exponent: fields.u32()?,
            modulus: fields.sized()?.to_vec(),
        })
    }

    fn read_ecc(fields: &mut Fields<'_>) -> Result<Self, WireError> {
        let curve = Curve::read(fields)?;
        match fields.u16()? {
            alg::NULL => Ok(Self::Ecc {
                curve,
                x: fields.sized()?.to_vec(),
                y: fields.sized()?.to_vec(),
            }),
            key_derivation => Err(WireError::Scheme(key_derivation)),
        }
    }
}

impl Scheme {
    /// TPMT_SIG_SCHEME, TPMT_RSA_SCHEME or TPMT_ECC_SCHEME.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        bytes
    }

    fn write(self, bytes: &mut Vec<u8>) {
        let (id, hash) = match self {
            Self::Null => (alg::NULL, None),
            Self::RsaSsa(hash) => (alg::RSASSA, Some(hash)),
            Self::RsaPss(hash) => (alg::RSAPSS, Some(hash)),
            Self::RsaEs => (alg::RSAES, None),
            Self::Oaep(hash) => (alg::OAEP, Some(hash)),
            Self::Ecdsa(hash) => (alg::ECDSA, Some(hash)),
        };
        bytes.put_u16(id);
        if let Some(hash) = hash {
            bytes.put_u16(hash.id());
        }
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, WireError> {
        Ok(match fields.u16()? {
            alg::NULL => Self::Null,
            alg::RSASSA => Self::RsaSsa(fields.hash()?),
            alg::RSAPSS => Self::RsaPss(fields.hash()?),
            alg::RSAES => Self::RsaEs,
            alg::OAEP => Self::Oaep(fields.hash()?),
            alg::ECDSA => Self::Ecdsa(fields.hash()?),
            other => return Err(WireError::Scheme(other)),
        })
    }
}

impl Curve {
    /// TPM_ECC_CURVE.
    pub const fn id(self) -> u16 {
        match self {
            Self::P256 => 3,
            Self::P384 => 4,
            Self::P521 => 5,
        }
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, WireError> {
        match fields.u16()? {
            3 => Ok(Self::P256),
            4 => Ok(Self::P384),
            5 => Ok(Self::P521),
            other => Err(WireError::Curve(other)),
        }
    }
}
