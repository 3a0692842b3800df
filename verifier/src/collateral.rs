//! The trusted root and what its owner says of platforms: TCB info, QE identity, revocation lists.
//!
//! The files are as Intel's Provisioning Certification Service (API version 4) gives them, so a relying party fetches them
//! once and verifies offline from then on:
//!
//! | file | what | PCS path under `/sgx/certification/v4` or `/tdx/certification/v4` |
//! | --- | --- | --- |
//! | `root-ca.der` or `root-ca.pem` | the trusted root; Intel's if there is none | – |
//! | `root-ca-crl.der` | the root's CRL | `sgx … /rootcacrl` |
//! | `pck-crl*.der` | CRLs of the PCK CAs | `sgx … /pckcrl?ca=platform&encoding=der` |
//! | `tcb-info*.json` | TCB info, signed, one a FMSPC | `tdx … /tcb?fmspc=…` |
//! | `qe-identity.json` | identity of the TD quoting enclave, signed | `tdx … /qe/identity` |
//! | `tcb-signing-chain.pem` | who signed both, and the root | header `TCB-Info-Issuer-Chain`, URL-decoded |

use crate::{certificate, files::read_bounded};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::path::{Path, PathBuf};

/// Largest file of collateral; a CRL of Intel's is a few hundred KiB.
const FILE_LIMIT: u64 = 16 << 20;
/// Largest document of the PCS; Intel's have a few tens of KiB.
const DOCUMENT_LIMIT: u64 = 1 << 20;
/// Most files of one kind that are read.
const FILES_LIMIT: usize = 64;

/// Intel SGX Root CA, the root of every PCK and TCB signing certificate of Intel's
/// (`https://certificates.trustedservices.intel.com/Intel_SGX_Provisioning_Certification_RootCA.cer`).
pub const INTEL_ROOT: &[u8] = include_bytes!("intel_sgx_root_ca.der");

/// A document of the PCS with its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The signed JSON, byte for byte.
    pub body: String,
    /// ECDSA P-256: r, s.
    pub signature: Vec<u8>,
}

/// The trusted root and what its owner says of platforms.
#[derive(Clone, Debug)]
pub struct Collateral {
    /// The trusted root certificate, DER.
    pub root: Vec<u8>,
    /// CRL of the root, DER.
    pub root_crl: Option<Vec<u8>>,
    /// CRLs of the PCK CAs, DER.
    pub pck_crls: Vec<Vec<u8>>,
    /// TCB infos.
    pub tcb_infos: Vec<Signed>,
    /// Identity of the TD quoting enclave.
    pub qe_identity: Option<Signed>,
    /// Signer of TCB infos and QE identity, then the root, PEM.
    pub tcb_signing_chain: Option<String>,
}

/// Why a directory of collateral cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollateralError {
    /// A file or the directory cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what its name says.
    #[error("{} is not {what}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
    },
}

impl Collateral {
    /// Intel's root and nothing else: quotes' signatures and chains can be verified, TCB status cannot.
    pub fn intel_root_only() -> Collateral {
        Collateral {
            root: INTEL_ROOT.to_vec(),
            root_crl: None,
            pck_crls: Vec::new(),
            tcb_infos: Vec::new(),
            qe_identity: None,
            tcb_signing_chain: None,
        }
    }

    /// Reads a directory of the files in the table above. What is missing is missed by the checks that need it.
    ///
    /// # Errors
    /// The directory or a file in it cannot be read, or is not what its name says.
    pub fn read(directory: &Path) -> Result<Collateral, CollateralError> {
        let mut names: Vec<PathBuf> = std::fs::read_dir(directory)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
            .map_err(|source| CollateralError::File {
                path: directory.into(),
                source,
            })?;
        names.sort();
        let named = |start: &'static str, end: &'static str| {
            names
                .iter()
                .filter(move |path| {
                    let name = path.file_name().and_then(|name| name.to_str());
                    name.is_some_and(|name| name.starts_with(start) && name.ends_with(end))
                })
                .take(FILES_LIMIT)
        };
        let one = |name: &'static str| named(name, name).next();

        let mut collateral = Collateral::intel_root_only();
        if let Some(path) = one("root-ca.der") {
            collateral.root = read(path)?;
        } else if let Some(path) = one("root-ca.pem") {
            let text = read_text(path, "a PEM certificate")?;
            collateral.root = certificate::from_pem(&text)
                .into_iter()
                .next()
                .ok_or_else(|| content(path, "a PEM certificate"))?;
        }
        collateral.root_crl = one("root-ca-crl.der").map(|path| read(path)).transpose()?;
        for path in named("pck-crl", ".der") {
            collateral.pck_crls.push(read(path)?);
        }
        for path in named("tcb-info", ".json") {
            collateral.tcb_infos.push(read_signed(path, "tcbInfo")?);
        }
        collateral.qe_identity = one("qe-identity.json")
            .map(|path| read_signed(path, "enclaveIdentity"))
            .transpose()?;
        collateral.tcb_signing_chain = one("tcb-signing-chain.pem")
            .map(|path| read_text(path, "a PEM certificate chain"))
            .transpose()?;
        Ok(collateral)
    }
}

impl Signed {
    /// A document as the PCS answers with it: `{"<member>":{…},"signature":"<hex>"}`.
    pub fn parse(json: &str, member: &str) -> Option<Signed> {
        #[derive(Deserialize)]
        struct Answer<'a> {
            signature: String,
            #[serde(borrow, alias = "tcbInfo", alias = "enclaveIdentity")]
            body: &'a RawValue,
        }
        if !json.contains(member) {
            return None;
        }
        let answer: Answer<'_> = serde_json::from_str(json).ok()?;
        Some(Signed {
            body: answer.body.get().to_owned(),
            signature: hex::decode(answer.signature).ok()?,
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CollateralError> {
    read_at_most(path, FILE_LIMIT)
}

fn read_at_most(path: &Path, limit: u64) -> Result<Vec<u8>, CollateralError> {
    read_bounded(path, limit).map_err(|source| CollateralError::File {
        path: path.into(),
        source,
    })
}

fn read_text(path: &Path, what: &'static str) -> Result<String, CollateralError> {
    String::from_utf8(read_at_most(path, DOCUMENT_LIMIT)?).map_err(|_| content(path, what))
}

fn read_signed(path: &Path, member: &'static str) -> Result<Signed, CollateralError> {
    let what = match member {
        "tcbInfo" => "an answer of the PCS with `tcbInfo` and `signature`",
        _ => "an answer of the PCS with `enclaveIdentity` and `signature`",
    };
    Signed::parse(&read_text(path, what)?, member).ok_or_else(|| content(path, what))
}

fn content(path: &Path, what: &'static str) -> CollateralError {
    CollateralError::Content {
        path: path.into(),
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_bytes_are_kept_as_they_are() {
        let json = r#"{"tcbInfo":{"id":"TDX",  "version":3},"signature":"00ff"}"#;
        let signed = Signed::parse(json, "tcbInfo").unwrap();
        assert_eq!(signed.body, r#"{"id":"TDX",  "version":3}"#);
        assert_eq!(signed.signature, [0, 0xff]);
        assert_eq!(Signed::parse(json, "enclaveIdentity"), None);
    }

    #[test]
    fn intel_root_is_a_certificate_of_itself() {
        let root = certificate::Certificate::parse(INTEL_ROOT).unwrap();
        assert!(root.is_signed_by(&root));
        assert!(root.subject().contains("Intel SGX Root CA"));
    }
}
