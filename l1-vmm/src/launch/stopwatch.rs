//! How long a part of the launch takes that is spread over the rest.

use core::cell::Cell;

/// Adds up the time of what it is given to do.
#[derive(Clone, Debug)]
pub struct Stopwatch {
    clock: fn() -> u64,
    total: Cell<u64>,
}

impl Stopwatch {
    /// Nothing yet. `clock` gives nanoseconds and never goes back.
    pub const fn new(clock: fn() -> u64) -> Self {
        Self {
            clock,
            total: Cell::new(0),
        }
    }

    /// Does it.
    pub fn time<T>(&self, action: impl FnOnce() -> T) -> T {
        let start = (self.clock)();
        let result = action();
        let spent = (self.clock)().saturating_sub(start);
        self.total.set(self.total.get().saturating_add(spent));
        result
    }

    /// Nanoseconds so far.
    pub fn total(&self) -> u64 {
        self.total.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn only_what_is_timed_counts() {
        static NOW: AtomicU64 = AtomicU64::new(5);
        fn pass(time: u64) {
            NOW.fetch_add(time, Ordering::Relaxed);
        }
        let watch = Stopwatch::new(|| NOW.load(Ordering::Relaxed));
        assert_eq!(watch.time(|| pass(3)), ());
        pass(100);
        assert_eq!(
            watch.time(|| {
                pass(4);
                7
            }),
            7
        );
        assert_eq!(watch.total(), 7);
    }
}
