//! PCI configuration mechanism 1 in front of an empty bus (PCI Local Bus 3.0, section 3.2.2.3.2).

use super::Device;

/// The address latch. No device answers, so there is nothing to read behind it.
#[derive(Clone, Debug, Default)]
pub struct EmptyPciBus {
    address: u32,
}

impl EmptyPciBus {
    /// CONFIG_ADDRESS, read as a doubleword.
    pub fn address(&self) -> u32 {
        self.address
    }

    /// Writes CONFIG_ADDRESS: bits 30:24 and 1:0 are reserved and read as zero.
    pub fn set_address(&mut self, value: u32) {
        self.address = value & 0x80FF_FFFC;
    }
}

impl Device for EmptyPciBus {
    fn read(&mut self, _: u32, into: &mut [u8]) {
        for (byte, source) in into.iter_mut().zip(self.address.to_le_bytes()) {
            *byte = source;
        }
    }

    /// The map lets only doublewords pass.
    fn write(&mut self, _: u32, from: &[u8]) {
        if let Some(value) = from.first_chunk() {
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

    #[test]
    fn the_enable_bit_reads_back_as_drivers_probe_it() {
        let mut bus = EmptyPciBus::default();
        bus.set_address(0x8000_0000);
        assert_eq!(bus.address(), 0x8000_0000);
        bus.set_address(u32::MAX);
        assert_eq!(bus.address(), 0x80FF_FFFC);
    }
}
