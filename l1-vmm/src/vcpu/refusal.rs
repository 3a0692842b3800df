//! Why an instruction of L2's did not complete.

use l2_exit::Event;

use crate::run::end::Failure;

/// Why an instruction of L2's did not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It faults.
    Fault(Event),
    /// L1 could not do it.
    Failure(Failure),
}

impl Refusal {
    /// #GP(0).
    pub const GENERAL_PROTECTION: Self = Self::Fault(Event::general_protection());
    /// #UD.
    pub const INVALID_OPCODE: Self = Self::Fault(Event::invalid_opcode());
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}
