//! Devices for tests: the memory that they share with L1, their side of a queue, and a PCI function around both.

pub(crate) mod device;
pub(crate) mod disk;
pub(crate) mod memory;
pub(crate) mod port;
pub(crate) mod queue;
pub(crate) mod socket;

use crate::virtio::clock::Clock;
use alloc::rc::Rc;
use core::cell::Cell;

/// A clock that goes on by a microsecond each time it is looked at; clones are the same clock.
#[derive(Clone, Debug, Default)]
pub(crate) struct ModelClock(Rc<Cell<u64>>);

impl Clock for ModelClock {
    fn now(&self) -> u64 {
        self.0.set(self.0.get() + 1_000);
        self.0.get()
    }
}
