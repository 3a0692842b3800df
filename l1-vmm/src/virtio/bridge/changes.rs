//! Interrupts of a device of the host's, and what L1 makes of those that say that its configuration is another one.

use core::fmt::Display;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::virtio::pci::{Device, HostPci, Message};

/// How many changes that are none are told of a device in L1's log: a host can make any number.
const COMPLAINTS: u32 = 8;

/// How a device of the host's interrupts L1.
#[derive(Clone, Copy, Debug)]
pub struct Interrupts {
    /// For its queues.
    pub queues: Message,
    /// For its configuration.
    pub configuration: Message,
    /// How often a device, of all of them, has interrupted for its configuration.
    pub changes: &'static AtomicU32,
}

/// Entries of the device's MSI-X table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Vectors {
    /// The one for its queues.
    pub(super) queues: Option<u16>,
    /// The one for its configuration.
    pub(super) configuration: Option<u16>,
}

impl Interrupts {
    /// Puts them into the device's table. One that has a single entry interrupts for its queues.
    pub(super) fn set_up<H: HostPci>(&self, device: &Device<H>) -> Vectors {
        let both = device.set_messages(&[self.queues, self.configuration]);
        if both.is_ok() {
            return Vectors {
                queues: Some(0),
                configuration: Some(1),
            };
        }
        match device.set_messages(&[self.queues]) {
            Ok(()) => Vectors {
                queues: Some(0),
                configuration: None,
            },
            Err(error) => {
                log::warn!(
                    "a virtio device without interrupts, which L2 will notice late: {error}"
                );
                Vectors::default()
            }
        }
    }
}

/// What is known of the changes of a device's configuration. An interrupt says that there is something to look at, once
/// for any number of them; what there is, only what is read then.
#[derive(Debug)]
pub(super) struct Changes {
    all: &'static AtomicU32,
    seen: u32,
    complaints: u32,
}

impl Changes {
    pub(super) fn new(all: &'static AtomicU32) -> Self {
        Self {
            all,
            seen: all.load(Ordering::Relaxed),
            complaints: 0,
        }
    }

    /// Has the next [`came`](Self::came) say so.
    pub(super) fn look(&mut self) {
        self.seen = self.all.load(Ordering::Relaxed).wrapping_sub(1);
    }

    /// Whether a device has interrupted since this was last asked.
    pub(super) fn came(&mut self) -> bool {
        let now = self.all.load(Ordering::Relaxed);
        now != core::mem::replace(&mut self.seen, now)
    }

    /// Tells of a configuration that is refused: it stays as it was. False: nothing has changed.
    pub(super) fn refuse<E: Display>(&mut self, why: &Result<(), E>) -> bool {
        if let Err(why) = why
            && self.complaints < COMPLAINTS
        {
            self.complaints += 1;
            log::warn!("a virtio device's new configuration is refused: {why}");
        }
        false
    }
}
