//! The virtual platform's devices, and which of them answers where.

pub mod cmos;
pub mod ioapic;
pub mod pci;
pub mod power;
pub mod uart;

use core::ops::Range;

use l2_exit::Width;
use tcg_defs::ptp;
use x86_defs::pc;

use crate::run::environment::{MmioDevice, VapicPage};
use crate::vcpu::apic::{Effect, LocalApic, Mode};
use cmos::{ClockRegisters, Cmos};
use ioapic::IoApic;
use pci::EmptyPciBus;
use power::Power;
use uart::{SerialLine, Uart};

const PAGE: u64 = 0x1000;
const UART_PORTS: Range<u16> = uart::BASE..uart::BASE + 8;
const PCI_ADDRESS_PORTS: Range<u16> = pc::PCI_CONFIG_ADDRESS..pc::PCI_CONFIG_ADDRESS + 4;

/// The host's side of the devices that have one.
pub trait HostLines: SerialLine + ClockRegisters {}

impl<T: SerialLine + ClockRegisters> HostLines for T {}

/// A device with registers in L2's guest-physical address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The TPM.
    Tpm,
    /// The I/O APIC.
    IoApic,
    /// The local APIC in xAPIC mode.
    LocalApic,
}

/// All devices.
pub struct Devices<A, T> {
    /// The local APIC.
    pub apic: LocalApic<A>,
    /// The I/O APIC.
    pub ioapic: IoApic,
    /// COM1.
    pub uart: Uart,
    /// RTC and CMOS.
    pub cmos: Cmos,
    /// PM1 block and resets.
    pub power: Power,
    /// PCI configuration ports.
    pub pci: EmptyPciBus,
    /// The TPM's interface.
    pub tpm: T,
    tpm_accesses: u64,
    apic_mode_changed: bool,
}

impl<A: VapicPage, T: MmioDevice> Devices<A, T> {
    /// Everything as after a reset; the local APIC's timer as [`LocalApic::new`] says.
    pub fn new(vapic: A, timer_ratio: u64, tpm: T) -> Self {
        Self {
            apic: LocalApic::new(vapic, timer_ratio),
            ioapic: IoApic::new(),
            uart: Uart::new(),
            cmos: Cmos::default(),
            power: Power::default(),
            pci: EmptyPciBus::default(),
            tpm,
            tpm_accesses: 0,
            apic_mode_changed: false,
        }
    }

    /// The device at `gpa` (without the shared bit), if there is one.
    pub fn window(&self, gpa: u64) -> Option<Window> {
        if ptp::WINDOW.contains(&gpa) {
            Some(Window::Tpm)
        } else if gpa & !(PAGE - 1) == ioapic::BASE {
            Some(Window::IoApic)
        } else if gpa & !(PAGE - 1) == pc::LOCAL_APIC && self.apic.mode() == Mode::XApic {
            Some(Window::LocalApic)
        } else {
            None
        }
    }

    /// Reads at `gpa`: a device's register, or all ones where there is none.
    pub fn read_memory(&mut self, gpa: u64, now: impl FnOnce() -> u64, into: &mut [u8]) {
        match self.window(gpa) {
            Some(Window::Tpm) => {
                self.tpm_accesses += 1;
                self.tpm.read((gpa - ptp::WINDOW.start) as u32, into);
            }
            Some(Window::IoApic) => {
                let offset = gpa & (PAGE - 1);
                let value = self.ioapic.read(offset & !0xF) >> ((offset & 3) * 8);
                into.fill(0);
                for (byte, source) in into.iter_mut().zip(value.to_le_bytes()) {
                    *byte = source;
                }
            }
            Some(Window::LocalApic) => self.apic.read_page(gpa & (PAGE - 1), now(), into),
            None => into.fill(0xFF),
        }
    }

