//! How many processors there are, in the TD and in L2.

use core::fmt;

/// Numbers of processors: at least one each, and L2 has none that the TD has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processors {
    td: u32,
    l2: u32,
}

impl Processors {
    /// `td` virtual processors of the TD, on which L2 has `l2`; `None` if it cannot be so.
    pub const fn new(td: u32, l2: u32) -> Option<Self> {
        match l2 >= 1 && l2 <= td {
            true => Some(Self { td, l2 }),
            false => None,
        }
    }

    /// NUM_VCPUS, as the TDX module says it (TDX Module ABI, TDG.VP.INFO): fixed when MRTD is.
    pub const fn td(self) -> u32 {
        self.td
    }

    /// Those that L1 gives L2, in its ACPI tables.
    pub const fn l2(self) -> u32 {
        self.l2
    }
}

impl fmt::Display for Processors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} of the TD, {} of L2", self.td, self.l2)
    }
}
