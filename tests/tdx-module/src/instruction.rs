//! The instruction that a VM is at: hardware without decode assists reports only that it exited.

use crate::module::Module;
use crate::paging;
use crate::platform::{Platform, Register, Vm};
use iced_x86::{Decoder, DecoderOptions, Instruction};

/// The longest x86 instruction.
const MAX_LENGTH: usize = 15;

/// TDCALL: 66 0F 01 CC.
const TDCALL: [u8; 4] = [0x66, 0x0f, 0x01, 0xcc];

impl Module {
    /// Whether `vm` is at a TDCALL.
    pub(crate) fn is_at_tdcall<P: Platform>(&self, platform: &mut P, vm: Vm) -> bool {
        let mut bytes = [0; TDCALL.len()];
        let linear = paging::instruction_address(platform, vm);
        self.read_linear(platform, vm, linear, &mut bytes) == bytes.len() && bytes == TDCALL
    }

    /// Decodes the instruction that `vm` is at. An instruction that is not there or not one
    /// decodes as invalid ([`Instruction::is_invalid`]), with length 0.
    pub(crate) fn decode<P: Platform>(&self, platform: &mut P, vm: Vm) -> Instruction {
        let mut bytes = [0; MAX_LENGTH];
        let linear = paging::instruction_address(platform, vm);
        let length = self.read_linear(platform, vm, linear, &mut bytes);
        let bits = paging::code_size(platform, vm).bits();
        let rip = platform.register(vm, Register::Rip);
        Decoder::with_ip(bits, &bytes[..length], rip, DecoderOptions::NONE).decode()
    }
}
