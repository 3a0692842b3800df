//! L2's PCI bus: a host bridge, and behind it the virtio devices that L2 was given; by configuration mechanism 1 (PCI Local
//! Bus 3.0, section 3.2.2.3.2), and by memory where there are devices.
//!
//! Linux takes the mechanism for working only if it finds a host bridge or a display behind it (`pci_sanity_check`),
//! and says that it found no way to PCI where it does not: an error to whoever reads it. The bridge is the one that
//! firmware for QEMU's q35 machine looks for, too.
//!
//! * [`window`]: the addresses that devices have.
//! * [`configuration`], [`msix`]: what a function consists of.

pub mod configuration;
pub mod msix;
#[cfg(test)]
mod tests;
pub mod window;

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::Device;
use super::ioapic::MessageSink;
use super::virtio::backend::Backend;
use super::virtio::function::{BARS_SIZE, Function, Place};
use crate::run::environment::L2Memory;
use window::PciWindow;
use x86_defs::pc::{PCI_CONFIG_ADDRESS, PCI_CONFIG_DATA};
use x86_defs::pci::{
    CLASS_HOST_BRIDGE, CLASS_REVISION, CONFIG_ENABLE, CONFIGURATION_SIZE, ECAM_BUS, ECAM_FUNCTION,
    VENDOR_DEVICE,
};

/// CONFIG_ADDRESS: the bits that are kept; the others are reserved and read as zero.
const ADDRESS_WRITABLE: u32 = 0x80FF_FFFC;
/// CONFIG_ADDRESS: the dword of a function.
const DWORD: u32 = 0xFC;
/// CONFIG_ADDRESS: where the number of the function is, of 8 bits, and that of the bus above it.
const FUNCTION_SHIFT: u32 = 8;

/// 82G33 DRAM controller.
const HOST_BRIDGE: u32 = 0x29C0_8086;

/// The devices that L2 is given, and addresses for them.
pub struct Bus<B: ?Sized = dyn Backend> {
    /// Addresses of configuration space and of BARs.
    pub window: PciWindow,
    /// What is behind each device, in the order in which they come on the bus.
    pub backends: Vec<Box<B>>,
}

/// The address latch, the host bridge at 00:00.0, and a virtio device at each of the places behind it. It calls its
/// registers at ports by their ports.
pub struct PciHost<B: ?Sized = dyn Backend> {
    address: u32,
    window: PciWindow,
    functions: Vec<Function<B>>,
}

impl<B: ?Sized> Default for PciHost<B> {
    fn default() -> Self {
        Self {
            address: 0,
            window: PciWindow::default(),
            functions: Vec::new(),
        }
    }
}

impl<B: Backend + ?Sized> PciHost<B> {
    /// The bridge with the devices of `bus` behind it; those that have no place there are left out.
    pub fn new(bus: Bus<B>) -> Self {
        let bars = bus.window.bars();
        let places = (bars.start()..bars.end()).step_by(BARS_SIZE as usize);
        let functions = bus.backends.into_iter().zip(places);
        Self {
            address: 0,
            window: bus.window,
            functions: functions
                .filter_map(|(backend, bars)| Some(Function::new(backend, bars.try_into().ok()?)))
                .take(usize::from(x86_defs::pci::DEVICES) - 1)
                .collect(),
        }
    }

    /// CONFIG_ADDRESS, read as a doubleword.
    pub fn address(&self) -> u32 {
        self.address
    }

    /// Writes CONFIG_ADDRESS.
    pub fn set_address(&mut self, value: u32) {
        self.address = value & ADDRESS_WRITABLE;
    }

    /// The devices' functions.
    pub fn functions(&self) -> &[Function<B>] {
        &self.functions
    }

    /// Logs what each device has moved.
    pub fn log_traffic(&self) {
        for (place, function) in (1..).zip(&self.functions) {
            let device = function.device();
            device.traffic().log(device.backend().kind(), place);
        }
    }

    /// Whether `gpa` is an address of the bus.
    pub fn claims(&self, gpa: u64) -> bool {
        self.window.contains(gpa)
    }

    /// Reads memory at `gpa`: all ones where nothing answers.
    pub fn read_memory(&mut self, gpa: u64, into: &mut [u8]) {
        if let Some((number, at)) = self.mapped_configuration(gpa) {
            self.read_configuration(number, at, into);
        } else if let Some((function, place)) = self.register(gpa, into.len()) {
            function.read(place, into);
        } else {
            into.fill(0xFF);
        }
    }

