//! The instruction that L2 exited on: fetched through L2's page tables, decoded, and stepped over
//! where the module emulates it. The hardware gives neither its bytes nor its length.

use super::guest::{Guest, efer, rflags};
use crate::platform::{Event, Register, Segment, SegmentName};
use iced_x86::{Decoder, DecoderOptions, Instruction};

/// The longest instruction.
const MAX_LENGTH: usize = 15;

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

impl Guest<'_> {
    /// Width of the code that runs: 16, 32 or 64.
    pub(super) fn code_width(&mut self) -> u32 {
        const LONG: u32 = 1 << 13;
        const DEFAULT_BIG: u32 = 1 << 14;
        let cs = self.segment(SegmentName::Cs);
        if self.register(Register::Efer) & efer::LMA != 0 && cs.access_rights & LONG != 0 {
            64
        } else if cs.access_rights & DEFAULT_BIG != 0 {
            32
        } else {
            16
        }
    }

    /// The linear address of an offset in the code segment.
    pub(super) fn code_address(&mut self, offset: u64) -> u64 {
        if self.code_width() == 64 {
            offset
        } else {
            let Segment { base, .. } = self.segment(SegmentName::Cs);
            base.wrapping_add(offset) & 0xffff_ffff
        }
    }

    /// Fetches the instruction at RIP; `None` if its bytes can not be read or are none.
    pub(super) fn fetch(&mut self) -> Option<Instruction> {
        let width = self.code_width();
        let rip = self.register(Register::Rip);
        let linear = self.code_address(rip);
        let mut bytes = [0; MAX_LENGTH];
        let available = self.read_linear(linear, &mut bytes);
        let mut decoder = Decoder::with_ip(width, &bytes[..available], rip, DecoderOptions::NONE);
        let instruction = decoder.decode();
        (!instruction.is_invalid()).then_some(instruction)
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
