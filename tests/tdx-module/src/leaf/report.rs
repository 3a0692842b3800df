//! TDG.MR.REPORT and TDG.MR.VERIFYREPORT.

use crate::leaf::operand::Memory;
use crate::leaf::{LeafEnd, LeafResult, invalid};
use crate::module::Module;
use crate::platform::Platform;
use tdcall::Registers;
use tdcall::leaf::number;
use tdcall::report::{ReportMac, ReportType, TdReport};
use tdcall::status::{Code, Operand, Status};
use zerocopy::{FromBytes, IntoBytes};

const REPORT_MAC_ALIGNMENT: u64 = 256;

/// Writes a TDREPORT_STRUCT.
pub(super) fn mr_report<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    registers: &Registers,
) -> LeafResult {
    if !registers.rcx.is_multiple_of(TdReport::ALIGNMENT) {
        return Err(invalid(Operand::RCX));
    }
    if !registers
        .rdx
        .is_multiple_of(TdReport::REPORT_DATA_ALIGNMENT)
    {
        return Err(invalid(Operand::RDX));
    }
    let memory = Memory::PrivateOrShared;
    let data = module.operand(platform, Operand::RDX, registers.rdx, memory)?;
    if registers.r8 != 0 {
        return Err(invalid(Operand::R8));
    }
    if module.faults.take_busy(number::MR_REPORT) {
        return Err(Status::operand_busy(Operand::RTMR).into());
    }
    if module.faults.take_interrupt(number::MR_REPORT) {
        return Err(LeafEnd::Interrupted);
    }
    let mut report_data = [0; 64];
    platform.read(data, &mut report_data);
    let report = module.operand(platform, Operand::RCX, registers.rcx, memory)?;
    platform.write(report, module.report(report_data).as_bytes());
    Ok(())
}

/// Says whether a REPORTMACSTRUCT was made on this platform.
pub(super) fn mr_verifyreport<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    registers: &Registers,
) -> LeafResult {
    if !module.configuration.local_attestation {
        return Err(invalid(Operand::RAX));
    }
    if !registers.rcx.is_multiple_of(REPORT_MAC_ALIGNMENT) {
        return Err(invalid(Operand::RCX));
    }
    let hpa = module.operand(platform, Operand::RCX, registers.rcx, Memory::Private)?;
    let mut bytes = [0; size_of::<ReportMac>()];
    platform.read(hpa, &mut bytes);
    let Ok(report_mac) = ReportMac::read_from_bytes(&bytes) else {
        return Err(Status::new(Code::InvalidReportmacstruct, 0).into());
    };
    if report_mac.report_type.kind != ReportType::TDX {
        return Err(Status::new(Code::InvalidReportmacstruct, 0).into());
    }
    if report_mac.cpusvn != module.configuration.tcb.cpusvn {
        return Err(Status::new(Code::InvalidCpusvn, 0).into());
    }
    if !module.verifies(&report_mac) {
        return Err(Status::new(Code::InvalidReportmacstruct, 0).into());
    }
    Ok(())
}
