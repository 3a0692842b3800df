//! The local APIC timer, in units of the TSC (SDM Vol. 3A, section "APIC Timer").

use x86_defs::apic::{TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_TSC_DEADLINE};

/// One-shot, periodic and TSC-deadline modes over one clock, the TSC.
///
/// The counter runs on the core crystal clock of CPUID leaf 15H (25 MHz in a TD), so a count
/// is a whole number of TSC ticks: the ratio in EBX of that leaf.
#[derive(Clone, Debug)]
pub struct Timer {
    /// TSC ticks per crystal tick.
    ratio: u64,
    mode: u8,
    divide: u32,
    initial_count: u32,
    /// When it next expires, in TSC ticks.
    expiry: Option<u64>,
}

impl Timer {
    /// A stopped timer whose crystal ticks every `ratio` TSC ticks.
    pub fn new(ratio: u64) -> Self {
        Self {
            ratio: ratio.max(1),
            mode: TIMER_ONE_SHOT,
            divide: 0,
            initial_count: 0,
            expiry: None,
        }
    }

    /// Stops, as after a reset.
    pub fn reset(&mut self) {
        *self = Self::new(self.ratio);
    }

    /// TSC value at which the timer next expires.
    pub fn expiry(&self) -> Option<u64> {
        self.expiry
    }

    /// Takes the mode of a new LVT timer entry. A change between TSC-deadline and the other
    /// modes disarms the timer.
    pub fn set_mode(&mut self, mode: u8) {
        if (mode == TIMER_TSC_DEADLINE) != (self.mode == TIMER_TSC_DEADLINE) {
            self.expiry = None;
            self.initial_count = 0;
        }
        self.mode = mode;
    }

    /// IA32_TSC_DEADLINE: 0 when disarmed or expired, or in another mode.
    pub fn deadline(&self) -> u64 {
        match self.mode {
            TIMER_TSC_DEADLINE => self.expiry.unwrap_or(0),
            _ => 0,
        }
    }

    /// Writes IA32_TSC_DEADLINE; ignored in another mode.
    pub fn set_deadline(&mut self, value: u64) {
        if self.mode == TIMER_TSC_DEADLINE {
            self.expiry = (value != 0).then_some(value);
        }
    }

    /// The divide configuration register.
    pub fn divide(&self) -> u32 {
        self.divide
    }

    /// Writes the divide configuration register: the running count goes on at the new rate.
    pub fn set_divide(&mut self, value: u32, now: u64) {
        let remaining = self.current_count(now);
        self.divide = value & 0b1011;
        if self.counting() && self.expiry.is_some() {
            self.expiry = Some(now.saturating_add(self.ticks(remaining)));
        }
    }

    /// The initial-count register; always 0 in TSC-deadline mode.
    pub fn initial_count(&self) -> u32 {
        if self.counting() {
            self.initial_count
        } else {
            0
        }
    }

    /// Writes the initial count: starts the timer, or stops it with 0. Ignored in
    /// TSC-deadline mode.
    pub fn set_initial_count(&mut self, value: u32, now: u64) {
        if !self.counting() {
            return;
        }
        self.initial_count = value;
        self.expiry = (value != 0).then(|| now.saturating_add(self.ticks(value)));
    }

    /// The current count.
    pub fn current_count(&self, now: u64) -> u32 {
        match self.expiry {
            Some(expiry) if self.counting() => {
                let ticks = expiry.saturating_sub(now).div_ceil(self.tick());
                u32::try_from(ticks).unwrap_or(u32::MAX)
            }
            _ => 0,
        }
    }

    /// Whether the timer expired at or before `now`. Disarms it, or in periodic mode arms it
    /// for the first period that ends after `now`: missed periods are not made up for.
    pub fn expire(&mut self, now: u64) -> bool {
        let Some(expiry) = self.expiry.filter(|expiry| *expiry <= now) else {
            return false;
        };
        let period = self.ticks(self.initial_count);
        self.expiry = if self.mode == TIMER_PERIODIC && period != 0 {
            let missed = (now - expiry) / period;
            Some(expiry.saturating_add(period.saturating_mul(missed + 1)))
        } else {
            None
        };
        true
    }