    /// Writes at `gpa`: a device's register, or nothing where there is none.
    pub fn write_memory(&mut self, gpa: u64, now: impl FnOnce() -> u64, from: &[u8]) {
        match self.window(gpa) {
            Some(Window::Tpm) => {
                self.tpm_accesses += 1;
                self.tpm.write((gpa - ptp::WINDOW.start) as u32, from);
            }
            Some(Window::IoApic) => {
                let mut value = [0; 4];
                for (byte, source) in value.iter_mut().zip(from) {
                    *byte = *source;
                }
                let offset = gpa & (PAGE - 1);
                self.ioapic
                    .write(offset, u32::from_le_bytes(value), &mut self.apic);
            }
            Some(Window::LocalApic) => {
                let effect = self.apic.write_page(gpa & (PAGE - 1), from, now());
                self.apply(effect);
            }
            None => {}
        }
    }

    /// Reads `width` bytes at `port`.
    pub fn read_port(&mut self, port: u16, width: Width, host: &mut impl HostLines) -> u32 {
        if port == pc::PCI_CONFIG_ADDRESS && width == Width::Dword {
            return self.pci.address();
        }
        let mut value = 0;
        for index in (0..width.bytes() as u16).rev() {
            let byte = self.read_port_byte(port.wrapping_add(index), host);
            value = value << 8 | u32::from(byte);
        }
        value
    }

    /// Writes the low `width` bytes of `value` at `port`.
    pub fn write_port(&mut self, port: u16, width: Width, value: u32, host: &mut impl HostLines) {
        if port == pc::PCI_CONFIG_ADDRESS && width == Width::Dword {
            return self.pci.set_address(value);
        }
        let bytes = value.to_le_bytes();
        for (index, byte) in (0..).zip(bytes).take(width.bytes() as usize) {
            self.write_port_byte(port.wrapping_add(index), byte, host);
        }
    }

    /// Takes what arrived on the serial line.
    pub fn receive(&mut self, host: &mut impl HostLines) {
        self.uart.fill(host);
        self.update_uart_line();
    }

    /// Acts on what a write to the local APIC asked for.
    pub fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::None => {}
            Effect::EndOfInterrupt(vector) => {
                self.ioapic.end_of_interrupt(vector, &mut self.apic);
            }
            Effect::ModeChanged => self.apic_mode_changed = true,
        }
    }

    /// Whether the local APIC changed its mode since the last call.
    pub fn take_apic_mode_change(&mut self) -> bool {
        core::mem::take(&mut self.apic_mode_changed)
    }

    /// Accesses to the TPM window.
    pub fn tpm_accesses(&self) -> u64 {
        self.tpm_accesses
    }

    fn read_port_byte(&mut self, port: u16, host: &mut impl HostLines) -> u8 {
        match port {
            pc::RTC_INDEX | pc::RTC_DATA => self.cmos.read(port, host),
            port if UART_PORTS.contains(&port) => {
                let value = self.uart.read(port - uart::BASE, host);
                self.update_uart_line();
                value
            }
            port if Power::claims(port) => self.power.read(port),
            _ => 0xFF,
        }
    }

    fn write_port_byte(&mut self, port: u16, value: u8, host: &mut impl HostLines) {
        match port {
            pc::POST => {}
            pc::RTC_INDEX | pc::RTC_DATA => self.cmos.write(port, value, host),
            port if UART_PORTS.contains(&port) => {
                self.uart.write(port - uart::BASE, value, host);
                self.update_uart_line();
            }
            // Mechanism 2 and byte-wise writes of CONFIG_ADDRESS go nowhere, but CF9 is there.
            pc::RESET_CONTROL => self.power.write(port, value),
            port if PCI_ADDRESS_PORTS.contains(&port) => {}
            port if Power::claims(port) => self.power.write(port, value),
            _ => {}
        }
    }

    fn update_uart_line(&mut self) {
        self.ioapic
            .set_line(uart::PIN, self.uart.interrupt(), &mut self.apic);
    }
}

#[cfg(test)]
mod tests;
