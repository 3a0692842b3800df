//! The power-management timer of ACPI: 24 bits that count 3.579545 MHz (ACPI 6.5, section 4.8.3.3). It is never
//! set and raises nothing: its value is a function of the TSC.

use super::Device;
use super::frequency::Ticks;

/// Bits that count: TMR_VAL_EXT is clear in the FADT.
const COUNTER: u32 = 0x00FF_FFFF;

/// The timer.
#[derive(Clone, Debug)]
pub struct PmTimer {
    ticks: Ticks,
    now: u64,
}

impl PmTimer {
    /// A timer whose time is told in ticks of the TSC, of which `ratio` are a tick of the crystal clock.
    pub fn new(ratio: u32) -> Self {
        Self {
            ticks: Ticks::pm_timer(ratio),
            now: 0,
        }
    }
}

impl Device for PmTimer {
    fn read(&mut self, offset: u32, into: &mut [u8]) {
        let value = self.ticks.at(self.now) as u32 & COUNTER;
        let bytes = value.to_le_bytes();
        for (index, byte) in into.iter_mut().enumerate() {
            *byte = bytes.get(offset as usize + index).copied().unwrap_or(0);
        }
    }

    fn write(&mut self, _: u32, _: &[u8]) {}

    fn advance(&mut self, now: u64) {
        self.now = now;
    }

    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(timer: &mut PmTimer, tsc: u64) -> u32 {
        let mut bytes = [0; 4];
        timer.advance(tsc);
        timer.read(0, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    #[test]
    fn it_counts_3579545_in_a_second_of_24_bits() {
        for ratio in [40u32, 84, 100] {
            let mut timer = PmTimer::new(ratio);
            let second = u64::from(ratio) * 25_000_000;
            assert_eq!(read(&mut timer, second), 3_579_545);
            assert_eq!(read(&mut timer, 10 * second), 35_795_450 & 0xFF_FFFF);
            // A day and a year later it is not a tick off.
            for seconds in [86_400, 31_536_000] {
                let exact = 3_579_545 * seconds;
                assert_eq!(
                    u64::from(read(&mut timer, seconds * second)),
                    exact & 0xFF_FFFF
                );
            }
        }
    }

    #[test]
    fn parts_of_it_are_parts_of_one_value() {
        let mut timer = PmTimer::new(40);
        timer.advance(2_000_000_000);
        let mut whole = [0; 4];
        timer.read(0, &mut whole);
        let mut high = [0; 2];
        timer.read(1, &mut high);
        assert_eq!(high, whole[1..3]);
        timer.write(0, &[0; 4]);
        let mut again = [0; 4];
        timer.read(0, &mut again);
        assert_eq!(again, whole);
    }
}
