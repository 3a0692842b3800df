//! The instruction that a VM is at: hardware without decode assists reports only that it exited.

use crate::paging::LinearSpace;
use crate::platform::Register;
use iced_x86::{Decoder, DecoderOptions, Instruction};

/// The longest x86 instruction.
const MAX_LENGTH: usize = 15;

/// TDCALL: 66 0F 01 CC.
const TDCALL: [u8; 4] = [0x66, 0x0f, 0x01, 0xcc];

impl LinearSpace<'_> {
    /// Whether the VM is at a TDCALL.
    pub(crate) fn is_at_tdcall(&mut self) -> bool {
        let mut bytes = [0; TDCALL.len()];
        self.read_code(&mut bytes) == bytes.len() && bytes == TDCALL
    }

    /// Fetches the instruction at RIP; `None` if its bytes can not be read or are none.
    pub(crate) fn fetch(&mut self) -> Option<Instruction> {
        let mut bytes = [0; MAX_LENGTH];
        let available = self.read_code(&mut bytes);
        let width = self.code_width();
        let rip = self.register(Register::Rip);
        let mut decoder = Decoder::with_ip(width, &bytes[..available], rip, DecoderOptions::NONE);
        let instruction = decoder.decode();
        (!instruction.is_invalid()).then_some(instruction)
    }

    fn read_code(&mut self, into: &mut [u8]) -> usize {
        let rip = self.register(Register::Rip);
        let linear = self.code_address(rip);
        self.read_linear(linear, into)
    }
}
