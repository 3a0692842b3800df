//! How often a stream is started again.

use super::clock::Clock;

/// Starts in a row.
pub(super) const IN_A_ROW: u32 = 8;
/// Nanoseconds until another one is given.
pub(super) const EVERY: u64 = 60_000_000_000;

/// Starts that are left. A device that fails again and again takes a bounded part of L1's time, and one that fails now and
/// then, as a proxy that is updated does, goes on for as long as the machine runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restarts {
    left: u32,
    /// Since when another one is waited for.
    since: u64,
}

impl Restarts {
    pub(super) fn new(clock: &impl Clock) -> Self {
        Self {
            left: IN_A_ROW,
            since: clock.now(),
        }
    }

    /// Takes one; false if none is left.
    pub(super) fn take(&mut self, clock: &impl Clock) -> bool {
        let now = clock.now();
        let given = now.saturating_sub(self.since) / EVERY;
        let missing = u64::from(IN_A_ROW - self.left);
        self.since = match given < missing {
            true => self.since + given * EVERY,
            false => now,
        };
        self.left = IN_A_ROW - missing.saturating_sub(given) as u32;
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    struct Hand(Cell<u64>);

    impl Clock for Hand {
        fn now(&self) -> u64 {
            self.0.get()
        }
    }

    #[test]
    fn starts_are_given_again_as_time_passes() {
        let clock = Hand(Cell::new(5));
        let mut restarts = Restarts::new(&clock);
        let many = |restarts: &mut Restarts| (0..100).filter(|_| restarts.take(&clock)).count();
        assert_eq!(many(&mut restarts), IN_A_ROW as usize);
        for (later, expected) in [
            (EVERY - 1, 0),
            (1, 1),
            (EVERY / 2, 0),
            (EVERY / 2, 1),
            (3 * EVERY, 3),
            (1_000 * EVERY, IN_A_ROW as usize),
            (0, 0),
        ] {
            clock.0.set(clock.0.get() + later);
            assert_eq!(many(&mut restarts), expected, "{later}");
        }
        // What is not used does not add up.
        clock.0.set(clock.0.get() + 1_000 * EVERY);
        assert!(restarts.take(&clock));
        assert_eq!(many(&mut restarts), IN_A_ROW as usize - 1);
        clock.0.set(u64::MAX);
        assert_eq!(many(&mut restarts), IN_A_ROW as usize);
    }
}
