//! What has occurred to each locality, and the interrupt line, which is one for all of them.
//!
//! It is the same in both interfaces: an event is in a locality's status only where its register of enables had bit 31 and one
//! of the event's bits when it came, and the line is asserted as long as something is in the status of a locality that
//! wants interrupts. Which bits there are is the interface's.

use super::window::Written;
use crate::Locality;

/// Bit 31 of the enables: the locality wants interrupts at all.
const GLOBAL: u32 = 1 << 31;

/// What each locality has of it.
#[derive(Clone, Copy, Debug)]
struct Own {
    enable: u32,
    /// What has occurred: bits as in `enable`.
    status: u32,
}

/// The enables and the status of each locality.
#[derive(Debug)]
pub(super) struct Interrupts {
    own: [Own; Locality::ALL.len()],
    /// Bits of the enables that can be stored.
    writable: u32,
    /// Whether the line is asserted. Kept here because it is asked for after each write.
    line: bool,
}

impl Interrupts {
    /// With nothing occurred, and these enables.
    pub(super) const fn new(enable: u32, writable: u32) -> Self {
        Self {
            own: [Own { enable, status: 0 }; Locality::ALL.len()],
            writable,
            line: false,
        }
    }

    fn of(&self, locality: Locality) -> Option<&Own> {
        self.own.get(usize::from(locality.number()))
    }

    fn of_mut(&mut self, locality: Locality) -> Option<&mut Own> {
        self.own.get_mut(usize::from(locality.number()))
    }

    /// The enables.
    pub(super) fn enable(&self, locality: Locality) -> u32 {
        self.of(locality).map_or(0, |own| own.enable)
    }

    pub(super) fn write_enable(&mut self, locality: Locality, written: Written) {
        let writable = Written {
            value: written.value & self.writable,
            ..written
        };
        if let Some(own) = self.of_mut(locality) {
            own.enable = writable.over(own.enable);
        }
        self.update_line();
    }

    /// The status.
    pub(super) fn status(&self, locality: Locality) -> u32 {
        self.of(locality).map_or(0, |own| own.status)
    }

    /// Ones that are written say that what they stand for is known.
    pub(super) fn write_status(&mut self, locality: Locality, written: Written) {
        if let Some(own) = self.of_mut(locality) {
            own.status &= !written.value;
        }
        self.update_line();
    }

    /// An event of `bits` is of `locality`.
    pub(super) fn occur(&mut self, locality: Locality, bits: u32) {
        if let Some(own) = self.of_mut(locality)
            && own.enable & GLOBAL != 0
            && own.enable & bits != 0
        {
            own.status |= bits;
            self.line = true;
        }
    }

    /// Whether the line is asserted.
    pub(super) const fn line(&self) -> bool {
        self.line
    }

    fn update_line(&mut self) {
        let asserts = |own: &Own| own.enable & GLOBAL != 0 && own.status != 0;
        self.line = self.own.iter().any(asserts);
    }
}
