//! The table of L2's devices: where each is, how it is accessed, which interrupt it has.
//!
//! The bus finds a device by it, the ACPI tables are written from it, and a reset goes through it. Devices of
//! which each virtual processor has one (the local APIC) are not in it.

use core::ops::Range;

use tcg_defs::ptp;
use x86_defs::pc;

/// A device with registers in memory or at ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Id {
    /// The TPM.
    Tpm,
    /// The I/O APIC.
    IoApic,
    /// The first serial port.
    Com1,
    /// Real-time clock and CMOS.
    Rtc,
    /// What ends the machine: the PM1 registers of ACPI, the reset control register, and the keyboard
    /// controller's reset line. It calls its registers by their ports.
    Power,
    /// The address register of PCI configuration mechanism 1.
    PciConfigAddress,
}

/// How a range may be accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Any access inside the range, as one.
    Any,
    /// A byte at a time: a wider access is so many of them.
    Bytes,
    /// Only all of the range at once. A narrower access passes to what else is there.
    Whole,
}

/// An input of the I/O APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Number of the input, which is the GSI.
    pub pin: u8,
    /// Level-triggered, not edge-triggered. Active high.
    pub level_triggered: bool,
}

/// A range of registers. `A` is an address in memory or a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<A> {
    /// Whose they are.
    pub device: Id,
    /// Where they are.
    pub range: Range<A>,
    /// What the device calls the first of them.
    pub first: u32,
    /// How they are accessed.
    pub access: Access,
    /// The device's interrupt.
    pub line: Option<Line>,
}

/// Bytes of registers that a page of the I/O APIC's has.
const IO_APIC_SIZE: u64 = 0x1000;
/// PM1a event block: status and enable registers (ACPI 6.5, section 4.8.3.1). Where a PC's firmware likes to put it.
pub const PM1_EVENT: u16 = 0x600;
/// PM1a control block (ACPI 6.5, section 4.8.3.2).
pub const PM1_CONTROL: u16 = PM1_EVENT + 4;

/// Registers in memory. The first is the one that is accessed most.
pub static MEMORY: [Row<u64>; 2] = [
    Row {
        device: Id::Tpm,
        range: ptp::WINDOW,
        first: 0,
        access: Access::Any,
        line: None,
    },
    Row {
        device: Id::IoApic,
        range: pc::IO_APIC..pc::IO_APIC + IO_APIC_SIZE,
        first: 0,
        access: Access::Any,
        line: None,
    },
];

/// Registers at ports. Where two rows have the same port, the first that takes the access has it.
pub static PORTS: [Row<u16>; 6] = [
    Row {
        device: Id::Com1,
        range: pc::COM1..pc::COM1 + 8,
        first: 0,
        access: Access::Bytes,
        line: Some(Line {
            pin: pc::COM1_IRQ,
            level_triggered: false,
        }),
    },
    Row {
        device: Id::Rtc,
        range: pc::RTC_INDEX..pc::RTC_DATA + 1,
        first: 0,
        access: Access::Bytes,
        line: None,
    },
    Row {
        device: Id::PciConfigAddress,
        range: pc::PCI_CONFIG_ADDRESS..pc::PCI_CONFIG_ADDRESS + 4,
        first: 0,
        access: Access::Whole,
        line: None,
    },
    Row {
        device: Id::Power,
        range: pc::RESET_CONTROL..pc::RESET_CONTROL + 1,
        first: pc::RESET_CONTROL as u32,
        access: Access::Bytes,
        line: None,
    },
    Row {
        device: Id::Power,
        range: PM1_EVENT..PM1_CONTROL + 2,
        first: PM1_EVENT as u32,
        access: Access::Bytes,
        line: Some(SCI),
    },
    Row {
        device: Id::Power,
        range: pc::KEYBOARD_COMMAND..pc::KEYBOARD_COMMAND + 1,
        first: pc::KEYBOARD_COMMAND as u32,
        access: Access::Bytes,
        line: None,
    },
];

/// The system control interrupt of ACPI. It is never raised.
pub const SCI: Line = Line {
    pin: 9,
    level_triggered: true,
};

/// The row of memory at `gpa`, without the shared bit.
pub fn memory(gpa: u64) -> Option<&'static Row<u64>> {
    MEMORY.iter().find(|row| row.range.contains(&gpa))
}

/// The row that takes an access to `width` bytes at `port`.
pub fn port(port: u16, width: u16) -> Option<&'static Row<u16>> {
    PORTS.iter().find(|row| match row.access {
        Access::Whole => row.range.start == port && row.range.end - row.range.start == width,
        Access::Any | Access::Bytes => width == 1 && row.range.contains(&port),
    })
}

/// Where the registers of `device` at ports start, for those who describe the machine.
pub fn ports_of(device: Id) -> Option<&'static Row<u16>> {
    PORTS.iter().find(|row| row.device == device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_devices_have_the_same_memory() {
        let [first, second] = &MEMORY;
        assert!(first.range.end <= second.range.start || second.range.end <= first.range.start);
    }

    #[test]
    fn a_port_is_taken_by_at_most_one_device_for_each_width() {
        for address in 0..=u16::MAX {
            let takers = PORTS
                .iter()
                .filter(|row| row.access != Access::Whole && row.range.contains(&address));
            assert!(takers.count() <= 1, "{address:#x}");
        }
        let reset = port(pc::RESET_CONTROL, 1).map(|row| row.device);
        let address = port(pc::PCI_CONFIG_ADDRESS, 4).map(|row| row.device);
        assert_eq!(reset, Some(Id::Power));
        assert_eq!(address, Some(Id::PciConfigAddress));
        assert_eq!(port(pc::PCI_CONFIG_ADDRESS, 2), None);
        assert_eq!(port(pc::PCI_CONFIG_ADDRESS, 1), None);
    }
}
