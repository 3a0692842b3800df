use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::cell::RefCell;

use x86_defs::apic::Register;
use x86_defs::pc;

use super::power::Request;
use super::*;
use crate::machine::map::PM1_CONTROL;
use crate::machine::peers::alone;
use crate::vcpu::apic::{LocalApic, VapicPage};

/// A virtual-APIC page in plain memory.
struct Page([u32; 256]);

impl VapicPage for Page {
    fn read(&self, offset: u16) -> u32 {
        self.0[usize::from(offset >> 4)]
    }

    fn write(&mut self, offset: u16, value: u32) {
        self.0[usize::from(offset >> 4)] = value;
    }
}

#[derive(Default)]
struct Lines {
    sent: Vec<u8>,
    arrived: VecDeque<u8>,
}

type Host<'a> = &'a RefCell<Lines>;

impl SerialLine for Host<'_> {
    fn send(&mut self, byte: u8) {
        self.borrow_mut().sent.push(byte);
    }

    fn receive(&mut self) -> Option<u8> {
        self.borrow_mut().arrived.pop_front()
    }
}

impl ClockRegisters for Host<'_> {
    fn read_clock(&mut self, index: u8) -> u8 {
        index
    }

    fn write_clock(&mut self, _: u8, _: u8) {}
}

/// What the TSC says.
const NOW: u64 = 2_000_000_000;

/// A local APIC in x2APIC mode.
fn x2apic() -> LocalApic<Page> {
    let mut apic = LocalApic::new(Page([0; 256]), 40);
    apic.set_base(0xFEE0_0D00).unwrap();
    apic
}

/// The devices, with a local APIC for their interrupts.
struct Machine<'a> {
    devices: Devices<Host<'a>>,
    apic: LocalApic<Page>,
}

impl<'a> Machine<'a> {
    fn new(host: Host<'a>) -> Self {
        Self {
            devices: Devices::new(host, 40, None),
            apic: x2apic(),
        }
    }

    fn read_port(&mut self, port: u16, width: Width) -> u32 {
        let devices = &mut self.devices;
        alone(&mut self.apic, |router| {
            devices.read_port(port, width, NOW, router)
        })
    }

    fn write_port(&mut self, port: u16, width: Width, value: u32) {
        let devices = &mut self.devices;
        alone(&mut self.apic, |router| {
            devices.write_port(port, width, value, NOW, router);
        });
    }

    fn read_memory(&mut self, gpa: u64, into: &mut [u8]) {
        let row = map::memory(gpa).unwrap();
        self.devices.read_memory(row, gpa, into);
    }

    fn write_memory(&mut self, gpa: u64, from: &[u8]) {
        let row = map::memory(gpa).unwrap();
        let devices = &mut self.devices;
        alone(&mut self.apic, |router| {
            devices.write_memory(row, gpa, from, router);
        });
    }
}

#[test]
fn ports_without_a_device_read_all_ones() {
    let host = RefCell::default();
    let mut machine = Machine::new(&host);
    for (port, width, value) in [
        (0x80, Width::Byte, 0xFF),
        (0x60, Width::Byte, 0xFF),
        (0xCFC, Width::Dword, u32::MAX),
        (0xFFFF, Width::Word, 0xFFFF),
        (0x62, Width::Word, 0xFFFF),
    ] {
        machine.write_port(port, width, 0x1234_5678);
        assert_eq!(machine.read_port(port, width), value, "{port:#x}");
    }
    assert!(machine.devices.take_power_request().is_none());
}