    /// Writes memory at `gpa`: lost where nothing answers.
    pub fn write_memory(&mut self, gpa: u64, from: &[u8]) {
        if let Some((number, at)) = self.mapped_configuration(gpa) {
            self.write_configuration(number, at, from);
        } else if let Some((function, place)) = self.register(gpa, from.len()) {
            function.write(place, from);
        }
    }

    /// Moves requests and sends interrupts of every device.
    pub fn serve(&mut self, memory: &impl L2Memory, sink: &mut impl MessageSink) {
        for function in &mut self.functions {
            function.serve(memory, sink);
        }
    }

    /// Number of the function, with the bus above it, and the register that is at `gpa`.
    fn mapped_configuration(&self, gpa: u64) -> Option<(u32, u16)> {
        let offset = gpa.checked_sub(self.window.configuration().start())?;
        let number = u32::try_from(offset / ECAM_FUNCTION).ok()?;
        (offset < ECAM_BUS).then_some((number, (offset % ECAM_FUNCTION) as u16))
    }

    /// The first function that answers to `length` bytes at `gpa`, which are in the window: a BAR that is elsewhere
    /// answers to nothing.
    fn register(&mut self, gpa: u64, length: usize) -> Option<(&mut Function<B>, Place)> {
        self.functions.iter_mut().find_map(|function| {
            let place = function.place(gpa, length)?;
            Some((function, place))
        })
    }

    /// Function `number`, in bits 2:0 the function, above them the device, above them the bus.
    fn function(&mut self, number: u32) -> Option<&mut Function<B>> {
        let device = number.checked_sub(8)? / 8;
        let first = number.is_multiple_of(8);
        let function = self.functions.get_mut(usize::try_from(device).ok()?);
        function.filter(|_| first)
    }

    fn read_configuration(&mut self, number: u32, at: u16, into: &mut [u8]) {
        if number == 0 && at < CONFIGURATION_SIZE {
            for (at, byte) in (at..).zip(into) {
                let dword = match (at & !3) as u8 {
                    VENDOR_DEVICE => HOST_BRIDGE,
                    CLASS_REVISION => CLASS_HOST_BRIDGE << 8,
                    _ => 0,
                };
                *byte = (dword >> (8 * (at & 3))) as u8;
            }
        } else if let Some(function) = self.function(number) {
            function.read_configuration(at, into);
        } else {
            into.fill(0xFF);
        }
    }

    fn write_configuration(&mut self, number: u32, at: u16, from: &[u8]) {
        if let Some(function) = self.function(number) {
            function.write_configuration(at, from);
        }
    }

    /// The function and the register that CONFIG_DATA is, `skipped` bytes on.
    fn addressed(&self, skipped: u32) -> Option<(u32, u16)> {
        let register = (self.address & DWORD) as u16;
        let number = (self.address & !CONFIG_ENABLE) >> FUNCTION_SHIFT;
        let enabled = self.address & CONFIG_ENABLE != 0;
        enabled.then_some((number, register + (skipped & 3) as u16))
    }
}

impl<B: Backend + ?Sized> Device for PciHost<B> {
    /// `offset` is the port.
    fn read(&mut self, offset: u32, into: &mut [u8]) {
        let Some(skipped) = offset.checked_sub(PCI_CONFIG_DATA.into()) else {
            let source = self.address.to_le_bytes();
            for (byte, source) in into.iter_mut().zip(source) {
                *byte = source;
            }
            return;
        };
        match self.addressed(skipped) {
            Some((number, at)) => self.read_configuration(number, at, into),
            None => into.fill(0xFF),
        }
    }

    /// `offset` is the port. The map lets only doublewords of the address pass.
    fn write(&mut self, offset: u32, from: &[u8]) {
        if let Some(skipped) = offset.checked_sub(PCI_CONFIG_DATA.into()) {
            if let Some((number, at)) = self.addressed(skipped) {
                self.write_configuration(number, at, from);
            }
        } else if offset == u32::from(PCI_CONFIG_ADDRESS)
            && let Some(value) = from.first_chunk()
        {
            self.set_address(u32::from_le_bytes(*value));
        }
    }

    fn reset(&mut self) {
        self.address = 0;
        for function in &mut self.functions {
            function.reset();
        }
    }
}
