//! Events to inject into L2: faults of emulated instructions, and events whose delivery an
//! exit interrupted.

use tdx_defs::vmcs::{InterruptionInfo, InterruptionType};
use x86_defs::exception;

/// How an event is delivered: the interruption type of the VM-entry interruption information
/// (SDM Vol. 3C, table "Format of the VM-Entry Interruption-Information Field").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// External interrupt (0).
    ExternalInterrupt,
    /// Non-maskable interrupt (2).
    Nmi,
    /// Hardware exception (3): a fault, trap or abort, but INT3 and INTO.
    HardwareException,
    /// INT n (4).
    SoftwareInterrupt,
    /// INT1 (5).
    PrivilegedSoftwareException,
    /// INT3 and INTO (6).
    SoftwareException,
}

impl EventKind {
    /// Whether an instruction raised the event: delivery then pushes the address *behind* that
    /// instruction, so the VM entry needs its length.
    pub const fn is_software(self) -> bool {
        matches!(
            self,
            Self::SoftwareInterrupt | Self::PrivilegedSoftwareException | Self::SoftwareException
        )
    }

    const fn from_type(kind: InterruptionType) -> Option<Self> {
        match kind {
            InterruptionType::ExternalInterrupt => Some(Self::ExternalInterrupt),
            InterruptionType::Nmi => Some(Self::Nmi),
            InterruptionType::HardwareException => Some(Self::HardwareException),
            InterruptionType::SoftwareInterrupt => Some(Self::SoftwareInterrupt),
            InterruptionType::PrivilegedSoftwareException => {
                Some(Self::PrivilegedSoftwareException)
            }
            InterruptionType::SoftwareException => Some(Self::SoftwareException),
            InterruptionType::Reserved | InterruptionType::OtherEvent => None,
        }
    }

    const fn into_type(self) -> InterruptionType {
        match self {
            Self::ExternalInterrupt => InterruptionType::ExternalInterrupt,
            Self::Nmi => InterruptionType::Nmi,
            Self::HardwareException => InterruptionType::HardwareException,
            Self::SoftwareInterrupt => InterruptionType::SoftwareInterrupt,
            Self::PrivilegedSoftwareException => InterruptionType::PrivilegedSoftwareException,
            Self::SoftwareException => InterruptionType::SoftwareException,
        }
    }
}

/// An event for the next entry into L2.
///
/// L2's RIP must point at the instruction during which the event arose: VM entry adds
/// [`Event::instruction_length`] itself when it delivers a software event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    /// Interrupt vector.
    pub vector: u8,
    /// How it is delivered.
    pub kind: EventKind,
    /// Error code that delivery pushes.
    pub error_code: Option<u32>,
    /// Length of the instruction that raised a software event, else 0.
    pub instruction_length: u8,
}

impl Event {
    /// A hardware exception that pushes `error_code`.
    pub const fn fault(vector: u8, error_code: u32) -> Self {
        Self {
            vector,
            kind: EventKind::HardwareException,
            error_code: Some(error_code),
            instruction_length: 0,
        }
    }

    /// #UD.
    pub const fn invalid_opcode() -> Self {
        Self {
            vector: exception::INVALID_OPCODE,
            kind: EventKind::HardwareException,
            error_code: None,
            instruction_length: 0,
        }
    }

    /// #GP(0).
    pub const fn general_protection() -> Self {
        Self::fault(exception::GENERAL_PROTECTION, 0)
    }

    /// The event that an IDT-vectoring or VM-exit interruption-information field describes,
    /// with the length of the instruction that was running. None if the field is not valid or
    /// its type is none that can be injected.
    ///
    /// The two formats agree with that of the VM entry but for bits that must be 0 there (12:
    /// undefined or NMI unblocking by IRET), which the value drops.
    pub const fn from_information(
        information: InterruptionInfo,
        error_code: u32,
        instruction_length: u32,
    ) -> Option<Self> {
        if !information.valid() {
            return None;
        }
        let Some(kind) = EventKind::from_type(information.kind()) else {
            return None;
        };
        Some(Self {
            vector: information.vector(),
            kind,
            error_code: if information.error_code_valid() {
                Some(error_code)
            } else {
                None
            },
            instruction_length: if kind.is_software() {
                (instruction_length & 0xF) as u8
            } else {
                0
            },
        })
    }

    /// The VM-entry interruption-information field (VMCS 4016H). The error code belongs into
    /// 4018H, the instruction length into 401AH.
    pub const fn information(self) -> InterruptionInfo {
        InterruptionInfo::new()
            .with_vector(self.vector)
            .with_kind(self.kind.into_type())
            .with_error_code_valid(self.error_code.is_some())
            .with_valid(true)
    }

    /// The same event as real-address mode delivers it: without an error code, which VM entry
    /// refuses while CR0.PE is 0 (SDM Vol. 3C, "Checks on VM-Entry Control Fields").
    pub const fn in_real_mode(self) -> Self {
        Self {
            error_code: None,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(information: u32, error_code: u32, length: u32) -> Option<Event> {
        Event::from_information(InterruptionInfo::from_bits(information), error_code, length)
    }

    #[test]
    fn information_survives_the_round_trip() {
        for (information, error_code, length, event) in [
            (0x8000_0B0E, 2, 0, Event::fault(exception::PAGE_FAULT, 2)),
            (0x8000_0B0D, 0, 3, Event::general_protection()),
            (0x8000_0306, 7, 2, Event::invalid_opcode()),
            (
                0x8000_0480,
                0,
                2,
                Event {
                    vector: 0x80,
                    kind: EventKind::SoftwareInterrupt,
                    error_code: None,
                    instruction_length: 2,
                },
            ),
            (
                0x8000_0603,
                9,
                1,
                Event {
                    vector: 3,
                    kind: EventKind::SoftwareException,
                    error_code: None,
                    instruction_length: 1,
                },
            ),
            (
                0x8000_0202,
                0,
                0,
                Event {
                    vector: 2,
                    kind: EventKind::Nmi,
                    error_code: None,
                    instruction_length: 0,
                },
            ),
        ] {
            let decoded = decode(information, error_code, length);
            assert_eq!(decoded, Some(event));
            assert_eq!(event.information().into_bits(), information);
        }
    }

    #[test]
    fn bits_that_vm_entry_refuses_are_dropped() {
        let decoded = decode(0x8000_1B0E, 4, 0).unwrap();
        assert_eq!(decoded.information().into_bits(), 0x8000_0B0E);
        assert_eq!(
            decoded.in_real_mode().information().into_bits(),
            0x8000_030E
        );
    }

    #[test]
    fn what_cannot_be_injected_is_no_event() {
        assert_eq!(decode(0x0000_0B0E, 0, 0), None);
        assert_eq!(decode(0x8000_010E, 0, 0), None);
        assert_eq!(decode(0x8000_070E, 0, 0), None);
    }
}
