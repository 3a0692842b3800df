//! The claims as JSON: one line, members in one order.

use super::Claims;
use alloc::string::String;
use alloc::vec::Vec;
use base64ct::{Base64UrlUnpadded, Encoding};
use core::fmt::Write;

/// Why bytes are not runtime claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimsError {
    /// Another text where the claims have a fixed one; it stands at this byte.
    #[error("the runtime claims are not of the known form from byte {0} on")]
    Form(usize),
    /// A member's value cannot be read.
    #[error("the runtime claims' member \"{0}\" cannot be read")]
    Member(&'static str),
    /// Read, but L1 would write it in another way.
    #[error("the runtime claims are not written as L1 writes them")]
    NotCanonical,
}

const BEFORE_EXPONENT: &str = r#"{"keys":[{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA","e":""#;
const BEFORE_MODULUS: &str = r#"","n":""#;
const BEFORE_USER_DATA: &str = r#""}],"user-data":""#;
const BEFORE_EKS: &str = r#"","tdp-vtpm":{"v":1,"eks":""#;
const BEFORE_PCRS: &str = r#"","pcrs":""#;
const BEFORE_JOURNAL: &str = r#"","journal":""#;
const BEFORE_RECORDS: &str = r#"","records":"#;
const END: &str = "}}";

impl Claims {
    /// The bytes that REPORTDATA is a digest of.
    pub fn to_json(&self) -> Vec<u8> {
        let base64 = Base64UrlUnpadded::encode_string;
        let exponent = self.ak_exponent.to_be_bytes();
        let leading_zeros = exponent.iter().take_while(|byte| **byte == 0).count();
        let exponent = exponent.get(leading_zeros..).unwrap_or_default();
        let mut user_data = String::new();
        for byte in self.user_data {
            // Writing to a `String` does not fail.
            let _ = write!(user_data, "{byte:02X}");
        }
        let mut records = String::new();
        let _ = write!(records, "{}", self.records);
        [
            BEFORE_EXPONENT,
            &base64(exponent),
            BEFORE_MODULUS,
            &base64(&self.ak_modulus),
            BEFORE_USER_DATA,
            &user_data,
            BEFORE_EKS,
            &base64(&self.eks),
            BEFORE_PCRS,
            &base64(&self.pcrs),
            BEFORE_JOURNAL,
            &base64(&self.journal),
            BEFORE_RECORDS,
            &records,
            END,
        ]
        .concat()
        .into_bytes()
    }

    /// The claims of exactly these bytes, which are then what [`Self::to_json`] gives.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ClaimsError> {
        let text = core::str::from_utf8(bytes).map_err(|e| ClaimsError::Form(e.valid_up_to()))?;
        let mut scanner = Scanner { text, at: 0 };
        scanner.literal(BEFORE_EXPONENT)?;
        let exponent = base64(scanner.string(), "e")?;
        scanner.literal(BEFORE_MODULUS)?;
        let ak_modulus = base64(scanner.string(), "n")?;
        scanner.literal(BEFORE_USER_DATA)?;
        let user_data = hexadecimal(scanner.string()).ok_or(ClaimsError::Member("user-data"))?;
        scanner.literal(BEFORE_EKS)?;
        let eks = array(scanner.string(), "eks")?;
        scanner.literal(BEFORE_PCRS)?;
        let pcrs = array(scanner.string(), "pcrs")?;
        scanner.literal(BEFORE_JOURNAL)?;
        let journal = array(scanner.string(), "journal")?;
        scanner.literal(BEFORE_RECORDS)?;
        let records = scanner.until(|byte| !byte.is_ascii_digit());
        let records = records
            .parse()
            .map_err(|_| ClaimsError::Member("records"))?;
        scanner.literal(END)?;
        if scanner.at != text.len() {
            return Err(ClaimsError::Form(scanner.at));
        }
        let mut ak_exponent = 0u32;
        if exponent.len() > 4 {
            return Err(ClaimsError::Member("e"));
        }
        for byte in exponent {
            ak_exponent = ak_exponent << 8 | u32::from(byte);
        }
        let claims = Self {
            ak_modulus,
            ak_exponent,
            user_data,
            eks,
            pcrs,
            journal,
            records,
        };
        if claims.to_json() != bytes {
            return Err(ClaimsError::NotCanonical);
        }
        Ok(claims)
    }
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn literal(&mut self, expected: &str) -> Result<(), ClaimsError> {
        if !self.rest().starts_with(expected) {
            return Err(ClaimsError::Form(self.at));
        }
        self.at += expected.len();
        Ok(())
    }

    fn until(&mut self, end: impl Fn(u8) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.bytes().position(end).unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    /// Up to the next quotation mark, which stays.
    fn string(&mut self) -> &'a str {
        self.until(|byte| byte == b'"')
    }
}

fn base64(text: &str, member: &'static str) -> Result<Vec<u8>, ClaimsError> {
    Base64UrlUnpadded::decode_vec(text).map_err(|_| ClaimsError::Member(member))
}

fn array<const N: usize>(text: &str, member: &'static str) -> Result<[u8; N], ClaimsError> {
    let bytes = base64(text, member)?;
    bytes.try_into().map_err(|_| ClaimsError::Member(member))
}

/// 64 bytes in upper-case hexadecimal; that it is upper case, the comparison at the end tells.
fn hexadecimal(text: &str) -> Option<[u8; 64]> {
    let mut digits = text.chars().map(|digit| digit.to_digit(16));
    let mut data = [0; 64];
    for byte in &mut data {
        let (high, low) = (digits.next()??, digits.next()??);
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    digits.next().is_none().then_some(data)
}
