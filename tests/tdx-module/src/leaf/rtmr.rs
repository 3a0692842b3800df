//! TDG.MR.RTMR.EXTEND.

use crate::leaf::operand::Memory;
use crate::leaf::{LeafResult, invalid};
use crate::measurement::RTMR_COUNT;
use crate::module::Module;
use crate::platform::Platform;
use tdcall::Registers;
use tdcall::leaf::number;
use tdcall::status::{Operand, Status};

const DATA_ALIGNMENT: u64 = 64;

/// Extends an RTMR with 48 bytes of private memory.
pub(super) fn mr_rtmr_extend<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    registers: &Registers,
) -> LeafResult {
    if !registers.rcx.is_multiple_of(DATA_ALIGNMENT) {
        return Err(invalid(Operand::RCX));
    }
    let hpa = module.operand(platform, Operand::RCX, registers.rcx, Memory::Private)?;
    let index = match usize::try_from(registers.rdx) {
        Ok(index) if index < RTMR_COUNT => index,
        _ => return Err(invalid(Operand::RDX)),
    };
    if module.faults.take_busy(number::MR_RTMR_EXTEND) {
        return Err(Status::operand_busy(Operand::RTMR).into());
    }
    let mut data = [0; 48];
    platform.read(hpa, &mut data);
    module.td.rtmrs.extend(index, &data);
    Ok(())
}
