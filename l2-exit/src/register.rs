//! General registers at their smaller widths.

use crate::vcpu::{Gpr, Vcpu, gpr_from_number};

/// A general register as an instruction names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Register {
    gpr: Gpr,
    /// Bytes: 1, 2, 4 or 8.
    size: u8,
    /// AH, CH, DH or BH.
    high: bool,
}

impl Register {
    /// The low `size` bytes of `gpr`.
    pub(crate) const fn low(gpr: Gpr, size: u8) -> Self {
        Self {
            gpr,
            size,
            high: false,
        }
    }

    /// None if `register` is no general register.
    pub(crate) fn decode(register: iced_x86::Register) -> Option<Self> {
        // iced-x86 counts AL..BL, AH..BH, SPL..DIL, R8L..R15L.
        let number = register.number() as u8;
        if register.is_gpr8() {
            let low = if number < 4 { number } else { number - 4 };
            return Some(Self {
                gpr: gpr_from_number(low),
                size: 1,
                high: (4..8).contains(&number),
            });
        }
        if register.is_gpr() {
            return Some(Self::low(gpr_from_number(number), register.size() as u8));
        }
        None
    }

    /// The whole register.
    pub(crate) const fn gpr(self) -> Gpr {
        self.gpr
    }

    /// Bytes.
    pub(crate) const fn size(self) -> u8 {
        self.size
    }

    /// Whether it is AH, CH, DH or BH.
    pub(crate) const fn is_high(self) -> bool {
        self.high
    }

    /// Its value, zero-extended.
    pub(crate) fn get<V: Vcpu>(self, vcpu: &V) -> u64 {
        self.of(vcpu.gpr(self.gpr))
    }

    /// Replaces it by the low bytes of `value`.
    pub(crate) fn set<V: Vcpu>(self, vcpu: &mut V, value: u64) {
        let whole = self.replaced(vcpu.gpr(self.gpr), value);
        vcpu.set_gpr(self.gpr, whole);
    }

    /// Its value where the general register is `whole`, zero-extended.
    #[inline]
    pub(crate) const fn of(self, whole: u64) -> u64 {
        (if self.high { whole >> 8 } else { whole }) & mask(self.size)
    }

    /// What becomes of the general register, `whole` before, when the low bytes of `value` are written. 32 bits clear the
    /// upper half, smaller writes leave the rest alone (SDM Vol. 1, "General-Purpose Registers in 64-Bit Mode").
    #[inline]
    pub(crate) const fn replaced(self, whole: u64, value: u64) -> u64 {
        let value = value & mask(self.size);
        match self.size {
            4 | 8 => value,
            _ => {
                let shift = if self.high { 8 } else { 0 };
                whole & !(mask(self.size) << shift) | value << shift
            }
        }
    }
}

/// The bits of an operand of `size` (1, 2, 4 or 8) bytes.
#[inline]
pub(crate) const fn mask(size: u8) -> u64 {
    u64::MAX >> ((64 - size as u32 * 8) & 63)
}

/// The low `size` bytes of `value`, sign-extended.
pub(crate) const fn sign_extend(value: u64, size: u8) -> u64 {
    match size {
        1 => value as i8 as u64,
        2 => value as i16 as u64,
        4 => value as i32 as u64,
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_vcpu::TestVcpu;

    #[test]
    fn every_width_writes_its_own_bytes() {
        use iced_x86::Register as R;
        for (register, gpr, expected) in [
            (R::AL, Gpr::Rax, 0x1111_1111_1111_11EF),
            (R::AH, Gpr::Rax, 0x1111_1111_1111_EF11),
            (R::BH, Gpr::Rbx, 0x1111_1111_1111_EF11),
            (R::SPL, Gpr::Rsp, 0x1111_1111_1111_11EF),
            (R::DIL, Gpr::Rdi, 0x1111_1111_1111_11EF),
            (R::R8L, Gpr::R8, 0x1111_1111_1111_11EF),
            (R::R15L, Gpr::R15, 0x1111_1111_1111_11EF),
            (R::CX, Gpr::Rcx, 0x1111_1111_1111_CDEF),
            (R::R9W, Gpr::R9, 0x1111_1111_1111_CDEF),
            (R::ESI, Gpr::Rsi, 0x0000_0000_89AB_CDEF),
            (R::R10D, Gpr::R10, 0x0000_0000_89AB_CDEF),
            (R::RBP, Gpr::Rbp, 0x0123_4567_89AB_CDEF),
            (R::R15, Gpr::R15, 0x0123_4567_89AB_CDEF),
        ] {
            let mut vcpu = TestVcpu::long();
            vcpu.gprs = [0x1111_1111_1111_1111; 16];
            let decoded = Register::decode(register).unwrap();
            decoded.set(&mut vcpu, 0x0123_4567_89AB_CDEF);
            assert_eq!(vcpu.gpr(gpr), expected, "{register:?}");
            assert_eq!(
                decoded.get(&vcpu),
                0x0123_4567_89AB_CDEF & mask(decoded.size())
            );
            let untouched = vcpu
                .gprs
                .iter()
                .filter(|gpr| **gpr == 0x1111_1111_1111_1111);
            assert_eq!(untouched.count(), 15);
        }
        for other in [R::ES, R::CR0, R::XMM0, R::RIP, R::None, R::K1] {
            assert_eq!(Register::decode(other), None);
        }
    }

    #[test]
    fn signs_extend() {
        assert_eq!(sign_extend(0x80, 1), 0xFFFF_FFFF_FFFF_FF80);
        assert_eq!(sign_extend(0x7F, 1), 0x7F);
        assert_eq!(sign_extend(0x8000, 2), 0xFFFF_FFFF_FFFF_8000);
        assert_eq!(sign_extend(0x8000_0000, 4), 0xFFFF_FFFF_8000_0000);
    }
}
