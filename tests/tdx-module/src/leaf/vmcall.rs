//! TDG.VP.VMCALL.

use crate::leaf::{LeafEnd, LeafResult, invalid};
use crate::module::Module;
use tdcall::Registers;
use tdcall::ghci::mask;
use tdcall::status::Operand;

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
