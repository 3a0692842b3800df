//! The most frequent instructions, in the form that is executed fastest: one place to go to, registers by number, an
//! address that is a sum without a question.

use super::operation::{Condition, Instruction, Kind, Operand};
use super::registers::{FS, GS, Slot, ZERO};
use super::shift::Shift;
use super::translate::is_canonical;
use crate::alu::{Binary, Unary};
use crate::register::Register;
use crate::vcpu::{Gpr, SegmentRegister};

/// What a step does. "The right operand" is a register and the immediate, of which one is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    /// What only the [`Instruction`] says.
    Other,
    /// No instruction: the block ends here.
    End,
    Nothing,
    /// LFENCE, MFENCE, SFENCE.
    Fence,
    /// The right operand's low bytes to a whole register.
    Move,
    /// All of the right operand to a register.
    Move8,
    /// The same with the sign.
    MoveSigned,
    /// The low bytes of the address.
    Lea,
    /// So many bytes of memory to a whole register.
    Load1,
    Load2,
    Load4,
    Load8,
    /// A byte of memory to the lowest of a register.
    LoadLow,
    /// So many bytes of the right operand to memory.
    Store1,
    Store2,
    Store4,
    Store8,
    Add,
    Sub,
    And,
    Or,
    Xor,
    /// ADD of eight bytes of memory to a register.
    AddLoad8,
    /// The same with SUB, which looks at a stack's canary.
    SubLoad8,
    Increment,
    Decrement,
    /// CMP of a register with the right operand.
    Compare,
    /// TEST of a register with the right operand.
    Test,
    /// The same two and the conditional jump behind, whose target is the displacement.
    CompareJump,
    TestJump,
    /// CMP of so many bytes in memory with the right operand.
    Compare1,
    Compare4,
    Compare8,
    /// TEST of so many bytes in memory with the right operand.
    Test1,
    Test4,
    Test8,
    /// SHL of a register by the immediate.
    ShiftLeft,
    /// SHR of a register by the immediate.
    ShiftRight,
    /// CMOVcc.
    MoveIf,
    /// Near branches to what the instruction says.
    JumpIf,
    Jump,
    Call,
    /// JMP and CALL to what the right operand says.
    JumpTo,
    CallTo,
    Return,
    Push,
    Pop,
}

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) code: Code,
    /// The register that is written, or the left operand.
    pub(super) to: Slot,
    /// Of the right operand.
    pub(super) from: Slot,
    /// Of the address.
    pub(super) base: Slot,
    /// Whether the address has an index or the base of a segment.
    pub(super) indexed: bool,
    pub(super) index: Slot,
    /// The index counts 2 to this.
    pub(super) scale: u8,
    /// The base of the segment.
    pub(super) segment: Slot,
    /// 64 less the operand's bits.
    pub(super) shift: u8,
    /// Of a jump or CMOVcc.
    pub(super) condition: Condition,
    /// Instructions of its block that come before.
    pub(super) number: u8,
    /// Where the instruction ends, from the start of the first of its block.
    pub(super) end: u8,
    /// Of the right operand, or the target of a branch.
    pub(super) immediate: u64,
    /// Of the address.
    pub(super) displacement: u64,
}

impl Step {
    /// What only the [`Instruction`] says.
    pub(super) const OTHER: Self = Self {
        code: Code::Other,
        to: ZERO,
        from: ZERO,
        base: ZERO,
        indexed: false,
        index: ZERO,
        scale: 0,
        segment: ZERO,
        shift: 0,
        condition: Condition(0),
        number: 0,
        end: 0,
        immediate: 0,
        displacement: 0,
    };

    /// Behind the last instruction of a block.
    pub(super) const END: Self = Self {
        code: Code::End,
        ..Self::OTHER
    };

    /// `instruction`, the one behind `number` of its block, which ends at `end`.
    pub(super) fn of(instruction: &Instruction, number: u8, end: u8) -> Self {
        let step = reduce(instruction).unwrap_or(Self::OTHER);
        Self {
            number,
            end,
            ..step
        }
    }
}

