//! Instructions that reach devices, reduced to what their execution needs.

use iced_x86::{Code, Decoder, DecoderError, DecoderOptions, Mnemonic, OpKind, Register as Iced};

use crate::alu::{Binary, Unary};
use crate::register::{Register, mask, sign_extend};
use crate::vcpu::{Gpr, SegmentRegister, Vcpu};

/// A decoded instruction with one memory operand, or a string instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) operation: Operation,
    /// Bytes of a memory operand: 1, 2, 4 or 8.
    pub(super) size: u8,
    /// Bytes of the instruction.
    pub(super) length: u8,
}

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// MOV, MOVZX, MOVSX, MOVSXD from memory.
    Load {
        from: Address,
        to: Register,
        signed: bool,
    },
    /// MOV to memory.
    Store { to: Address, from: Source },
    /// XCHG.
    Exchange { with: Address, register: Register },
    /// ADD, OR, ADC, SBB, AND, SUB, XOR, CMP, TEST with memory on the left.
    ToMemory {
        operation: Binary,
        left: Address,
        right: Source,
    },
    /// The same with memory on the right.
    ToRegister {
        operation: Binary,
        left: Register,
        right: Address,
    },
    /// INC, DEC, NEG, NOT.
    Unary { operation: Unary, operand: Address },
    /// MOVS, STOS, LODS, CMPS, SCAS.
    String(StringInstruction),
}

/// What is combined with memory or stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Register(Register),
    Immediate(u64),
}

impl Source {
    pub(super) fn get<V: Vcpu>(self, vcpu: &V) -> u64 {
        match self {
            Self::Register(register) => register.get(vcpu),
            Self::Immediate(value) => value,
        }
    }
}

/// An effective address with its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) segment: SegmentRegister,
    pub(crate) base: Option<Gpr>,
    pub(crate) index: Option<Gpr>,
    /// 1, 2, 4 or 8.
    pub(crate) scale: u8,
    /// For a RIP-relative address the whole of it.
    pub(crate) displacement: u64,
    /// Bits of the address size.
    pub(crate) mask: u64,
}

impl Address {
    /// Of an instruction that has no operand in memory.
    pub(crate) const NONE: Self = Self {
        segment: SegmentRegister::Ds,
        base: None,
        index: None,
        scale: 1,
        displacement: 0,
        mask: u64::MAX,
    };

    /// The offset in the segment, with the general registers that `gpr` returns.
    #[inline]
    pub(crate) fn offset(&self, gpr: impl Fn(Gpr) -> u64) -> u64 {
        let mut offset = self.displacement;
        if let Some(base) = self.base {
            offset = offset.wrapping_add(gpr(base));
        }
        if let Some(index) = self.index {
            offset = offset.wrapping_add(gpr(index).wrapping_mul(u64::from(self.scale)));
        }
        offset & self.mask
    }

    /// Whether 64-bit mode adds no segment base to it.
    pub(crate) const fn is_flat(&self) -> bool {
        !matches!(self.segment, SegmentRegister::Fs | SegmentRegister::Gs)
    }
}

/// A string instruction. Its element size is that of the [`Instruction`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StringInstruction {
    pub(super) kind: StringKind,
    pub(super) repeat: Repeat,
    /// Segment of the source; the destination's is ES.
    pub(super) segment: SegmentRegister,
    /// Bits of the address size.
    pub(super) mask: u64,
}

/// Which string instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StringKind {
    Movs,
    Stos,
    Lods,
    Cmps,
    Scas,
}

/// The prefix of a string instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// None: once.
    No,
    /// REP: RCX times.
    Count,
    /// REPE: at most RCX times, while ZF is set.
    WhileEqual,
    /// REPNE: at most RCX times, while ZF is clear.
    WhileNotEqual,
}

/// Why bytes are no [`Instruction`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DecodeError {
    /// The instruction goes on behind the last byte.
    Incomplete,
    /// It is not implemented, or not an instruction.
    Unsupported,
}

/// Builds the decoder's tables, which the first decode would do otherwise.
pub(super) fn prepare() {
    let _ = Decoder::with_ip(64, &[], 0, DecoderOptions::NONE);
}

