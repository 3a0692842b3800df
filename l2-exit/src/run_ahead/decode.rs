//! From bytes to the instructions that are executed ahead.

use iced_x86::{Code, ConditionCode, Decoder, DecoderError, DecoderOptions, Mnemonic, OpKind};

use super::operation::{Access, Condition, Instruction, Kind, Operand};
use super::shift::Shift;
use crate::alu::{Binary, Unary};
use crate::mmio::{Address, address, binary, unary};
use crate::register::Register;
use crate::vcpu::Gpr;

/// The 64-bit instruction at `rip`, if it is one that is executed ahead and `bytes` has all of it.
pub(super) fn decode(rip: u64, bytes: &[u8]) -> Option<Instruction> {
    let mut decoder = Decoder::with_ip(64, bytes, rip, DecoderOptions::NONE);
    let iced = decoder.decode();
    if decoder.last_error() != DecoderError::None || iced.has_lock_prefix() {
        return None;
    }
    // REP before RET is a habit of old compilers; before anything else here it means something that is not executed.
    let repeated = iced.has_rep_prefix() || iced.has_repne_prefix();
    if repeated && (iced.code() != Code::Retnq || iced.has_repne_prefix()) {
        return None;
    }
    let instruction = reduce(&iced)?;
    let access = match (instruction.to, instruction.from) {
        (Operand::Memory, _) => instruction.kind.access_to_first(),
        (_, Operand::Memory) => instruction.kind.access_to_second(),
        _ => Access::None,
    };
    let address = match access != Access::None || instruction.kind == Kind::Lea {
        true => address(&iced, true)?,
        false => instruction.address,
    };
    Some(Instruction {
        address,
        access,
        length: iced.len() as u8,
        immediate: immediate(&iced).unwrap_or_default(),
        ..instruction
    })
}

/// The last operand, if the instruction itself has it.
fn immediate(iced: &iced_x86::Instruction) -> Option<u64> {
    let last = iced.op_count().checked_sub(1)?;
    match iced.op_kind(last) {
        OpKind::NearBranch64 => Some(iced.near_branch64()),
        _ => iced.try_immediate(last).ok(),
    }
}

/// All but length, immediate, access and address.
fn reduce(iced: &iced_x86::Instruction) -> Option<Instruction> {
    let plain = |kind| instruction(kind, 8, Operand::None, Operand::None);
    let condition = iced.condition_code();
    if condition != ConditionCode::None {
        return conditional(iced, Condition(condition as u8 - 1));
    }
    Some(match iced.mnemonic() {
        Mnemonic::Nop | Mnemonic::Pause | Mnemonic::Endbr64 => plain(Kind::Nothing),
        Mnemonic::Lfence | Mnemonic::Mfence | Mnemonic::Sfence => plain(Kind::Fence),
        Mnemonic::Mov | Mnemonic::Movzx => moved(iced, false)?,
        Mnemonic::Movsx | Mnemonic::Movsxd => moved(iced, true)?,
        Mnemonic::Lea => {
            let to = Register::decode(iced.op0_register())?;
            let to = Operand::Register(to);
            instruction(Kind::Lea, 8, to, Operand::None)
        }
        Mnemonic::Cbw => extension(1),
        Mnemonic::Cwde => extension(2),
        Mnemonic::Cdqe => extension(4),
        Mnemonic::Cwd => sign_into(2),
        Mnemonic::Cdq => sign_into(4),
        Mnemonic::Cqo => sign_into(8),
        Mnemonic::Shl | Mnemonic::Sal => shift(iced, Shift::Left)?,
        Mnemonic::Shr => shift(iced, Shift::Right)?,
        Mnemonic::Sar => shift(iced, Shift::Arithmetic)?,
        Mnemonic::Rol => shift(iced, Shift::RotateLeft)?,
        Mnemonic::Ror => shift(iced, Shift::RotateRight)?,
        Mnemonic::Bswap => {
            let to = Register::decode(iced.op0_register()).filter(|to| to.size() >= 4)?;
            instruction(
                Kind::SwapBytes,
                to.size(),
                Operand::Register(to),
                Operand::None,
            )
        }
        Mnemonic::Xchg => {
            let (to, from) = (register(iced, 0)?, register(iced, 1)?);
            let (to_operand, from) = (Operand::Register(to), Operand::Register(from));
            instruction(Kind::Exchange, to.size(), to_operand, from)
        }
        Mnemonic::Bt => {
            let to = register(iced, 0)?;
            let from = operand(iced, 1).filter(|from| *from != Operand::Memory)?;
            instruction(Kind::TestBit, to.size(), Operand::Register(to), from)
        }
        Mnemonic::Jmp => branch(iced, Kind::Jump)?,
        Mnemonic::Call => branch(iced, Kind::Call)?,
        Mnemonic::Ret => match iced.code() {
            Code::Retnq | Code::Retnq_imm16 => plain(Kind::Return),
            _ => return None,
        },
        Mnemonic::Push => match iced.code() {
            Code::Push_r64 | Code::Push_rm64 | Code::Pushq_imm8 | Code::Pushq_imm32 => {
                instruction(Kind::Push, 8, Operand::None, operand(iced, 0)?)
            }
            _ => return None,
        },
        Mnemonic::Pop => match iced.code() {
            Code::Pop_r64 => {
                let to = Operand::Register(register(iced, 0)?);
                instruction(Kind::Pop, 8, to, Operand::None)
            }
            _ => return None,
        },
        Mnemonic::Leave if iced.code() == Code::Leaveq => plain(Kind::Leave),
        mnemonic => return arithmetic(iced, unary(mnemonic), binary(mnemonic)),
    })
}

