//! Integer arithmetic with its flags (SDM Vol. 1, appendix "EFLAGS Cross-Reference").

use crate::register::mask;
use x86_defs::rflags;

/// CF, PF, AF, ZF, SF and OF.
pub(crate) const STATUS_FLAGS: u64 =
    rflags::CF | rflags::PF | rflags::AF | rflags::ZF | rflags::SF | rflags::OF;

/// An operation on two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    Add,
    Or,
    Adc,
    Sbb,
    And,
    Sub,
    Xor,
    Cmp,
    Test,
}

/// An operation on one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unary {
    Inc,
    Dec,
    Neg,
    Not,
}

impl Binary {
    /// Whether the result goes anywhere but into the flags.
    pub(crate) const fn writes(self) -> bool {
        !matches!(self, Self::Cmp | Self::Test)
    }

    /// The result in `size` bytes, and RFLAGS after it. AF, which AND, OR, XOR and TEST leave
    /// undefined, is cleared by them as processors do.
    #[inline]
    pub(crate) const fn execute(self, size: u8, left: u64, right: u64, rflags: u64) -> (u64, u64) {
        let left = left & mask(size);
        let right = right & mask(size);
        let carry = rflags & rflags::CF;
        let (result, flags) = match self {
            Self::Add => add(size, left, right, 0),
            Self::Adc => add(size, left, right, carry),
            Self::Sub | Self::Cmp => subtract(size, left, right, 0),
            Self::Sbb => subtract(size, left, right, carry),
            Self::And | Self::Test => logic(size, left & right),
            Self::Or => logic(size, left | right),
            Self::Xor => logic(size, left ^ right),
        };
        (result, rflags & !STATUS_FLAGS | flags)
    }
}

impl Unary {
    /// The result in `size` bytes, and RFLAGS after it.
    pub(crate) const fn execute(self, size: u8, value: u64, rflags: u64) -> (u64, u64) {
        let value = value & mask(size);
        match self {
            Self::Not => (!value & mask(size), rflags),
            Self::Neg => {
                let (result, flags) = subtract(size, 0, value, 0);
                (result, rflags & !STATUS_FLAGS | flags)
            }
            Self::Inc | Self::Dec => {
                let (result, flags) = match self {
                    Self::Inc => add(size, value, 1, 0),
                    _ => subtract(size, value, 1, 0),
                };
                // INC and DEC leave CF alone.
                let changed = STATUS_FLAGS & !rflags::CF;
                (result, rflags & !changed | flags & changed)
            }
        }
    }
}

const fn add(size: u8, left: u64, right: u64, carry: u64) -> (u64, u64) {
    let result = left.wrapping_add(right).wrapping_add(carry) & mask(size);
    // The carry out of each bit.
    let carries = left & right | (left | right) & !result;
    (
        result,
        common(size, result) | carry_flags(size, carries, left, right, result),
    )
}

const fn subtract(size: u8, left: u64, right: u64, borrow: u64) -> (u64, u64) {
    let result = left.wrapping_sub(right).wrapping_sub(borrow) & mask(size);
    // The borrow of each bit.
    let borrows = !left & right | (!left | right) & result;
    (
        result,
        common(size, result) | carry_flags(size, borrows, left, !right, result),
    )
}

const fn logic(size: u8, result: u64) -> (u64, u64) {
    (result, common(size, result))
}

/// CF, AF and OF of a sum: OF if both terms had the sign that the result has not.
const fn carry_flags(size: u8, carries: u64, left: u64, right: u64, result: u64) -> u64 {
    let top = top_bit(size);
    let overflows = (left ^ result) & (right ^ result);
    let carry = (carries >> top & 1) * rflags::CF;
    let adjust = (carries >> 3 & 1) * rflags::AF;
    let overflow = (overflows >> top & 1) * rflags::OF;
    carry | adjust | overflow
}

/// PF, ZF and SF.
pub(crate) const fn common(size: u8, result: u64) -> u64 {
    // A bit for each number of four bits: set if the number has an even number of ones.
    const EVEN: u64 = 0b1001_0110_0110_1001;
    let folded = (result ^ result >> 4) & 0xF;
    let parity = (EVEN >> folded & 1) * rflags::PF;
    let zero = (result == 0) as u64 * rflags::ZF;
    let sign = (result >> top_bit(size) & 1) * rflags::SF;
    parity | zero | sign
}

