//! Streams of instructions by a seed: of every encoding of what is executed ahead.

use iced_x86::{
    Code, Encoder, EncodingKind, Instruction, MemoryOperand, Mnemonic, OpCodeOperandKind, OpKind,
    Register,
};

use crate::Random;

/// A base of operands in memory; never written.
const BASE: Register = Register::RBX;
/// An index of operands in memory; never written, below [`INDEX_END`].
const INDEX: Register = Register::R13;
/// What the index of an operand (R13) has to be below.
pub const INDEX_END: u64 = 0x80;

const MNEMONICS: &[Mnemonic] = &[
    Mnemonic::Mov,
    Mnemonic::Movzx,
    Mnemonic::Movsx,
    Mnemonic::Movsxd,
    Mnemonic::Lea,
    Mnemonic::Add,
    Mnemonic::Or,
    Mnemonic::Adc,
    Mnemonic::Sbb,
    Mnemonic::And,
    Mnemonic::Sub,
    Mnemonic::Xor,
    Mnemonic::Cmp,
    Mnemonic::Test,
    Mnemonic::Inc,
    Mnemonic::Dec,
    Mnemonic::Neg,
    Mnemonic::Not,
    Mnemonic::Shl,
    Mnemonic::Sal,
    Mnemonic::Shr,
    Mnemonic::Sar,
    Mnemonic::Rol,
    Mnemonic::Ror,
    Mnemonic::Bswap,
    Mnemonic::Xchg,
    Mnemonic::Bt,
    Mnemonic::Cbw,
    Mnemonic::Cwde,
    Mnemonic::Cdqe,
    Mnemonic::Cwd,
    Mnemonic::Cdq,
    Mnemonic::Cqo,
    Mnemonic::Push,
    Mnemonic::Pop,
    Mnemonic::Nop,
    Mnemonic::Pause,
    Mnemonic::Lfence,
    Mnemonic::Mfence,
    Mnemonic::Sfence,
    Mnemonic::Endbr64,
];

/// The encodings that streams are made of, but for branches.
#[must_use]
pub fn codes() -> Vec<Code> {
    Code::values().filter(|code| is_executed(*code)).collect()
}

fn is_executed(code: Code) -> bool {
    let info = code.op_code();
    let mnemonic = code.mnemonic();
    let conditional = code.condition_code() != iced_x86::ConditionCode::None;
    let operands = info.op_kinds();
    // Undefined for 16 bits.
    let defined = code != Code::Bswap_r16;
    // One whose operands are 64 bits wide where the stack is concerned.
    let stack = matches!(mnemonic, Mnemonic::Push | Mnemonic::Pop)
        && !matches!(
            code,
            Code::Push_r64 | Code::Push_rm64 | Code::Pushq_imm8 | Code::Pushq_imm32 | Code::Pop_r64
        );
    info.encoding() == EncodingKind::Legacy
        && info.mode64()
        && !info.intel_may_vm_exit()
        && defined
        && !stack
        && (MNEMONICS.contains(&mnemonic) || conditional && !code.is_jcc_short_or_near())
        && operands.iter().all(|kind| {
            let mut random = Random(1);
            let mut instruction = Instruction::default();
            instruction.set_code(code);
            fill(&mut instruction, 0, *kind, false, &mut random)
        })
}

/// Registers that streams write, by number.
const WRITTEN: [usize; 13] = [0, 1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15];

fn general(size: usize, random: &mut Random) -> Register {
    let number = random.one_of(&WRITTEN);
    let register = Register::RAX + number as u32;
    match size {
        8 => register,
        4 => register.full_register32(),
        2 => Register::AX + number as u32,
        // AH, CH, DH, where the encoding has them.
        _ if random.below(8) == 0 => random.one_of(&[Register::AH, Register::CH, Register::DH]),
        _ => match number {
            0..4 => Register::AL + number as u32,
            4..8 => Register::SPL + (number as u32 - 4),
            _ => Register::R8L + (number as u32 - 8),
        },
    }
}

