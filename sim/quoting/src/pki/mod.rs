//! The certificates of a test platform, and the collateral that goes with them.
//!
//! [`Options::default`] gives what is committed in `pki/`, byte for byte; [`Options`] says what else
//! can be asked for: other keys under the same names, certificates that are revoked or expired,
//! collateral that is too old.

mod certificate;
mod collateral;
mod sgx_extension;

use std::string::{String, ToString};
use std::vec::Vec;

use der::pem::LineEnding;
use der::{Encode, EncodePem};
use x509_cert::Certificate;
use x509_cert::builder::{Builder, CrlBuilder};
use x509_cert::crl::{CertificateList, RevokedCert};
use x509_cert::ext::pkix::CrlNumber;

use crate::enclave::{QuotingEnclave, key_name};
use crate::key::TestKey;
use certificate::{Role, time};
pub use collateral::{Collateral, Signed};

/// 2024-01-01T00:00:00Z, from when everything is valid, in seconds of Unix time.
pub const ISSUED: u64 = 1_704_067_200;
/// 9999-12-31T23:59:59Z, RFC 5280's "no well-defined expiration date".
pub const FOREVER: u64 = 253_402_300_799;

/// What the PCK certificate says of the platform: the values that the module model's TDREPORTs
/// have (`tdx_module::Tcb`).
pub mod platform {
    /// The SGX TCB components, which are the bytes of CPUSVN.
    pub const CPUSVN: [u8; 16] = [2, 2, 2, 2, 3, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0];
    /// PCESVN.
    pub const PCESVN: u16 = 13;
    /// TEE_TCB_SVN: module 1.5, minor version 5, and what the processor adds.
    pub const TEE_TCB_SVN: [u8; 16] = [5, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    /// FMSPC: a family, model and stepping that there is not.
    pub const FMSPC: [u8; 6] = *b"TEST\0\0";
    /// PCEID.
    pub const PCEID: [u8; 2] = [0; 2];
    /// PPID.
    pub const PPID: [u8; 16] = *b"tdp-vtpm-test-00";
    /// Platform instance identifier.
    pub const INSTANCE: [u8; 16] = *b"tdp-vtpm-test-01";
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The PCK certificate: the platform.
    Pck,
    /// Its issuer.
    PlatformCa,
    /// The signer of TCB info and QE identity.
    TcbSigning,
}

/// What to make. The default is what is committed.
#[derive(Clone, Debug)]
pub struct Options {
    /// Part of every key's name: another text gives another root, with the same names in its
    /// certificates.
    pub keys: String,
    /// Part of the PCK key's name: another text gives another platform of the same root.
    pub platform: String,
    /// When the PCK certificate expires, in seconds of Unix time.
    pub pck_expires: u64,
    /// `nextUpdate` of revocation lists, TCB info and QE identity, in seconds of Unix time.
    pub next_update: u64,
    /// What is on the revocation lists.
    pub revoked: Vec<Subject>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            keys: String::new(),
            platform: String::new(),
            pck_expires: FOREVER,
            next_update: FOREVER,
            revoked: Vec::new(),
        }
    }
}