impl Step {
    /// This step and the one behind it in one, if there is a form for both. It counts as the second.
    pub(super) fn with(&self, next: &Self) -> Option<Self> {
        let code = match (self.code, next.code) {
            (Code::Compare, Code::JumpIf) => Code::CompareJump,
            (Code::Test, Code::JumpIf) => Code::TestJump,
            _ => return None,
        };
        Some(Self {
            code,
            condition: next.condition,
            number: next.number,
            end: next.end,
            displacement: next.immediate,
            ..*self
        })
    }
}

/// None if the instruction has no form of its own.
fn reduce(instruction: &Instruction) -> Option<Step> {
    let Instruction {
        kind,
        size,
        to,
        from,
        immediate,
        ..
    } = *instruction;
    let plain = Step {
        shift: 64 - size * 8,
        ..Step::OTHER
    };
    match kind {
        Kind::Nothing => Some(Step {
            code: Code::Nothing,
            ..plain
        }),
        Kind::Fence => Some(Step {
            code: Code::Fence,
            ..plain
        }),
        Kind::Move { signed: false } => moved(instruction, plain),
        Kind::Move { signed: true } => Some(Step {
            code: Code::MoveSigned,
            to: low(to).filter(|to| to.size() == 8)?.slot(),
            ..right(plain, from, immediate)?
        }),
        Kind::Lea => {
            let to = whole(to)?;
            address(
                instruction,
                Step {
                    code: Code::Lea,
                    to: to.slot(),
                    shift: 64 - to.size() * 8,
                    ..plain
                },
            )
            .map(|step| Step {
                indexed: step.index != ZERO,
                segment: ZERO,
                ..step
            })
        }
        Kind::Unary(unary @ (Unary::Inc | Unary::Dec)) => Some(Step {
            code: match unary {
                Unary::Inc => Code::Increment,
                _ => Code::Decrement,
            },
            to: whole(to)?.slot(),
            ..plain
        }),
        Kind::Binary(binary) => arithmetic(instruction, binary, plain),
        Kind::Shift(shift @ (Shift::Left | Shift::Right)) => Some(Step {
            code: match shift {
                Shift::Left => Code::ShiftLeft,
                _ => Code::ShiftRight,
            },
            to: whole(to)?.slot(),
            // A count of 0 leaves the flags alone.
            immediate: (from == Operand::Immediate)
                .then_some(immediate & if size == 8 { 0x3F } else { 0x1F })
                .filter(|count| *count != 0)?,
            ..plain
        }),
        Kind::MoveIf(condition) => Some(Step {
            code: Code::MoveIf,
            to: whole(to)?.slot(),
            condition,
            ..right(plain, from, immediate)?
        }),
        Kind::JumpIf(condition) => is_canonical(immediate).then_some(Step {
            code: Code::JumpIf,
            condition,
            immediate,
            ..plain
        }),
        Kind::Jump => branch(plain, from, immediate, [Code::Jump, Code::JumpTo]),
        Kind::Call => branch(plain, from, immediate, [Code::Call, Code::CallTo]),
        Kind::Return => (immediate == 0).then_some(Step {
            code: Code::Return,
            ..plain
        }),
        Kind::Push => Some(Step {
            code: Code::Push,
            ..right(plain, from, immediate)?
        }),
        Kind::Pop => Some(Step {
            code: Code::Pop,
            to: whole(to)?.slot(),
            ..plain
        }),
        _ => None,
    }
}

/// JMP and CALL, `known` where the instruction says to where, and `told` where a register does.
fn branch(plain: Step, from: Operand, immediate: u64, [known, told]: [Code; 2]) -> Option<Step> {
    match from {
        Operand::Immediate => is_canonical(immediate).then_some(Step {
            code: known,
            immediate,
            ..plain
        }),
        _ => Some(Step {
            code: told,
            ..right(plain, from, 0)?
        }),
    }
}

