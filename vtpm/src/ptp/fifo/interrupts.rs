//! The interrupt registers. No interrupt is connected: they can be written and read back, and nothing ever occurs
//! in them.

use super::bits::IntEnable;
use crate::Locality;
use crate::ptp::window::Written;

/// INT_ENABLE of each locality, and INT_VECTOR, which is common to all.
#[derive(Debug)]
pub(super) struct Interrupts {
    enable: [IntEnable; Locality::ALL.len()],
    vector: u8,
}

impl Interrupts {
    pub(super) const RESET: Self = Self {
        enable: [IntEnable::RESET; Locality::ALL.len()],
        vector: 0,
    };

    /// TPM_INT_ENABLE_x.
    pub(super) fn enable(&self, locality: Locality) -> IntEnable {
        let enable = self.enable.get(usize::from(locality.number()));
        enable.copied().unwrap_or(IntEnable::RESET)
    }

    pub(super) fn write_enable(&mut self, locality: Locality, written: Written) {
        if let Some(enable) = self.enable.get_mut(usize::from(locality.number())) {
            let writable = Written {
                value: written.value & IntEnable::WRITABLE,
                ..written
            };
            *enable = IntEnable::from_bits(writable.over(enable.into_bits()));
        }
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
    pub(super) const fn status(&self) -> u32 {
        0
    }
}
