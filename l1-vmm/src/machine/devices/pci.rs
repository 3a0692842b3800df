//! PCI configuration mechanism 1 in front of an empty bus (PCI Local Bus 3.0, section 3.2.2.3.2).

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
