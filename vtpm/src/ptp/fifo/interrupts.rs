//! The interrupt registers, and the line behind them.
//!
//! An event of a locality's is in its INT_STATUS only where its INT_ENABLE had bit 31 and one of the event's bits when it
//! came. The line is one for all localities.

use super::bits::IntEnable;
use crate::Locality;
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

/// What each locality has of it.
#[derive(Clone, Copy, Debug)]
struct Own {
    enable: IntEnable,
    /// What has occurred: the bits of INT_ENABLE.
    status: u32,
}

/// INT_ENABLE and INT_STATUS of each locality, and INT_VECTOR, which is common to all.
#[derive(Debug)]
pub(super) struct Interrupts {
    own: [Own; Locality::ALL.len()],
    vector: u8,
    /// Whether the line is asserted. Kept here because it is asked for after each write.
    line: bool,
}

impl Interrupts {
    pub(super) const RESET: Self = Self {
        own: [Own {
            enable: IntEnable::RESET,
            status: 0,
        }; Locality::ALL.len()],
        vector: 0,
        line: false,
    };

    /// TPM_INT_ENABLE_x.
    pub(super) fn enable(&self, locality: Locality) -> IntEnable {
        let own = self.own.get(usize::from(locality.number()));
        own.map_or(IntEnable::RESET, |own| own.enable)
    }

    pub(super) fn write_enable(&mut self, locality: Locality, written: Written) {
        if let Some(own) = self.own.get_mut(usize::from(locality.number())) {
            let writable = Written {
                value: written.value & IntEnable::WRITABLE,
                ..written
            };
            own.enable = IntEnable::from_bits(writable.over(own.enable.into_bits()));
        }
        self.update_line();
    }

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

    /// TPM_INT_STATUS_x.
    pub(super) fn status(&self, locality: Locality) -> u32 {
        let own = self.own.get(usize::from(locality.number()));
        own.map_or(0, |own| own.status)
    }

    /// Ones that are written say that what they stand for is known.
    pub(super) fn write_status(&mut self, locality: Locality, written: Written) {
        if let Some(own) = self.own.get_mut(usize::from(locality.number())) {
            own.status &= !written.value;
        }
        self.update_line();
    }

    /// `occurrence` is of `locality`.
    pub(super) fn occur(&mut self, locality: Locality, occurrence: Occurrence) {
        if let Some(own) = self.own.get_mut(usize::from(locality.number())) {
            let bits = occurrence.bits();
            if own.enable.global() && own.enable.into_bits() & bits != 0 {
                own.status |= bits;
                self.line = true;
            }
        }
    }

    /// Whether the line is asserted: as long as something is in the INT_STATUS of a locality that wants interrupts.
    pub(super) const fn line(&self) -> bool {
        self.line
    }

    fn update_line(&mut self) {
        let asserts = |own: &Own| own.enable.global() && own.status != 0;
        self.line = self.own.iter().any(asserts);
    }
}