#[test]
fn pci_probing_finds_the_mechanism_and_a_host_bridge() {
    let host = RefCell::default();
    let mut machine = Machine::new(&host);
    machine.write_port(pc::PCI_CONFIG_ADDRESS, Width::Dword, 0x8000_0000);
    assert_eq!(
        machine.read_port(pc::PCI_CONFIG_ADDRESS, Width::Dword),
        0x8000_0000
    );
    // A byte of it is none of the mechanism's (PCI Local Bus 3.0, section 3.2.2.3.2).
    machine.write_port(pc::PCI_CONFIG_ADDRESS, Width::Byte, 1);
    assert_eq!(machine.read_port(pc::PCI_CONFIG_ADDRESS, Width::Byte), 0xFF);
    assert_eq!(
        machine.read_port(pc::PCI_CONFIG_ADDRESS, Width::Dword),
        0x8000_0000
    );
    assert_eq!(machine.read_port(pc::PCI_CONFIG_DATA, Width::Word), 0x8086);
    let device = machine.read_port(pc::PCI_CONFIG_DATA + 2, Width::Word);
    assert_eq!(device, 0x29C0);
    machine.write_port(pc::PCI_CONFIG_ADDRESS, Width::Dword, 0x8000_0800);
    assert_eq!(machine.read_port(pc::PCI_CONFIG_DATA, Width::Word), 0xFFFF);
}

#[test]
fn the_timers_are_told_the_time() {
    let host = RefCell::default();
    let mut machine = Machine::new(&host);
    let ticks = machine.read_port(map::PM_TIMER, Width::Dword);
    assert_eq!(ticks, 2 * 3_579_545);
    assert_eq!(
        machine.read_port(map::PM_TIMER, Width::Word),
        ticks & 0xFFFF
    );
}

#[test]
fn the_interval_timer_interrupts_through_both_controllers() {
    let host = RefCell::default();
    let mut machine = Machine::new(&host);
    for (port, value) in [
        (0x20, 0x11),
        (0x21, 0x30),
        (0x21, 0x04),
        (0x21, 0x01),
        (0x21, 0xFE),
        (0x43, 0x34),
        (0x40, 0xA4),
        (0x40, 0x12),
    ] {
        machine.write_port(port, Width::Byte, value);
    }
    for (offset, value) in [(0x00u64, 0x14u32), (0x10, 0x51)] {
        machine.write_memory(ioapic::BASE + offset, &value.to_le_bytes());
    }
    // Its output rises when its mode is set, as the data sheet's does.
    assert_eq!(machine.devices.acknowledge_interrupt(), 0x30);
    machine.write_port(0x20, Width::Byte, 0x20);
    for _ in 0..3 {
        let expiry = machine.devices.timer_expiry().unwrap();
        alone(&mut machine.apic, |router| {
            machine.devices.run_timers(expiry, router);
        });
        assert!(machine.devices.interrupt_output());
        assert_eq!(machine.devices.acknowledge_interrupt(), 0x30);
        assert!(!machine.devices.interrupt_output());
        machine.write_port(0x20, Width::Byte, 0x20);
    }
    assert_eq!(machine.apic.status().rvi, 0x51);
}

#[test]
fn the_power_ports_are_wired() {
    let host = RefCell::default();
    let mut machine = Machine::new(&host);
    machine.write_port(PM1_CONTROL, Width::Word, 0x2001);
    assert_eq!(
        machine.devices.take_power_request(),
        Some(Request::PowerOff)
    );
    machine.write_port(pc::RESET_CONTROL, Width::Byte, 6);
    assert_eq!(machine.devices.take_power_request(), Some(Request::Reset));
    machine.write_port(pc::KEYBOARD_COMMAND, Width::Byte, 0xFE);
    assert_eq!(machine.devices.take_power_request(), Some(Request::Reset));
    assert_eq!(machine.read_port(PM1_CONTROL, Width::Word), 1);
    // A word of which one byte is the reset control register.
    machine.write_port(pc::PCI_CONFIG_ADDRESS, Width::Word, 0x0600);
    assert_eq!(machine.read_port(pc::RESET_CONTROL, Width::Byte), 6);
}

#[test]
fn the_clock_is_at_its_ports() {
    let host = RefCell::default();
    let mut machine = Machine::new(&host);
    machine.write_port(pc::RTC_INDEX, Width::Byte, 7);
    assert_eq!(machine.read_port(pc::RTC_DATA, Width::Byte), 7);
    machine.write_port(pc::RTC_INDEX, Width::Byte, 0x40);
    assert_eq!(machine.read_port(pc::RTC_DATA, Width::Byte), 0);
}

