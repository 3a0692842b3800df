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
    /// PCI configuration mechanism 1, and the host bridge behind it. It calls its registers by their ports.
    Pci,
    /// The power-management timer of ACPI.
    PmTimer,
    /// The pair of 8259A interrupt controllers. They call their registers by their ports.
    Pic,
    /// The interval timer, and port 61H. It calls its registers by their ports.
    Pit,
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

/// An input of both interrupt controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Number of the I/O APIC's input, which is the GSI.
    pub pin: u8,
    /// Number of the ISA interrupt: the input of the 8259A pair.
    pub isa: u8,
    /// Level-triggered, not edge-triggered.
    pub level_triggered: bool,
    /// How it is described. The interrupt controllers' inputs are logical: asserted or not.
    pub active_low: bool,
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

impl Row<u64> {
    /// What the device calls the register at `gpa`.
    pub(crate) fn offset(&self, gpa: u64) -> u32 {
        self.first
            .wrapping_add(gpa.wrapping_sub(self.range.start) as u32)
    }
}

/// Bytes of registers that a page of the I/O APIC's has.
const IO_APIC_SIZE: u64 = 0x1000;
/// PM1a event block: status and enable registers (ACPI 6.5, section 4.8.3.1). Where a PC's firmware likes to put it.
pub const PM1_EVENT: u16 = 0x600;
/// PM1a control block (ACPI 6.5, section 4.8.3.2).
pub const PM1_CONTROL: u16 = PM1_EVENT + 4;
/// PM timer block (ACPI 6.5, section 4.8.3.3).
pub const PM_TIMER: u16 = PM1_EVENT + 8;
/// Ports of the PM timer block.
pub const PM_TIMER_LENGTH: u8 = 4;
/// The interval timer's interrupt. ISA interrupt 0 is pin 2 of a PC's I/O APIC.
const TIMER_LINE: Line = Line {
    pin: pc::TIMER_GSI,
    isa: pc::TIMER_IRQ,
    level_triggered: false,
    active_low: false,
};

/// The interrupt of the TPM's FIFO interface, which INT_ENABLE describes after a reset as active low (PTP 1.05,
/// "TPM_INT_ENABLE_x"). One of those that INT_VECTOR has a number for, and no other device.
pub const TPM_LINE: Line = Line {
    pin: 5,
    isa: 5,
    level_triggered: true,
    active_low: true,
};

/// Registers in memory. The first is the one that is accessed most.
pub static MEMORY: [Row<u64>; 2] = [
    Row {
        device: Id::Tpm,
        range: ptp::WINDOW,
        first: 0,
        access: Access::Any,
        line: Some(TPM_LINE),
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
pub static PORTS: [Row<u16>; 13] = [
    Row {
        device: Id::Com1,
        range: pc::COM1..pc::COM1 + 8,
        first: 0,
        access: Access::Bytes,
        line: Some(Line {
            pin: pc::COM1_IRQ,
            isa: pc::COM1_IRQ,
            level_triggered: false,
            active_low: false,
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
        device: Id::Pci,
        range: pc::PCI_CONFIG_ADDRESS..pc::PCI_CONFIG_ADDRESS + 4,
        first: pc::PCI_CONFIG_ADDRESS as u32,
        access: Access::Whole,
        line: None,
    },
    Row {
        device: Id::Pci,
        range: pc::PCI_CONFIG_DATA..pc::PCI_CONFIG_DATA + 4,
        first: pc::PCI_CONFIG_DATA as u32,
        access: Access::Any,
        line: None,
    },
    Row {
        device: Id::PmTimer,
        range: PM_TIMER..PM_TIMER + PM_TIMER_LENGTH as u16,
        first: 0,
        access: Access::Any,
        line: None,
    },
    named(Id::Pic, pc::PIC_MASTER..pc::PIC_MASTER + 2, None),
    named(Id::Pic, pc::PIC_SLAVE..pc::PIC_SLAVE + 2, None),
    named(Id::Pic, pc::ELCR1..pc::ELCR2 + 1, None),
    named(Id::Pit, pc::PIT..pc::PIT + 4, Some(TIMER_LINE)),
    named(
        Id::Pit,
        pc::SYSTEM_CONTROL..pc::SYSTEM_CONTROL + 1,
        Some(TIMER_LINE),
    ),
    named(Id::Power, pc::RESET_CONTROL..pc::RESET_CONTROL + 1, None),
    named(Id::Power, PM1_EVENT..PM1_CONTROL + 2, Some(SCI)),
    named(
        Id::Power,
        pc::KEYBOARD_COMMAND..pc::KEYBOARD_COMMAND + 1,
        None,
    ),
];

/// A row of byte registers that the device calls by their ports.
const fn named(device: Id, range: Range<u16>, line: Option<Line>) -> Row<u16> {
    Row {
        device,
        first: range.start as u32,
        range,
        access: Access::Bytes,
        line,
    }
}

/// The system control interrupt of ACPI. It is never raised.
pub const SCI: Line = Line {
    pin: 9,
    isa: 9,
    level_triggered: true,
    active_low: false,
};

/// The row of memory at `gpa`, without the shared bit.
pub fn memory(gpa: u64) -> Option<&'static Row<u64>> {
    MEMORY.iter().find(|row| row.range.contains(&gpa))
}

/// The row that takes an access to `width` bytes at `port`.
pub fn port(port: u16, width: u16) -> Option<&'static Row<u16>> {
    PORTS.iter().find(|row| match row.access {
        Access::Whole => row.range.start == port && row.range.end - row.range.start == width,
        Access::Any => {
            let last = port.checked_add(width.saturating_sub(1));
            row.range.contains(&port) && last.is_some_and(|last| row.range.contains(&last))
        }
        Access::Bytes => width == 1 && row.range.contains(&port),
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
        assert_eq!(address, Some(Id::Pci));
        let across = port(pc::PCI_CONFIG_DATA + 2, 4);
        assert_eq!(across, None, "a part of a range is none of its accesses");
        assert!(port(pc::PCI_CONFIG_DATA + 2, 2).is_some());
        assert_eq!(port(pc::PCI_CONFIG_ADDRESS, 2), None);
        assert_eq!(port(pc::PCI_CONFIG_ADDRESS, 1), None);
    }
}