const fn instruction(kind: Kind, size: u8, to: Operand, from: Operand) -> Instruction {
    Instruction {
        kind,
        size,
        length: 0,
        to,
        from,
        immediate: 0,
        access: Access::None,
        address: Address::NONE,
    }
}

fn register(iced: &iced_x86::Instruction, number: u32) -> Option<Register> {
    match iced.op_kind(number) {
        OpKind::Register => Register::decode(iced.op_register(number)),
        _ => None,
    }
}

fn operand(iced: &iced_x86::Instruction, number: u32) -> Option<Operand> {
    match iced.op_kind(number) {
        OpKind::Register => register(iced, number).map(Operand::Register),
        OpKind::Memory => Some(Operand::Memory),
        _ => iced.try_immediate(number).ok().map(|_| Operand::Immediate),
    }
}

/// Bytes of an operand that is a register or in memory.
fn size(iced: &iced_x86::Instruction, operand: Operand) -> Option<u8> {
    match operand {
        Operand::Register(register) => Some(register.size()),
        Operand::Memory => match iced.memory_size().size() {
            size @ (1 | 2 | 4 | 8) => Some(size as u8),
            _ => None,
        },
        Operand::None | Operand::Immediate => None,
    }
}

fn moved(iced: &iced_x86::Instruction, signed: bool) -> Option<Instruction> {
    let (to, from) = (operand(iced, 0)?, operand(iced, 1)?);
    let size = size(iced, from).or_else(|| size(iced, to))?;
    Some(instruction(Kind::Move { signed }, size, to, from))
}

/// CBW, CWDE, CDQE from `size` bytes of RAX.
const fn extension(size: u8) -> Instruction {
    let to = Operand::Register(Register::low(Gpr::Rax, size * 2));
    let from = Operand::Register(Register::low(Gpr::Rax, size));
    instruction(Kind::Move { signed: true }, size, to, from)
}

const fn sign_into(size: u8) -> Instruction {
    let to = Operand::Register(Register::low(Gpr::Rdx, size));
    let from = Operand::Register(Register::low(Gpr::Rax, size));
    instruction(Kind::SignInto, size, to, from)
}

fn shift(iced: &iced_x86::Instruction, shift: Shift) -> Option<Instruction> {
    let (to, from) = (operand(iced, 0)?, operand(iced, 1)?);
    Some(instruction(Kind::Shift(shift), size(iced, to)?, to, from))
}

fn arithmetic(
    iced: &iced_x86::Instruction,
    unary: Option<Unary>,
    binary: Option<Binary>,
) -> Option<Instruction> {
    let to = operand(iced, 0)?;
    let size = size(iced, to)?;
    match (unary, binary) {
        (Some(unary), _) => Some(instruction(Kind::Unary(unary), size, to, Operand::None)),
        (_, Some(binary)) if iced.op_count() == 2 => Some(instruction(
            Kind::Binary(binary),
            size,
            to,
            operand(iced, 1)?,
        )),
        _ => None,
    }
}

fn conditional(iced: &iced_x86::Instruction, condition: Condition) -> Option<Instruction> {
    if iced.is_jcc_short_or_near() {
        return branch(iced, Kind::JumpIf(condition));
    }
    let to = operand(iced, 0)?;
    match iced.op_count() {
        1 if size(iced, to) == Some(1) => {
            Some(instruction(Kind::Set(condition), 1, to, Operand::None))
        }
        2 => {
            let to = register(iced, 0)?;
            let from = operand(iced, 1)?;
            let kind = Kind::MoveIf(condition);
            Some(instruction(kind, to.size(), Operand::Register(to), from))
        }
        _ => None,
    }
}

/// A near branch with a 64-bit target.
fn branch(iced: &iced_x86::Instruction, kind: Kind) -> Option<Instruction> {
    let target = match iced.op0_kind() {
        OpKind::NearBranch64 => Operand::Immediate,
        _ => match iced.code() {
            Code::Jmp_rm64 | Code::Call_rm64 => operand(iced, 0)?,
            _ => return None,
        },
    };
    Some(instruction(kind, 8, Operand::None, target))
}
