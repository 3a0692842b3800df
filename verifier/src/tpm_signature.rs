//! Signatures that a TPM made over attestation structures.

use crate::public_key::PublicKey;
use attestation::{
    digest::Algorithm,
    tpm::{ObjectAttributes, Public, Scheme, Signature, WireError},
};
use rsa::{Pkcs1v15Sign, Pss, RsaPublicKey};
use sha2::{Digest, Sha256, Sha384, Sha512};

/// Why a signature proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// A structure does not parse.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The key may sign anything, so also what looks like a TPM's statement.
    #[error("the key is not a restricted signing key that is bound to its TPM")]
    NotRestricted,
    /// The signature is of another scheme than the key's.
    #[error("the signature's scheme is not the key's")]
    Scheme,
    /// SHA-1, or a key of a kind that this verifier does not know.
    #[error("the key or its hash algorithm is not one that is accepted")]
    Weak,
    /// It is not the key's over these bytes.
    #[error("the signature is not this key's over this structure")]
    Invalid,
}

/// Verifies a TPMT_SIGNATURE over an attestation structure by an attestation key: restricted, signing, fixed to its TPM,
/// so that it signs only what the TPM itself made.
///
/// # Errors
/// See [`SignatureError`].
pub fn verify(attest: &[u8], signature: &[u8], key: &Public) -> Result<(), SignatureError> {
    let needed = ObjectAttributes::FIXED_TPM
        | ObjectAttributes::SENSITIVE_DATA_ORIGIN
        | ObjectAttributes::RESTRICTED
        | ObjectAttributes::SIGN;
    if !key.attributes.contains(needed) || key.attributes.contains(ObjectAttributes::DECRYPT) {
        return Err(SignatureError::NotRestricted);
    }
    let signature = Signature::parse(signature)?;
    let public = PublicKey::from_tpm(key).ok_or(SignatureError::Weak)?;
    let scheme = match &signature {
        Signature::RsaSsa { hash, .. } => Scheme::RsaSsa(*hash),
        Signature::RsaPss { hash, .. } => Scheme::RsaPss(*hash),
        Signature::Ecdsa { hash, .. } => Scheme::Ecdsa(*hash),
    };
    if key.scheme != scheme {
        return Err(SignatureError::Scheme);
    }
    let hash = signature.hash();
    let digest = hash.digest(attest);
    let digest = digest.bytes();
    let valid = match &signature {
        Signature::RsaSsa { signature, .. } => {
            let padding = match hash {
                Algorithm::Sha1 => return Err(SignatureError::Weak),
                Algorithm::Sha256 => Pkcs1v15Sign::new::<Sha256>(),
                Algorithm::Sha384 => Pkcs1v15Sign::new::<Sha384>(),
                Algorithm::Sha512 => Pkcs1v15Sign::new::<Sha512>(),
            };
            rsa(&public)?.verify(padding, digest, signature).is_ok()
        }
        Signature::RsaPss { signature, .. } => {
            let rsa = rsa(&public)?;
            match hash {
                Algorithm::Sha1 => return Err(SignatureError::Weak),
                Algorithm::Sha256 => rsa.verify(pss::<Sha256>(), digest, signature),
                Algorithm::Sha384 => rsa.verify(pss::<Sha384>(), digest, signature),
                Algorithm::Sha512 => rsa.verify(pss::<Sha512>(), digest, signature),
            }
            .is_ok()
        }
        Signature::Ecdsa { r, s, .. } => {
            if hash == Algorithm::Sha1 {
                return Err(SignatureError::Weak);
            }
            public.verifies_ecdsa(digest, r, s)
        }
    };
    if valid {
        Ok(())
    } else {
        Err(SignatureError::Invalid)
    }
}

/// With a salt of any length: a TPM's is as long as the digest, or as long as fits (TPM 2.0 Library, part 1, "RSASSA_PSS").
fn pss<D: Digest>() -> Pss<D> {
    Pss {
        blinded: true,
        digest: D::new(),
        salt_len: None,
    }
}

fn rsa(key: &PublicKey) -> Result<RsaPublicKey, SignatureError> {
    key.rsa().ok_or(SignatureError::Weak)
}
