//! Configuration space of a function of header type 0 (PCI Local Bus 3.0, chapter 6).

use x86_defs::pci;

/// Bytes of configuration space.
const SIZE: usize = pci::CONFIGURATION_SIZE as usize;

/// What a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Vendor.
    pub vendor: u16,
    /// Device.
    pub device: u16,
    /// Revision.
    pub revision: u8,
    /// Class code, of 24 bits.
    pub class: u32,
    /// Subsystem vendor and subsystem.
    pub subsystem: (u16, u16),
}

/// Registers, and which of their bits can be written.
#[derive(Clone, Debug)]
pub struct Configuration {
    bytes: [u8; SIZE],
    writable: [u8; SIZE],
    /// Where the next capability goes, and where the pointer to it is.
    next: (u8, u8),
}

impl Configuration {
    /// A function without BARs and capabilities.
    pub fn new(identity: &Identity) -> Self {
        let mut new = Self {
            bytes: [0; SIZE],
            writable: [0; SIZE],
            next: (pci::CAPABILITIES_START, pci::CAPABILITIES),
        };
        let ids = u32::from(identity.vendor) | u32::from(identity.device) << 16;
        new.put(pci::VENDOR_DEVICE, &ids.to_le_bytes());
        let class = identity.class << 8 | u32::from(identity.revision);
        new.put(pci::CLASS_REVISION, &class.to_le_bytes());
        let (vendor, subsystem) = identity.subsystem;
        let ids = u32::from(vendor) | u32::from(subsystem) << 16;
        new.put(pci::SUBSYSTEM, &ids.to_le_bytes());
        let command =
            pci::COMMAND_MEMORY | pci::COMMAND_BUS_MASTER | pci::COMMAND_INTERRUPT_DISABLE;
        new.allow(pci::COMMAND_STATUS, &command.to_le_bytes());
        new
    }

    /// Adds a BAR of memory below 4 GiB: `size` bytes (a power of two) at `address`.
    pub fn add_bar(&mut self, index: u8, address: u32, size: u32) {
        let at = pci::BAR + 4 * index;
        let mask = pci::BAR_ADDRESS & !size.wrapping_sub(1);
        self.put(at, &(address & mask | pci::BAR_TYPE_32).to_le_bytes());
        self.allow(at, &mask.to_le_bytes());
    }

    /// Adds a capability: `body` is what follows its identity and the pointer to the next. Returns its offset.
    pub fn add_capability(&mut self, id: u8, body: &[u8]) -> u8 {
        let (at, pointer) = self.next;
        self.put(pointer, &[at]);
        self.put(at, &[id, 0]);
        self.put(at.saturating_add(2), body);
        let end = usize::from(at) + 2 + body.len();
        self.next = (end.next_multiple_of(4) as u8, at + 1);
        let status = pci::STATUS_CAPABILITIES.to_le_bytes();
        self.put(pci::COMMAND_STATUS + 2, &status);
        at
    }

    /// Lets the bits of `mask` at `at` be written.
    pub fn allow(&mut self, at: u8, mask: &[u8]) {
        for (place, bits) in self.writable.iter_mut().skip(at.into()).zip(mask) {
            *place = *bits;
        }
    }

    fn put(&mut self, at: u8, bytes: &[u8]) {
        for (place, byte) in self.bytes.iter_mut().skip(at.into()).zip(bytes) {
            *place = *byte;
        }
    }

    /// Reads from `at` on; all ones behind the end.
    pub fn read(&self, at: u16, into: &mut [u8]) {
        into.fill(0xFF);
        let source = self.bytes.iter().skip(at.into());
        for (byte, source) in into.iter_mut().zip(source) {
            *byte = *source;
        }
    }

    /// Writes what can be written from `at` on.
    pub fn write(&mut self, at: u16, from: &[u8]) {
        let places = self.bytes.iter_mut().zip(&self.writable);
        for ((place, mask), byte) in places.skip(at.into()).zip(from) {
            *place = *place & !mask | byte & mask;
        }
    }

