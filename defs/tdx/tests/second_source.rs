//! td-shim's crate `tdx-tdcall`, written from the same documents by other people, as a second source
//! of what it shows: the TDREPORT and its parts, completion codes, statuses of TDVMCALLs. Its leaf
//! numbers are private.

use tdx_defs::ghci::CompletionStatus;
use tdx_defs::report::TdReport;
use tdx_defs::status::{Code, Operand, Status};
use tdx_tdcall::tdreport::{TD_REPORT_SIZE, TdxReport};
use tdx_tdcall::{
    TDCALL_STATUS_PAGE_ALREADY_ACCEPTED, TDCALL_STATUS_PAGE_SIZE_MISMATCH, TdCallError,
    TdVmcallError,
};
use zerocopy::FromBytes;

#[test]
fn every_field_of_a_report_is_where_td_shim_has_it() {
    let bytes: [u8; TD_REPORT_SIZE] =
        core::array::from_fn(|at| (at ^ at >> 8).wrapping_mul(7) as u8);
    let ours = TdReport::read_from_bytes(&bytes).expect("1024 bytes are a report");
    let mut theirs = TdxReport::default();
    theirs.as_bytes_mut().copy_from_slice(&bytes);

    let (our, their) = (&ours.report_mac, theirs.report_mac);
    assert_eq!(our.report_type.kind, their.report_type.r#type);
    assert_eq!(our.report_type.subtype, their.report_type.subtype);
    assert_eq!(our.report_type.version, their.report_type.version);
    assert_eq!(our.cpusvn, their.cpu_svn);
    assert_eq!(our.tee_tcb_info_hash, their.tee_tcb_info_hash);
    assert_eq!(our.tee_info_hash, their.tee_info_hash);
    assert_eq!(our.report_data, their.report_data);
    assert_eq!(our.mac, their.mac);

    let (our, their) = (&ours.tee_tcb_info, theirs.tee_tcb_info);
    assert_eq!(our.valid, their.valid);
    assert_eq!(our.tee_tcb_svn, their.tee_tcb_svn);
    assert_eq!(our.mrseam, their.mrseam);
    assert_eq!(our.mrsignerseam, their.mrsigner_seam);
    assert_eq!(our.attributes, their.attributes);
    // TEE_TCB_SVN2 is newer than td-shim's crate, which has reserved bytes there.
    assert_eq!(our.tee_tcb_svn2, their.reserved[..16]);

    let (our, their) = (&ours.td_info, theirs.td_info);
    assert_eq!(our.attributes, their.attributes);
    assert_eq!(our.xfam, their.xfam);
    assert_eq!(our.mrtd, their.mrtd);
    assert_eq!(our.mrconfigid, their.mrconfig_id);
    assert_eq!(our.mrowner, their.mrowner);
    assert_eq!(our.mrownerconfig, their.mrownerconfig);
    let rtmrs = [their.rtmr0, their.rtmr1, their.rtmr2, their.rtmr3];
    assert_eq!(our.rtmr, rtmrs);
    // So is SERVTD_HASH.
    assert_eq!(our.servtd_hash, their.reserved[..48]);
}

#[test]
fn completion_codes_are_those_of_td_shim() {
    assert_eq!(
        Status::new(Code::PageAlreadyAccepted, 0).0,
        TDCALL_STATUS_PAGE_ALREADY_ACCEPTED
    );
    // Its constant is of a page of 2 MiB, level 1.
    assert_eq!(
        Status::new(Code::PageSizeMismatch, 1).0,
        TDCALL_STATUS_PAGE_SIZE_MISMATCH
    );
    assert_eq!(
        TdCallError::from(Status::operand_busy(Operand::RTMR).0),
        TdCallError::TdxExitReasonOperandBusy(Operand::RTMR.0)
    );
    assert_eq!(
        TdCallError::from(Status::operand_invalid(Operand::RCX).0),
        TdCallError::TdxExitReasonOperandInvalid(Operand::RCX.0)
    );
}

#[test]
fn statuses_of_tdvmcalls_are_those_of_td_shim() {
    for (ours, theirs) in [
        (CompletionStatus::Retry, TdVmcallError::VmcallRetry),
        (
            CompletionStatus::InvalidOperand,
            TdVmcallError::VmcallOperandInvalid,
        ),
        (CompletionStatus::GpaInUse, TdVmcallError::VmcallGpaInuse),
        (
            CompletionStatus::AlignError,
            TdVmcallError::VmcallAlignError,
        ),
    ] {
        assert_eq!(TdVmcallError::from(ours.r10()), theirs);
    }
}
