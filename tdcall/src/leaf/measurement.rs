//! TDG.MR.RTMR.EXTEND, TDG.MR.REPORT and TDG.MR.VERIFYREPORT.

use thiserror::Error;

use crate::raw::RawTdcall;
use crate::td::Td;
use tdx_defs::Gpa;
use tdx_defs::Registers;
use tdx_defs::status::{Code, Operand, Status};
use tdx_defs::tdg;

/// Why an RTMR was not extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RtmrExtendError {
    /// The data is not 64-byte aligned or not private.
    #[error("TDG.MR.RTMR.EXTEND: the module refuses the address of the data")]
    Address,
    /// There is no such RTMR.
    #[error("TDG.MR.RTMR.EXTEND: there is no RTMR with this index")]
    Index,
    /// Another call held the RTMRs all the time.
    #[error("TDG.MR.RTMR.EXTEND: the RTMRs stay busy")]
    Busy,
    /// A status the ABI does not list.
    #[error("TDG.MR.RTMR.EXTEND: {0}")]
    Unexpected(Status),
}

/// Why no TDREPORT was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReportError {
    /// The address for the report is not 1024-byte aligned or not in the TD.
    #[error("TDG.MR.REPORT: the module refuses the address for the report")]
    ReportAddress,
    /// The address of the report data is not 64-byte aligned or not in the TD.
    #[error("TDG.MR.REPORT: the module refuses the address of the report data")]
    DataAddress,
    /// The report type is not known.
    #[error("TDG.MR.REPORT: the module refuses the subtype")]
    Subtype,
    /// Another call held the RTMRs all the time.
    #[error("TDG.MR.REPORT: the RTMRs stay busy")]
    Busy,
    /// A status the ABI does not list.
    #[error("TDG.MR.REPORT: {0}")]
    Unexpected(Status),
}

/// Why a REPORTMACSTRUCT was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum VerifyReportError {
    /// The processor can not verify reports.
    #[error("TDG.MR.VERIFYREPORT: not supported by the processor")]
    Unsupported,
    /// The structure is not 256-byte aligned or not private.
    #[error("TDG.MR.VERIFYREPORT: the module refuses the address")]
    Address,
    /// The report's CPUSVN is not one of this platform.
    #[error("TDG.MR.VERIFYREPORT: the CPUSVN is not one of this platform")]
    Cpusvn,
    /// The MAC is wrong: the report is not one of this platform.
    #[error("TDG.MR.VERIFYREPORT: the MAC is wrong")]
    Mac,
    /// A status the ABI does not list.
    #[error("TDG.MR.VERIFYREPORT: {0}")]
    Unexpected(Status),
}

impl<R: RawTdcall> Td<R> {
    /// TDG.MR.RTMR.EXTEND: RTMR\[index\] = SHA-384(RTMR\[index\] ‖ 48 bytes at `data`).
    ///
    /// `data` is 64-byte aligned and private, `index` is 0..=3. There is no way back until the TD
    /// ends.
    pub fn rtmr_extend(&self, index: u8, data: Gpa) -> Result<(), RtmrExtendError> {
        let out = self.call(Registers {
            rax: tdg::MR_RTMR_EXTEND,
            rcx: data.0,
            rdx: u64::from(index),
            ..Default::default()
        });
        let status = Status(out.rax);
        match (status.code(), status.operand()) {
            (Code::Success, _) => Ok(()),
            (Code::OperandInvalid, Operand::RCX) => Err(RtmrExtendError::Address),
            (Code::OperandInvalid, Operand::RDX) => Err(RtmrExtendError::Index),
            (Code::OperandBusy, _) => Err(RtmrExtendError::Busy),
            _ => Err(RtmrExtendError::Unexpected(status)),
        }
    }

    /// TDG.MR.REPORT: writes a [`TdReport`](tdx_defs::report::TdReport) of the TD to `report`
    /// (1024-byte aligned) with the 64 bytes at `data` (64-byte aligned) in it. Both may be private
    /// or shared.
    pub fn mr_report(&self, report: Gpa, data: Gpa) -> Result<(), ReportError> {
        let out = self.call(Registers {
            rax: tdg::MR_REPORT,
            rcx: report.0,
            rdx: data.0,
            r8: 0,
            ..Default::default()
        });
        let status = Status(out.rax);
        match (status.code(), status.operand()) {
            (Code::Success, _) => Ok(()),
            (Code::OperandInvalid, Operand::RCX) => Err(ReportError::ReportAddress),
            (Code::OperandInvalid, Operand::RDX) => Err(ReportError::DataAddress),
            (Code::OperandInvalid, Operand::R8) => Err(ReportError::Subtype),
            (Code::OperandBusy, _) => Err(ReportError::Busy),
            _ => Err(ReportError::Unexpected(status)),
        }
    }