/// Makes operand `number`, of kind `kind`. False if there is none of that kind in streams.
fn fill(
    instruction: &mut Instruction,
    number: u32,
    kind: OpCodeOperandKind,
    in_memory: bool,
    random: &mut Random,
) -> bool {
    use OpCodeOperandKind as K;
    let register = |size: usize, random: &mut Random| general(size, random);
    let (size, memory) = match kind {
        K::r8_reg | K::r8_opcode => (1, false),
        K::r16_reg | K::r16_opcode => (2, false),
        K::r32_reg | K::r32_opcode => (4, false),
        K::r64_reg | K::r64_opcode => (8, false),
        K::r8_or_mem => (1, true),
        K::r16_or_mem => (2, true),
        K::r32_or_mem => (4, true),
        K::r64_or_mem => (8, true),
        K::mem => (0, true),
        K::al | K::ax | K::eax | K::rax | K::cl => {
            let fixed = match kind {
                K::al => Register::AL,
                K::ax => Register::AX,
                K::eax => Register::EAX,
                K::rax => Register::RAX,
                _ => Register::CL,
            };
            instruction.set_op_register(number, fixed);
            return true;
        }
        K::imm8
        | K::imm16
        | K::imm32
        | K::imm64
        | K::imm8sex16
        | K::imm8sex32
        | K::imm8sex64
        | K::imm32sex64
        | K::imm8_const_1 => {
            let value = random.operand();
            let (kind, value) = match kind {
                K::imm8 => (OpKind::Immediate8, value & 0xFF),
                K::imm16 => (OpKind::Immediate16, value & 0xFFFF),
                K::imm32 => (OpKind::Immediate32, value & 0xFFFF_FFFF),
                K::imm64 => (OpKind::Immediate64, value),
                K::imm8sex16 => (OpKind::Immediate8to16, value as i8 as u64),
                K::imm8sex32 => (OpKind::Immediate8to32, value as i8 as u64),
                K::imm8sex64 => (OpKind::Immediate8to64, value as i8 as u64),
                K::imm32sex64 => (OpKind::Immediate32to64, value as i32 as u64),
                _ => (OpKind::Immediate8, 1),
            };
            instruction.set_op_kind(number, kind);
            match kind {
                OpKind::Immediate8to16 => instruction.set_immediate8to16(value as i16),
                OpKind::Immediate8to32 => instruction.set_immediate8to32(value as i32),
                OpKind::Immediate8to64 => instruction.set_immediate8to64(value as i64),
                OpKind::Immediate32to64 => instruction.set_immediate32to64(value as i64),
                OpKind::Immediate64 => instruction.set_immediate64(value),
                OpKind::Immediate32 => instruction.set_immediate32(value as u32),
                OpKind::Immediate16 => instruction.set_immediate16(value as u16),
                _ => instruction.set_immediate8(value as u8),
            }
            return true;
        }
        _ => return false,
    };
    if memory && (size == 0 || in_memory) {
        let operand = match random.below(3) {
            0 => MemoryOperand::with_base_displ(BASE, random.below(0xFF8) as i64),
            1 => {
                let scale = 1 << random.below(4);
                let displacement = random.below(0xFF8 - INDEX_END as usize * 8) as i64;
                MemoryOperand::with_base_index_scale_displ_size(BASE, INDEX, scale, displacement, 4)
            }
            // The stack, which is in the middle of its page.
            _ => MemoryOperand::with_base_displ(Register::RSP, random.below(0x80) as i64 - 0x40),
        };
        instruction.set_op_kind(number, OpKind::Memory);
        instruction.set_memory_base(operand.base);
        instruction.set_memory_index(operand.index);
        instruction.set_memory_index_scale(operand.scale);
        instruction.set_memory_displacement64(operand.displacement as u64);
        instruction.set_memory_displ_size(match operand.displacement {
            0 => 0,
            -0x80..0x80 => 1,
            _ => 8,
        });
    } else {
        let register = register(size, random);
        instruction.set_op_register(number, register);
    }
    true
}

