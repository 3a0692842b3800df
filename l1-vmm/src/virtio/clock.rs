//! Bounds on waiting for the host.

/// Time that the host cannot stop.
pub trait Clock {
    /// Nanoseconds since some moment. It never goes back.
    fn now(&self) -> u64;
}

impl<C: Clock> Clock for &C {
    fn now(&self) -> u64 {
        (*self).now()
    }
}

/// When to stop waiting.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: u64,
}

impl Deadline {
    /// In `nanoseconds` from now.
    pub fn after(clock: &impl Clock, nanoseconds: u64) -> Self {
        Self {
            at: clock.now().saturating_add(nanoseconds),
        }
    }

    /// Whether it is over.
    pub fn passed(&self, clock: &impl Clock) -> bool {
        clock.now() >= self.at
    }
}