    /// TDG.MR.VERIFYREPORT: whether the [`ReportMac`](tdx_defs::report::ReportMac) at `report_mac`
    /// (256-byte aligned, private) was made on this platform.
    ///
    /// Only MAC and CPUSVN are checked: the caller compares the two hashes in it with the rest of
    /// the report.
    pub fn verify_report(&self, report_mac: Gpa) -> Result<(), VerifyReportError> {
        let out = self.call(Registers {
            rax: tdg::MR_VERIFYREPORT,
            rcx: report_mac.0,
            ..Default::default()
        });
        let status = Status(out.rax);
        match (status.code(), status.operand()) {
            (Code::Success, _) => Ok(()),
            (Code::OperandInvalid, Operand::RAX) => Err(VerifyReportError::Unsupported),
            (Code::OperandInvalid, Operand::RCX) => Err(VerifyReportError::Address),
            (Code::InvalidCpusvn, _) => Err(VerifyReportError::Cpusvn),
            (Code::InvalidReportmacstruct, _) => Err(VerifyReportError::Mac),
            _ => Err(VerifyReportError::Unexpected(status)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;

    #[test]
    fn extend_statuses() {
        let rows = [
            (0, Ok(())),
            (0xC000_0100_0000_0001, Err(RtmrExtendError::Address)),
            (0xC000_0100_0000_0002, Err(RtmrExtendError::Index)),
            (
                0xC000_0100_0000_0008,
                Err(RtmrExtendError::Unexpected(Status(0xC000_0100_0000_0008))),
            ),
            (
                0xC000_0B00_0000_0000,
                Err(RtmrExtendError::Unexpected(Status(0xC000_0B00_0000_0000))),
            ),
        ];
        for (rax, expected) in rows {
            let script = Script::status(rax);
            assert_eq!(
                Td::new(&script).rtmr_extend(3, Gpa(0x1000)),
                expected,
                "{rax:#x}"
            );
            let call = script.only_call();
            assert_eq!((call.rax, call.rcx, call.rdx), (2, 0x1000, 3));
        }
    }

    #[test]
    fn extend_gives_up_on_a_lock_that_is_never_free() {
        let busy = Registers {
            rax: 0x8000_0200_0000_00A8,
            ..Default::default()
        };
        let script = Script::forever(busy);
        assert_eq!(
            Td::new(&script).rtmr_extend(0, Gpa(0)),
            Err(RtmrExtendError::Busy)
        );
    }

    #[test]
    fn report_statuses() {
        let rows = [
            (0, Ok(())),
            (0xC000_0100_0000_0001, Err(ReportError::ReportAddress)),
            (0xC000_0100_0000_0002, Err(ReportError::DataAddress)),
            (0xC000_0100_0000_0008, Err(ReportError::Subtype)),
        ];
        for (rax, expected) in rows {
            let script = Script::status(rax);
            assert_eq!(
                Td::new(&script).mr_report(Gpa(0x400), Gpa(0x40)),
                expected,
                "{rax:#x}"
            );
            let call = script.only_call();
            assert_eq!((call.rax, call.rcx, call.rdx, call.r8), (4, 0x400, 0x40, 0));
        }
    }

    #[test]
    fn verify_statuses() {
        let rows = [
            (0, Ok(())),
            (0xC000_0100_0000_0000, Err(VerifyReportError::Unsupported)),
            (0xC000_0100_0000_0001, Err(VerifyReportError::Address)),
            (0xC000_1000_0000_0000, Err(VerifyReportError::Cpusvn)),
            (0xC000_1001_0000_0000, Err(VerifyReportError::Mac)),
        ];
        for (rax, expected) in rows {
            let script = Script::status(rax);
            assert_eq!(
                Td::new(&script).verify_report(Gpa(0x100)),
                expected,
                "{rax:#x}"
            );
        }
    }
}
