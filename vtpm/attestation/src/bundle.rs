//! The bundle of evidence as JSON: `docs/measurement.md`, section 9.

use alloc::string::String;
use alloc::vec::Vec;
use base64ct::{Base64, Encoding};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Value of `format`.
pub const FORMAT: &str = "tdp-vtpm-evidence";
/// Value of `version`.
pub const VERSION: u32 = 1;

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// Not JSON of the bundle's form: a member is missing, unknown or of another type.
    #[error("the evidence is not a bundle of this form: {0}")]
    Form(#[from] serde_json::Error),
    /// Another format or version.
    #[error(
        "the evidence is \"{format}\" version {version}; this reads \"{FORMAT}\" version {VERSION}"
    )]
    Version {
        /// Its format.
        format: String,
        /// Its version.
        version: u32,
    },
}

/// Bytes, in base64.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binary(pub Vec<u8>);

impl Serialize for Binary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Base64::encode_string(&self.0))
    }
}

impl<'de> Deserialize<'de> for Binary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Base64::decode_vec(&text)
            .map(Self)
            .map_err(|_| serde::de::Error::custom("a member is not base64"))
    }
}

/// An attestation structure and its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quote {
    /// TPMS_ATTEST of TPM2_Quote.
    pub attest: Binary,
    /// TPMT_SIGNATURE.
    pub signature: Binary,
}

/// TPM2_Certify of an own AK by the vTPM's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certify {
    /// TPMS_ATTEST of TPM2_Certify.
    pub attest: Binary,
    /// TPMT_SIGNATURE.
    pub signature: Binary,
    /// TPM2B_PUBLIC of the key at 0x81000003.
    pub ak_public: Binary,
}

/// PCR values in hexadecimal, 24 a bank; a bank that is not given is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pcrs {
    /// SHA-1.
    #[serde(default)]
    pub sha1: Vec<String>,
    /// SHA-256.
    #[serde(default)]
    pub sha256: Vec<String>,
    /// SHA-384.
    #[serde(default)]
    pub sha384: Vec<String>,
    /// SHA-512.
    #[serde(default)]
    pub sha512: Vec<String>,
}

/// Everything that a relying party gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// The nonce in hexadecimal, 1 to 64 bytes.
    pub nonce: String,
    /// NV index 0x01400001.
    pub report: Binary,
    /// The TD quote, if there is one.
    pub td_quote: Option<Binary>,
    /// Why it is there or not: [`crate::window::Status`].
    pub td_quote_status: u16,
    /// The CC event log as of the report.
    pub cc_event_log: Binary,
    /// `binary_bios_measurements` of L2.
    pub tcg_event_log: Binary,
    /// DER.
    pub ca_certificate: Binary,
    /// DER: RSA-2048, P-256, P-384.
    pub ek_certificates: [Binary; 3],
    /// DER.
    pub ak_certificate: Binary,
    /// TPM2B_PUBLIC of the RSA EK.
    pub ek_public: Option<Binary>,
    /// TPM2B_PUBLIC of the AK that signed the quote.
    pub ak_public: Binary,
    /// Over all PCRs of the SHA-256 bank.
    pub quote: Quote,
    /// Of an own AK.
    pub certify: Option<Certify>,
    /// At the time of the quote.
    pub pcrs: Pcrs,
}

impl Bundle {
    /// Reads a bundle and checks its format and version.
    pub fn from_json(json: &[u8]) -> Result<Self, BundleError> {
        let bundle: Self = serde_json::from_slice(json)?;
        if bundle.format != FORMAT || bundle.version != VERSION {
            return Err(BundleError::Version {
                format: bundle.format,
                version: bundle.version,
            });
        }
        Ok(bundle)
    }

    /// One member a line.
    pub fn to_json(&self) -> Result<String, BundleError> {
        Ok(serde_json::to_string_pretty(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;
    use std::vec;

    fn bundle() -> Bundle {
        let binary = |byte| Binary(vec![byte; 5]);
        Bundle {
            format: FORMAT.into(),
            version: VERSION,
            nonce: "0011".into(),
            report: binary(1),
            td_quote: None,
            td_quote_status: 3,
            cc_event_log: binary(2),
            tcg_event_log: binary(3),
            ca_certificate: binary(4),
            ek_certificates: [binary(5), binary(6), binary(7)],
            ak_certificate: binary(8),
            ek_public: Some(binary(9)),
            ak_public: binary(10),
            quote: Quote {
                attest: binary(11),
                signature: binary(12),
            },
            certify: None,
            pcrs: Pcrs {
                sha256: vec!["00".repeat(32); 24],
                ..Pcrs::default()
            },
        }
    }

    #[test]
    fn a_bundle_is_read_back() {
        let json = bundle().to_json().unwrap();
        assert_eq!(Bundle::from_json(json.as_bytes()).unwrap(), bundle());
        assert!(json.contains(r#""report": "AQEBAQE=""#), "{json}");
        assert!(json.contains(r#""td_quote": null"#), "{json}");
    }

    #[test]
    fn another_form_or_version_is_refused() {
        let json = bundle().to_json().unwrap();
        let cases = [
            ("\"version\": 1", "\"version\": 2", "version 2"),
            ("\"tdp-vtpm-evidence\"", "\"evidence\"", "\"evidence\""),
            ("\"nonce\"", "\"nonsense\"", "unknown field `nonsense`"),
            ("\"AQEBAQE=\"", "\"AQEBAQE\"", "not base64"),
            ("\"nonce\": \"0011\",", "", "missing field `nonce`"),
        ];
        for (written, other, said) in cases {
            let changed = json.replacen(written, other, 1);
            let error = Bundle::from_json(changed.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(place in any::<proptest::sample::Index>(), value in any::<u8>()) {
            let mut json = bundle().to_json().unwrap().into_bytes();
            let place = place.index(json.len());
            json[place] = value;
            let _ = Bundle::from_json(&json);
            let _ = Bundle::from_json(&json[..place]);
        }
    }
}
