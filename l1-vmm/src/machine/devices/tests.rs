use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::power::Request;
use super::*;
use x86_defs::apic::Register;

/// A virtual-APIC page in plain memory.
pub(crate) struct Page([u32; 256]);

impl Default for Page {
    fn default() -> Self {
        Self([0; 256])
    }
}

impl VapicPage for Page {
    fn read(&self, offset: u16) -> u32 {
        self.0[usize::from(offset >> 4)]
    }

    fn write(&mut self, offset: u16, value: u32) {
        self.0[usize::from(offset >> 4)] = value;
    }
}

/// A TPM window that is memory, and remembers its last access.
#[derive(Default)]
pub(crate) struct Window4K(pub(crate) Vec<u8>, pub(crate) Option<(u32, usize)>);

impl MmioDevice for Window4K {
    fn read(&mut self, offset: u32, into: &mut [u8]) {
        self.1 = Some((offset, into.len()));
        into.fill(0x5A);
    }

    fn write(&mut self, offset: u32, from: &[u8]) {
        self.1 = Some((offset, from.len()));
        self.0.extend_from_slice(from);
    }
}

#[derive(Default)]
pub(crate) struct Lines {
    pub(crate) sent: Vec<u8>,
    pub(crate) arrived: VecDeque<u8>,
}

impl SerialLine for Lines {
    fn send(&mut self, byte: u8) {
        self.sent.push(byte);
    }

    fn receive(&mut self) -> Option<u8> {
        self.arrived.pop_front()
    }
}

impl ClockRegisters for Lines {
    fn read_clock(&mut self, index: u8) -> u8 {
        index
    }

    fn write_clock(&mut self, _: u8, _: u8) {}
}

fn devices() -> (Devices<Page, Window4K>, Lines) {
    (
        Devices::new(Page::default(), 40, Window4K::default()),
        Lines::default(),
    )
}

#[test]
fn ports_without_a_device_read_all_ones() {
    let (mut devices, mut lines) = devices();
    for (port, width, value) in [
        (0x80, Width::Byte, 0xFF),
        (0x60, Width::Byte, 0xFF),
        (0xCFC, Width::Dword, u32::MAX),
        (0xFFFF, Width::Word, 0xFFFF),
        (0x61, Width::Dword, u32::MAX),
    ] {
        devices.write_port(port, width, 0x1234_5678, &mut lines);
        assert_eq!(
            devices.read_port(port, width, &mut lines),
            value,
            "{port:#x}"
        );
    }
    assert!(devices.power.take_request().is_none());
}

#[test]
fn pci_probing_finds_the_mechanism_and_no_device() {
    let (mut devices, mut lines) = devices();
    devices.write_port(
        pc::PCI_CONFIG_ADDRESS,
        Width::Dword,
        0x8000_0000,
        &mut lines,
    );
    assert_eq!(
        devices.read_port(pc::PCI_CONFIG_ADDRESS, Width::Dword, &mut lines),
        0x8000_0000
    );
    assert_eq!(
        devices.read_port(pc::PCI_CONFIG_DATA, Width::Word, &mut lines),
        0xFFFF
    );
}

#[test]
fn the_power_ports_are_wired() {
    let (mut devices, mut lines) = devices();
    devices.write_port(power::PM1_CONTROL, Width::Word, 0x2001, &mut lines);
    assert_eq!(devices.power.take_request(), Some(Request::PowerOff));
    devices.write_port(pc::RESET_CONTROL, Width::Byte, 6, &mut lines);
    assert_eq!(devices.power.take_request(), Some(Request::Reset));
}

#[test]
fn the_uarts_interrupt_reaches_the_local_apic() {
    let (mut devices, mut lines) = devices();
    devices.apic.write_msr(Register::SVR, 0x1FF, 0).unwrap();
    for (offset, value) in [(0x00u64, 0x18u32), (0x10, 0x24)] {
        devices.write_memory(ioapic::BASE + offset, || 0, &value.to_le_bytes());
    }
    devices.write_port(uart::BASE + 4, Width::Byte, 0x0B, &mut lines);
    devices.write_port(uart::BASE + 1, Width::Byte, 0x01, &mut lines);
    assert!(!devices.apic.interrupt_pending());
    lines.arrived.push_back(b'x');
    devices.receive(&mut lines);
    assert_eq!(devices.apic.status().rvi, 0x24);
    assert_eq!(
        devices.read_port(uart::BASE, Width::Byte, &mut lines),
        u32::from(b'x')
    );
}

#[test]
fn windows_are_claimed_to_the_byte() {
    let (mut devices, _) = devices();
    for (gpa, window) in [
        (0xFED3_FFFF, None),
        (0xFED4_0000, Some(Window::Tpm)),
        (0xFED4_4FFF, Some(Window::Tpm)),
        (0xFED4_5000, None),
        (0xFEC0_0010, Some(Window::IoApic)),
        (0xFEC0_1000, None),
        (0xFEE0_0020, None),
    ] {
        assert_eq!(devices.window(gpa), window, "{gpa:#x}");
    }
    devices.apic.set_base(0xFEE0_0100).unwrap();
    devices.apic.set_base(0xFEE0_0900).unwrap();
    assert_eq!(devices.window(0xFEE0_0020), Some(Window::LocalApic));
}

#[test]
fn memory_accesses_reach_their_device() {
    let (mut devices, _) = devices();
    let mut bytes = [0; 4];
    devices.read_memory(0xFED4_1F00, || 0, &mut bytes);
    assert_eq!((bytes, devices.tpm.1), ([0x5A; 4], Some((0x1F00, 4))));
    devices.write_memory(0xFED4_0024, || 0, &[7]);
    assert_eq!(
        (devices.tpm.0.as_slice(), devices.tpm_accesses()),
        (&[7][..], 2)
    );
    devices.write_memory(ioapic::BASE, || 0, &[1]);
    devices.read_memory(ioapic::BASE + 0x10, || 0, &mut bytes);
    assert_eq!(u32::from_le_bytes(bytes), 0x0017_0020);
    devices.write_memory(0xFF00_0000, || 0, &[1, 2, 3, 4]);
    devices.read_memory(0xFF00_0000, || 0, &mut bytes);
    assert_eq!(bytes, [0xFF; 4]);
}
