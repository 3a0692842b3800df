//! TDREPORT_STRUCT: layout of what TDG.MR.REPORT writes (TDX Module ABI, "TDREPORT_STRUCT").

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A SHA-384 digest.
pub type Sha384 = [u8; 48];

/// REPORTTYPE.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct ReportType {
    /// TYPE: 0x81 is a TDX report.
    pub kind: u8,
    /// SUBTYPE: 0.
    pub subtype: u8,
    /// VERSION: 0 without a bound service TD, 1 with one, 3 with [`PartitionInfo`].
    pub version: u8,
    /// 0.
    pub reserved: u8,
}

impl ReportType {
    /// TYPE of a TDX report.
    pub const TDX: u8 = 0x81;
    /// VERSION of a report with [`PartitionInfo`].
    pub const WITH_PARTITION: u8 = 3;
}

/// REPORTMACSTRUCT: the part that the processor's MAC covers.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct ReportMac {
    /// Kind and version.
    pub report_type: ReportType,
    /// 0.
    pub reserved_4: [u8; 12],
    /// CPUSVN.
    pub cpusvn: [u8; 16],
    /// SHA-384 of [`TeeTcbInfo`].
    pub tee_tcb_info_hash: Sha384,
    /// SHA-384 of [`TdInfo`].
    pub tee_info_hash: Sha384,
    /// What the caller put in.
    pub report_data: [u8; 64],
    /// 0.
    pub reserved_192: [u8; 32],
    /// The MAC.
    pub mac: [u8; 32],
}

/// TEE_TCB_INFO: the TDX module.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct TeeTcbInfo {
    /// VALID: which of the fields are, little-endian.
    pub valid: [u8; 8],
    /// TEE_TCB_SVN: byte 0 minor, byte 1 major, byte 2 patch level.
    pub tee_tcb_svn: [u8; 16],
    /// MRSEAM.
    pub mrseam: Sha384,
    /// MRSIGNERSEAM, 0 for a module signed by Intel.
    pub mrsignerseam: Sha384,
    /// ATTRIBUTES of the module, little-endian.
    pub attributes: [u8; 8],
    /// TEE_TCB_SVN2 (newer modules).
    pub tee_tcb_svn2: [u8; 16],
    /// 0.
    pub reserved: [u8; 95],
}

/// TDINFO: the TD.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct TdInfo {
    /// ATTRIBUTES, little-endian.
    pub attributes: [u8; 8],
    /// XFAM, little-endian.
    pub xfam: [u8; 8],
    /// MRTD: what the host built the TD from.
    pub mrtd: Sha384,
    /// MRCONFIGID.
    pub mrconfigid: Sha384,
    /// MROWNER.
    pub mrowner: Sha384,
    /// MROWNERCONFIG.
    pub mrownerconfig: Sha384,
    /// RTMR 0 to 3.
    pub rtmr: [Sha384; 4],
    /// SERVTD_HASH.
    pub servtd_hash: Sha384,
    /// 0 in versions 0 and 1; [`PartitionInfo`] in version 3.
    pub reserved: [u8; 64],
}

impl TdInfo {
    /// What version 3 has at the end of TDINFO.
    pub const fn partition(&self) -> &PartitionInfo {
        zerocopy::transmute_ref!(&self.reserved)
    }
}

/// The end of TDINFO in a TDREPORT of version 3 (TDX module 1.5.34 and later).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct PartitionInfo {
    /// TDID: of this TD and no other.
    pub td_id: [u8; 32],
    /// 0.
    pub reserved_32: [u8; 24],
    /// VMID: for which of the TD's VMs L1 asked for the report; 0 for itself.
    pub vmid: u8,
    /// 0.
    pub reserved_57: [u8; 3],
    /// VALID: which fields of TDINFO are, little-endian.
    pub valid: [u8; 4],
}

impl PartitionInfo {
    /// VALID: SERVTD_HASH.
    pub const SERVTD_HASH_VALID: u32 = 1 << 0;
    /// VALID: TDID.
    pub const TD_ID_VALID: u32 = 1 << 8;
    /// VALID: VMID.
    pub const VMID_VALID: u32 = 1 << 9;
}

/// TDREPORT_STRUCT, 1024 bytes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct TdReport {
    /// REPORTMACSTRUCT.
    pub report_mac: ReportMac,
    /// TEE_TCB_INFO.
    pub tee_tcb_info: TeeTcbInfo,
    /// 0.
    pub reserved: [u8; 17],
    /// TDINFO.
    pub td_info: TdInfo,
}

impl TdReport {
    /// Required alignment of the buffer that TDG.MR.REPORT writes to.
    pub const ALIGNMENT: u64 = 1024;
    /// Required alignment of the REPORTDATA that TDG.MR.REPORT reads.
    pub const REPORT_DATA_ALIGNMENT: u64 = 64;
}

/// The 48 bytes that TDG.MR.RTMR.EXTEND reads, aligned as it demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct ExtendData(pub Sha384);

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn the_layout_is_that_of_the_abi() {
        assert_eq!(size_of::<TdReport>(), 1024);
        assert_eq!(size_of::<ReportMac>(), 256);
        assert_eq!(size_of::<TeeTcbInfo>(), 239);
        assert_eq!(size_of::<TdInfo>(), 512);
        assert_eq!(offset_of!(ReportMac, report_data), 128);
        assert_eq!(offset_of!(ReportMac, mac), 224);
        assert_eq!(offset_of!(TdReport, td_info), 512);
        assert_eq!(offset_of!(TdInfo, rtmr), 720 - 512);
        assert_eq!(offset_of!(TdInfo, servtd_hash), 912 - 512);
        assert_eq!(size_of::<PartitionInfo>(), 64);
        assert_eq!(offset_of!(PartitionInfo, vmid), 1016 - 960);
        assert_eq!(offset_of!(PartitionInfo, valid), 1020 - 960);
        assert_eq!(align_of::<ExtendData>(), 64);
    }
}
