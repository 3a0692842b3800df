//! TDG.VP.VEINFO.GET.

use crate::leaf::LeafResult;
use crate::module::Module;
use tdcall::Registers;
use tdcall::status::{Code, Status};

/// Returns why the last #VE came, once.
pub(super) fn vp_veinfo_get(module: &mut Module, registers: &mut Registers) -> LeafResult {
    let taken = module.vcpu.l1.ve_info.take();
    let information = taken.unwrap_or_default();
    registers.rcx = information.exit_reason.into();
    registers.rdx = information.qualification;
    registers.r8 = information.gla;
    registers.r9 = information.gpa;
    registers.r10 = u64::from(information.instruction_length)
        | u64::from(information.instruction_information) << 32;
    match taken {
        Some(_) => Ok(()),
        None => Err(Status::new(Code::NoValidVeInfo, 0).into()),
    }
}
