//! Layout of a TD quote (Intel TDX DCAP Quoting Library API, appendix 3). Integers are little-endian.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::report::{Sha384, TdReport};

/// Version of a quote whose header is followed by a [`TdQuoteBody`].
pub const VERSION_4: u16 = 4;
/// Version of a quote with a [`BodyDescriptor`] between header and body.
pub const VERSION_5: u16 = 5;
/// Attestation key type: ECDSA-256 with P-256.
pub const ECDSA_P256: u16 = 2;
/// TEE type: TDX.
pub const TEE_TDX: u32 = 0x81;

/// "TD Quote Body Descriptor" of a version 5 quote.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct BodyDescriptor {
    /// What the body is.
    pub body_type: [u8; 2],
    /// Its bytes.
    pub size: [u8; 4],
}

impl BodyDescriptor {
    /// A [`TdQuoteBody`].
    pub const TDX_1_0: Self = Self {
        body_type: 2u16.to_le_bytes(),
        size: 584u32.to_le_bytes(),
    };
    /// A [`TdQuoteBody15`].
    pub const TDX_1_5: Self = Self {
        body_type: 3u16.to_le_bytes(),
        size: 648u32.to_le_bytes(),
    };
    /// A [`TdQuoteBody15Ex`].
    pub const TDX_1_5_EX: Self = Self {
        body_type: 4u16.to_le_bytes(),
        size: 885u32.to_le_bytes(),
    };
}

/// "Quote Header", 48 bytes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct QuoteHeader {
    /// [`VERSION_4`] or [`VERSION_5`].
    pub version: [u8; 2],
    /// [`ECDSA_P256`].
    pub attestation_key_type: [u8; 2],
    /// [`TEE_TDX`].
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

impl TdQuoteBody {
    /// The body that a quote of `report` has.
    pub const fn of(report: &TdReport) -> Self {
        let (tcb, td) = (&report.tee_tcb_info, &report.td_info);
        Self {
            tee_tcb_svn: tcb.tee_tcb_svn,
            mrseam: tcb.mrseam,
            mrsignerseam: tcb.mrsignerseam,
            seam_attributes: tcb.attributes,
            td_attributes: td.attributes,
            xfam: td.xfam,
            mrtd: td.mrtd,
            mrconfigid: td.mrconfigid,
            mrowner: td.mrowner,
            mrownerconfig: td.mrownerconfig,
            rtmr: td.rtmr,
            report_data: report.report_mac.report_data,
        }
    }
}

/// "TD Quote Body" of TDX 1.5, 648 bytes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct TdQuoteBody15 {
    /// What version 4 has as well.
    pub base: TdQuoteBody,
    /// TEE_TCB_SVN2.
    pub tee_tcb_svn2: [u8; 16],
    /// MRSERVICETD: SERVTD_HASH of the service TDs that are bound; 0 without any.
    pub mrservicetd: Sha384,
}

/// "TD Quote Body" of TDX 1.5 with the extensions of modules from 1.5.34 on, 885 bytes (Intel DCAP, `sgx_quote_5.h`,
/// `sgx_report2_body_v1_5_ex_t`).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct TdQuoteBody15Ex {
    /// What TDX 1.5 has as well.
    pub base: TdQuoteBody15,
    /// VMID: for which of the TD's VMs L1 asked for the report; 0 for itself.
    pub vmid: u8,
    /// TDID: of this TD and no other.
    pub td_id: [u8; 32],
    /// Hash of the devices' information; 0 without any.
    pub dev_info: Sha384,
    /// SERVTD_HASH when the TD was created.
    pub init_service_td_hash: Sha384,
    /// Attributes of the service TD when the TD was created.
    pub init_service_td_attributes: [u8; 8],
    /// CPUSVN when the TD was created.
    pub init_cpusvn: [u8; 16],
    /// TEE_TCB_SVN when the TD was created.
    pub init_tee_tcb_svn: [u8; 16],
    /// The platform's model when the TD was created.
    pub init_tee_fmspc: [u8; 12],
    /// SERVTD_HASH now.
    pub cur_service_td_hash: Sha384,
    /// Attributes of the service TD now.
    pub cur_service_td_attributes: [u8; 8],
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
const _: () = assert!(size_of::<TdQuoteBody15>() == 648);
const _: () = assert!(size_of::<TdQuoteBody15Ex>() == 885);
const _: () = assert!(size_of::<EnclaveReport>() == 384);

/// Certification data types ("QE Certification Data").
pub mod certification {
    /// The PCK certificate chain, PEM: leaf, Platform CA, root.
    pub const PCK_CHAIN: u16 = 5;
    /// The quoting enclave's report, and inside it a further certification.
    pub const QE_REPORT: u16 = 6;
}
