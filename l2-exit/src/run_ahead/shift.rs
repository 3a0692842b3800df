//! Shifts and rotations with their flags (SDM Vol. 2, SAL/SAR/SHL/SHR and RCL/RCR/ROL/ROR).

use crate::alu::{STATUS_FLAGS, common};
use crate::register::{mask, sign_extend};
use x86_defs::rflags;

/// A shift or a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shift {
    Left,
    Right,
    Arithmetic,
    RotateLeft,
    RotateRight,
}

impl Shift {
    /// The result in `size` bytes, and RFLAGS after it. A count of 0 leaves the flags alone. OF, which only a count
    /// of 1 defines, is for all counts what it is for that; AF, undefined after shifts, is cleared.
    pub(super) const fn execute(self, size: u8, value: u64, count: u64, rflags: u64) -> (u64, u64) {
        let value = value & mask(size);
        let count = (count & if size == 8 { 0x3F } else { 0x1F }) as u32;
        if count == 0 {
            return (value, rflags);
        }
        let bits = size as u32 * 8;
        let top = bits - 1;
        match self {
            Self::RotateLeft | Self::RotateRight => {
                let left = match self {
                    Self::RotateLeft => count % bits,
                    _ => (bits - count % bits) % bits,
                };
                let result = match left {
                    0 => value,
                    left => (value << left | value >> (bits - left)) & mask(size),
                };
                let (carry, overflow) = match self {
                    Self::RotateLeft => (result & 1, result >> top & 1 ^ result & 1),
                    _ => (result >> top & 1, (result >> top ^ result >> (top - 1)) & 1),
                };
                let kept = rflags & !(rflags::CF | rflags::OF);
                (result, kept | flags(carry, overflow))
            }
            Self::Left | Self::Right | Self::Arithmetic => {
                let (result, carry, overflow) = match self {
                    Self::Left => {
                        // One more bit than the operand has, to see the last that left it.
                        let wide = (value as u128) << count;
                        let carry = (wide >> bits) as u64 & 1;
                        let result = wide as u64 & mask(size);
                        (result, carry, result >> top & 1 ^ carry)
                    }
                    Self::Right => (value >> count, value >> (count - 1) & 1, value >> top & 1),
                    _ => {
                        let signed = sign_extend(value, size) as i64;
                        let result = (signed >> count) as u64 & mask(size);
                        (result, (signed >> (count - 1)) as u64 & 1, 0)
                    }
                };
                let kept = rflags & !STATUS_FLAGS;
                (result, kept | common(size, result) | flags(carry, overflow))
            }
        }
    }
}

const fn flags(carry: u64, overflow: u64) -> u64 {
    carry * rflags::CF + overflow * rflags::OF
}