/// TEST EAX, EAX.
const TEST: [u8; 2] = [0x85, 0xC0];

/// Shifts and rotations by other counts than 1.
fn leaves_flags_undefined(code: Code) -> bool {
    let shifts = matches!(
        code.mnemonic(),
        Mnemonic::Shl
            | Mnemonic::Sal
            | Mnemonic::Shr
            | Mnemonic::Sar
            | Mnemonic::Rol
            | Mnemonic::Ror
    );
    shifts && code.op_code().op1_kind() != OpCodeOperandKind::imm8_const_1
}

/// Bytes of one instruction of encoding `code` at `at`.
fn one(code: Code, at: u64, random: &mut Random) -> Vec<u8> {
    // XCHG and BT with memory are not executed ahead.
    let only_registers = matches!(code.mnemonic(), Mnemonic::Xchg | Mnemonic::Bt);
    loop {
        let mut instruction = Instruction::default();
        instruction.set_code(code);
        let in_memory = !only_registers && random.below(2) == 0;
        for (number, kind) in (0..).zip(code.op_code().op_kinds()) {
            fill(&mut instruction, number, *kind, in_memory, random);
        }
        let mut encoder = Encoder::new(64);
        // AH and its kin do not go together with some registers.
        if encoder.encode(&instruction, at).is_ok() {
            let mut bytes = encoder.take_buffer();
            if leaves_flags_undefined(code) {
                bytes.extend(TEST);
            }
            return bytes;
        }
    }
}

/// A stream at linear address `at` that ends with a jump to `exit`: its bytes, and how many instructions it has.
pub fn stream(codes: &[Code], at: u64, exit: u64, random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..24 {
        let here = at + bytes.len() as u64;
        match random.below(16) {
            // Jcc over one instruction, short or near.
            0 => {
                let skipped = one(random.one_of(codes), here + 6, random);
                let condition = random.below(16) as u8;
                match random.below(2) {
                    0 => bytes.extend([0x70 | condition, skipped.len() as u8]),
                    _ => bytes.extend([0x0F, 0x80 | condition, skipped.len() as u8, 0, 0, 0]),
                }
                bytes.extend(skipped);
            }
            // JMP over a byte that is no instruction.
            1 => bytes.extend([0xEB, 1, 0x06]),
            // CALL of the instruction behind it; its return address stays on the stack, or POP RCX takes it.
            2 => bytes.extend([0xE8, 0, 0, 0, 0]),
            3 => bytes.extend([0xE8, 0, 0, 0, 0, 0x59]),
            // LEA RAX, [RIP + 2], PUSH RAX, RET; the same by JMP RAX and by CALL RAX.
            4 => bytes.extend([0x48, 0x8D, 0x05, 2, 0, 0, 0, 0x50, 0xC3]),
            5 => bytes.extend([0x48, 0x8D, 0x05, 2, 0, 0, 0, 0xFF, 0xE0]),
            6 => bytes.extend([0x48, 0x8D, 0x05, 2, 0, 0, 0, 0xFF, 0xD0]),
            // LEA RBP, [RSP + 16], LEAVE.
            7 => bytes.extend([0x48, 0x8D, 0x6C, 0x24, 16, 0xC9]),
            // LEA RAX, [RIP + 4], PUSH RAX, RET 8.
            8 => bytes.extend([0x48, 0x8D, 0x05, 4, 0, 0, 0, 0x50, 0xC2, 8, 0]),
            _ => bytes.extend(one(random.one_of(codes), here, random)),
        }
    }
    let here = at + bytes.len() as u64 + 5;
    bytes.push(0xE9);
    bytes.extend((exit.wrapping_sub(here) as u32).to_le_bytes());
    bytes
}