/// Decodes the instruction at RIP. `bits` is the default size of the code segment.
pub(super) fn decode(bits: u32, rip: u64, bytes: &[u8]) -> Result<Instruction, DecodeError> {
    let mut decoder = Decoder::with_ip(bits, bytes, rip, DecoderOptions::NONE);
    let iced = decoder.decode();
    match decoder.last_error() {
        DecoderError::None => {}
        DecoderError::NoMoreBytes => return Err(DecodeError::Incomplete),
        _ => return Err(DecodeError::Unsupported),
    }
    let size = match iced.memory_size().size() {
        size @ (1 | 2 | 4 | 8) => size as u8,
        _ => return Err(DecodeError::Unsupported),
    };
    match operation(&iced, size, bits == 64) {
        Some(operation) => Ok(Instruction {
            operation,
            size,
            length: iced.len() as u8,
        }),
        None => Err(DecodeError::Unsupported),
    }
}

fn operation(iced: &iced_x86::Instruction, size: u8, long: bool) -> Option<Operation> {
    if let Some(kind) = string_kind(iced.code()) {
        return string(iced, kind, long).map(Operation::String);
    }
    let memory_first = iced.op0_kind() == OpKind::Memory;
    if !memory_first && iced.op1_kind() != OpKind::Memory {
        return None;
    }
    let address = address(iced, long)?;
    let mnemonic = iced.mnemonic();
    if let Some(operation) = unary(mnemonic) {
        return Some(Operation::Unary {
            operation,
            operand: address,
        });
    }
    let binary = binary(mnemonic);
    Some(if memory_first {
        let source = source(iced, size)?;
        match (mnemonic, binary, source) {
            (Mnemonic::Mov, ..) => Operation::Store {
                to: address,
                from: source,
            },
            (Mnemonic::Xchg, _, Source::Register(register)) => Operation::Exchange {
                with: address,
                register,
            },
            (_, Some(operation), _) => Operation::ToMemory {
                operation,
                left: address,
                right: source,
            },
            _ => return None,
        }
    } else {
        let register = Register::decode(iced.op0_register())?;
        match (mnemonic, binary) {
            (Mnemonic::Mov | Mnemonic::Movzx, _) => Operation::Load {
                from: address,
                to: register,
                signed: false,
            },
            (Mnemonic::Movsx | Mnemonic::Movsxd, _) => Operation::Load {
                from: address,
                to: register,
                signed: true,
            },
            (Mnemonic::Xchg, _) => Operation::Exchange {
                with: address,
                register,
            },
            (_, Some(operation)) if iced.op_count() == 2 => Operation::ToRegister {
                operation,
                left: register,
                right: address,
            },
            _ => return None,
        }
    })
}

fn source(iced: &iced_x86::Instruction, size: u8) -> Option<Source> {
    if iced.op1_kind() == OpKind::Register {
        let register = Register::decode(iced.op1_register())?;
        return (register.size() == size).then_some(Source::Register(register));
    }
    let immediate = iced.try_immediate(1).ok()?;
    Some(Source::Immediate(immediate & mask(size)))
}

pub(crate) const fn unary(mnemonic: Mnemonic) -> Option<Unary> {
    Some(match mnemonic {
        Mnemonic::Inc => Unary::Inc,
        Mnemonic::Dec => Unary::Dec,
        Mnemonic::Neg => Unary::Neg,
        Mnemonic::Not => Unary::Not,
        _ => return None,
    })
}

pub(crate) const fn binary(mnemonic: Mnemonic) -> Option<Binary> {
    Some(match mnemonic {
        Mnemonic::Add => Binary::Add,
        Mnemonic::Or => Binary::Or,
        Mnemonic::Adc => Binary::Adc,
        Mnemonic::Sbb => Binary::Sbb,
        Mnemonic::And => Binary::And,
        Mnemonic::Sub => Binary::Sub,
        Mnemonic::Xor => Binary::Xor,
        Mnemonic::Cmp => Binary::Cmp,
        Mnemonic::Test => Binary::Test,
        _ => return None,
    })
}

