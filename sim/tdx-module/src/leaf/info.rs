//! TDG.VP.INFO and TDG.VP.CPUIDVE.SET.

use crate::leaf::{LeafResult, invalid};
use crate::module::Module;
use tdx_defs::Registers;
use tdx_defs::status::Operand;

/// TDG.VP.INFO: what kind of TD this is.
pub(super) fn vp_info(module: &mut Module, registers: &mut Registers) -> LeafResult {
    const SYS_RD_AVAILABLE: u64 = 1;
    let params = &module.td.params;
    registers.rcx = module.td.gpaw().bits().into();
    registers.rdx = params.attributes;
    registers.r8 = u64::from(module.td.num_vcpus) | u64::from(params.max_vcpus) << 32;
    registers.r9 = module.vcpu.index.into();
    registers.r10 = SYS_RD_AVAILABLE;
    registers.r11 = 0;
    Ok(())
}

/// TDG.VP.CPUIDVE.SET: whether every CPUID is to give #VE, by privilege.
pub(super) fn vp_cpuidve_set(module: &mut Module, registers: &mut Registers) -> LeafResult {
    if registers.rcx >> 2 != 0 {
        return Err(invalid(Operand::RCX));
    }
    module.vcpu.l1.cpuid_supervisor_ve = registers.rcx as u8 & 1;
    module.vcpu.l1.cpuid_user_ve = registers.rcx as u8 >> 1;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TdParams;
    use crate::test_platform::ModelTdcall;
    use tdx_defs::status::Status;
    use tdx_defs::tdg;

    #[test]
    fn info_is_what_the_td_was_built_with() {
        for (params, gpaw) in [
            (TdParams::default(), 48),
            (TdParams::default().with_gpaw_52(), 52),
        ] {
            let model = ModelTdcall::new(&params, 0);
            let info = model
                .call(Registers {
                    rax: tdg::VP_INFO,
                    ..Registers::default()
                })
                .unwrap();
            assert_eq!((info.rax, info.rcx, info.rdx), (0, gpaw, 1 << 28));
            assert_eq!((info.r8, info.r9), (1 << 32 | 1, 0));
            assert_eq!((info.r10, info.r11), (1, 0));
        }
    }

    #[test]
    fn cpuid_ve_has_two_bits() {
        let model = ModelTdcall::new(&TdParams::default(), 0);
        let set = |rcx| {
            let registers = Registers {
                rax: tdg::VP_CPUIDVE_SET,
                rcx,
                ..Registers::default()
            };
            Status(model.call(registers).unwrap().rax)
        };
        assert_eq!(set(3), Status::SUCCESS);
        assert_eq!(set(4), Status::operand_invalid(Operand::RCX));
        model.with(|module, _| {
            let l1 = &module.vcpu.l1;
            assert_eq!((l1.cpuid_supervisor_ve, l1.cpuid_user_ve), (1, 1));
        });
    }
}
