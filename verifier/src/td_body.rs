//! What a TD quote and a TDREPORT both say of a TD.

use dcap_qvl::quote::TDReport10;
use sha2::{Digest, Sha384};
use tdx_defs::{
    quote::TdQuoteBody,
    report::{ReportType, TdReport},
};
use zerocopy::{FromBytes, IntoBytes};

/// The body of a quote as `dcap-qvl` has parsed it.
pub fn of_quote(body: &TDReport10) -> TdQuoteBody {
    TdQuoteBody {
        tee_tcb_svn: body.tee_tcb_svn,
        mrseam: body.mr_seam,
        mrsignerseam: body.mr_signer_seam,
        seam_attributes: body.seam_attributes,
        td_attributes: body.td_attributes,
        xfam: body.xfam,
        mrtd: body.mr_td,
        mrconfigid: body.mr_config_id,
        mrowner: body.mr_owner,
        mrownerconfig: body.mr_owner_config,
        rtmr: [body.rt_mr0, body.rt_mr1, body.rt_mr2, body.rt_mr3],
        report_data: body.report_data,
    }
}

/// ATTRIBUTES as a number.
pub fn attributes(body: &TdQuoteBody) -> u64 {
    u64::from_le_bytes(body.td_attributes)
}

/// XFAM as a number.
pub fn xfam(body: &TdQuoteBody) -> u64 {
    u64::from_le_bytes(body.xfam)
}

/// The members in which two bodies differ, with both values.
pub fn differences(one: &TdQuoteBody, other: &TdQuoteBody) -> Vec<(&'static str, String, String)> {
    let number = |bytes| format!("{:016x}", u64::from_le_bytes(bytes));
    let fields = |body: &TdQuoteBody| {
        let mut fields = vec![
            ("TEE_TCB_SVN", hex::encode(body.tee_tcb_svn)),
            ("MRSEAM", hex::encode(body.mrseam)),
            ("MRSIGNERSEAM", hex::encode(body.mrsignerseam)),
            ("SEAMATTRIBUTES", number(body.seam_attributes)),
            ("ATTRIBUTES", number(body.td_attributes)),
            ("XFAM", number(body.xfam)),
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
    fields(one)
        .into_iter()
        .zip(fields(other))
        .filter(|((_, ours), (_, theirs))| ours != theirs)
        .map(|((name, ours), (_, theirs))| (name, ours, theirs))
        .collect()
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
