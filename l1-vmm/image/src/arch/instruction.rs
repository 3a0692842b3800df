//! TDCALL on the processor that runs L1.

use tdcall::hw::Hw;
use tdcall::{RawTdcall, Td};
use tdx_defs::Registers;
use tdx_defs::ghci::{STANDARD, sub_function};
use tdx_defs::tdg;

use super::extended_state;

/// The instruction, with what L1 has to do around some leaves.
///
/// * TDG.VP.ENTER: refused here. It takes the state that the module does not switch, which
///   [`ExtendedState::entry`](extended_state::ExtendedState::entry) has.
/// * `TDG.VP.VMCALL<Instruction.HLT>` that says interrupts are not blocked: enables them for the
///   length of the call, in the shadow of STI, so that no wake-up is lost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instruction(Hw);

/// The TDX module, as everything in the image calls it.
pub(crate) fn td() -> Td<Instruction> {
    // SAFETY: td-shim starts the image at privilege level 0 of a TD, and of the code it is made
    // of, the library passes addresses only of memory that `arch` and `main` set aside for the
    // module (guest state, VAPIC page, report buffers) or of pages for accept and attributes.
    Td::new(Instruction(unsafe { Hw::new() }))
}

impl RawTdcall for Instruction {
    fn tdcall(&self, registers: &mut Registers) {
        match registers.rax {
            tdg::VP_ENTER => extended_state::refuse(registers),
            tdg::VP_VMCALL
                if registers.r10 == STANDARD
                    && registers.r11 == sub_function::HLT
                    && registers.r12 == 0 =>
            {
                self.0.tdcall_with_interrupts_enabled(registers);
            }
            _ => self.0.tdcall(registers),
        }
    }
}
