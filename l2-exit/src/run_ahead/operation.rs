//! The instructions that are executed ahead, reduced to what their execution needs.

use crate::alu::{Binary, Unary};
use crate::mmio::Address;
use crate::register::Register;

use super::shift::Shift;

/// A decoded instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) kind: Kind,
    /// Bytes of the operands: 1, 2, 4 or 8.
    pub(super) size: u8,
    /// Bytes of the instruction.
    pub(super) length: u8,
    /// What is written.
    pub(super) to: Operand,
    /// What is read besides.
    pub(super) from: Operand,
    /// Of an operand in memory, or of LEA.
    pub(super) address: Address,
}

impl Instruction {
    /// One that is not executed here, of whatever length.
    pub(super) const UNKNOWN: Self = Self {
        kind: Kind::Unknown,
        size: 8,
        length: 15,
        to: Operand::None,
        from: Operand::None,
        address: Address::NONE,
    };
}

/// An operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    /// There is none, or the kind says what it is.
    None,
    Register(Register),
    /// An immediate, or the target of a direct branch.
    Immediate(u64),
    /// In memory, at the instruction's one address.
    Memory,
}

/// What an instruction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any that is not executed here.
    Unknown,
    /// NOP, PAUSE, ENDBR64.
    Nothing,
    /// LFENCE, MFENCE, SFENCE.
    Fence,
    /// MOV, MOVZX, MOVSX, MOVSXD, CBW, CWDE, CDQE: `size` is the source's.
    Move { signed: bool },
    /// LEA.
    Lea,
    /// ADD, OR, ADC, SBB, AND, SUB, XOR, CMP, TEST.
    Binary(Binary),
    /// INC, DEC, NEG, NOT.
    Unary(Unary),
    /// SHL, SHR, SAR, ROL, ROR.
    Shift(Shift),
    /// BSWAP.
    SwapBytes,
    /// XCHG of registers.
    Exchange,
    /// BT of a register.
    TestBit,
    /// CWD, CDQ, CQO.
    SignInto,
    /// CMOVcc.
    MoveIf(Condition),
    /// SETcc.
    Set(Condition),
    /// Jcc.
    JumpIf(Condition),
    /// Near JMP.
    Jump,
    /// Near CALL.
    Call,
    /// Near RET; the immediate is what it takes from the stack besides.
    Return,
    /// PUSH.
    Push,
    /// POP of a register.
    Pop,
    /// LEAVE.
    Leave,
}

/// A condition, numbered as instructions do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition(pub(super) u8);

impl Condition {
    /// Whether `rflags` fulfils it (SDM Vol. 1, appendix "EFLAGS Condition Codes").
    pub(super) const fn holds(self, rflags: u64) -> bool {
        use x86_defs::rflags::{CF, OF, PF, SF, ZF};
        let less = (rflags & SF != 0) != (rflags & OF != 0);
        let positive = match self.0 >> 1 {
            0 => rflags & OF != 0,
            1 => rflags & CF != 0,
            2 => rflags & ZF != 0,
            3 => rflags & (CF | ZF) != 0,
            4 => rflags & SF != 0,
            5 => rflags & PF != 0,
            6 => less,
            _ => less || rflags & ZF != 0,
        };
        positive != (self.0 & 1 != 0)
    }
}