/// MOV and MOVZX.
fn moved(instruction: &Instruction, plain: Step) -> Option<Step> {
    let Instruction {
        size,
        to,
        from,
        immediate,
        ..
    } = *instruction;
    if to == Operand::Memory {
        let code = by_size(
            size,
            [Code::Store1, Code::Store2, Code::Store4, Code::Store8],
        )?;
        let step = Step { code, ..plain };
        return address(instruction, right(step, from, immediate)?);
    }
    if from == Operand::Memory && low(to).is_some_and(|to| to.size() == 1) {
        let (code, to) = (Code::LoadLow, low(to)?.slot());
        return address(instruction, Step { code, to, ..plain });
    }
    let to = whole(to)?.slot();
    if from == Operand::Memory {
        let code = by_size(size, [Code::Load1, Code::Load2, Code::Load4, Code::Load8])?;
        return address(instruction, Step { code, to, ..plain });
    }
    Some(Step {
        code: match size {
            8 => Code::Move8,
            _ => Code::Move,
        },
        to,
        ..right(plain, from, immediate)?
    })
}

/// ADD, SUB, AND, OR, XOR of registers, CMP and TEST of memory too.
fn arithmetic(instruction: &Instruction, binary: Binary, plain: Step) -> Option<Step> {
    let Instruction {
        size,
        to,
        from,
        immediate,
        ..
    } = *instruction;
    if from == Operand::Memory {
        let code = match (binary, size) {
            (Binary::Add, 8) => Code::AddLoad8,
            (Binary::Sub, 8) => Code::SubLoad8,
            _ => return None,
        };
        let to = whole(to)?.slot();
        return address(instruction, Step { code, to, ..plain });
    }
    let plain = right(plain, from, immediate)?;
    if to == Operand::Memory {
        let code = match (binary, size) {
            (Binary::Cmp, 1) => Code::Compare1,
            (Binary::Cmp, 4) => Code::Compare4,
            (Binary::Cmp, 8) => Code::Compare8,
            (Binary::Test, 1) => Code::Test1,
            (Binary::Test, 4) => Code::Test4,
            (Binary::Test, 8) => Code::Test8,
            _ => return None,
        };
        return address(instruction, Step { code, ..plain });
    }
    let (code, to) = match binary {
        Binary::Cmp => (Code::Compare, low(to)?),
        Binary::Test => (Code::Test, low(to)?),
        Binary::Add => (Code::Add, whole(to)?),
        Binary::Sub => (Code::Sub, whole(to)?),
        Binary::And => (Code::And, whole(to)?),
        Binary::Or => (Code::Or, whole(to)?),
        Binary::Xor => (Code::Xor, whole(to)?),
        Binary::Adc | Binary::Sbb => return None,
    };
    let to = to.slot();
    Some(Step { code, to, ..plain })
}

/// A register that is not the second byte of one.
fn low(operand: Operand) -> Option<Register> {
    match operand {
        Operand::Register(register) if !register.is_high() => Some(register),
        _ => None,
    }
}

/// A register that is written whole: 32 bits clear the upper half.
fn whole(operand: Operand) -> Option<Register> {
    low(operand).filter(|register| register.size() >= 4)
}

/// `step` with the right operand.
fn right(step: Step, from: Operand, immediate: u64) -> Option<Step> {
    Some(match from {
        Operand::Immediate => Step { immediate, ..step },
        _ => Step {
            from: low(from)?.slot(),
            ..step
        },
    })
}

/// `step` with the address of `instruction`.
fn address(instruction: &Instruction, step: Step) -> Option<Step> {
    let address = &instruction.address;
    let slot = |gpr: Option<Gpr>| gpr.map_or(ZERO, |gpr| gpr as Slot);
    let index = slot(address.index);
    let segment = match address.segment {
        SegmentRegister::Fs => FS,
        SegmentRegister::Gs => GS,
        _ => ZERO,
    };
    (address.mask == u64::MAX).then_some(Step {
        base: slot(address.base),
        indexed: (index, segment) != (ZERO, ZERO),
        index,
        scale: address.scale.trailing_zeros() as u8,
        segment,
        displacement: address.displacement,
        ..step
    })
}

fn by_size(size: u8, codes: [Code; 4]) -> Option<Code> {
    let [one, two, four, eight] = codes;
    match size {
        1 => Some(one),
        2 => Some(two),
        4 => Some(four),
        8 => Some(eight),
        _ => None,
    }
}

impl Register {
    const fn slot(self) -> Slot {
        self.gpr() as Slot
    }
}
