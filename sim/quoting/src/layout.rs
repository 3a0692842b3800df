//! Layout of a version 4 quote (Intel TDX DCAP Quoting Library API, appendix 3). Integers are
//! little-endian.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A SHA-384 digest.
type Sha384 = [u8; 48];

/// "Quote Header", 48 bytes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct QuoteHeader {
    /// 4.
    pub version: [u8; 2],
    /// 2: ECDSA-256 with P-256.
    pub attestation_key_type: [u8; 2],
    /// 0x81: TDX.
    pub tee_type: [u8; 4],
    /// 0.
    pub reserved: [u8; 4],
    /// The quoting enclave's vendor: Intel.
    pub qe_vendor_id: [u8; 16],
    /// The quoting enclave's identifier of the platform, and 4 zeros.
    pub user_data: [u8; 20],
}

/// "TD Quote Body", 584 bytes: what a TDREPORT says, without its MAC.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct TdQuoteBody {
    /// TEE_TCB_SVN.
    pub tee_tcb_svn: [u8; 16],
    /// MRSEAM.
    pub mrseam: Sha384,
    /// MRSIGNERSEAM.
    pub mrsignerseam: Sha384,
    /// SEAMATTRIBUTES.
    pub seam_attributes: [u8; 8],
    /// TDATTRIBUTES.
    pub td_attributes: [u8; 8],
    /// XFAM.
    pub xfam: [u8; 8],
    /// MRTD.
    pub mrtd: Sha384,
    /// MRCONFIGID.
    pub mrconfigid: Sha384,
    /// MROWNER.
    pub mrowner: Sha384,
    /// MROWNERCONFIG.
    pub mrownerconfig: Sha384,
    /// RTMR 0 to 3.
    pub rtmr: [Sha384; 4],
    /// REPORTDATA.
    pub report_data: [u8; 64],
}

/// "Enclave Report Body", 384 bytes: who the quoting enclave is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct EnclaveReport {
    /// CPUSVN.
    pub cpusvn: [u8; 16],
    /// MISCSELECT.
    pub miscselect: [u8; 4],
    /// 0.
    pub reserved_20: [u8; 28],
    /// ATTRIBUTES.
    pub attributes: [u8; 16],
    /// MRENCLAVE.
    pub mrenclave: [u8; 32],
    /// 0.
    pub reserved_96: [u8; 32],
    /// MRSIGNER.
    pub mrsigner: [u8; 32],
    /// 0.
    pub reserved_160: [u8; 96],
    /// ISVPRODID.
    pub isvprodid: [u8; 2],
    /// ISVSVN.
    pub isvsvn: [u8; 2],
    /// 0.
    pub reserved_260: [u8; 60],
    /// REPORTDATA: SHA-256 of the attestation key and the authentication data, and 32 zeros.
    pub report_data: [u8; 64],
}

const _: () = assert!(size_of::<QuoteHeader>() == 48);
const _: () = assert!(size_of::<TdQuoteBody>() == 584);
const _: () = assert!(size_of::<EnclaveReport>() == 384);

/// Certification data types ("QE Certification Data").
pub(crate) mod certification {
    /// The PCK certificate chain, PEM: leaf, Platform CA, root.
    pub(crate) const PCK_CHAIN: u16 = 5;
    /// The quoting enclave's report, and inside it a further certification.
    pub(crate) const QE_REPORT: u16 = 6;
}
