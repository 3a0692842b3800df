//! The messages of the KBS protocol 0.4.0, as Trustee has it (`kbs/docs/kbs_attestation_protocol.md`, and its server of
//! version 0.21 where the document is silent).
//!
//! What REPORTDATA covers is `nonce`, `tee-pubkey` and, beyond what the document says, `additional-evidence`: so do
//! server and client of Trustee since 0.15.

use crate::encoding::{from_json, from_standard, standard, within};
use crate::jwk::TeePubKey;
use crate::{Error, MachineId, limits};
use alloc::string::String;
use alloc::vec::Vec;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha384};

/// The protocol's version, the only one.
pub const VERSION: &str = "0.4.0";
/// The kind of TEE.
pub const TEE: &str = "tdx";
/// Where a session begins.
pub const PATH_AUTH: &str = "/kbs/v0/auth";
/// Where evidence goes.
pub const PATH_ATTEST: &str = "/kbs/v0/attest";
/// Where resources are: repository, type and tag follow.
pub const PATH_RESOURCE: &str = "/kbs/v0/resource/";
/// The cookie that a session is known by.
pub const COOKIE: &str = "kbs-session-id";

/// Path of the key of `machine`: repository `default`, type `tdp-vtpm`, the machine as tag.
pub fn resource_path(machine: &MachineId) -> String {
    alloc::format!("{PATH_RESOURCE}default/tdp-vtpm/{machine}")
}

/// The session's identifier in a `Set-Cookie` or a `Cookie` header: up to [`limits::SESSION`] letters, digits, `-`, `_`.
pub fn session_of(header: &str) -> Option<&str> {
    let value = header.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (name.trim() == COOKIE).then(|| value.trim())
    })?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let fits = !value.is_empty() && value.len() <= limits::SESSION && value.bytes().all(plain);
    fits.then_some(value)
}

/// What begins a session.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`].
    pub version: String,
    /// [`TEE`].
    pub tee: String,
    /// Nothing for TDX. What a client says of hashes it has is passed over: SHA-384 is what every one has.
    #[serde(rename = "extra-params", default, deserialize_with = "ignore")]
    pub extra_params: (),
}

impl Request {
    /// L1's.
    pub fn to_json() -> Vec<u8> {
        alloc::format!(r#"{{"version":"{VERSION}","tee":"{TEE}","extra-params":""}}"#).into_bytes()
    }

    /// Reads a client's.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::TooLong`]; version and TEE are the reader's to look at.
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        from_json(json, limits::BODY, "request")
    }
}

fn ignore<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    IgnoredAny::deserialize(deserializer).map(drop)
}

/// The answer to a [`Request`].
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Challenge {
    /// To be in the evidence: printable ASCII without `"` and `\`.
    pub nonce: String,
    /// Which hash REPORTDATA is made with, if the server says so.
    #[serde(rename = "extra-params", default)]
    extra_params: ExtraParams,
}

/// A server that has nothing to say sends an empty text.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum ExtraParams {
    Text(String),
    Object {
        #[serde(rename = "selected-hash-algorithm", default)]
        hash: Option<String>,
    },
}

impl Default for ExtraParams {
    fn default() -> Self {
        ExtraParams::Text(String::new())
    }
}

impl Challenge {
    /// The broker's.
    pub fn to_json(nonce: &[u8; 32]) -> Vec<u8> {
        alloc::format!(r#"{{"nonce":"{}","extra-params":""}}"#, standard(nonce)).into_bytes()
    }

    /// Reads a server's.
    ///
    /// # Errors
    /// [`Error::Algorithm`] if it wants another hash than SHA-384, [`Error::TooLong`], [`Error::Malformed`].
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        let challenge: Self = from_json(json, limits::BODY, "challenge")?;
        within(challenge.nonce.len(), limits::NONCE, "nonce")?;
        let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
        if challenge.nonce.is_empty() || !challenge.nonce.bytes().all(plain) {
            return Err(Error::Malformed("nonce"));
        }
        match &challenge.extra_params {
            ExtraParams::Object { hash: Some(hash) } if !hash.eq_ignore_ascii_case("sha384") => {
                Err(Error::Algorithm("challenge"))
            }
            _ => Ok(challenge),
        }
    }
}

/// What the evidence is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeData {
    /// The challenge's.
    pub nonce: String,
    /// What resources are encrypted to.
    #[serde(rename = "tee-pubkey")]
    pub tee_pubkey: TeePubKey,
}

/// In the order of names, without spaces: canonical (RFC 8785).
#[derive(Serialize)]
struct Bound<'a> {
    #[serde(rename = "additional-evidence")]
    additional_evidence: &'a str,
    nonce: &'a str,
    #[serde(rename = "tee-pubkey")]
    tee_pubkey: &'a TeePubKey,
}

