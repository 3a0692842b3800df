//! TDG.VP.VEINFO.GET.

use crate::leaf::LeafResult;
use crate::module::Module;
use tdx_defs::Registers;
use tdx_defs::status::{Code, Status};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TdParams;
    use crate::l1::VeInfo;
    use crate::test_platform::ModelTdcall;
    use tdx_defs::tdg;

    #[test]
    fn information_is_given_once() {
        let model = ModelTdcall::new(&TdParams::default(), 0);
        let get = || {
            let registers = Registers {
                rax: tdg::VP_VEINFO_GET,
                rcx: 9,
                rdx: 9,
                r8: 9,
                r9: 9,
                r10: 9,
                ..Registers::default()
            };
            let after = model.call(registers).unwrap();
            (
                after.rax, after.rcx, after.rdx, after.r8, after.r9, after.r10,
            )
        };
        model.with(|module, _| {
            module.vcpu.l1.ve_info = Some(VeInfo {
                exit_reason: 30,
                qualification: 0x3f8_0000,
                gla: 1,
                gpa: 2,
                instruction_length: 2,
                instruction_information: 3,
            });
        });
        assert_eq!(get(), (0, 30, 0x3f8_0000, 1, 2, 3 << 32 | 2));
        assert_eq!(get(), (0xc000_0704_0000_0000, 0, 0, 0, 0, 0));
    }
}
