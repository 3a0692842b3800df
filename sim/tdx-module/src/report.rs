//! TDREPORT: what the real module gets from SEAMREPORT, made with a key of our own.

use crate::measurement::{RTMR_COUNT, sha384};
use crate::module::Module;
use sha2::{Digest, Sha256};
use tdx_defs::report::{ReportMac, ReportType, TdInfo, TdReport, TeeTcbInfo};
use zerocopy::IntoBytes;

/// Identity of the processor and of the module, as reports carry it.
#[derive(Clone, Debug)]
pub struct Tcb {
    /// The key of the MAC: the secret that makes a report local to a platform.
    pub report_key: [u8; 32],
    /// CPUSVN.
    pub cpusvn: [u8; 16],
    /// TEE_TCB_SVN.
    pub tee_tcb_svn: [u8; 16],
    /// MRSEAM.
    pub mrseam: [u8; 48],
}

impl Default for Tcb {
    /// A platform that no attestation service can take for a real one.
    fn default() -> Tcb {
        Tcb {
            report_key: Sha256::digest(b"simulated platform report key").into(),
            cpusvn: [2, 2, 2, 2, 3, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0],
            tee_tcb_svn: [5, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            mrseam: sha384(b"simulated TDX module"),
        }
    }
}

/// TEE_TCB_INFO.VALID of module 1.5.
const TEE_TCB_INFO_VALID: u64 = 0x301ff;
/// Bytes of REPORTMACSTRUCT that the MAC covers.
const MAC_COVERS: usize = 224;

impl Module {
    /// TDINFO as it is now.
    pub fn td_info(&self) -> TdInfo {
        let td = &self.td;
        let mut rtmr = [[0; 48]; RTMR_COUNT];
        for (index, value) in rtmr.iter_mut().enumerate() {
            *value = *td.rtmrs.get(index);
        }
        TdInfo {
            attributes: td.params.attributes.to_le_bytes(),
            xfam: td.params.xfam.to_le_bytes(),
            mrtd: td.mrtd,
            mrconfigid: td.params.mrconfigid,
            mrowner: td.params.mrowner,
            mrownerconfig: td.params.mrownerconfig,
            rtmr,
            servtd_hash: [0; 48],
            reserved: [0; 64],
        }
    }

    /// TEE_TCB_INFO of this module.
    pub fn tee_tcb_info(&self) -> TeeTcbInfo {
        let tcb = &self.configuration.tcb;
        TeeTcbInfo {
            valid: TEE_TCB_INFO_VALID.to_le_bytes(),
            tee_tcb_svn: tcb.tee_tcb_svn,
            mrseam: tcb.mrseam,
            mrsignerseam: [0; 48],
            attributes: [0; 8],
            tee_tcb_svn2: tcb.tee_tcb_svn,
            reserved: [0; 95],
        }
    }

    /// The TDREPORT that TDG.MR.REPORT gives.
    pub fn report(&self, report_data: [u8; 64]) -> TdReport {
        let td_info = self.td_info();
        let tee_tcb_info = self.tee_tcb_info();
        let mut report_mac = ReportMac {
            report_type: ReportType {
                kind: ReportType::TDX,
                subtype: 0,
                version: 0,
                reserved: 0,
            },
            reserved_4: [0; 12],
            cpusvn: self.configuration.tcb.cpusvn,
            tee_tcb_info_hash: sha384(tee_tcb_info.as_bytes()),
            tee_info_hash: sha384(td_info.as_bytes()),
            report_data,
            reserved_192: [0; 32],
            mac: [0; 32],
        };
        report_mac.mac = self.mac(&report_mac);
        TdReport {
            report_mac,
            tee_tcb_info,
            reserved: [0; 17],
            td_info,
        }
    }

    /// Whether the MAC is one of this platform, for its CPUSVN: what ENCLU\[EVERIFYREPORT2\] tells a
    /// quoting enclave. The hashes in it are the caller's to compare.
    pub fn is_local_report(&self, report_mac: &ReportMac) -> bool {
        report_mac.cpusvn == self.configuration.tcb.cpusvn && self.verifies(report_mac)
    }

    /// Whether the MAC is one of this platform.
    pub(crate) fn verifies(&self, report_mac: &ReportMac) -> bool {
        self.mac(report_mac) == report_mac.mac
    }

    fn mac(&self, report_mac: &ReportMac) -> [u8; 32] {
        hmac_sha256(
            &self.configuration.tcb.report_key,
            &report_mac.as_bytes()[..MAC_COVERS],
        )
    }
}

/// HMAC-SHA256 (RFC 2104) with a key of at most one block.
pub(crate) fn hmac_sha256(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let pad = |byte: u8| {
        let mut block = [byte; 64];
        for (pad, key) in block.iter_mut().zip(key) {
            *pad ^= key;
        }
        block
    };
    let inner = Sha256::new()
        .chain_update(pad(0x36))
        .chain_update(message)
        .finalize();
    Sha256::new()
        .chain_update(pad(0x5c))
        .chain_update(inner)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::Configuration;

    #[test]
    fn hmac_matches_a_published_vector() {
        // RFC 4231, test case 1, whose 20-byte key is the same as one padded with zeros.
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        let mac = hmac_sha256(&key, b"Hi There");
        assert_eq!(mac[..8], [0xb0, 0x34, 0x4c, 0x61, 0xd8, 0xdb, 0x38, 0x53]);
    }

    #[test]
    fn a_report_verifies_on_its_platform_only_and_unchanged_only() {
        let module = Module::new(Configuration::default());
        let report = module.report([7; 64]);
        assert!(module.verifies(&report.report_mac));
        assert!(module.is_local_report(&report.report_mac));
        assert_eq!(
            report.report_mac.tee_info_hash,
            sha384(report.td_info.as_bytes())
        );

        let mut forged = report.report_mac;
        forged.report_data[0] ^= 1;
        assert!(!module.verifies(&forged));
        assert!(!module.is_local_report(&forged));

        let mut other = Configuration::default();
        other.tcb.report_key[0] ^= 1;
        assert!(!Module::new(other).verifies(&report.report_mac));
    }
}