const fn string_kind(code: Code) -> Option<StringKind> {
    Some(match code {
        Code::Movsb_m8_m8 | Code::Movsw_m16_m16 | Code::Movsd_m32_m32 | Code::Movsq_m64_m64 => {
            StringKind::Movs
        }
        Code::Stosb_m8_AL | Code::Stosw_m16_AX | Code::Stosd_m32_EAX | Code::Stosq_m64_RAX => {
            StringKind::Stos
        }
        Code::Lodsb_AL_m8 | Code::Lodsw_AX_m16 | Code::Lodsd_EAX_m32 | Code::Lodsq_RAX_m64 => {
            StringKind::Lods
        }
        Code::Cmpsb_m8_m8 | Code::Cmpsw_m16_m16 | Code::Cmpsd_m32_m32 | Code::Cmpsq_m64_m64 => {
            StringKind::Cmps
        }
        Code::Scasb_AL_m8 | Code::Scasw_AX_m16 | Code::Scasd_EAX_m32 | Code::Scasq_RAX_m64 => {
            StringKind::Scas
        }
        _ => return None,
    })
}

fn string(iced: &iced_x86::Instruction, kind: StringKind, long: bool) -> Option<StringInstruction> {
    let repeat = match (kind, iced.has_rep_prefix(), iced.has_repne_prefix()) {
        (_, false, false) => Repeat::No,
        (StringKind::Cmps | StringKind::Scas, true, _) => Repeat::WhileEqual,
        (StringKind::Cmps | StringKind::Scas, ..) => Repeat::WhileNotEqual,
        _ => Repeat::Count,
    };
    // One operand may be a register; the other gives the address size.
    let mask =
        [iced.op0_kind(), iced.op1_kind()]
            .into_iter()
            .find_map(|operand| match operand {
                OpKind::MemorySegSI | OpKind::MemoryESDI => Some(mask(2)),
                OpKind::MemorySegESI | OpKind::MemoryESEDI => Some(mask(4)),
                OpKind::MemorySegRSI | OpKind::MemoryESRDI => Some(mask(8)),
                _ => None,
            })?;
    Some(StringInstruction {
        kind,
        repeat,
        segment: segment(iced, long)?,
        mask,
    })
}

/// The address of the operand in memory. `long`: in 64-bit code.
pub(crate) fn address(iced: &iced_x86::Instruction, long: bool) -> Option<Address> {
    let base = iced.memory_base();
    let index = iced.memory_index();
    let relative = matches!(base, Iced::RIP | Iced::EIP);
    let size = match (base, index) {
        (Iced::None, Iced::None) => iced.memory_displ_size() as u8,
        (Iced::None, index) => index.size() as u8,
        (base, _) => base.size() as u8,
    };
    let register = |register: Iced| match register {
        Iced::None => Some(None),
        other => Register::decode(other).map(|register| Some(register.gpr())),
    };
    Some(Address {
        segment: segment(iced, long)?,
        base: if relative { None } else { register(base)? },
        index: register(index)?,
        scale: iced.memory_index_scale() as u8,
        displacement: sign_extend(iced.memory_displacement64(), size),
        mask: mask(size),
    })
}

/// The segment of the operand. In 64-bit mode prefixes for other segments than FS and GS mean
/// nothing, but a base of RSP or RBP still makes a fault #SS.
fn segment(iced: &iced_x86::Instruction, long: bool) -> Option<SegmentRegister> {
    let prefix = iced.segment_prefix();
    let register = if long && !matches!(prefix, Iced::FS | Iced::GS) {
        match iced.memory_base() {
            Iced::RSP | Iced::RBP | Iced::ESP | Iced::EBP => Iced::SS,
            _ => Iced::DS,
        }
    } else {
        iced.memory_segment()
    };
    Some(match register {
        Iced::ES => SegmentRegister::Es,
        Iced::CS => SegmentRegister::Cs,
        Iced::SS => SegmentRegister::Ss,
        Iced::DS => SegmentRegister::Ds,
        Iced::FS => SegmentRegister::Fs,
        Iced::GS => SegmentRegister::Gs,
        _ => return None,
    })
}
