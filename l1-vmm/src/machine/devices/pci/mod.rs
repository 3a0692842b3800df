//! PCI configuration mechanism 1 (PCI Local Bus 3.0, section 3.2.2.3.2) in front of a host bridge that has
//! nothing behind it.
//!
//! Linux takes the mechanism for working only if it finds a host bridge or a display behind it (`pci_sanity_check`),
//! and says that it found no way to PCI where it does not: an error to whoever reads it. The bridge is the one that
//! firmware for QEMU's q35 machine looks for, too.

use super::Device;
use x86_defs::pc::{PCI_CONFIG_ADDRESS, PCI_CONFIG_DATA};
use x86_defs::pci::CONFIG_ENABLE;

/// CONFIG_ADDRESS: the bits that are kept; the others are reserved and read as zero.
const ADDRESS_WRITABLE: u32 = 0x80FF_FFFC;
/// CONFIG_ADDRESS: the dword of a function.
const DWORD: u32 = 0xFC;

/// 82G33 DRAM controller.
const HOST_BRIDGE: u32 = 0x29C0_8086;
/// Class code 060000H: a bridge to the host.
const CLASS: u32 = 0x0600_0000;

/// The address latch, and the host bridge at 00:00.0. It calls its registers by their ports.
#[derive(Clone, Debug, Default)]
pub struct PciHost {
    address: u32,
}

impl PciHost {
    /// CONFIG_ADDRESS, read as a doubleword.
    pub fn address(&self) -> u32 {
        self.address
    }

    /// Writes CONFIG_ADDRESS.
    pub fn set_address(&mut self, value: u32) {
        self.address = value & ADDRESS_WRITABLE;
    }

    /// The dword that the address is of: all ones where no function is.
    fn data(&self) -> u32 {
        match (self.address & !DWORD, self.address & DWORD) {
            (CONFIG_ENABLE, 0x00) => HOST_BRIDGE,
            (CONFIG_ENABLE, 0x08) => CLASS,
            (CONFIG_ENABLE, _) => 0,
            _ => u32::MAX,
        }
    }
}

impl Device for PciHost {
    /// `offset` is the port.
    fn read(&mut self, offset: u32, into: &mut [u8]) {
        let (value, skipped) = match offset.checked_sub(PCI_CONFIG_DATA.into()) {
            Some(skipped) => (self.data(), skipped),
            None => (self.address, 0),
        };
        let source = value.to_le_bytes();
        for (index, byte) in into.iter_mut().enumerate() {
            let at = skipped as usize + index;
            *byte = source.get(at).copied().unwrap_or(0xFF);
        }
    }

    /// `offset` is the port. The map lets only doublewords of the address pass; nothing behind it can be written.
    fn write(&mut self, offset: u32, from: &[u8]) {
        if offset == u32::from(PCI_CONFIG_ADDRESS)
            && let Some(value) = from.first_chunk()
        {
            self.set_address(u32::from_le_bytes(*value));
        }
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(host: &mut PciHost, address: u32, offset: u32, width: usize) -> u32 {
        host.set_address(address);
        let mut bytes = [0; 4];
        host.read(0xCFC + offset, &mut bytes[..width]);
        u32::from_le_bytes(bytes)
    }

    #[test]
    fn the_enable_bit_reads_back_as_drivers_probe_it() {
        let mut host = PciHost::default();
        host.set_address(0x8000_0000);
        assert_eq!(host.address(), 0x8000_0000);
        host.set_address(u32::MAX);
        assert_eq!(host.address(), 0x80FF_FFFC);
    }

    #[test]
    fn there_is_a_host_bridge_and_nothing_else() {
        let mut host = PciHost::default();
        assert_eq!(data(&mut host, 0x8000_0000, 0, 4), 0x29C0_8086);
        assert_eq!(data(&mut host, 0x8000_0000, 2, 2), 0x29C0);
        assert_eq!(data(&mut host, 0x8000_0008, 2, 2), 0x0600);
        assert_eq!(data(&mut host, 0x8000_000C, 2, 1), 0, "one function");
        assert_eq!(data(&mut host, 0x8000_0010, 0, 4), 0, "no BAR");
        for absent in [0x8000_0100, 0x8000_0800, 0x8001_0000, 0x8080_0000, 0] {
            assert_eq!(data(&mut host, absent, 0, 4), u32::MAX, "{absent:#x}");
        }
    }
}
