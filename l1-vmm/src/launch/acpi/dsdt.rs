//! The DSDT: the devices that Linux finds by ACPI, and how to power off.

use super::{encoded, header};
use crate::launch::gpa_range::GpaRange;
use crate::machine::devices::pci::window::PciWindow;
use crate::machine::map::{self, Id, Line};
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Device, EISAName, IO, Interrupt, Memory32Fixed, Name,
    Package, ResourceTemplate, Scope,
};
use acpi_tables::{Aml, sdt::Sdt};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use x86_defs::pc::PCI_CONFIG_ADDRESS;

/// DSDT revision: 2 and above make integers 64 bits wide.
const REVISION: u8 = 2;
/// SLP_TYP of S5.
const SLEEP_TYPE_S5: u8 = 0;
/// _STA: present, enabled, shown, working.
const STATUS: u8 = 0x0F;

/// Differentiated System Description Table.
pub(super) fn dsdt(
    pci: Option<&PciWindow>,
    data_buffer: Option<GpaRange>,
    tpm_interrupt: bool,
) -> Sdt {
    let mut dsdt = header(*b"DSDT", REVISION);
    let zero = 0u8;
    let s5: [&dyn Aml; 4] = [&SLEEP_TYPE_S5, &zero, &zero, &zero];
    let sleep = Name::new("_S5_".into(), &Package::new(s5.to_vec()));
    dsdt.append_slice(&encoded(&sleep));
    for device in [serial(), clock(), tpm(data_buffer, tpm_interrupt)] {
        dsdt.append_slice(&device);
    }
    if let Some(window) = pci {
        dsdt.append_slice(&host_bridge(window));
        dsdt.append_slice(&configuration_space(window));
    }
    dsdt
}

/// The PCI bus: its number, the ports of its configuration, and where its devices' BARs can be. It has no interrupt
/// lines, so no routing of them.
fn host_bridge(window: &PciWindow) -> Vec<u8> {
    let bars = window.bars();
    let last = bars.end().saturating_sub(1) as u32;
    let uncached = AddressSpaceCacheable::NotCacheable;
    let memory = AddressSpace::new_memory(uncached, true, bars.start() as u32, last, None);
    let (ports, length) = (PCI_CONFIG_ADDRESS, 8);
    let resources: Vec<Box<dyn Aml>> = vec![
        Box::new(AddressSpace::new_bus_number(0u16, 0)),
        Box::new(IO::new(ports, ports, 1, length)),
        Box::new(memory),
    ];
    let (express, conventional) = (EISAName::new("PNP0A08"), EISAName::new("PNP0A03"));
    let zero = 0u8;
    let compatible = Name::new("_CID".into(), &conventional);
    let (segment, bus) = (
        Name::new("_SEG".into(), &zero),
        Name::new("_BBN".into(), &zero),
    );
    let more: [&dyn Aml; 3] = [&compatible, &segment, &bus];
    device_with("PCI0", &express, &resources, &more)
}

/// Memory-mapped configuration space: a kernel uses it only where it is a resource of the board's (PCI Firmware
/// Specification 3.3, section 4.1.2).
fn configuration_space(window: &PciWindow) -> Vec<u8> {
    let space = window.configuration();
    let range = Memory32Fixed::new(true, space.start() as u32, space.length() as u32);
    device("ECAM", &EISAName::new("PNP0C02"), &[Box::new(range)])
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
fn tpm(data_buffer: Option<GpaRange>, interrupts: bool) -> Vec<u8> {
    let mut resources = in_memory(Id::Tpm);
    if let Some(page) = data_buffer {
        let range = Memory32Fixed::new(true, page.start() as u32, page.length() as u32);
        resources.push(Box::new(range));
    }
    if interrupts {
        resources.push(interrupt(map::TPM_LINE));
    }
    device("TPM_", &"MSFT0101", &resources)
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
            resources.push(interrupt(line));
        }
    }
    resources
}

