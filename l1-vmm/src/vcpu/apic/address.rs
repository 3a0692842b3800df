//! What interrupts are sent to: the part of a local APIC that other processors must know.

use super::Mode;

/// Where an interrupt goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// APIC id, or a logical set.
    pub value: u32,
    /// `value` is logical.
    pub logical: bool,
    /// `value` has 32 bits, as in x2APIC mode, not eight.
    pub wide: bool,
}

/// What decides whether an interrupt is meant for an APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// How the registers are reached.
    pub mode: Mode,
    /// It takes interrupts with a vector.
    pub accepts: bool,
    /// Its id.
    pub id: u8,
    /// LDR.
    pub logical: u32,
    /// DFR says that logical destinations are flat.
    pub flat: bool,
}

impl Address {
    /// That of the APIC `id` after a reset.
    pub const fn after_reset(id: u8) -> Self {
        Self {
            mode: Mode::XApic,
            accepts: false,
            id,
            logical: 0,
            flat: true,
        }
    }

    /// SDM Vol. 3A, section "Determining IPI Destination".
    pub fn is_destination(&self, destination: Destination) -> bool {
        let Destination { value, wide, .. } = destination;
        let broadcast = if wide { u32::MAX } else { 0xFF };
        match (self.mode, destination.logical) {
            (Mode::Disabled, _) => false,
            _ if value == broadcast => true,
            (_, false) => value == u32::from(self.id),
            (Mode::X2Apic, true) => {
                value >> 16 == self.logical >> 16 && value & self.logical & 0xFFFF != 0
            }
            (Mode::XApic, true) => {
                let own = self.logical >> 24;
                if self.flat {
                    value & own != 0
                } else {
                    value >> 4 == own >> 4 && value & own & 0xF != 0
                }
            }
        }
    }

    /// As a word that is never 0.
    pub const fn into_bits(self) -> u64 {
        let mode = match self.mode {
            Mode::Disabled => 1,
            Mode::XApic => 2,
            Mode::X2Apic => 3,
        };
        mode | (self.accepts as u64) << 2
            | (self.flat as u64) << 3
            | (self.id as u64) << 8
            | (self.logical as u64) << 32
    }

    /// From the word, or None of 0.
    pub const fn from_bits(bits: u64) -> Option<Self> {
        let mode = match bits & 3 {
            1 => Mode::Disabled,
            2 => Mode::XApic,
            3 => Mode::X2Apic,
            _ => return None,
        };
        Some(Self {
            mode,
            accepts: bits & 1 << 2 != 0,
            flat: bits & 1 << 3 != 0,
            id: (bits >> 8) as u8,
            logical: (bits >> 32) as u32,
        })
    }
}
