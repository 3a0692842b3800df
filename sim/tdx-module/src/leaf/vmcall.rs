//! TDG.VP.VMCALL.

use crate::leaf::{LeafEnd, LeafResult, invalid};
use crate::module::Module;
use tdx_defs::Registers;
use tdx_defs::ghci::mask;
use tdx_defs::status::Operand;

/// Checks the mask; the rest is a TD exit.
pub(super) fn vp_vmcall(module: &Module, registers: &Registers) -> LeafResult {
    if !is_mask(module, registers.rcx) {
        return Err(invalid(Operand::RCX));
    }
    Err(LeafEnd::Tdvmcall {
        mask: registers.rcx,
    })
}

/// Whether RCX of TDG.VP.VMCALL names only registers that may be passed. Bits 31:16, the XMM
/// registers, are free; the model leaves those registers as they are.
pub(crate) fn is_mask(module: &Module, rcx: u64) -> bool {
    let no_rbp = module.td.config_flags().no_rbp_mod();
    rcx & mask::FORBIDDEN == 0 && !(no_rbp && rcx & mask::RBP != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_platform::ModelTdcall;
    use crate::{TdParams, VpEnterInput};
    use alloc::rc::Rc;
    use core::cell::RefCell;
    use tdx_defs::status::Status;
    use tdx_defs::tdg;

    fn all(value: u64) -> Registers {
        Registers {
            rax: tdg::VP_VMCALL,
            rcx: value,
            rdx: value,
            rbx: value,
            rbp: value,
            rsi: value,
            rdi: value,
            r8: value,
            r9: value,
            r10: value,
            r11: value,
            r12: value,
            r13: value,
            r14: value,
            r15: value,
        }
    }

    #[test]
    fn a_mask_names_only_registers_that_may_be_passed() {
        let no_rbp = TdParams {
            config_flags: 1 << 2,
            ..TdParams::default()
        };
        for (params, allowed) in [(TdParams::default(), 0xffec), (no_rbp, 0xffcc)] {
            let model = ModelTdcall::new(&params, 0);
            for bit in 0..64 {
                let rcx = 1 << bit;
                let after = model.call(Registers { rcx, ..all(0) }).unwrap();
                let ok = bit < 32 && (bit >= 16 || allowed & rcx != 0);
                let expected = if ok {
                    Status::SUCCESS
                } else {
                    Status::operand_invalid(Operand::RCX)
                };
                assert_eq!(Status(after.rax), expected, "bit {bit}");
            }
        }
    }

    #[test]
    fn only_registers_in_the_mask_cross_in_either_direction() {
        let model = ModelTdcall::new(&TdParams::default(), 0);
        let seen = Rc::new(RefCell::new(Registers::default()));
        let log = Rc::clone(&seen);
        model.set_host(move |_, _, exit| {
            *log.borrow_mut() = exit.registers;
            VpEnterInput {
                registers: all(0x6666),
                host_recoverability_hint: true,
                ..VpEnterInput::default()
            }
        });
        let mask = mask::R10_TO_R15 | mask::RBX;
        let after = model
            .call(Registers {
                rcx: mask,
                ..all(0x1111)
            })
            .unwrap();
        let crossed = |value| Registers {
            rbx: value,
            r10: value,
            r11: value,
            r12: value,
            r13: value,
            r14: value,
            r15: value,
            ..Registers::default()
        };
        let host = Registers {
            rax: 77,
            rcx: mask,
            ..crossed(0x1111)
        };
        assert_eq!(*seen.borrow(), host);
        let guest = Registers {
            rax: 1 << 60,
            rcx: mask,
            rdx: 0x1111,
            rbp: 0x1111,
            rsi: 0x1111,
            rdi: 0x1111,
            r8: 0x1111,
            r9: 0x1111,
            ..crossed(0x6666)
        };
        assert_eq!(after, guest);
    }

    #[test]
    fn standard_calls_are_counted_by_sub_function() {
        let model = ModelTdcall::new(&TdParams::default(), 0);
        let call = |r10, r11| {
            let rcx = mask::R10_TO_R15;
            model
                .call(Registers {
                    rcx,
                    r10,
                    r11,
                    ..all(0)
                })
                .unwrap()
        };
        call(0, 30);
        call(0, 30);
        call(1, 30);
        model.with(|module, _| assert_eq!(module.statistics().tdvmcalls()[&30], 2));
    }
}
