//! TCB info and QE identity (Intel SGX and TDX Provisioning Certification Service API, version 4), and
//! everything together in the form that the `dcap-qvl` crate reads.

use std::string::{String, ToString};
use std::time::Duration;
use std::vec::Vec;
use std::{format, vec};

use der::DateTime;
use serde::Serialize;

use super::{ISSUED, PkiError, platform};
use crate::enclave::test_enclave;
use crate::key::TestKey;

/// "TCB evaluation data number": counts Intel's TCB recoveries.
const EVALUATION: u32 = 17;
/// MRSIGNERSEAM of a module that Intel has signed, which the model reports as well.
const MRSIGNERSEAM: [u8; 48] = [0; 48];
/// `attributesMask` of the QE identity, as Intel's: the flags without MODE64BIT, and not XFRM.
const ATTRIBUTES_MASK: [u8; 16] = [
    0xfb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// A JSON text, and ECDSA P-256 with SHA-256 of its bytes.
#[derive(Clone, Debug)]
pub struct Signed {
    /// What was signed.
    pub text: String,
    /// r and s.
    pub signature: [u8; 64],
}

impl Signed {
    fn new(key: &TestKey, value: &impl Serialize) -> Result<Signed, PkiError> {
        let text = serde_json::to_string(value)?;
        let signature = key.sign(text.as_bytes());
        Ok(Signed { text, signature })
    }

    /// The body of the service's response: the text as it is, and its signature.
    pub(super) fn response(&self, name: &str) -> Vec<u8> {
        let (text, signature) = (&self.text, hex::encode(self.signature));
        format!("{{\"{name}\":{text},\"signature\":\"{signature}\"}}\n").into_bytes()
    }
}

/// All collateral of a quote. Binary members are hexadecimal.
#[derive(Clone, Debug, Serialize)]
pub struct Collateral {
    /// Platform CA and root, PEM.
    pub pck_crl_issuer_chain: String,
    /// The root's revocation list, DER.
    pub root_ca_crl: String,
    /// The Platform CA's revocation list, DER.
    pub pck_crl: String,
    /// TCB signing and root, PEM.
    pub tcb_info_issuer_chain: String,
    /// TCB info.
    pub tcb_info: String,
    /// Its signature.
    pub tcb_info_signature: String,
    /// TCB signing and root, PEM.
    pub qe_identity_issuer_chain: String,
    /// QE identity.
    pub qe_identity: String,
    /// Its signature.
    pub qe_identity_signature: String,
}

impl Collateral {
    /// JSON that `dcap_qvl::QuoteCollateralV3` is read from.
    pub fn json(&self) -> Result<String, PkiError> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TcbInfo {
    id: &'static str,
    version: u8,
    issue_date: String,
    next_update: String,
    fmspc: String,
    pce_id: String,
    tcb_type: u8,
    tcb_evaluation_data_number: u32,
    tdx_module: ModuleIdentity,
    tdx_module_identities: Vec<ModuleIdentity>,
    tcb_levels: Vec<Level<PlatformTcb>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ModuleIdentity {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    mrsigner: String,
    attributes: String,
    attributes_mask: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tcb_levels: Vec<Level<Isvsvn>>,
}

impl ModuleIdentity {
    fn new(id: Option<String>, tcb_levels: Vec<Level<Isvsvn>>) -> ModuleIdentity {
        ModuleIdentity {
            id,
            mrsigner: hex::encode_upper(MRSIGNERSEAM),
            attributes: hex::encode_upper([0; 8]),
            attributes_mask: hex::encode_upper([0xff; 8]),
            tcb_levels,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Level<T> {
    tcb: T,
    tcb_date: &'static str,
    tcb_status: &'static str,
    #[serde(rename = "advisoryIDs", skip_serializing_if = "Vec::is_empty")]
    advisory_ids: Vec<&'static str>,
}

/// Levels by ISVSVN, each with its status, the highest first.
fn levels(isvsvns: &[(u16, &'static str)]) -> Vec<Level<Isvsvn>> {
    isvsvns
        .iter()
        .map(|&(isvsvn, tcb_status)| Level::new(Isvsvn { isvsvn }, tcb_status))
        .collect()
}

impl<T> Level<T> {
    fn new(tcb: T, tcb_status: &'static str) -> Level<T> {
        let known = match tcb_status {
            "UpToDate" => Vec::new(),
            _ => vec!["TDP-TEST-00001"],
        };
        Level {
            tcb,
            tcb_date: "2024-01-01T00:00:00Z",
            tcb_status,
            advisory_ids: known,
        }
    }
}

#[derive(Serialize)]
struct Isvsvn {
    isvsvn: u16,
}

#[derive(Serialize)]
struct PlatformTcb {
    sgxtcbcomponents: Vec<Component>,
    pcesvn: u16,
    tdxtcbcomponents: Vec<Component>,
}

impl PlatformTcb {
    fn new(cpusvn: [u8; 16], pcesvn: u16, tee_tcb_svn: [u8; 16]) -> PlatformTcb {
        let components = |svns: [u8; 16]| svns.map(|svn| Component { svn }).into();
        PlatformTcb {
            sgxtcbcomponents: components(cpusvn),
            pcesvn,
            tdxtcbcomponents: components(tee_tcb_svn),
        }
    }
}

#[derive(Serialize)]
struct Component {
    svn: u8,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct QeIdentity {
    id: &'static str,
    version: u8,
    issue_date: String,
    next_update: String,
    tcb_evaluation_data_number: u32,
    miscselect: String,
    miscselect_mask: String,
    attributes: String,
    attributes_mask: String,
    mrsigner: String,
    isvprodid: u16,
    tcb_levels: Vec<Level<Isvsvn>>,
}

/// A date as the service writes it, from seconds of Unix time.
fn date(seconds: u64) -> Result<String, PkiError> {
    Ok(DateTime::from_unix_duration(Duration::from_secs(seconds))?.to_string())
}

/// TCB info, version 3, of the platforms with [`platform::FMSPC`]. Those with the values of
/// [`platform`] are up to date; a module with a lower minor version is out of date, one below 3
/// revoked.
pub(super) fn tcb_info(key: &TestKey, next_update: u64) -> Result<Signed, PkiError> {
    let [minor, major, ..] = platform::TEE_TCB_SVN;
    let module_levels = levels(&[(minor.into(), "UpToDate"), (3, "OutOfDate"), (1, "Revoked")]);
    let current = PlatformTcb::new(platform::CPUSVN, platform::PCESVN, platform::TEE_TCB_SVN);
    let old = PlatformTcb::new([0; 16], 0, [0; 16]);
    let info = TcbInfo {
        id: "TDX",
        version: 3,
        issue_date: date(ISSUED)?,
        next_update: date(next_update)?,
        fmspc: hex::encode_upper(platform::FMSPC),
        pce_id: hex::encode_upper(platform::PCEID),
        tcb_type: 0,
        tcb_evaluation_data_number: EVALUATION,
        tdx_module: ModuleIdentity::new(None, Vec::new()),
        tdx_module_identities: vec![ModuleIdentity::new(
            Some(format!("TDX_{major:02X}")),
            module_levels,
        )],
        tcb_levels: vec![
            Level::new(current, "UpToDate"),
            Level::new(old, "OutOfDate"),
        ],
    };
    Signed::new(key, &info)
}

/// TD QE identity, version 2, of [`test_enclave`]; one with a lower ISVSVN is out of date.
pub(super) fn qe_identity(key: &TestKey, next_update: u64) -> Result<Signed, PkiError> {
    let enclave = test_enclave();
    let mut attributes = enclave.attributes;
    for (byte, mask) in attributes.iter_mut().zip(ATTRIBUTES_MASK) {
        *byte &= mask;
    }
    let isvsvn = u16::from_le_bytes(enclave.isvsvn);
    let identity = QeIdentity {
        id: "TD_QE",
        version: 2,
        issue_date: date(ISSUED)?,
        next_update: date(next_update)?,
        tcb_evaluation_data_number: EVALUATION,
        miscselect: hex::encode_upper(enclave.miscselect),
        miscselect_mask: hex::encode_upper([0xff; 4]),
        attributes: hex::encode_upper(attributes),
        attributes_mask: hex::encode_upper(ATTRIBUTES_MASK),
        mrsigner: hex::encode_upper(enclave.mrsigner),
        isvprodid: u16::from_le_bytes(enclave.isvprodid),
        tcb_levels: levels(&[(isvsvn, "UpToDate"), (isvsvn - 1, "OutOfDate")]),
    };
    Signed::new(key, &identity)
}
