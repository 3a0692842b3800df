//! TPMT_SIGNATURE.

use super::alg;
use super::wire::{Fields, Put, WireError};
use crate::digest::Algorithm;
use alloc::vec::Vec;

/// TPMT_SIGNATURE of the asymmetric schemes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signature {
    /// RSASSA-PKCS1-v1_5.
    RsaSsa {
        /// Of what was signed.
        hash: Algorithm,
        /// As long as the modulus.
        signature: Vec<u8>,
    },
    /// RSASSA-PSS.
    RsaPss {
        /// Of what was signed.
        hash: Algorithm,
        /// As long as the modulus.
        signature: Vec<u8>,
    },
    /// ECDSA.
    Ecdsa {
        /// Of what was signed.
        hash: Algorithm,
        /// Big-endian.
        r: Vec<u8>,
        /// Big-endian.
        s: Vec<u8>,
    },
}

impl Signature {
    /// Of what was signed.
    pub fn hash(&self) -> Algorithm {
        match self {
            Self::RsaSsa { hash, .. } | Self::RsaPss { hash, .. } | Self::Ecdsa { hash, .. } => {
                *hash
            }
        }
    }

    /// TPMT_SIGNATURE.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (scheme, parts): (_, [Option<&Vec<u8>>; 2]) = match self {
            Self::RsaSsa { signature, .. } => (alg::RSASSA, [Some(signature), None]),
            Self::RsaPss { signature, .. } => (alg::RSAPSS, [Some(signature), None]),
            Self::Ecdsa { r, s, .. } => (alg::ECDSA, [Some(r), Some(s)]),
        };
        let mut bytes = Vec::new();
        bytes.put_u16(scheme);
        bytes.put_u16(self.hash().id());
        for part in parts.into_iter().flatten() {
            bytes.put_sized(part);
        }
        bytes
    }

    /// From a TPMT_SIGNATURE, all of it.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::new(bytes);
        let scheme = fields.u16()?;
        let hash = fields.hash()?;
        let first = fields.sized()?.to_vec();
        let signature = match scheme {
            alg::RSASSA => Self::RsaSsa {
                hash,
                signature: first,
            },
            alg::RSAPSS => Self::RsaPss {
                hash,
                signature: first,
            },
            alg::ECDSA => Self::Ecdsa {
                hash,
                r: first,
                s: fields.sized()?.to_vec(),
            },
            other => return Err(WireError::Scheme(other)),
        };
        fields.end()?;
        Ok(signature)
    }
}
