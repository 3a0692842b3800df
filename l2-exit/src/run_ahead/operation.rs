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
    /// The immediate, or the target of a direct branch.
    pub(super) immediate: u64,
    /// What is done to the operand in memory, but for the stack.
    pub(super) access: Access,
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
        immediate: 0,
        access: Access::None,
        address: Address::NONE,
    };

    /// The address of the next in memory, where this is at `rip`.
    #[inline]
    pub(super) const fn next(&self, rip: u64) -> u64 {
        rip.wrapping_add(self.length as u64)
    }
}

/// An operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    /// There is none, or the kind says what it is.
    None,
    Register(Register),
    /// The instruction's immediate.
    Immediate,
    /// In memory, at the instruction's one address.
    Memory,
}

/// What an instruction does to its operand in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// It has none.
    None,
    Read,
    /// Reads what is no device's: a target, or what is pushed.
    ReadMemory,
    Write,
    /// Reads and writes what is no device's.
    Change,
}

impl Access {
    /// Whether the page has to be writable.
    #[inline]
    pub(super) const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Change)
    }

    /// Whether a device's register can be the operand.
    #[inline]
    pub(super) const fn may_be_the_window(self) -> bool {
        matches!(self, Self::Read | Self::Write)
    }
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

impl Kind {
    /// Whether there is a result that goes to [`Instruction::to`]; of those that are no branch and leave the stack alone.
    #[inline]
    pub(super) const fn writes(self) -> bool {
        match self {
            Self::Nothing | Self::Fence | Self::TestBit | Self::JumpIf(_) => false,
            Self::Binary(operation) => operation.writes(),
            _ => true,
        }
    }

    /// What it does to a first operand in memory.
    pub(super) const fn access_to_first(self) -> Access {
        match self {
            Self::Move { .. } | Self::Set(_) => Access::Write,
            Self::Binary(operation) if !operation.writes() => Access::Read,
            _ => Access::Change,
        }
    }

    /// What it does to a second operand in memory.
    pub(super) const fn access_to_second(self) -> Access {
        match self {
            Self::Jump | Self::Call | Self::Push => Access::ReadMemory,
            _ => Access::Read,
        }
    }
}

/// A condition, numbered as instructions do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition(pub(super) u8);

impl Condition {
    /// CF is set.
    pub(super) const CARRY: Self = Self(2);

    /// Whether `rflags` fulfils it (SDM Vol. 1, appendix "EFLAGS Condition Codes").
    #[inline]
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