    fn counting(&self) -> bool {
        self.mode == TIMER_ONE_SHOT || self.mode == TIMER_PERIODIC
    }

    /// TSC ticks of one count: the divide value is encoded in bits 3, 1 and 0.
    fn tick(&self) -> u64 {
        let code = (self.divide & 0b11) | (self.divide >> 1 & 0b100);
        self.ratio << ((code + 1) & 0b111)
    }

    fn ticks(&self, count: u32) -> u64 {
        self.tick().saturating_mul(u64::from(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn divide_configuration_encodes_the_divisor_as_the_sdm_says() {
        // SDM Vol. 3A, figure "Divide Configuration Register".
        let table = [
            (0b0000, 2),
            (0b0001, 4),
            (0b0010, 8),
            (0b0011, 16),
            (0b1000, 32),
            (0b1001, 64),
            (0b1010, 128),
            (0b1011, 1),
        ];
        for (value, divisor) in table {
            let mut timer = Timer::new(40);
            timer.set_divide(value, 0);
            timer.set_initial_count(10, 1000);
            assert_eq!(
                timer.expiry(),
                Some(1000 + 40 * divisor * 10),
                "divide {value:#06b}"
            );
        }
    }

    #[test]
    fn one_shot_expires_once() {
        let mut timer = Timer::new(1);
        timer.set_divide(0b1011, 0);
        timer.set_initial_count(100, 0);
        assert!(!timer.expire(99));
        assert_eq!(timer.current_count(60), 40);
        assert!(timer.expire(100));
        assert!(!timer.expire(1000));
        assert_eq!(timer.current_count(1000), 0);
        assert_eq!(timer.initial_count(), 100);
    }

    #[test]
    fn periodic_skips_the_periods_it_missed() {
        let mut timer = Timer::new(1);
        timer.set_mode(TIMER_PERIODIC);
        timer.set_divide(0b1011, 0);
        timer.set_initial_count(100, 0);
        assert!(timer.expire(350));
        assert_eq!(timer.expiry(), Some(400));
        assert!(timer.expire(400));
        assert_eq!(timer.expiry(), Some(500));
    }

    #[test]
    fn a_deadline_reads_zero_once_it_expired() {
        let mut timer = Timer::new(1);
        timer.set_deadline(5);
        assert_eq!(timer.deadline(), 0, "not in TSC-deadline mode");
        timer.set_mode(TIMER_TSC_DEADLINE);
        timer.set_deadline(500);
        assert_eq!(timer.deadline(), 500);
        assert!(timer.expire(500));
        assert_eq!(timer.deadline(), 0);
        timer.set_initial_count(7, 0);
        assert_eq!(
            timer.expiry(),
            None,
            "initial count is ignored in this mode"
        );
    }

    #[test]
    fn leaving_deadline_mode_disarms() {
        let mut timer = Timer::new(1);
        timer.set_mode(TIMER_TSC_DEADLINE);
        timer.set_deadline(500);
        timer.set_mode(TIMER_ONE_SHOT);
        assert_eq!(timer.expiry(), None);
    }

    proptest! {
        #[test]
        fn an_expired_periodic_timer_is_armed_for_the_future(
            ratio in 1u64..1000, divide in 0u32..16, count in 1u32.., start in 0u64..1 << 40,
            late in 0u64..1 << 50,
        ) {
            let mut timer = Timer::new(ratio);
            timer.set_mode(TIMER_PERIODIC);
            timer.set_divide(divide, start);
            timer.set_initial_count(count, start);
            let now = timer.expiry().unwrap_or(0).saturating_add(late);
            prop_assert!(timer.expire(now));
            prop_assert!(timer.expiry().is_some_and(|expiry| expiry > now));
            prop_assert!(timer.current_count(now) <= count);
        }
    }
}
