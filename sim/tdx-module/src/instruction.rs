//! The instruction that a VM is at: hardware without decode assists reports only that it exited.

use crate::paging::LinearSpace;
use crate::platform::{Platform, Register};
use alloc::boxed::Box;
use iced_x86::{Decoder, DecoderOptions, Instruction};

/// The longest x86 instruction.
const MAX_LENGTH: usize = 15;

/// TDCALL: 66 0F 01 CC.
const TDCALL: [u8; 4] = [0x66, 0x0f, 0x01, 0xcc];

/// Instructions that were decoded lately: a driver exits at the same few again and again. What an instruction is depends on
/// its bytes, its address and the width of the code, and on nothing else.
#[derive(Debug)]
pub(crate) struct Decoded(Box<[Option<Known>; Self::ENTRIES]>);

#[derive(Clone, Copy, Debug)]
struct Known {
    bytes: [u8; MAX_LENGTH],
    rip: u64,
    width: u32,
    instruction: Instruction,
}

impl Default for Decoded {
    fn default() -> Self {
        Self(Box::new([None; Self::ENTRIES]))
    }
}

impl Decoded {
    const ENTRIES: usize = 64;

    fn decode(&mut self, bytes: [u8; MAX_LENGTH], rip: u64, width: u32) -> Option<Instruction> {
        let place = &mut self.0[(rip ^ rip >> 6) as usize % Self::ENTRIES];
        if let Some(known) = place
            && known.rip == rip
            && known.width == width
            && known.bytes == bytes
        {
            return Some(known.instruction);
        }
        let instruction = decode(&bytes, rip, width)?;
        *place = Some(Known {
            bytes,
            rip,
            width,
            instruction,
        });
        Some(instruction)
    }
}

fn decode(bytes: &[u8], rip: u64, width: u32) -> Option<Instruction> {
    let instruction = Decoder::with_ip(width, bytes, rip, DecoderOptions::NONE).decode();
    (!instruction.is_invalid()).then_some(instruction)
}

impl<P: Platform> LinearSpace<'_, P> {
    /// Whether the VM, whose code has this width, is at a TDCALL.
    pub(crate) fn is_at_tdcall(&mut self, width: u32) -> bool {
        let mut bytes = [0; TDCALL.len()];
        self.read_code(width, &mut bytes) == bytes.len() && bytes == TDCALL
    }

    /// Fetches the instruction at RIP; `None` if its bytes can not be read or are none.
    pub(crate) fn fetch(&mut self) -> Option<Instruction> {
        self.fetch_with(|bytes, rip, width| decode(&bytes, rip, width))
    }

    /// The same, with what was decoded before.
    pub(crate) fn fetch_known(&mut self, decoded: &mut Decoded) -> Option<Instruction> {
        self.fetch_with(|bytes, rip, width| decoded.decode(bytes, rip, width))
    }

    fn fetch_with(
        &mut self,
        decode_whole: impl FnOnce([u8; MAX_LENGTH], u64, u32) -> Option<Instruction>,
    ) -> Option<Instruction> {
        let width = self.code_width();
        let mut bytes = [0; MAX_LENGTH];
        let available = self.read_code(width, &mut bytes);
        let rip = self.register(Register::Rip);
        if available == MAX_LENGTH {
            decode_whole(bytes, rip, width)
        } else {
            decode(&bytes[..available], rip, width)
        }
    }

    #[inline(always)]
    fn read_code(&mut self, width: u32, into: &mut [u8]) -> usize {
        let rip = self.register(Register::Rip);
        let linear = self.code_address_in(width, rip);
        self.read_linear(linear, into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_instruction_is_decoded_anew_where_anything_differs() {
        let mut bytes = [0x90; MAX_LENGTH];
        // MOV EAX, [RIP + 0x10]; in 32-bit code, MOV EAX, [0x10].
        bytes[..6].copy_from_slice(&[0x8b, 0x05, 0x10, 0, 0, 0]);
        let mut decoded = Decoded::default();
        let mut address = |bytes, rip, width| {
            let both = [(); 2].map(|()| decoded.decode(bytes, rip, width).unwrap());
            assert_eq!(both[0], both[1]);
            both[1].memory_displacement64()
        };
        // Places that are one entry of the table.
        assert_eq!(address(bytes, 0x1000, 64), 0x1016);
        assert_eq!(address(bytes, 0x1_0000_0000_1000, 64), 0x1_0000_0000_1016);
        assert_eq!(address(bytes, 0x1000, 32), 0x10);
        bytes[2] = 0x20;
        assert_eq!(address(bytes, 0x1000, 32), 0x20);
    }
}
