//! The interrupts of the FIFO interface: its events, and the vector.

use super::bits::IntEnable;
use crate::Locality;
use crate::ptp::interrupts;
use crate::ptp::window::Written;

/// What occurs. One event may be of several bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occurrence {
    /// A command can be written.
    CommandReady,
    /// Expect says that the command is whole.
    CommandWhole,
    /// There is a response.
    Response,
    /// The locality has got the TPM.
    LocalityChange,
}

impl Occurrence {
    const fn bits(self) -> u32 {
        let bits = IntEnable::new();
        match self {
            Self::CommandReady => bits.with_command_ready(true),
            Self::CommandWhole => bits.with_sts_valid(true),
            Self::Response => bits.with_data_avail(true).with_sts_valid(true),
            Self::LocalityChange => bits.with_locality_change(true),
        }
        .into_bits()
    }
}

/// INT_ENABLE and INT_STATUS of each locality, and INT_VECTOR, which is common to all.
#[derive(Debug)]
pub(super) struct Interrupts {
    /// The former two.
    pub(super) registers: interrupts::Interrupts,
    vector: u8,
}

impl Interrupts {
    pub(super) const RESET: Self = Self {
        registers: interrupts::Interrupts::new(IntEnable::RESET.into_bits(), IntEnable::WRITABLE),
        vector: 0,
    };

    /// TPM_INT_VECTOR_x.
    pub(super) const fn vector(&self) -> u8 {
        self.vector
    }

    /// The vector is in the lowest byte: a write of the others alone leaves it.
    pub(super) fn write_vector(&mut self, written: Written) {
        if written.mask & 0xff != 0 {
            self.vector = (written.value & 0xf) as u8;
        }
    }

    /// `occurrence` is of `locality`.
    pub(super) fn occur(&mut self, locality: Locality, occurrence: Occurrence) {
        self.registers.occur(locality, occurrence.bits());
    }
}
