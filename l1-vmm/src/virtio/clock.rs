//! Bounds on waiting for the host.

use super::pci::{Device, HostPci, PciError};
use core::hint::spin_loop;

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

/// A clock that is a function: nanoseconds since some moment.
#[derive(Clone, Copy, Debug)]
pub struct Nanoseconds(pub fn() -> u64);

impl Clock for Nanoseconds {
    fn now(&self) -> u64 {
        (self.0)()
    }
}

/// When to stop waiting.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: u64,
}

impl Deadline {
    /// At `at` of the clock, in nanoseconds.
    pub const fn at(at: u64) -> Self {
        Self { at }
    }

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

/// How often, in nanoseconds, a device that says nothing in memory is asked for its status.
const LOOK: u64 = 200_000;

/// What to do when a device has not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Patience {
    /// Look again.
    Left,
    /// The time is over.
    Over,
}

/// A wait for a device that answers in memory.
///
/// L1 takes no interrupts for its own devices: before L2 exists it has nothing else to do, and later L2's virtual
/// processor waits for the answer. It looks at the memory, and now and then reads the device's status: that finds a
/// device that has given up or gone, and is an exit by which a host without a spare processor gets to serve it.
#[derive(Debug)]
pub(super) struct Wait {
    deadline: Deadline,
    look: u64,
}

impl Wait {
    /// Until `deadline`.
    pub(super) fn new(clock: &impl Clock, deadline: Deadline) -> Self {
        Self {
            deadline,
            look: clock.now().saturating_add(LOOK),
        }
    }

    /// Once round.
    pub(super) fn pause<H: HostPci>(
        &mut self,
        clock: &impl Clock,
        device: &Device<H>,
    ) -> Result<Patience, PciError> {
        let now = clock.now();
        if now >= self.deadline.at {
            return Ok(Patience::Over);
        }
        if now >= self.look {
            device.check()?;
            self.look = now.saturating_add(LOOK);
        }
        spin_loop();
        Ok(Patience::Left)
    }
}
