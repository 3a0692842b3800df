//! The addresses of L2's PCI devices.
//!
//! They are memory that L1 took for itself and gave no alias to: accesses there are exits that the TDX module gives to
//! L1, without the host, and no setting of a BAR can hide memory of L2's, the TPM's window or an interrupt
//! controller, because a BAR that is outside answers to nothing.

use crate::launch::gpa_range::GpaRange;
use x86_defs::paging::PAGE_2M;
use x86_defs::pci::ECAM_BUS;

/// One large page: configuration space of bus 0, then the BARs. With no devices it is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PciWindow(GpaRange);

impl PciWindow {
    /// Bytes of a window, and its alignment.
    pub const SIZE: u64 = PAGE_2M;

    /// The window at `range`, if that is one large page below 4 GiB.
    pub fn new(range: GpaRange) -> Option<Self> {
        let page = range.length() == Self::SIZE && range.start().is_multiple_of(Self::SIZE);
        (page && range.end() <= 1 << 32).then_some(Self(range))
    }

    /// Memory-mapped configuration space of bus 0.
    pub fn configuration(&self) -> GpaRange {
        let end = self.0.start().saturating_add(ECAM_BUS).min(self.0.end());
        GpaRange::new(self.0.start(), end).unwrap_or(GpaRange::EMPTY)
    }

    /// Addresses for BARs.
    pub fn bars(&self) -> GpaRange {
        GpaRange::new(self.configuration().end(), self.0.end()).unwrap_or(GpaRange::EMPTY)
    }

    /// Whether `gpa` is in the window.
    pub const fn contains(&self, gpa: u64) -> bool {
        self.0.start() <= gpa && gpa < self.0.end()
    }
}
