//! The status flags, made when somebody asks for them.
//!
//! Most instructions change them and few ask: what made them is kept instead, and a conditional jump behind a comparison
//! compares.

use super::operation::Condition;
use crate::alu::{Binary, Unary};
use x86_defs::rflags;

/// What the status flags come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// They are in RFLAGS.
    Rflags,
    /// `left + right`.
    Sum,
    /// `left − right`. AND, OR, XOR and TEST leave the flags that their result less 0 would.
    Difference,
    /// `left + right`, a one, but for CF, which is in RFLAGS.
    Increment,
    /// `left − right`, a one, but for CF, which is in RFLAGS.
    Decrement,
}

/// RFLAGS.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flags {
    /// But for the status flags, if they come from elsewhere.
    rflags: u64,
    source: Source,
    /// Bits that the operands are shifted by.
    shift: u8,
    /// The operands, their highest bit in bit 63.
    left: u64,
    right: u64,
}

impl Flags {
    pub(super) const fn new(rflags: u64) -> Self {
        Self {
            rflags,
            source: Source::Rflags,
            shift: 0,
            left: 0,
            right: 0,
        }
    }

    /// RFLAGS, all of it.
    pub(super) fn get(&mut self) -> u64 {
        let (left, right) = (self.left >> self.shift, self.right >> self.shift);
        let size = (64 - self.shift) / 8;
        (_, self.rflags) = match self.source {
            Source::Rflags => return self.rflags,
            Source::Sum => Binary::Add.execute(size, left, right, self.rflags),
            Source::Difference => Binary::Cmp.execute(size, left, right, self.rflags),
            Source::Increment => Unary::Inc.execute(size, left, self.rflags),
            Source::Decrement => Unary::Dec.execute(size, left, self.rflags),
        };
        self.source = Source::Rflags;
        self.rflags
    }

    /// RFLAGS, in which the status flags are those of some instruction before.
    #[inline]
    pub(super) const fn without_status(&self) -> u64 {
        self.rflags
    }

    /// Replaces all of it.
    #[inline]
    pub(super) const fn set(&mut self, rflags: u64) {
        self.rflags = rflags;
        self.source = Source::Rflags;
    }

    /// After an addition of operands that are shifted to the top by `shift`.
    #[inline]
    pub(super) const fn sum(&mut self, shift: u8, left: u64, right: u64) {
        self.source = Source::Sum;
        (self.shift, self.left, self.right) = (shift, left, right);
    }

    /// After a subtraction of operands that are shifted to the top by `shift`.
    #[inline]
    pub(super) const fn difference(&mut self, shift: u8, left: u64, right: u64) {
        self.source = Source::Difference;
        (self.shift, self.left, self.right) = (shift, left, right);
    }

    /// After INC (`up`) or DEC of an operand that is shifted to the top by `shift`: the result, as it.
    #[inline]
    pub(super) fn step(&mut self, shift: u8, left: u64, up: bool) -> u64 {
        let carry = self.hold(Condition::CARRY);
        self.rflags = self.rflags & !rflags::CF | (u64::from(carry) * rflags::CF);
        let one = 1 << shift;
        (self.shift, self.left, self.right) = (shift, left, one);
        match up {
            true => {
                self.source = Source::Increment;
                left.wrapping_add(one)
            }
            false => {
                self.source = Source::Decrement;
                left.wrapping_sub(one)
            }
        }
    }

    /// Whether `condition` holds.
    #[inline(always)]
    pub(super) fn hold(&mut self, condition: Condition) -> bool {
        let (left, right) = (self.left, self.right);
        match self.source {
            Source::Difference => self.hold_after_difference(condition),
            Source::Rflags => condition.holds(self.rflags),
            Source::Sum if condition.0 >> 1 == Condition::CARRY.0 >> 1 => {
                (left.wrapping_add(right) < left) != (condition.0 & 1 != 0)
            }
            _ => self.settle(condition),
        }
    }

    /// The same right behind [`Flags::difference`].
    #[inline(always)]
    pub(super) fn hold_after_difference(&mut self, condition: Condition) -> bool {
        let (left, right) = (self.left, self.right);
        let positive = match condition.0 >> 1 {
            1 => left < right,
            2 => left == right,
            3 => left <= right,
            4 => (left.wrapping_sub(right) as i64) < 0,
            6 => (left as i64) < right as i64,
            7 => left as i64 <= right as i64,
            _ => return self.settle(condition),
        };
        positive != (condition.0 & 1 != 0)
    }

    /// The same, where it takes the flags themselves.
    #[cold]
    #[inline(never)]
    fn settle(&mut self, condition: Condition) -> bool {
        condition.holds(self.get())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn flags_that_wait_are_those_of_the_operation(
            sum in any::<bool>(),
            size in prop::sample::select(&[1_u8, 2, 4, 8][..]),
            left in prop_oneof![any::<u64>(), 0..3_u64, Just(u64::MAX), Just(1 << 63), Just(1 << 31)],
            right in prop_oneof![any::<u64>(), 0..3_u64, Just(u64::MAX), Just(1 << 63), Just(1 << 31)],
            rflags in any::<u64>(),
            same in any::<bool>(),
        ) {
            let right = if same { left } else { right };
            let shift = 64 - size * 8;
            let mut flags = Flags::new(rflags);
            let operation = match sum {
                true => Binary::Add,
                false => Binary::Sub,
            };
            match sum {
                true => flags.sum(shift, left << shift, right << shift),
                false => flags.difference(shift, left << shift, right << shift),
            }
            let (_, expected) = operation.execute(size, left, right, rflags);
            for number in 0..16 {
                let condition = Condition(number);
                prop_assert_eq!(flags.clone().hold(condition), condition.holds(expected), "{}", number);
            }
            prop_assert_eq!(flags.get(), expected);
        }

        #[test]
        fn a_step_leaves_the_carry_alone(
            up in any::<bool>(),
            size in prop::sample::select(&[1_u8, 2, 4, 8][..]),
            left in prop_oneof![any::<u64>(), Just(0), Just(u64::MAX), Just(i64::MAX as u64)],
            earlier in any::<(u64, u64)>(),
            source in 0..3,
            rflags in any::<u64>(),
        ) {
            let shift = 64 - size * 8;
            let mut flags = Flags::new(rflags);
            match source {
                0 => (),
                1 => flags.sum(0, earlier.0, earlier.1),
                _ => flags.difference(0, earlier.0, earlier.1),
            }
            let before = flags.clone().get();
            let result = flags.step(shift, left << shift, up);
            let operation = if up { Unary::Inc } else { Unary::Dec };
            let expected = operation.execute(size, left, before);
            for number in 0..16 {
                let condition = Condition(number);
                prop_assert_eq!(flags.clone().hold(condition), condition.holds(expected.1), "{}", number);
            }
            prop_assert_eq!((result >> shift, flags.get()), expected);
        }

        #[test]
        fn a_result_less_0_has_the_flags_of_logic(
            size in prop::sample::select(&[1_u8, 2, 4, 8][..]),
            left in any::<u64>(),
            right in any::<u64>(),
            rflags in any::<u64>(),
        ) {
            let (result, expected) = Binary::And.execute(size, left, right, rflags);
            let shift = 64 - size * 8;
            let mut flags = Flags::new(rflags);
            flags.difference(shift, result << shift, 0);
            prop_assert_eq!(flags.get(), expected);
        }
    }
}
