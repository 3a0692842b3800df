//! TDG.VP.INFO and TDG.VP.CPUIDVE.SET.

use crate::leaf::{LeafResult, invalid};
use crate::module::Module;
use tdcall::Registers;
use tdcall::status::Operand;

/// TDG.VP.INFO: what kind of TD this is.
pub(super) fn vp_info(module: &mut Module, registers: &mut Registers) -> LeafResult {
    const NUM_VCPUS: u64 = 1;
    const SYS_RD_AVAILABLE: u64 = 1;
    let params = &module.td.params;
    registers.rcx = module.td.gpaw().bits().into();
    registers.rdx = params.attributes;
    registers.r8 = NUM_VCPUS | u64::from(params.max_vcpus) << 32;
    registers.r9 = 0;
    registers.r10 = SYS_RD_AVAILABLE;
    registers.r11 = 0;
    Ok(())
}

/// TDG.VP.CPUIDVE.SET: whether every CPUID is to give #VE, by privilege.
pub(super) fn vp_cpuidve_set(module: &mut Module, registers: &mut Registers) -> LeafResult {
    if registers.rcx >> 2 != 0 {
        return Err(invalid(Operand::RCX));
    }
    module.vcpu.l1.cpuid_supervisor_ve = registers.rcx & 1 != 0;
    module.vcpu.l1.cpuid_user_ve = registers.rcx & 2 != 0;
    Ok(())
}
