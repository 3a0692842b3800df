//! The DSDT: the devices that Linux finds by ACPI, and how to power off.

use super::{encoded, header};
use crate::machine::map::{self, Id};
use acpi_tables::aml::{
    Device, EISAName, IO, Interrupt, Memory32Fixed, Name, Package, ResourceTemplate, Scope,
};
use acpi_tables::{Aml, sdt::Sdt};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

/// DSDT revision: 2 and above make integers 64 bits wide.
const REVISION: u8 = 2;
/// SLP_TYP of S5.
const SLEEP_TYPE_S5: u8 = 0;
/// _STA: present, enabled, shown, working.
const STATUS: u8 = 0x0F;

/// Differentiated System Description Table.
pub(super) fn dsdt() -> Sdt {
    let mut dsdt = header(*b"DSDT", REVISION);
    let zero = 0u8;
    let s5: [&dyn Aml; 4] = [&SLEEP_TYPE_S5, &zero, &zero, &zero];
    let sleep = Name::new("_S5_".into(), &Package::new(s5.to_vec()));
    dsdt.append_slice(&encoded(&sleep));
    for device in [serial(), clock(), tpm()] {
        dsdt.append_slice(&device);
    }
    dsdt
}

/// COM1, a 16550.
fn serial() -> Vec<u8> {
    device("COM1", &EISAName::new("PNP0501"), &at_ports(Id::Com1))
}

/// The real-time clock, without its interrupt: nobody wakes L2 by an alarm.
fn clock() -> Vec<u8> {
    device("RTC_", &EISAName::new("PNP0B00"), &at_ports(Id::Rtc))
}

/// The TPM (TCG ACPI Specification 1.3, section 8; _HID as Windows and Linux match it).
fn tpm() -> Vec<u8> {
    device("TPM_", &"MSFT0101", &in_memory(Id::Tpm))
}

/// What _CRS says of a device in memory.
fn in_memory(id: Id) -> Vec<Box<dyn Aml>> {
    let rows = map::MEMORY.iter().filter(|row| row.device == id);
    rows.map(|row| {
        let length = row.range.end - row.range.start;
        let range = Memory32Fixed::new(true, row.range.start as u32, length as u32);
        Box::new(range) as Box<dyn Aml>
    })
    .collect()
}

/// What _CRS says of a device at ports, and of its interrupt.
fn at_ports(id: Id) -> Vec<Box<dyn Aml>> {
    let mut resources: Vec<Box<dyn Aml>> = Vec::new();
    for row in map::PORTS.iter().filter(|row| row.device == id) {
        let (start, length) = (row.range.start, row.range.end - row.range.start);
        resources.push(Box::new(IO::new(start, start, 1, length as u8)));
        if let Some(line) = row.line {
            let edge = !line.level_triggered;
            let interrupt = Interrupt::new(true, edge, false, false, line.pin.into());
            resources.push(Box::new(interrupt));
        }
    }
    resources
}

/// `\_SB.<name>` with _HID, _UID, _STA and _CRS.
fn device(name: &str, id: &dyn Aml, resources: &[Box<dyn Aml>]) -> Vec<u8> {
    let unique_id = 0u8;
    let identity = Name::new("_HID".into(), id);
    let unique = Name::new("_UID".into(), &unique_id);
    let status = Name::new("_STA".into(), &STATUS);
    let resources = resources.iter().map(|resource| &**resource).collect();
    let resources = ResourceTemplate::new(resources);
    let current = Name::new("_CRS".into(), &resources);
    let device = Device::new(name.into(), vec![&identity, &unique, &status, &current]);
    encoded(&Scope::new("\\_SB_".into(), vec![&device]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(part: &[u8]) -> bool {
        dsdt()
            .as_slice()
            .windows(part.len())
            .any(|window| window == part)
    }

    #[test]
    fn the_tpm_is_the_device_that_drivers_match() {
        // Name (_HID, "MSFT0101")
        assert!(holds(b"\x08_HID\x0DMSFT0101\0"));
        // Memory32Fixed (ReadWrite, 0xFED40000, 0x5000)
        assert!(holds(&[0x86, 9, 0, 1, 0, 0, 0xD4, 0xFE, 0, 0x50, 0, 0]));
    }

    #[test]
    fn the_serial_port_has_its_ports_and_its_edge_triggered_pin() {
        // Name (_HID, EisaId ("PNP0501"))
        assert!(holds(b"\x08_HID\x0C\x41\xD0\x05\x01"));
        // IO (Decode16, 0x3F8, 0x3F8, 1, 8)
        assert!(holds(&[0x47, 1, 0xF8, 3, 0xF8, 3, 1, 8]));
        // Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 4 }
        assert!(holds(&[0x89, 6, 0, 0b0011, 1, 4, 0, 0, 0]));
    }

    #[test]
    fn s5_is_sleep_type_0() {
        // Name (\_S5, Package (4) { Zero, Zero, Zero, Zero })
        assert!(holds(b"\x08_S5_\x12\x06\x04\0\0\0\0"));
    }
}