/// The number of an operand's highest bit.
const fn top_bit(size: u8) -> u32 {
    (size as u32 * 8 - 1) & 63
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definitions of the manual, one bit at a time: a full adder for ADD, and SUB as the
    /// addition of the complement.
    fn reference(operation: Binary, size: u8, left: u64, right: u64, carry_in: bool) -> (u64, u64) {
        let bits = u32::from(size) * 8;
        let subtract = matches!(operation, Binary::Sub | Binary::Sbb | Binary::Cmp);
        let with_carry = matches!(operation, Binary::Adc | Binary::Sbb);
        let logical = matches!(
            operation,
            Binary::And | Binary::Or | Binary::Xor | Binary::Test
        );
        let mut carry = (with_carry && carry_in) != subtract;
        let mut carries = [false; 65];
        let mut result = 0_u64;
        let mut ones_in_low_byte = 0;
        for bit in 0..bits {
            let a = left >> bit & 1 == 1;
            let b = (right >> bit & 1 == 1) != subtract;
            let sum = match operation {
                Binary::And | Binary::Test => a && b,
                Binary::Or => a || b,
                Binary::Xor => a != b,
                _ => (a != b) != carry,
            };
            carries[bit as usize] = carry;
            carry = u8::from(a) + u8::from(b) + u8::from(carry) >= 2;
            if sum {
                result |= 1 << bit;
                ones_in_low_byte += u32::from(bit < 8);
            }
        }
        carries[bits as usize] = carry;
        let top = bits as usize;
        let mut flags = 0;
        let mut set = |flag, value: bool| flags |= if value { flag } else { 0 };
        set(rflags::CF, !logical && carries[top] != subtract);
        set(rflags::AF, !logical && carries[4] != subtract);
        set(rflags::OF, !logical && carries[top] != carries[top - 1]);
        set(rflags::PF, ones_in_low_byte % 2 == 0);
        set(rflags::ZF, result == 0);
        set(rflags::SF, result >> (bits - 1) & 1 == 1);
        (result, flags)
    }

    const BINARY: [Binary; 9] = [
        Binary::Add,
        Binary::Or,
        Binary::Adc,
        Binary::Sbb,
        Binary::And,
        Binary::Sub,
        Binary::Xor,
        Binary::Cmp,
        Binary::Test,
    ];

    fn values() -> impl Strategy<Value = u64> {
        prop_oneof![
            any::<u64>(),
            (0..64_u32, -2..3_i64)
                .prop_map(|(bit, offset)| (1_u64 << bit).wrapping_add(offset as u64)),
            Just(u64::MAX),
            Just(0),
        ]
    }

    #[test]
    fn all_bytes_agree_with_a_full_adder() {
        for operation in BINARY {
            for left in 0..=255 {
                for right in 0..=255 {
                    for carry in [false, true] {
                        let rflags = 2 | u64::from(carry);
                        let (result, flags) = operation.execute(1, left, right, rflags);
                        let expected = reference(operation, 1, left, right, carry);
                        assert_eq!((result, flags & STATUS_FLAGS), expected, "{operation:?}");
                        assert_eq!(flags & !STATUS_FLAGS, 2);
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn all_widths_agree_with_a_full_adder(
            operation in prop::sample::select(&BINARY[..]),
            size in prop::sample::select(&[1_u8, 2, 4, 8][..]),
            left in values(),
            right in values(),
            rflags in any::<u64>(),
        ) {
            let (result, flags) = operation.execute(size, left, right, rflags);
            let expected = reference(operation, size, left, right, rflags & 1 != 0);
            prop_assert_eq!((result, flags & STATUS_FLAGS), expected);
            prop_assert_eq!(flags & !STATUS_FLAGS, rflags & !STATUS_FLAGS);
        }

        #[test]
        fn unary_operations_are_binary_ones(
            size in prop::sample::select(&[1_u8, 2, 4, 8][..]),
            value in values(),
            rflags in any::<u64>(),
        ) {
            let carry = rflags & rflags::CF;
            let keep_carry = |(result, flags): (u64, u64)| (result, flags & !rflags::CF | carry);
            prop_assert_eq!(
                Unary::Inc.execute(size, value, rflags),
                keep_carry(Binary::Add.execute(size, value, 1, rflags))
            );
            prop_assert_eq!(
                Unary::Dec.execute(size, value, rflags),
                keep_carry(Binary::Sub.execute(size, value, 1, rflags))
            );
            prop_assert_eq!(
                Unary::Neg.execute(size, value, rflags),
                Binary::Sub.execute(size, 0, value, rflags)
            );
            prop_assert_eq!(
                Unary::Not.execute(size, value, rflags),
                (!value & mask(size), rflags)
            );
        }
    }
}