/// Why no certificates could be made: an option cannot be expressed in them.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A certificate or revocation list: choose dates between 1970 and 9999.
    #[error("a certificate cannot be made: {0}")]
    Certificate(#[from] x509_cert::builder::Error),
    /// Something in a certificate, as above.
    #[error("a certificate cannot be encoded: {0}")]
    Der(#[from] der::Error),
    /// TCB info or QE identity.
    #[error("collateral cannot be encoded: {0}")]
    Json(#[from] serde_json::Error),
}

/// A platform's certificates, the keys of which everybody has, and its collateral.
#[derive(Clone, Debug)]
pub struct Pki {
    root: Certificate,
    platform_ca: Certificate,
    pck: Certificate,
    tcb_signing: Certificate,
    root_crl: CertificateList,
    pck_crl: CertificateList,
    tcb_info: Signed,
    qe_identity: Signed,
    pck_key: TestKey,
}

impl Pki {
    /// Makes it; the same options give the same bytes.
    pub fn new(options: &Options) -> Result<Pki, PkiError> {
        let key = |name: &str| TestKey::named(&(options.keys.clone() + name));
        let root_key = key("root CA");
        let platform_key = key("PCK Platform CA");
        let pck_key = key(&(options.platform.clone() + key_name::PCK));
        let signing_key = key("TCB signing");

        let root = Role::Root.certificate(&root_key, &root_key, FOREVER)?;
        let platform_ca = Role::PlatformCa.certificate(&platform_key, &root_key, FOREVER)?;
        let pck = Role::Pck.certificate(&pck_key, &platform_key, options.pck_expires)?;
        let tcb_signing = Role::TcbSigning.certificate(&signing_key, &root_key, FOREVER)?;

        let since = time(ISSUED)?;
        let revoked = |among: &[(Subject, &Certificate)]| -> Vec<RevokedCert> {
            among
                .iter()
                .filter(|(subject, _)| options.revoked.contains(subject))
                .map(|(_, certificate)| RevokedCert {
                    serial_number: certificate.tbs_certificate().serial_number().clone(),
                    revocation_date: since,
                    crl_entry_extensions: None,
                })
                .collect()
        };
        let by_root = revoked(&[
            (Subject::PlatformCa, &platform_ca),
            (Subject::TcbSigning, &tcb_signing),
        ]);
        let by_platform_ca = revoked(&[(Subject::Pck, &pck)]);
        Ok(Pki {
            root_crl: revocation_list(&root, &root_key, by_root, options)?,
            pck_crl: revocation_list(&platform_ca, &platform_key, by_platform_ca, options)?,
            tcb_info: collateral::tcb_info(&signing_key, options.next_update)?,
            qe_identity: collateral::qe_identity(&signing_key, options.next_update)?,
            root,
            platform_ca,
            pck,
            tcb_signing,
            pck_key,
        })
    }

    /// The root, DER: what a verifier would have to be told to trust.
    pub fn root_ca(&self) -> Result<Vec<u8>, PkiError> {
        Ok(self.root.to_der()?)
    }

    /// The quoting enclave of this platform.
    pub fn quoting_enclave(&self) -> Result<QuotingEnclave, PkiError> {
        Ok(QuotingEnclave {
            pck: self.pck_key.clone(),
            certificates: self.pck_chain()?.into_bytes(),
            ..QuotingEnclave::default()
        })
    }

    /// What a verifier needs beside the quote.
    pub fn collateral(&self) -> Result<Collateral, PkiError> {
        Ok(Collateral {
            pck_crl_issuer_chain: chain([&self.platform_ca, &self.root])?,
            root_ca_crl: hex::encode(self.root_crl.to_der()?),
            pck_crl: hex::encode(self.pck_crl.to_der()?),
            tcb_info_issuer_chain: self.signing_chain()?,
            tcb_info: self.tcb_info.text.clone(),
            tcb_info_signature: hex::encode(self.tcb_info.signature),
            qe_identity_issuer_chain: self.signing_chain()?,
            qe_identity: self.qe_identity.text.clone(),
            qe_identity_signature: hex::encode(self.qe_identity.signature),
        })
    }

    /// Name and content of each file of `pki/`.
    pub fn files(&self) -> Result<Vec<(&'static str, Vec<u8>)>, PkiError> {
        Ok(Vec::from([
            ("root-ca.der", self.root_ca()?),
            ("root-ca-crl.der", self.root_crl.to_der()?),
            ("pck-chain.pem", self.pck_chain()?.into_bytes()),
            ("pck-crl.der", self.pck_crl.to_der()?),
            ("tcb-signing-chain.pem", self.signing_chain()?.into_bytes()),
            ("tcb-info.json", self.tcb_info.response("tcbInfo")),
            (
                "qe-identity.json",
                self.qe_identity.response("enclaveIdentity"),
            ),
            ("collateral.json", self.collateral()?.json()?.into_bytes()),
        ]))
    }

    fn pck_chain(&self) -> Result<String, PkiError> {
        chain([&self.pck, &self.platform_ca, &self.root])
    }

    fn signing_chain(&self) -> Result<String, PkiError> {
        chain([&self.tcb_signing, &self.root])
    }
}

/// Certificates in PEM, each followed by its issuer's.
fn chain<const N: usize>(certificates: [&Certificate; N]) -> Result<String, PkiError> {
    let mut chain = String::new();
    for certificate in certificates {
        chain.push_str(&certificate.to_pem(LineEnding::LF)?.to_string());
    }
    Ok(chain)
}

fn revocation_list(
    issuer: &Certificate,
    key: &TestKey,
    revoked: Vec<RevokedCert>,
    options: &Options,
) -> Result<CertificateList, PkiError> {
    let number = CrlNumber(der::asn1::Uint::new(&[1])?);
    let mut builder = CrlBuilder::new_with_this_update(issuer, number, time(ISSUED)?)?
        .with_next_update(Some(time(options.next_update)?));
    if !revoked.is_empty() {
        builder = builder.with_certificates(revoked.into_iter());
    }
    Ok(builder.build::<_, p256::ecdsa::DerSignature>(key.signing_key())?)
}
