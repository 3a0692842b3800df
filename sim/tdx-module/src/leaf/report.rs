//! TDG.MR.REPORT and TDG.MR.VERIFYREPORT.

use crate::leaf::operand::{Memory, READ, WRITE};
use crate::leaf::{LeafEnd, LeafResult, invalid};
use crate::locks::{Object, Request};
use crate::module::Module;
use crate::platform::Platform;
use tdx_defs::Registers;
use tdx_defs::report::{ReportMac, ReportType, TdReport};
use tdx_defs::status::{Code, Operand, Status};
use tdx_defs::tdg;
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
    let data = module.operand(platform, Operand::RDX, registers.rdx, memory, READ)?;
    if registers.r8 != 0 {
        return Err(invalid(Operand::R8));
    }
    let lock = Request {
        leaf: tdg::MR_REPORT,
        object: Object::Rtmrs,
        shared: true,
        operand: Operand::RTMR,
    };
    module.lock(platform, lock)?;
    if module.faults.take_interrupt(tdg::MR_REPORT) {
        return Err(LeafEnd::Interrupted);
    }
    let mut report_data = [0; 64];
    platform.read(data, &mut report_data);
    let report = module.operand(platform, Operand::RCX, registers.rcx, memory, READ | WRITE)?;
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
    let hpa = module.operand(platform, Operand::RCX, registers.rcx, Memory::Private, READ)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::sha384;
    use crate::test_platform::ModelTdcall;
    use crate::{Configuration, TdParams};

    const MEMORY: u64 = 0x20_0000;
    const REPORT: u64 = 0x4000;
    const DATA: u64 = 0x5040;

    fn report(model: &ModelTdcall, rcx: u64, rdx: u64, r8: u64) -> Status {
        let after = model.call(Registers {
            rax: tdg::MR_REPORT,
            rcx,
            rdx,
            r8,
            ..Registers::default()
        });
        Status(after.unwrap().rax)
    }

    fn verify(model: &ModelTdcall, rcx: u64) -> Status {
        let after = model.call(Registers {
            rax: tdg::MR_VERIFYREPORT,
            rcx,
            ..Registers::default()
        });
        Status(after.unwrap().rax)
    }

    #[test]
    fn operands_are_checked_in_order() {
        let model = ModelTdcall::new(&TdParams::default(), MEMORY);
        for (rcx, rdx, r8, operand) in [
            (REPORT + 512, DATA + 1, 1, Operand::RCX),
            (REPORT, DATA + 1, 1, Operand::RDX),
            (1 << 48, 1 << 48, 1, Operand::RDX),
            (1 << 48, DATA, 1, Operand::R8),
            (REPORT, DATA, 1 << 63, Operand::R8),
            (1 << 48, DATA, 0, Operand::RCX),
        ] {
            let status = report(&model, rcx, rdx, r8);
            assert_eq!(
                status,
                Status::operand_invalid(operand),
                "{rcx:#x} {rdx:#x}"
            );
        }
        model.with(|module, _| module.faults().busy(tdg::MR_REPORT, 1));
        let busy = Status::operand_busy(Operand::RTMR);
        assert_eq!(report(&model, REPORT, DATA, 0), busy);
    }

    #[test]
    fn a_report_carries_the_callers_data_and_hashes_of_the_rest() {
        let model = ModelTdcall::new(&TdParams::default(), MEMORY);
        model.write(DATA, &[0x77; 64]);
        assert_eq!(report(&model, REPORT, DATA, 0), Status::SUCCESS);
        let mut bytes = [0; size_of::<TdReport>()];
        model.read(REPORT, &mut bytes);
        let written = TdReport::read_from_bytes(&bytes).unwrap();
        assert_eq!(written.report_mac.report_data, [0x77; 64]);
        assert_eq!(written.report_mac.tee_info_hash, sha384(&bytes[512..]));
        let tcb_hash = written.report_mac.tee_tcb_info_hash;
        assert_eq!(tcb_hash, sha384(&bytes[256..495]));
        assert_eq!(verify(&model, REPORT), Status::SUCCESS);
    }

    #[test]
    fn shared_memory_serves_for_a_report_but_not_for_verifying_it() {
        let model = ModelTdcall::new(&TdParams::default(), MEMORY);
        let shared = 1 << 47 | REPORT;
        model.share(REPORT);
        assert_eq!(report(&model, shared, DATA, 0), Status::SUCCESS);
        let invalid = Status::operand_invalid(Operand::RCX);
        assert_eq!(verify(&model, shared), invalid);
    }

    #[test]
    fn a_forged_report_is_told_from_one_of_another_platform() {
        let model = ModelTdcall::new(&TdParams::default(), MEMORY);
        assert_eq!(report(&model, REPORT, DATA, 0), Status::SUCCESS);
        assert_eq!(
            verify(&model, REPORT + 128),
            Status::operand_invalid(Operand::RCX)
        );
        for (offset, code) in [
            (0, Code::InvalidReportmacstruct),
            (16, Code::InvalidCpusvn),
            (128, Code::InvalidReportmacstruct),
            (255, Code::InvalidReportmacstruct),
        ] {
            let mut byte = [0];
            model.read(REPORT + offset, &mut byte);
            model.write(REPORT + offset, &[byte[0] ^ 1]);
            assert_eq!(
                verify(&model, REPORT),
                Status::new(code, 0),
                "byte {offset}"
            );
            model.write(REPORT + offset, &byte);
        }
        model.with(|module, _| {
            module.configuration = Configuration {
                local_attestation: false,
                ..Configuration::default()
            };
        });
        assert_eq!(
            verify(&model, REPORT),
            Status::operand_invalid(Operand::RAX)
        );
    }
}
