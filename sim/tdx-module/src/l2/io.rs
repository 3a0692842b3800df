//! I/O instructions: every port is L1's.

use super::exit::Disposition;
use super::exit_information::ExitInformation;
use super::guest::Guest;
use super::instruction_information::{address_size, segment_number};
use crate::platform::{IoExit, Platform};
use iced_x86::{Instruction, OpKind};
use tdx_defs::vmcs::{IoInstructionInfo, IoQualification};
use x86_defs::exit_reason;

impl<P: Platform> Guest<'_, P> {
    pub(super) fn route_io(&mut self, io: IoExit) -> Disposition {
        let instruction = self.fetch();
        let immediate = instruction.is_some_and(|instruction| {
            (0..instruction.op_count())
                .any(|operand| instruction.op_kind(operand) == OpKind::Immediate8)
        });
        let qualification = IoQualification::new()
            .with_size_minus_one(io.width.wrapping_sub(1) & 7)
            .with_direction_in(io.input)
            .with_string(io.string)
            .with_rep(io.repeat)
            .with_immediate(immediate)
            .with_port(io.port);
        let length = instruction.map_or(1, |instruction| instruction.len() as u32);
        let mut exit = ExitInformation::instruction(exit_reason::IO_INSTRUCTION, length)
            .with_qualification(qualification.into_bits());
        if let Some(instruction) = instruction.filter(|_| io.string) {
            exit.linear_address = self.string_address(&instruction).unwrap_or(0);
            exit.instruction_information = string_information(&instruction).into_bits();
        }
        Disposition::L1(exit)
    }

    fn string_address(&mut self, instruction: &Instruction) -> Option<u64> {
        let operand = (0..instruction.op_count())
            .find(|&operand| address_size(instruction.op_kind(operand)).is_some())?;
        self.operand_address(instruction, operand)
    }
}

/// Instruction information of INS and OUTS; the segment is OUTS's.
fn string_information(instruction: &Instruction) -> IoInstructionInfo {
    let memory = (0..instruction.op_count())
        .map(|operand| instruction.op_kind(operand))
        .find_map(|kind| Some((kind, address_size(kind)?)));
    match memory {
        Some((OpKind::MemoryESDI | OpKind::MemoryESEDI | OpKind::MemoryESRDI, size)) => {
            IoInstructionInfo::new().with_address_size(size)
        }
        Some((_, size)) => IoInstructionInfo::new()
            .with_address_size(size)
            .with_segment_register(segment_number(instruction.memory_segment())),
        None => IoInstructionInfo::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;
    use crate::platform::{HardwareExit, Platform, Register};

    fn exit(bytes: &[u8], io: IoExit) -> ExitInformation {
        let mut fake = Fake::new();
        fake.platform.write(0x1000, bytes);
        let mut guest = fake.guest();
        guest.set_register(Register::Rip, 0x1000);
        guest.set_register(Register::Rsi, 0x2000);
        guest.set_register(Register::Rdi, 0x3000);
        match guest.route(HardwareExit::Io(io)) {
            Disposition::L1(exit) => exit,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn qualification_and_length_of_each_form() {
        let io = |port, width, input, string, repeat| IoExit {
            port,
            width,
            input,
            string,
            repeat,
        };
        let rows: [(&[u8], IoExit, u64, u32); 6] = [
            (
                &[0xe6, 0x80],
                io(0x80, 1, false, false, false),
                0x0080_0040,
                2,
            ),
            (&[0xee], io(0x3f8, 1, false, false, false), 0x03f8_0000, 1),
            (&[0xec], io(0x3fd, 1, true, false, false), 0x03fd_0008, 1),
            (
                &[0x66, 0xed],
                io(0x604, 2, true, false, false),
                0x0604_0009,
                2,
            ),
            (&[0xef], io(0xcf8, 4, false, false, false), 0x0cf8_0003, 1),
            (
                &[0xf3, 0x6e],
                io(0x402, 1, false, true, true),
                0x0402_0030,
                2,
            ),
        ];
        for (bytes, io, qualification, length) in rows {
            let exit = exit(bytes, io);
            assert_eq!(exit.reason, 30);
            assert_eq!(exit.qualification, qualification, "{bytes:x?}");
            assert_eq!(exit.instruction_length, length);
        }
    }

    #[test]
    fn a_string_instruction_reports_its_address_and_segment() {
        let io = |input| IoExit {
            port: 0x402,
            width: 1,
            input,
            string: true,
            repeat: false,
        };
        let outs = exit(&[0x65, 0x6e], io(false));
        assert_eq!(outs.linear_address, 0x2000);
        assert_eq!(outs.instruction_information, 1 << 7 | 5 << 15);
        let ins = exit(&[0x6c], io(true));
        assert_eq!(ins.linear_address, 0x3000);
        assert_eq!(ins.instruction_information, 1 << 7);
    }
}
