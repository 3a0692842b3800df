//! Events that are delivered through the IDT.

/// The kind of an event that is delivered through the IDT (SDM volume 3, "VM-entry
/// interruption-information field").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EventKind {
    /// An external interrupt.
    ExternalInterrupt = 0,
    /// A non-maskable interrupt.
    Nmi = 2,
    /// A fault, trap or abort raised by the processor.
    HardwareException = 3,
    /// INT n.
    SoftwareInterrupt = 4,
    /// INT1.
    PrivilegedSoftwareException = 5,
    /// INT3 or INTO.
    SoftwareException = 6,
}

/// An event to deliver, or one whose delivery an exit cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The IDT vector.
    pub vector: u8,
    /// How the event came about.
    pub kind: EventKind,
    /// The error code to push.
    pub error_code: Option<u32>,
    /// The length of the instruction for the three software kinds; else zero.
    pub instruction_length: u8,
}

impl Event {
    /// A hardware exception.
    pub const fn exception(vector: u8, error_code: Option<u32>) -> Event {
        Event {
            vector,
            kind: EventKind::HardwareException,
            error_code,
            instruction_length: 0,
        }
    }

    /// An external interrupt.
    pub const fn interrupt(vector: u8) -> Event {
        Event {
            vector,
            kind: EventKind::ExternalInterrupt,
            error_code: None,
            instruction_length: 0,
        }
    }

    /// #GP(0).
    pub const GENERAL_PROTECTION: Event = Event::exception(13, Some(0));
    /// A non-maskable interrupt.
    pub const NMI: Event = Event {
        vector: 2,
        kind: EventKind::Nmi,
        error_code: None,
        instruction_length: 0,
    };
    /// #UD.
    pub const INVALID_OPCODE: Event = Event::exception(6, None);
    /// #VE.
    pub const VIRTUALIZATION: Event = Event::exception(20, None);
    /// #DF(0).
    pub const DOUBLE_FAULT: Event = Event::exception(8, Some(0));

    /// The event as VM-entry or IDT-vectoring interruption information, valid bit set.
    pub const fn information(&self) -> u32 {
        let error_code_valid = match self.error_code {
            Some(_) => 1 << 11,
            None => 0,
        };
        1 << 31 | error_code_valid | (self.kind as u32) << 8 | self.vector as u32
    }

    /// The event that interruption information describes; `None` if it is not valid or its kind
    /// is not one that is delivered through the IDT.
    pub const fn from_information(
        information: u32,
        error_code: u32,
        instruction_length: u32,
    ) -> Option<Event> {
        if information & 1 << 31 == 0 {
            return None;
        }
        let kind = match information >> 8 & 7 {
            0 => EventKind::ExternalInterrupt,
            2 => EventKind::Nmi,
            3 => EventKind::HardwareException,
            4 => EventKind::SoftwareInterrupt,
            5 => EventKind::PrivilegedSoftwareException,
            6 => EventKind::SoftwareException,
            _ => return None,
        };
        Some(Event {
            vector: information as u8,
            kind,
            error_code: if information & 1 << 11 != 0 {
                Some(error_code)
            } else {
                None
            },
            instruction_length: instruction_length as u8,
        })
    }
}