impl RuntimeData {
    /// The canonical JSON of what REPORTDATA covers.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn canonical(&self, additional_evidence: &str) -> Result<Vec<u8>, Error> {
        serde_json::to_vec(&Bound {
            additional_evidence,
            nonce: &self.nonce,
            tee_pubkey: &self.tee_pubkey,
        })
        .map_err(|_| Error::Malformed("runtime data"))
    }

    /// REPORTDATA of the evidence: SHA-384 of [`canonical`](Self::canonical), then 16 zero bytes.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn report_data(&self, additional_evidence: &str) -> Result<[u8; 64], Error> {
        let mut report_data = [0; 64];
        let digest = Sha384::digest(self.canonical(additional_evidence)?);
        for (to, from) in report_data.iter_mut().zip(digest) {
            *to = from;
        }
        Ok(report_data)
    }
}

/// The attested configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitData {
    /// `toml`.
    pub format: String,
    /// The document, whose SHA-384 is MRCONFIGID.
    pub body: String,
}

/// Evidence of TDX.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TdxEvidence {
    /// Base64 of the CC event log.
    pub cc_eventlog: Option<String>,
    /// Base64 of the TD quote.
    pub quote: String,
}

/// Evidence of all devices of the TEE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompositeEvidence {
    /// Of the TD.
    pub primary_evidence: TdxEvidence,
    /// JSON as text, of other devices. L1 has none, and sends an empty text as Trustee's client does.
    pub additional_evidence: String,
}

/// What is sent to [`PATH_ATTEST`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attestation {
    /// If there is an attested configuration.
    #[serde(rename = "init-data", default)]
    pub init_data: Option<InitData>,
    /// What the evidence is for.
    #[serde(rename = "runtime-data")]
    pub runtime_data: RuntimeData,
    /// The evidence.
    #[serde(rename = "tee-evidence")]
    pub tee_evidence: CompositeEvidence,
}

impl Attestation {
    /// L1's: no additional evidence. The quote's REPORTDATA is [`RuntimeData::report_data`] of `""`.
    pub fn new(
        init_data: Option<&str>,
        runtime_data: RuntimeData,
        quote: &[u8],
        log: &[u8],
    ) -> Self {
        Self {
            init_data: init_data.map(|body| InitData {
                format: "toml".into(),
                body: body.into(),
            }),
            runtime_data,
            tee_evidence: CompositeEvidence {
                primary_evidence: TdxEvidence {
                    cc_eventlog: Some(standard(log)),
                    quote: standard(quote),
                },
                additional_evidence: String::new(),
            },
        }
    }

    /// As it is sent.
    ///
    /// # Errors
    /// [`Error::TooLong`].
    pub fn to_json(&self) -> Result<Vec<u8>, Error> {
        let json = serde_json::to_vec(self).map_err(|_| Error::Malformed("attestation"))?;
        within(json.len(), limits::ATTEST_BODY, "attestation")?;
        Ok(json)
    }

    /// Reads L1's.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::TooLong`].
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        from_json(json, limits::ATTEST_BODY, "attestation")
    }

    /// The TD quote.
    ///
    /// # Errors
    /// [`Error::Encoding`].
    pub fn quote(&self) -> Result<Vec<u8>, Error> {
        from_standard(&self.tee_evidence.primary_evidence.quote, "quote")
    }

    /// The CC event log; nothing if there is none.
    ///
    /// # Errors
    /// [`Error::Encoding`].
    pub fn event_log(&self) -> Result<Vec<u8>, Error> {
        match &self.tee_evidence.primary_evidence.cc_eventlog {
            Some(log) => from_standard(log, "event log"),
            None => Ok(Vec::new()),
        }
    }
}

/// The answer to an [`Attestation`].
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenAnswer {
    /// A JWT. L1 has no use for it: its session's cookie says the same.
    pub token: String,
}

/// Why a server refuses (RFC 7807, as KBS has it).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorInformation {
    /// An address that is only a name: the part after the last `/` says what it is.
    #[serde(rename = "type")]
    pub error_type: String,
    /// For people.
    pub detail: String,
}

/// Where names of errors are.
const ERRORS: &str = "https://github.com/confidential-containers/kbs/errors/";

impl ErrorInformation {
    /// The error `name`, one of the protocol's.
    pub fn new(name: &str, detail: &str) -> Self {
        Self {
            error_type: alloc::format!("{ERRORS}{name}"),
            detail: detail.into(),
        }
    }

    /// Reads a server's. Both texts are cut to [`limits::TEXT`]: who reads them may log them.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::TooLong`].
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        let mut error: Self = from_json(json, limits::BODY, "error")?;
        for text in [&mut error.error_type, &mut error.detail] {
            let plain = |character: char| match character.is_ascii_graphic() {
                true => character,
                false => ' ',
            };
            *text = text.chars().take(limits::TEXT).map(plain).collect();
        }
        Ok(error)
    }

    /// The error's name.
    pub fn name(&self) -> &str {
        self.error_type.rsplit('/').next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
