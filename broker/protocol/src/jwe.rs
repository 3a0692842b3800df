//! A secret on its way to L1: a JWE in the flattened JSON serialization (RFC 7516, section 7.2.2) with ECDH-ES+A256KW
//! (RFC 7518, section 4.6) and A256GCM (section 5.3), as KBS answers with a resource.

use crate::encoding::{array_from_url, from_json, from_url, url, within};
use crate::jwk::{ALG, EphemeralPubKey, TeeKey, TeePubKey, UncheckedEpk};
use crate::{Error, limits};
use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};
use aes_kw::KwAes256;
use alloc::string::String;
use alloc::vec::Vec;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// How the content is encrypted (RFC 7518, section 5.3).
const ENC: &str = "A256GCM";
/// Of a 32-byte key wrapped with AES (RFC 3394).
const WRAPPED_KEY: usize = 40;

/// The text of a JWE. Members beyond these are refused: a recipient that passes over what it does not know can be told
/// something else than the sender meant.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Flattened {
    protected: String,
    encrypted_key: String,
    iv: String,
    ciphertext: String,
    tag: String,
    #[serde(default, skip_serializing)]
    aad: Option<IgnoredAny>,
}

#[derive(Serialize)]
struct Protected {
    alg: &'static str,
    enc: &'static str,
    epk: EphemeralPubKey,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UncheckedProtected {
    alg: String,
    enc: String,
    epk: UncheckedEpk,
}

/// What an encryption needs of random numbers, each used once. Erased when dropped.
pub struct Fresh {
    /// The sender's key of this message.
    pub ephemeral: TeeKey,
    /// The content's key.
    pub content_key: Zeroizing<[u8; 32]>,
    /// The content's initialization vector.
    pub iv: [u8; 12],
}

/// `secret` for the owner of `recipient`.
///
/// # Errors
/// [`Error::TooLong`].
pub fn encrypt(secret: &[u8], recipient: &TeePubKey, fresh: &Fresh) -> Result<Vec<u8>, Error> {
    within(secret.len(), limits::RESOURCE, "resource")?;
    let header = Protected {
        alg: ALG,
        enc: ENC,
        epk: EphemeralPubKey(*fresh.ephemeral.public().point()),
    };
    let header = serde_json::to_vec(&header).map_err(|_| Error::Malformed("JWE"))?;
    let protected = url(&header);
    let wrapping = key_encryption_key(&fresh.ephemeral.agree(recipient.point()));
    let mut encrypted_key = [0; WRAPPED_KEY];
    KwAes256::new((&*wrapping).into())
        .wrap_key(&*fresh.content_key, &mut encrypted_key)
        .map_err(|_| Error::Malformed("JWE"))?;
    let mut content = secret.to_vec();
    let tag = Aes256Gcm::new((&*fresh.content_key).into())
        .encrypt_inout_detached(
            &fresh.iv.into(),
            protected.as_bytes(),
            content.as_mut_slice().into(),
        )
        .map_err(|_| Error::TooLong("resource"))?;
    let jwe = Flattened {
        protected,
        encrypted_key: url(&encrypted_key),
        iv: url(&fresh.iv),
        ciphertext: url(&content),
        tag: url(&tag),
        aad: None,
    };
    serde_json::to_vec(&jwe).map_err(|_| Error::Malformed("JWE"))
}

/// The secret in `jwe`, which is for `key`. Who sent it is not said by a JWE: see [`jws`](crate::jws).
///
/// # Errors
/// See [`Error`]; nothing of what was decrypted is given out before its tag holds.
pub fn decrypt(jwe: &[u8], key: &TeeKey) -> Result<Zeroizing<Vec<u8>>, Error> {
    let jwe: Flattened = from_json(jwe, limits::BODY, "JWE")?;
    if jwe.aad.is_some() {
        return Err(Error::AdditionalData);
    }
    within(jwe.protected.len(), limits::PROTECTED, "JWE's header")?;
    let header = from_url(&jwe.protected, "JWE's header")?;
    let header: UncheckedProtected = from_json(&header, limits::PROTECTED, "JWE's header")?;
    if (header.alg.as_str(), header.enc.as_str()) != (ALG, ENC) {
        return Err(Error::Algorithm("JWE"));
    }
    let sender = header.epk.check()?;
    let wrapped: [u8; WRAPPED_KEY] = array_from_url(&jwe.encrypted_key, "JWE's key")?;
    let iv: [u8; 12] = array_from_url(&jwe.iv, "JWE's iv")?;
    let tag: [u8; 16] = array_from_url(&jwe.tag, "JWE's tag")?;
    let mut content = Zeroizing::new(from_url(&jwe.ciphertext, "JWE's ciphertext")?);
    within(content.len(), limits::RESOURCE, "resource")?;

    let wrapping = key_encryption_key(&key.agree(&sender));
    let mut content_key = Zeroizing::new([0; 32]);
    KwAes256::new((&*wrapping).into())
        .unwrap_key(&wrapped, &mut *content_key)
        .map_err(|_| Error::OtherRecipient)?;
    Aes256Gcm::new((&*content_key).into())
        .decrypt_inout_detached(
            &iv.into(),
            jwe.protected.as_bytes(),
            content.as_mut_slice().into(),
            &tag.into(),
        )
        .map_err(|_| Error::Altered)?;
    Ok(content)
}

/// The key that wraps the content's key, from the secret that both sides share.
fn key_encryption_key(shared: &Zeroizing<[u8; 32]>) -> Zeroizing<[u8; 32]> {
    concat_kdf(shared, ALG, b"", b"", 256)
}

/// One round of the Concat KDF with SHA-256 (NIST SP 800-56A, section 5.8.1, as RFC 7518, section 4.6.2, has it): `bits`
/// is at most 256.
fn concat_kdf(
    z: &[u8; 32],
    algorithm: &str,
    apu: &[u8],
    apv: &[u8],
    bits: u32,
) -> Zeroizing<[u8; 32]> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut hash = Sha256::new();
    hash.update(1_u32.to_be_bytes());
    hash.update(z);
    for field in [algorithm.as_bytes(), apu, apv] {
        hash.update(length(field));
        hash.update(field);
    }
    hash.update(bits.to_be_bytes());
    Zeroizing::new(hash.finalize().into())
}

#[cfg(test)]
mod tests;
