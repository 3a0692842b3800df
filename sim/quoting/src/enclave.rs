//! The quoting enclave: who it is, what certifies it, and how it signs.

use alloc::vec::Vec;

use sha2::{Digest, Sha256};
use zerocopy::IntoBytes;

use crate::body_of;
use crate::key::TestKey;
use crate::report::ReportError;
use tdx_defs::quote::{
    BodyDescriptor, ECDSA_P256, EnclaveReport, QuoteHeader, TEE_TDX, TdQuoteBody, VERSION_4,
    VERSION_5, certification,
};

/// Names of the keys behind the committed certificates.
pub(crate) mod key_name {
    pub(crate) const ATTESTATION: &str = "attestation key";
    pub(crate) const PCK: &str = "PCK";
}

/// QE_VENDOR_ID of Intel's quoting enclave: verifiers accept no other.
const INTEL: [u8; 16] = [
    0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07,
];

/// A quoting enclave on a platform that a PCK certificate names.
///
/// The default is the one that `pki/` certifies. Its fields are for those who need a wrong one.
#[derive(Clone, Debug)]
pub struct QuotingEnclave {
    /// What is signed in front of the body.
    pub header: QuoteHeader,
    /// Signs header and body.
    pub attestation_key: TestKey,
    /// Who the enclave is; its REPORTDATA is filled in when it signs.
    pub identity: EnclaveReport,
    /// Covered by the enclave's REPORTDATA together with the attestation key.
    pub authentication_data: [u8; 32],
    /// Signs the enclave's report.
    pub pck: TestKey,
    /// Certificates in PEM: PCK, Platform CA, root.
    pub certificates: Vec<u8>,
}

impl Default for QuotingEnclave {
    fn default() -> QuotingEnclave {
        QuotingEnclave {
            header: QuoteHeader {
                version: VERSION_4.to_le_bytes(),
                attestation_key_type: ECDSA_P256.to_le_bytes(),
                tee_type: TEE_TDX.to_le_bytes(),
                reserved: [0; 4],
                qe_vendor_id: INTEL,
                user_data: *b"tdp-vtpm tests\0\0\0\0\0\0",
            },
            attestation_key: TestKey::named(key_name::ATTESTATION),
            identity: test_enclave(),
            authentication_data: core::array::from_fn(|index| index as u8),
            pck: TestKey::named(key_name::PCK),
            certificates: include_bytes!("../pki/pck-chain.pem").to_vec(),
        }
    }
}

/// The enclave that the QE identity in `pki/` describes.
pub(crate) fn test_enclave() -> EnclaveReport {
    EnclaveReport {
        cpusvn: [0; 16],
        miscselect: [0; 4],
        reserved_20: [0; 28],
        // INIT, MODE64BIT, PROVISION_KEY; XFRM: x87, SSE, AVX.
        attributes: [0x15, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0],
        mrenclave: Sha256::digest(b"tdp-vtpm test quoting enclave").into(),
        reserved_96: [0; 32],
        mrsigner: Sha256::digest(b"tdp-vtpm test enclave signer").into(),
        reserved_160: [0; 96],
        isvprodid: 2u16.to_le_bytes(),
        isvsvn: 4u16.to_le_bytes(),
        reserved_260: [0; 60],
        report_data: [0; 64],
    }
}

impl QuotingEnclave {
    /// A quote of a TDREPORT. Its MAC must have been checked.
    pub fn quote(&self, report: &[u8; 1024]) -> Result<Vec<u8>, ReportError> {
        body_of(report).map(|body| self.sign_body(&body))
    }

    /// A quote with this body, whoever made it.
    #[must_use]
    pub fn sign_body(&self, body: &TdQuoteBody) -> Vec<u8> {
        self.sign(self.header.as_bytes(), body.as_bytes())
    }

    /// A quote of version 5 with a body of this kind.
    #[must_use]
    pub fn sign_version_5(&self, kind: BodyDescriptor, body: &[u8]) -> Vec<u8> {
        let header = QuoteHeader {
            version: VERSION_5.to_le_bytes(),
            ..self.header
        };
        self.sign(&[header.as_bytes(), kind.as_bytes()].concat(), body)
    }

    fn sign(&self, header: &[u8], body: &[u8]) -> Vec<u8> {
        let mut quote = [header, body].concat();
        let mut signature_data = self.attestation_key.sign(&quote).to_vec();
        signature_data.extend_from_slice(&self.attestation_key.public());
        certify(
            &mut signature_data,
            certification::QE_REPORT,
            &self.certification(),
        );
        quote.extend_from_slice(&(signature_data.len() as u32).to_le_bytes());
        quote.append(&mut signature_data);
        quote
    }

    /// "QE Report Certification Data".
    fn certification(&self) -> Vec<u8> {
        let report = self.report();
        let mut data = report.as_bytes().to_vec();
        data.extend_from_slice(&self.pck.sign(report.as_bytes()));
        data.extend_from_slice(&(self.authentication_data.len() as u16).to_le_bytes());
        data.extend_from_slice(&self.authentication_data);
        certify(&mut data, certification::PCK_CHAIN, &self.certificates);
        data
    }

    /// The enclave's report: who it is, and its attestation key.
    fn report(&self) -> EnclaveReport {
        let mut report = self.identity;
        let (bound, zeros) = report.report_data.split_at_mut(32);
        let digest = Sha256::new()
            .chain_update(self.attestation_key.public())
            .chain_update(self.authentication_data)
            .finalize();
        bound.copy_from_slice(&digest);
        zeros.fill(0);
        report
    }
}

/// Appends certification data: type, size, data.
fn certify(to: &mut Vec<u8>, kind: u16, data: &[u8]) {
    to.extend_from_slice(&kind.to_le_bytes());
    to.extend_from_slice(&(data.len() as u32).to_le_bytes());
    to.extend_from_slice(data);
}

/// A quote of a TDREPORT by the enclave that `pki/` certifies. The report's MAC must have been
/// checked.
pub fn quote(report: &[u8; 1024]) -> Result<Vec<u8>, ReportError> {
    QuotingEnclave::default().quote(report)
}
