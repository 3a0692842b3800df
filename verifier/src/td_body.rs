//! What a TD quote and a TDREPORT both say of a TD.

use dcap_qvl::quote::TDReport10;
use sha2::{Digest, Sha384};
use tdx_defs::report::{ReportType, TdReport};
use zerocopy::{FromBytes, IntoBytes};

/// The body of a TD quote, or the same from a TDREPORT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdBody {
    /// TEE_TCB_SVN.
    pub tee_tcb_svn: [u8; 16],
    /// MRSEAM.
    pub mrseam: [u8; 48],
    /// MRSIGNERSEAM.
    pub mrsignerseam: [u8; 48],
    /// SEAMATTRIBUTES.
    pub seam_attributes: u64,
    /// ATTRIBUTES.
    pub attributes: u64,
    /// XFAM.
    pub xfam: u64,
    /// MRTD.
    pub mrtd: [u8; 48],
    /// MRCONFIGID.
    pub mrconfigid: [u8; 48],
    /// MROWNER.
    pub mrowner: [u8; 48],
    /// MROWNERCONFIG.
    pub mrownerconfig: [u8; 48],
    /// RTMR 0 to 3.
    pub rtmr: [[u8; 48]; 4],
    /// REPORTDATA.
    pub report_data: [u8; 64],
}

impl From<&TDReport10> for TdBody {
    fn from(body: &TDReport10) -> TdBody {
        TdBody {
            tee_tcb_svn: body.tee_tcb_svn,
            mrseam: body.mr_seam,
            mrsignerseam: body.mr_signer_seam,
            seam_attributes: u64::from_le_bytes(body.seam_attributes),
            attributes: u64::from_le_bytes(body.td_attributes),
            xfam: u64::from_le_bytes(body.xfam),
            mrtd: body.mr_td,
            mrconfigid: body.mr_config_id,
            mrowner: body.mr_owner,
            mrownerconfig: body.mr_owner_config,
            rtmr: [body.rt_mr0, body.rt_mr1, body.rt_mr2, body.rt_mr3],
            report_data: body.report_data,
        }
    }
}

impl From<&TdReport> for TdBody {
    fn from(report: &TdReport) -> TdBody {
        let (td, tcb) = (&report.td_info, &report.tee_tcb_info);
        TdBody {
            tee_tcb_svn: tcb.tee_tcb_svn,
            mrseam: tcb.mrseam,
            mrsignerseam: tcb.mrsignerseam,
            seam_attributes: u64::from_le_bytes(tcb.attributes),
            attributes: u64::from_le_bytes(td.attributes),
            xfam: u64::from_le_bytes(td.xfam),
            mrtd: td.mrtd,
            mrconfigid: td.mrconfigid,
            mrowner: td.mrowner,
            mrownerconfig: td.mrownerconfig,
            rtmr: td.rtmr,
            report_data: report.report_mac.report_data,
        }
    }
}

impl TdBody {
    /// The members in which two bodies differ, with both values.
    pub fn differences(&self, other: &TdBody) -> Vec<(&'static str, String, String)> {
        let fields = |body: &TdBody| {
            let mut fields = vec![
                ("TEE_TCB_SVN", hex::encode(body.tee_tcb_svn)),
                ("MRSEAM", hex::encode(body.mrseam)),
                ("MRSIGNERSEAM", hex::encode(body.mrsignerseam)),
                ("SEAMATTRIBUTES", format!("{:016x}", body.seam_attributes)),
                ("ATTRIBUTES", format!("{:016x}", body.attributes)),
                ("XFAM", format!("{:016x}", body.xfam)),
                ("MRTD", hex::encode(body.mrtd)),
                ("MRCONFIGID", hex::encode(body.mrconfigid)),
                ("MROWNER", hex::encode(body.mrowner)),
                ("MROWNERCONFIG", hex::encode(body.mrownerconfig)),
                ("REPORTDATA", hex::encode(body.report_data)),
            ];
            let names = ["RTMR0", "RTMR1", "RTMR2", "RTMR3"];
            fields.extend(names.into_iter().zip(body.rtmr.map(hex::encode)));
            fields
        };
        fields(self)
            .into_iter()
            .zip(fields(other))
            .filter(|((_, ours), (_, theirs))| ours != theirs)
            .map(|((name, ours), (_, theirs))| (name, ours, theirs))
            .collect()
    }
}

/// A TDREPORT whose hashes hold; `None` for other bytes. Its MAC is for the platform that made it to check.
pub fn consistent_report(bytes: &[u8]) -> Option<TdReport> {
    let (report, _) = TdReport::read_from_prefix(bytes).ok()?;
    let mac = &report.report_mac;
    let holds = mac.report_type.kind == ReportType::TDX
        && mac.tee_info_hash == *Sha384::digest(report.td_info.as_bytes())
        && mac.tee_tcb_info_hash == *Sha384::digest(report.tee_tcb_info.as_bytes());
    holds.then_some(report)
}