/// What _CRS says of an interrupt.
fn interrupt(line: Line) -> Box<dyn Aml> {
    let edge = !line.level_triggered;
    Box::new(Interrupt::new(
        true,
        edge,
        line.active_low,
        false,
        line.pin.into(),
    ))
}

/// `\_SB.<name>` with _HID, _UID, _STA and _CRS.
fn device(name: &str, id: &dyn Aml, resources: &[Box<dyn Aml>]) -> Vec<u8> {
    device_with(name, id, resources, &[])
}

/// The same, with `more` in it.
fn device_with(name: &str, id: &dyn Aml, resources: &[Box<dyn Aml>], more: &[&dyn Aml]) -> Vec<u8> {
    let unique_id = 0u8;
    let identity = Name::new("_HID".into(), id);
    let unique = Name::new("_UID".into(), &unique_id);
    let status = Name::new("_STA".into(), &STATUS);
    let resources = resources.iter().map(|resource| &**resource).collect();
    let resources = ResourceTemplate::new(resources);
    let current = Name::new("_CRS".into(), &resources);
    let mut children: Vec<&dyn Aml> = vec![&identity, &unique, &status, &current];
    children.extend_from_slice(more);
    let device = Device::new(name.into(), children);
    encoded(&Scope::new("\\_SB_".into(), vec![&device]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(part: &[u8]) -> bool {
        holds_with(None, part)
    }

    fn holds_with(pci: Option<&PciWindow>, part: &[u8]) -> bool {
        dsdt(pci, None, false)
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
    fn the_tpm_has_an_interrupt_only_where_it_is_chosen() {
        // Interrupt (ResourceConsumer, Level, ActiveLow, Exclusive) { 5 }
        let interrupt = [0x89, 6, 0, 0b0101, 1, 5, 0, 0, 0];
        for chosen in [false, true] {
            let table = dsdt(None, None, chosen);
            let mut windows = table.as_slice().windows(interrupt.len());
            assert_eq!(windows.any(|window| window == interrupt), chosen);
        }
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
    fn a_bus_with_devices_is_one_that_kernels_match() {
        let range = GpaRange::with_length(0x3980_0000, PciWindow::SIZE).unwrap();
        let window = PciWindow::new(range).unwrap();
        // Name (_HID, EisaId ("PNP0A08")), Name (_CID, EisaId ("PNP0A03"))
        for part in [
            &b"\x08_HID\x0C\x41\xD0\x0A\x08"[..],
            b"\x08_CID\x0C\x41\xD0\x0A\x03",
        ] {
            assert!(holds_with(Some(&window), part) && !holds(part));
        }
        // WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0, 0, 0, 0, 1)
        let buses = [0x88, 13, 0, 2, 0x0C, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
        assert!(holds_with(Some(&window), &buses));
        // DWordMemory (ResourceProducer, ..., NonCacheable, ReadWrite, 0, 0x39900000, 0x399FFFFF, 0, 0x100000)
        let mut memory = vec![0x87, 23, 0, 0, 0x0C, 1];
        for dword in [0_u32, 0x3990_0000, 0x399F_FFFF, 0, 0x10_0000] {
            memory.extend_from_slice(&dword.to_le_bytes());
        }
        assert!(holds_with(Some(&window), &memory));
        // PNP0C02 with Memory32Fixed (ReadWrite, 0x39800000, 0x100000)
        assert!(holds_with(Some(&window), b"\x08_HID\x0C\x41\xD0\x0C\x02"));
        let space = [0x86, 9, 0, 1, 0, 0, 0x80, 0x39, 0, 0, 0x10, 0];
        assert!(holds_with(Some(&window), &space));
    }

    #[test]
    fn s5_is_sleep_type_0() {
        // Name (\_S5, Package (4) { Zero, Zero, Zero, Zero })
        assert!(holds(b"\x08_S5_\x12\x06\x04\0\0\0\0"));
    }
}