/// Lets the UART interrupt on pin 4 with vector 24H.
fn listen(machine: &mut Machine<'_>) {
    machine.apic.write_msr(Register::SVR, 0x1FF, 0).unwrap();
    for (offset, value) in [(0x00u64, 0x18u32), (0x10, 0x24)] {
        machine.write_memory(ioapic::BASE + offset, &value.to_le_bytes());
    }
    machine.write_port(uart::BASE + 4, Width::Byte, 0x0B);
    machine.write_port(uart::BASE + 1, Width::Byte, 0x01);
}

#[test]
fn the_uarts_interrupt_reaches_the_local_apic() {
    let host = RefCell::<Lines>::default();
    let mut machine = Machine::new(&host);
    listen(&mut machine);
    assert!(!machine.apic.interrupt_pending());
    host.borrow_mut().arrived.push_back(b'x');
    alone(&mut machine.apic, |router| machine.devices.receive(router));
    assert_eq!(machine.apic.status().rvi, 0x24);
    assert_eq!(machine.read_port(uart::BASE, Width::Byte), u32::from(b'x'));
}

#[test]
fn windows_are_claimed_to_the_byte() {
    for (gpa, device) in [
        (0xFED3_FFFF, None),
        (0xFED4_0000, Some(Id::Tpm)),
        (0xFED4_4FFF, Some(Id::Tpm)),
        (0xFED4_5000, None),
        (0xFEC0_0010, Some(Id::IoApic)),
        (0xFEC0_1000, None),
        (0xFEE0_0020, None),
    ] {
        assert_eq!(map::memory(gpa).map(|row| row.device), device, "{gpa:#x}");
    }
    let mut apic = x2apic();
    assert!(!apic.has_page(0xFEE0_0020));
    apic.set_base(0xFEE0_0100).unwrap();
    apic.set_base(0xFEE0_0900).unwrap();
    assert!(apic.has_page(0xFEE0_0020) && !apic.has_page(0xFEE0_1000));
}

#[test]
fn memory_accesses_reach_their_device() {
    let host = RefCell::default();
    let mut machine = Machine::new(&host);
    let mut bytes = [0; 4];
    machine.write_memory(ioapic::BASE, &[1]);
    machine.read_memory(ioapic::BASE + 0x10, &mut bytes);
    assert_eq!(u32::from_le_bytes(bytes), 0x0017_0020);
}

#[test]
fn a_reset_reaches_every_device() {
    let host = RefCell::default();
    let mut machine = Machine::new(&host);
    listen(&mut machine);
    machine.write_port(pc::RTC_INDEX, Width::Byte, 7);
    machine.write_port(pc::PCI_CONFIG_ADDRESS, Width::Dword, 0x8000_0000);
    machine.write_port(pc::RESET_CONTROL, Width::Byte, 6);
    machine.write_port(uart::BASE + 7, Width::Byte, 0x77);
    machine.devices.reset();
    assert_eq!(machine.read_port(pc::RTC_DATA, Width::Byte), 0);
    assert_eq!(machine.read_port(pc::PCI_CONFIG_ADDRESS, Width::Dword), 0);
    assert_eq!(machine.read_port(pc::RESET_CONTROL, Width::Byte), 0);
    for register in [1, 4, 7] {
        let value = machine.read_port(uart::BASE + register, Width::Byte);
        assert_eq!(value, 0, "UART register {register}");
    }
    let mut entry = [0; 4];
    machine.write_memory(ioapic::BASE, &[0x18]);
    machine.read_memory(ioapic::BASE + 0x10, &mut entry);
    assert_eq!(u32::from_le_bytes(entry), 1 << 16, "pin 4 is masked");
    // What asked for the reset is still told.
    assert_eq!(machine.devices.take_power_request(), Some(Request::Reset));
}
