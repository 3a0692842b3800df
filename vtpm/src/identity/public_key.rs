//! Public keys of the TPM as certificates have them.

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5912::{
    ID_EC_PUBLIC_KEY, RSA_ENCRYPTION, SECP_256_R_1, SECP_384_R_1, SECP_521_R_1,
};
use der::asn1::{Any, BitString, Null, UintRef};
use der::{Encode, Sequence};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use attestation::tpm::{Curve, Key, Public};

/// RSAPublicKey (RFC 8017, appendix A.1.1).
#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    public_exponent: UintRef<'a>,
}

/// SubjectPublicKeyInfo of a TPMT_PUBLIC (RFC 3279, section 2.3.1; RFC 5480, section 2).
pub(crate) fn subject_public_key_info(public: &Public) -> der::Result<SubjectPublicKeyInfoOwned> {
    match &public.key {
        Key::Rsa {
            exponent, modulus, ..
        } => {
            let exponent = match exponent {
                0 => Public::DEFAULT_EXPONENT,
                exponent => *exponent,
            }
            .to_be_bytes();
            let key = RsaPublicKey {
                modulus: UintRef::new(modulus)?,
                public_exponent: UintRef::new(&exponent)?,
            };
            info(RSA_ENCRYPTION, Any::encode_from(&Null)?, &key.to_der()?)
        }
        Key::Ecc { curve, x, y } => {
            let (curve, size): (ObjectIdentifier, usize) = match curve {
                Curve::P256 => (SECP_256_R_1, 32),
                Curve::P384 => (SECP_384_R_1, 48),
                Curve::P521 => (SECP_521_R_1, 66),
            };
            // Uncompressed (SEC 1, section 2.3.3); a TPM may leave leading zeros out.
            let mut point = alloc::vec![4];
            for coordinate in [x, y] {
                point.resize(point.len() + size.saturating_sub(coordinate.len()), 0);
                point.extend(coordinate);
            }
            info(ID_EC_PUBLIC_KEY, Any::encode_from(&curve)?, &point)
        }
    }
}

fn info(
    oid: ObjectIdentifier,
    parameters: Any,
    key: &[u8],
) -> der::Result<SubjectPublicKeyInfoOwned> {
    Ok(SubjectPublicKeyInfoOwned {
        algorithm: AlgorithmIdentifierOwned {
            oid,
            parameters: Some(parameters),
        },
        subject_public_key: BitString::from_bytes(key)?,
    })
}
