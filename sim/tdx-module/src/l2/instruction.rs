//! The instruction that L2 exited on: decoded, and stepped over where the module emulates it.

use super::guest::Guest;
use crate::paging::LinearSpace;
use crate::platform::{Event, Platform, Register, SegmentName, Vm};
use iced_x86::Instruction;
use x86_defs::rflags;

/// Which of the segment registers an operand names.
pub(super) fn segment_name(register: iced_x86::Register) -> Option<SegmentName> {
    Some(match register {
        iced_x86::Register::ES => SegmentName::Es,
        iced_x86::Register::CS => SegmentName::Cs,
        iced_x86::Register::SS => SegmentName::Ss,
        iced_x86::Register::DS => SegmentName::Ds,
        iced_x86::Register::FS => SegmentName::Fs,
        iced_x86::Register::GS => SegmentName::Gs,
        _ => return None,
    })
}

impl<P: Platform> Guest<'_, P> {
    /// The VM's linear addresses.
    pub(super) fn space(&mut self) -> LinearSpace<'_, P> {
        LinearSpace {
            vm: self.vm(),
            platform: &mut *self.platform,
            sept: self.sept,
        }
    }

    /// Width of the code that runs: 16, 32 or 64.
    pub(super) fn code_width(&mut self) -> u32 {
        self.space().code_width()
    }

    /// Fetches the instruction at RIP; `None` if its bytes can not be read or are none.
    pub(super) fn fetch(&mut self) -> Option<Instruction> {
        LinearSpace {
            vm: Vm::L2(self.index),
            platform: &mut *self.platform,
            sept: self.sept,
        }
        .fetch_known(&mut self.l2.decoded)
    }

    /// Moves RIP past an instruction that the module has emulated, and does what the processor
    /// does at an instruction's end. Gives the #DB that single-stepping causes.
    pub(super) fn step_over(&mut self, length: u32) -> Option<Event> {
        let next = self.register(Register::Rip).wrapping_add(length.into());
        let next = if self.code_width() == 64 {
            next
        } else {
            next & 0xffff_ffff
        };
        self.set_register(Register::Rip, next);
        let state = self
            .interruptibility()
            .with_blocking_by_sti(false)
            .with_blocking_by_mov_ss(false);
        self.set_interruptibility(state);
        let flags = self.register(Register::Rflags);
        self.set_register(Register::Rflags, flags & !rflags::RF);
        if flags & rflags::TF == 0 || self.traps_branches_only() {
            return None;
        }
        const SINGLE_STEP: u64 = 1 << 14;
        let dr6 = self.register(Register::Dr6);
        self.set_register(Register::Dr6, dr6 | SINGLE_STEP);
        Some(Event::exception(1, None))
    }
}
