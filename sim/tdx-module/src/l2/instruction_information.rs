//! The VM-exit instruction-information field of instructions with a memory operand (SDM volume 3,
//! "Information for VM Exits Due to Instruction Execution").

use super::exit_information::ExitInformation;
use super::guest::Guest;
use crate::platform::Platform;
use iced_x86::{Instruction, Mnemonic, OpKind, Register};

/// Address size of a memory operand: 0 is 16, 1 is 32, 2 is 64 bits. `None` if it is no string or
/// descriptor operand in memory.
pub(super) fn address_size(kind: OpKind) -> Option<u8> {
    Some(match kind {
        OpKind::MemorySegSI | OpKind::MemorySegDI | OpKind::MemoryESDI => 0,
        OpKind::MemorySegESI | OpKind::MemorySegEDI | OpKind::MemoryESEDI => 1,
        OpKind::MemorySegRSI | OpKind::MemorySegRDI | OpKind::MemoryESRDI => 2,
        _ => return None,
    })
}

/// A segment register's number: 0 ES, 1 CS, 2 SS, 3 DS, 4 FS, 5 GS.
pub(super) fn segment_number(register: Register) -> u8 {
    match register {
        Register::ES => 0,
        Register::CS => 1,
        Register::SS => 2,
        Register::FS => 4,
        Register::GS => 5,
        _ => 3,
    }
}

const MEMORY_IS_REGISTER: u32 = 1 << 10;
const NO_INDEX: u32 = 1 << 22;
const NO_BASE: u32 = 1 << 27;

/// Which of the four instructions of its kind it is, bits 29:28.
fn identity(mnemonic: Mnemonic) -> u32 {
    match mnemonic {
        Mnemonic::Sidt | Mnemonic::Str => 1,
        Mnemonic::Lgdt | Mnemonic::Lldt => 2,
        Mnemonic::Lidt | Mnemonic::Ltr => 3,
        _ => 0,
    }
}

/// The address form in the layout that all these instructions share.
fn memory_form(instruction: &Instruction, width: u32) -> u32 {
    let base = instruction.memory_base();
    let index = instruction.memory_index();
    let number = |register: Register| register.full_register().number() as u32;
    let size = match (base, index) {
        (Register::None, Register::None) => match width {
            16 => 0,
            32 => 1,
            _ => 2,
        },
        (Register::None, register) | (register, _) => match register.size() {
            2 => 0,
            4 => 1,
            _ => 2,
        },
    };
    let scale = instruction.memory_index_scale().trailing_zeros();
    let mut form =
        scale | size << 7 | u32::from(segment_number(instruction.memory_segment())) << 15;
    form |= match index {
        Register::None => NO_INDEX,
        register => number(register) << 18,
    };
    form |= match base {
        Register::None | Register::RIP | Register::EIP => NO_BASE,
        register => number(register) << 23,
    };
    form
}

impl<P: Platform> Guest<'_, P> {
    /// An exit by an instruction whose operand is described by instruction information: the
    /// qualification is the displacement of the address.
    pub(super) fn operand_exit(
        &mut self,
        reason: u32,
        instruction: &Instruction,
    ) -> ExitInformation {
        let width = self.code_width();
        let operands = 0..instruction.op_count();
        let has_memory = operands
            .clone()
            .any(|operand| instruction.op_kind(operand) == OpKind::Memory);
        let register = operands
            .filter(|&operand| instruction.op_kind(operand) == OpKind::Register)
            .map(|operand| instruction.op_register(operand).full_register().number() as u32)
            .next();
        let mut information = identity(instruction.mnemonic()) << 28;
        let mut qualification = 0;
        if has_memory {
            information |= memory_form(instruction, width);
            qualification = instruction.memory_displacement64();
            // The register operand of VMREAD, VMWRITE, INVEPT, INVVPID and INVPCID.
            information |= register.unwrap_or(0) << 28;
        } else {
            information |= MEMORY_IS_REGISTER | register.unwrap_or(0) << 3;
        }
        let length = instruction.len() as u32;
        ExitInformation {
            instruction_information: information,
            ..ExitInformation::instruction(reason, length).with_qualification(qualification)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use crate::platform::Platform;

    #[test]
    fn forms_of_descriptor_table_instructions() {
        let rows: [(&[u8], u32, u64); 4] = [
            // lgdt [eax + 8]
            (
                &[0x0f, 0x01, 0x50, 0x08],
                2 << 28 | 1 << 7 | 3 << 15 | 1 << 22,
                8,
            ),
            // sidt [ebx + ecx * 4]
            (
                &[0x0f, 0x01, 0x0c, 0x8b],
                1 << 28 | 2 | 1 << 7 | 3 << 15 | 1 << 18 | 3 << 23,
                0,
            ),
            // ltr cx
            (&[0x0f, 0x00, 0xd9], 3 << 28 | 1 << 10 | 1 << 3, 0),
            // invpcid edx, [0x1234]
            (
                &[0x66, 0x0f, 0x38, 0x82, 0x15, 0x34, 0x12, 0, 0],
                2 << 28 | 1 << 7 | 3 << 15 | 1 << 22 | 1 << 27,
                0x1234,
            ),
        ];
        for (bytes, information, qualification) in rows {
            let mut fake = Fake::new();
            fake.platform.write(0, bytes);
            let mut guest = fake.guest();
            guest.set_register(crate::platform::Register::Rip, 0);
            let instruction = guest.fetch().unwrap();
            let exit = guest.operand_exit(46, &instruction);
            assert_eq!(exit.instruction_information, information, "{bytes:x?}");
            assert_eq!(exit.qualification, qualification);
        }
    }
}
