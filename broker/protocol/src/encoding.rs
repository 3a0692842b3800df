//! Base64 and JSON, bounded.

use crate::Error;
use alloc::string::String;
use alloc::vec::Vec;
use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use serde::de::DeserializeOwned;
use zeroize::Zeroize;

/// `bytes` in base64url without padding (RFC 7515, section 2).
pub(crate) fn url(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

/// `bytes` in base64 with padding, as KBS has evidence.
pub(crate) fn standard(bytes: &[u8]) -> String {
    Base64::encode_string(bytes)
}

/// Bytes from base64url without padding.
pub(crate) fn from_url(text: &str, what: &'static str) -> Result<Vec<u8>, Error> {
    Base64UrlUnpadded::decode_vec(text).map_err(|_| Error::Encoding(what))
}

/// Bytes from base64 with padding.
pub(crate) fn from_standard(text: &str, what: &'static str) -> Result<Vec<u8>, Error> {
    Base64::decode_vec(text).map_err(|_| Error::Encoding(what))
}

/// As many bytes from base64url as there are to be. What was decoded is erased if there are more or fewer.
pub(crate) fn array_from_url<const N: usize>(
    text: &str,
    what: &'static str,
) -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    match Base64UrlUnpadded::decode(text, &mut bytes).map(<[u8]>::len) {
        Ok(length) if length == N => Ok(bytes),
        _ => {
            bytes.zeroize();
            Err(Error::Encoding(what))
        }
    }
}

/// As many bytes from lower-case hexadecimal as there are to be.
pub(crate) fn array_from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

/// A value from JSON of at most `bound` bytes.
pub(crate) fn from_json<T: DeserializeOwned>(
    json: &[u8],
    bound: usize,
    what: &'static str,
) -> Result<T, Error> {
    within(json.len(), bound, what)?;
    serde_json::from_slice(json).map_err(|_| Error::Malformed(what))
}

/// Whether `length` is within `bound`.
pub(crate) fn within(length: usize, bound: usize, what: &'static str) -> Result<(), Error> {
    match length <= bound {
        true => Ok(()),
        false => Err(Error::TooLong(what)),
    }
}
