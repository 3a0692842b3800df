//! The host's PCI bus 0: configuration mechanism 1, and the BARs of its functions.

use alloc::vec::Vec;

use crate::configuration_space::ConfigurationSpace;
use crate::function::Function;
use crate::memory::Memory;
use crate::msix::Message;
use x86_defs::pc::{PCI_CONFIG_ADDRESS, PCI_CONFIG_DATA};
use x86_defs::pci::CONFIG_ENABLE;

/// The host bridge of QEMU's q35 (82G33 memory controller hub), so that the bus looks like one: vendor in the lower half.
const HOST_BRIDGE: u32 = 0x29C0_8086;
/// Class of a host bridge, revision 0.
const HOST_BRIDGE_CLASS: u32 = 0x0600_0000;

/// A bus with functions, each of them function 0 of its device.
#[derive(Debug)]
pub struct Bus {
    /// CONFIG_ADDRESS.
    address: u32,
    bridge: ConfigurationSpace,
    /// Functions by device number.
    functions: Vec<(u8, Function)>,
    /// Exits to the host so far.
    exits: u64,
}

impl Default for Bus {
    fn default() -> Self {
        Self::new()
    }
}

impl Bus {
    /// A bus with a host bridge at device 0, and nothing else.
    pub fn new() -> Self {
        Self {
            address: 0,
            bridge: ConfigurationSpace::new(HOST_BRIDGE, HOST_BRIDGE_CLASS, 0),
            functions: Vec::new(),
            exits: 0,
        }
    }

    /// Puts a function at a device number, 1 to 31. What is there already stays before it.
    pub fn add(&mut self, device: u8, function: Function) {
        self.functions.push((device, function));
    }

    /// The function at a device number.
    pub fn function(&self, device: u8) -> Option<&Function> {
        let mut functions = self.functions.iter();
        functions.find_map(|(at, function)| (*at == device).then_some(function))
    }

    fn selected(&mut self) -> Option<&mut Function> {
        let [_, device_function, bus, enable] = self.address.to_le_bytes();
        let here =
            enable & (CONFIG_ENABLE >> 24) as u8 != 0 && bus == 0 && device_function & 7 == 0;
        let mut functions = self.functions.iter_mut().filter(|_| here);
        functions.find_map(|(at, function)| (*at == device_function >> 3).then_some(function))
    }

    fn bridge_is_selected(&self) -> bool {
        self.address & !0xFF == CONFIG_ENABLE
    }

    /// IN of `width` bytes; none if the port is not the bus's.
    pub fn port_read(&mut self, port: u16, width: u32) -> Option<u32> {
        if (port, width) == (PCI_CONFIG_ADDRESS, 4) {
            return Some(self.address);
        }
        let shift = data_offset(port, width)?;
        let offset = self.address as u8 & !3;
        let value = if self.bridge_is_selected() {
            self.bridge.doubleword(offset)
        } else {
            self.selected()
                .map_or(u32::MAX, |function| function.configuration_read(offset))
        };
        let mask = u32::MAX >> (32 - 8 * width);
        Some(value >> (8 * shift) & mask)
    }

    /// OUT of `width` bytes; none if the port is not the bus's.
    pub fn port_write(
        &mut self,
        port: u16,
        width: u32,
        value: u32,
        memory: &dyn Memory,
    ) -> Option<()> {
        if (port, width) == (PCI_CONFIG_ADDRESS, 4) {
            self.address = value;
            return Some(());
        }
        let shift = data_offset(port, width)?;
        let offset = (self.address as u8 & !3) + shift as u8;
        let bytes = value.to_le_bytes();
        let bytes = bytes.get(..width as usize)?;
        if let Some(function) = self.selected() {
            function.configuration_write(offset, bytes, memory);
        }
        Some(())
    }

    /// A read of 1, 2, 4 or 8 bytes; none if no BAR answers.
    pub fn read(&mut self, gpa: u64, width: u32) -> Option<u64> {
        let mut functions = self.functions.iter_mut();
        functions.find_map(|(_, function)| function.read(gpa, width))
    }

    /// Nanoseconds that a read takes: 0 but for a device that is slow.
    pub fn read_time(&self, gpa: u64, width: u32) -> u64 {
        let mut functions = self.functions.iter();
        let time = functions.find_map(|(_, function)| function.read_time(gpa, width));
        time.unwrap_or(0)
    }

    /// A write; none if no BAR answers.
    pub fn write(&mut self, gpa: u64, width: u32, value: u64, memory: &dyn Memory) -> Option<()> {
        let mut functions = self.functions.iter_mut();
        functions.find_map(|(_, function)| function.write(gpa, width, value, memory))
    }

    /// Lets the devices look at what is outside.
    pub fn poll(&mut self, memory: &dyn Memory) {
        for (_, function) in &mut self.functions {
            function.work(memory);
        }
    }

    /// The TD has left to the host, by itself or by an exit of L2's.
    pub fn exited(&mut self) {
        self.exits += 1;
        for (_, function) in &mut self.functions {
            function.storm(self.exits);
        }
    }

    /// The guest makes a mark: lies may begin and end with it.
    pub fn mark(&mut self, value: u8) {
        for (_, function) in &mut self.functions {
            function.mark(value);
        }
    }

    /// The interrupts that were sent since this was last asked.
    pub fn take_messages(&mut self) -> Vec<Message> {
        let functions = self.functions.iter_mut();
        functions
            .flat_map(|(_, function)| function.take_messages())
            .collect()
    }

    /// Whether there is still power.
    pub fn has_power(&self) -> bool {
        self.functions.iter().all(|(_, f)| f.has_power())
    }

    /// Whether something outside can bring an interrupt about.
    pub fn hears_the_outside(&self) -> bool {
        self.functions.iter().any(|(_, f)| f.hears_the_outside())
    }
}

/// How far into CONFIG_DATA an access begins, if it is inside.
fn data_offset(port: u16, width: u32) -> Option<u32> {
    let offset = u32::from(port.checked_sub(PCI_CONFIG_DATA)?);
    (offset.is_multiple_of(width) && offset + width <= 4).then_some(offset)
}
