//! The TPM's registers in memory (PTP 1.05, section "Address Map").

use core::ops::Range;

/// First address of the registers: those of locality 0.
pub const BASE: u64 = 0xFED4_0000;
/// Bytes from one locality's registers to the next's.
pub const LOCALITY_SIZE: u64 = 0x1000;
/// Localities 0 to 4.
pub const LOCALITIES: u8 = 5;
/// Guest-physical addresses of all registers.
pub const WINDOW: Range<u64> = BASE..BASE + LOCALITY_SIZE * LOCALITIES as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_the_profiles() {
        assert_eq!(WINDOW, 0xFED4_0000..0xFED4_5000);
    }
}
