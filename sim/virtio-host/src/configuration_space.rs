//! Configuration space of a function (PCI Local Bus 3.0, chapter 6).

use x86_defs::pci;

/// Bytes of it.
const SIZE: usize = pci::CONFIGURATION_SIZE as usize;

/// 256 bytes, some bits of which can be written.
#[derive(Clone, Debug)]
pub(crate) struct ConfigurationSpace {
    bytes: [u8; SIZE],
    writable: [u8; SIZE],
    /// Where the next capability goes, and where its offset has to be written.
    next: u8,
    link: u8,
}

impl ConfigurationSpace {
    /// A function of header type 0 with this vendor (lower half) and device, class and revision (lowest byte), and
    /// subsystem.
    pub(crate) fn new(identity: u32, class_revision: u32, subsystem: u32) -> Self {
        let mut space = Self {
            bytes: [0; SIZE],
            writable: [0; SIZE],
            next: pci::CAPABILITIES_START,
            link: pci::CAPABILITIES,
        };
        space.set(pci::VENDOR_DEVICE, identity);
        space.set(pci::CLASS_REVISION, class_revision);
        space.set(pci::SUBSYSTEM, subsystem);
        space
    }

    /// Sets a doubleword that can only be read.
    fn set(&mut self, offset: u8, value: u32) {
        self.put(offset, &value.to_le_bytes());
    }

    fn put(&mut self, offset: u8, from: &[u8]) {
        let places = self.bytes.iter_mut().skip(offset.into());
        for (place, byte) in places.zip(from) {
            *place = *byte;
        }
    }

    /// Lets bits of a doubleword be written.
    pub(crate) fn allow(&mut self, offset: u8, bits: u32) {
        let places = self.writable.iter_mut().skip(offset.into());
        for (place, byte) in places.zip(bits.to_le_bytes()) {
            *place |= byte;
        }
    }

    /// A memory BAR of `size` bytes, a power of two.
    pub(crate) fn add_bar(&mut self, index: u8, kind: u32, size: u64) {
        let register = pci::BAR + 4 * index;
        self.set(register, kind);
        let mask = !(size - 1);
        self.allow(register, mask as u32 & pci::BAR_ADDRESS);
        if kind & pci::BAR_TYPE == pci::BAR_TYPE_64 {
            self.allow(register + 4, (mask >> 32) as u32);
        }
    }

    /// The address of a BAR.
    pub(crate) fn bar(&self, index: u8) -> u64 {
        let register = pci::BAR + 4 * index;
        let low = self.doubleword(register);
        let high = match low & pci::BAR_TYPE {
            pci::BAR_TYPE_64 => self.doubleword(register + 4),
            _ => 0,
        };
        u64::from(low & pci::BAR_ADDRESS) | u64::from(high) << 32
    }

    /// Adds a capability to the list: `bytes` are what follows its identity and the pointer to the next. Gives its offset.
    pub(crate) fn add_capability(&mut self, identity: u8, bytes: &[u8]) -> u8 {
        let offset = self.next;
        self.put(self.link, &[offset]);
        self.put(offset, &[identity, 0]);
        self.put(offset + 2, bytes);
        self.link = offset + 1;
        self.next = (offset + 2 + bytes.len() as u8).next_multiple_of(4);
        let status = u32::from(pci::STATUS_CAPABILITIES) << 16;
        self.set(pci::COMMAND_STATUS, status);
        offset
    }

    /// The command register.
    pub(crate) fn command(&self) -> u16 {
        self.doubleword(pci::COMMAND_STATUS) as u16
    }

    /// A doubleword; `offset` is a multiple of 4.
    pub(crate) fn doubleword(&self, offset: u8) -> u32 {
        let mut word = [0; 4];
        let bytes = self.bytes.iter().skip(usize::from(offset & !3));
        for (place, byte) in word.iter_mut().zip(bytes) {
            *place = *byte;
        }
        u32::from_le_bytes(word)
    }

    /// Writes the bytes of `value` from `offset` on, as far as they can be written.
    pub(crate) fn write(&mut self, offset: u8, value: &[u8]) {
        let start = usize::from(offset);
        let places = self.bytes.iter_mut().zip(self.writable).skip(start);
        for ((place, mask), byte) in places.zip(value) {
            *place = *place & !mask | byte & mask;
        }
    }

    /// Changes a byte whatever it is.
    pub(crate) fn force(&mut self, offset: u8, value: u8) {
        self.put(offset, &[value]);
    }
}