    /// The 16 bits at `at`.
    pub fn word(&self, at: u8) -> u16 {
        self.dword(at) as u16
    }

    /// The 32 bits at `at`.
    pub fn dword(&self, at: u8) -> u32 {
        let mut bytes = [0; 4];
        self.read(at.into(), &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// Address of a BAR, if the function answers there.
    pub fn bar(&self, index: u8) -> Option<u64> {
        let decodes = self.word(pci::COMMAND_STATUS) & pci::COMMAND_MEMORY != 0;
        let address = self.dword(pci::BAR + 4 * index) & pci::BAR_ADDRESS;
        decodes.then_some(address.into())
    }

    /// Whether the function may access memory, and send interrupts.
    pub fn bus_master(&self) -> bool {
        self.word(pci::COMMAND_STATUS) & pci::COMMAND_BUS_MASTER != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration() -> Configuration {
        Configuration::new(&Identity {
            vendor: 0x1AF4,
            device: 0x1044,
            revision: 1,
            class: 0xFF_0000,
            subsystem: (0x1AF4, 0x1100),
        })
    }

    fn read(configuration: &Configuration, at: u16) -> u32 {
        let mut bytes = [0; 4];
        configuration.read(at, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    #[test]
    fn identity_is_where_it_belongs_and_stays() {
        let mut one = configuration();
        one.write(0, &[0; 4]);
        one.write(8, &[0; 4]);
        one.write(0x2C, &[0; 4]);
        assert_eq!(read(&one, 0), 0x1044_1AF4);
        assert_eq!(read(&one, 8), 0xFF00_0001);
        assert_eq!(read(&one, 0x2C), 0x1100_1AF4);
        assert_eq!(
            (read(&one, 0x0C), read(&one, 0x3C)),
            (0, 0),
            "type 0, no interrupt pin"
        );
        assert_eq!(read(&one, 0xFE), 0xFFFF_0000, "behind the end");
        assert_eq!(read(&one, 0x100), u32::MAX);
    }

    #[test]
    fn a_bar_tells_its_size_and_answers_when_it_is_told_to() {
        let mut one = configuration();
        one.add_bar(1, 0xC000_4000, 0x4000);
        assert_eq!((read(&one, 0x14), one.bar(1)), (0xC000_4000, None));
        one.write(0x14, &[0xFF; 4]);
        assert_eq!(read(&one, 0x14), 0xFFFF_C000);
        one.write(0x14, &0xC001_2345_u32.to_le_bytes());
        one.write(4, &[2, 0]);
        assert_eq!(one.bar(1), Some(0xC001_0000));
        one.write(0x10, &[0xFF; 4]);
        assert_eq!(read(&one, 0x10), 0, "no such BAR");
    }

    #[test]
    fn the_command_register_keeps_what_a_function_without_ports_and_lines_has() {
        let mut one = configuration();
        one.write(4, &[0xFF; 4]);
        assert_eq!(read(&one, 4), 0x0406);
        assert!(one.bus_master());
    }

    #[test]
    fn capabilities_are_a_list() {
        let mut one = configuration();
        let first = one.add_capability(9, &[7, 1, 2, 3, 4]);
        let second = one.add_capability(0x11, &[1, 0]);
        assert_eq!((first, second), (0x40, 0x48));
        assert_eq!(read(&one, 4) >> 16, 0x10, "there is a list");
        assert_eq!(read(&one, 0x34), 0x40);
        assert_eq!(read(&one, 0x40), 0x0107_4809);
        assert_eq!(read(&one, 0x48), 0x0001_0011);
        one.allow(second + 2, &[0, 0xC0]);
        one.write(0x48, &[0xFF; 4]);
        assert_eq!(read(&one, 0x48), 0xC001_0011);
    }
}
