//! MTRRs (SDM Vol. 3A, section "Memory Type Range Registers").
//!
//! A TD's private memory is write-back whatever they say (TDX Module ABI, "Memory Type"), so
//! they are registers with reserved bits and no effect. Firmware's part is done: enabled, all
//! memory write-back by default.

use x86_defs::msr::{self, IA32_MTRR_DEF_TYPE as DEF_TYPE, IA32_MTRRCAP as MTRRCAP};

/// First variable-range register.
const VARIABLE: u32 = msr::IA32_MTRR_PHYSBASE0;
/// Variable ranges.
const RANGES: usize = 8;
/// The fixed-range registers.
const FIXED: [u32; 11] = [
    msr::IA32_MTRR_FIX64K_00000,
    msr::IA32_MTRR_FIX16K_80000,
    msr::IA32_MTRR_FIX16K_80000 + 1,
    msr::IA32_MTRR_FIX4K_C0000,
    msr::IA32_MTRR_FIX4K_C0000 + 1,
    msr::IA32_MTRR_FIX4K_C0000 + 2,
    msr::IA32_MTRR_FIX4K_C0000 + 3,
    msr::IA32_MTRR_FIX4K_C0000 + 4,
    msr::IA32_MTRR_FIX4K_C0000 + 5,
    msr::IA32_MTRR_FIX4K_C0000 + 6,
    msr::IA32_MTRR_FIX4K_C0000 + 7,
];

/// Write-back.
const WRITE_BACK: u64 = 6;
/// DEF_TYPE.E.
const ENABLE: u64 = 1 << 11;
/// DEF_TYPE.FE.
const FIXED_ENABLE: u64 = 1 << 10;
/// PHYSMASK.V.
const VALID: u64 = 1 << 11;
/// Every fixed range write-back.
const FIXED_WRITE_BACK: u64 = WRITE_BACK * 0x0101_0101_0101_0101;

/// The registers.
#[derive(Clone, Debug)]
pub struct Mtrrs {
    default: u64,
    fixed: [u64; FIXED.len()],
    variable: [u64; 2 * RANGES],
    address_bits: u32,
}

impl Mtrrs {
    /// As firmware leaves them, for addresses of `address_bits` bits.
    pub fn new(address_bits: u32) -> Self {
        Self {
            default: ENABLE | FIXED_ENABLE | WRITE_BACK,
            fixed: [FIXED_WRITE_BACK; FIXED.len()],
            variable: [0; 2 * RANGES],
            address_bits,
        }
    }

    /// RDMSR. None if `msr` is no MTRR.
    pub fn read(&self, msr: u32) -> Option<u64> {
        const FIXED_SUPPORTED: u64 = 1 << 8;
        const WRITE_COMBINING_SUPPORTED: u64 = 1 << 10;
        match msr {
            MTRRCAP => Some(RANGES as u64 | FIXED_SUPPORTED | WRITE_COMBINING_SUPPORTED),
            DEF_TYPE => Some(self.default),
            _ => match fixed_index(msr) {
                Some(index) => self.fixed.get(index).copied(),
                None => self.variable.get(variable_index(msr)?).copied(),
            },
        }
    }

    /// WRMSR. Whether `msr` is an MTRR and takes `value`.
    pub fn write(&mut self, msr: u32, value: u64) -> bool {
        if msr == DEF_TYPE {
            let valid = value & !(ENABLE | FIXED_ENABLE | 0xFF) == 0 && is_type(value);
            if valid {
                self.default = value;
            }
            return valid;
        }
        if let Some(register) = fixed_index(msr).and_then(|index| self.fixed.get_mut(index)) {
            let valid = value
                .to_le_bytes()
                .iter()
                .all(|byte| is_type(u64::from(*byte)));
            if valid {
                *register = value;
            }
            return valid;
        }
        let Some(index) = variable_index(msr) else {
            return false;
        };
        let low = if index % 2 == 0 {
            0xFFF & !0xFF
        } else {
            0xFFF & !VALID
        };
        let reserved = low | u64::MAX << self.address_bits.min(63);
        let valid = value & reserved == 0 && (index % 2 != 0 || is_type(value));
        if let (true, Some(register)) = (valid, self.variable.get_mut(index)) {
            *register = value;
        }
        valid
    }
}

/// Whether bits 7:0 are a memory type: UC, WC, WT, WP or WB.
const fn is_type(value: u64) -> bool {
    matches!(value & 0xFF, 0 | 1 | 4 | 5 | 6)
}

fn fixed_index(msr: u32) -> Option<usize> {
    FIXED.iter().position(|fixed| *fixed == msr)
}

fn variable_index(msr: u32) -> Option<usize> {
    let index = msr.checked_sub(VARIABLE)? as usize;
    (index < 2 * RANGES).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_write_back_at_first() {
        let mtrrs = Mtrrs::new(52);
        assert_eq!(mtrrs.read(0xFE), Some(0x508));
        assert_eq!(mtrrs.read(0x2FF), Some(0xC06));
        assert_eq!(mtrrs.read(0x26F), Some(0x0606_0606_0606_0606));
        assert_eq!(mtrrs.read(0x20F), Some(0));
        assert_eq!(
            (mtrrs.read(0x210), mtrrs.read(0x251), mtrrs.read(0x1FF)),
            (None, None, None)
        );
    }

    #[test]
    fn reserved_bits_and_types_are_refused() {
        for (msr, value, taken) in [
            (0xFE, 0, false),
            (0x2FF, 0xC00, true),
            (0x2FF, 0xC02, false),
            (0x2FF, 0x1C06, false),
            (0x250, 0x0605_0401_0006_0605, true),
            (0x250, 0x0605_0401_0006_0603, false),
            (0x200, 0x8000_0006, true),
            (0x200, 0x8000_0007, false),
            (0x200, 0x8000_0106, false),
            (0x200, 1 << 46, false),
            (0x201, 0x3FFF_8000_0800, true),
            (0x201, 0x3FFF_8000_0400, false),
            (0x210, 0, false),
        ] {
            let mut mtrrs = Mtrrs::new(46);
            assert_eq!(mtrrs.write(msr, value), taken, "{msr:#x} {value:#x}");
            if taken {
                assert_eq!(mtrrs.read(msr), Some(value));
            }
        }
    }
}
