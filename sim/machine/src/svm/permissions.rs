//! The permission maps: which ports and MSRs end a run (APM volume 2, 15.10 and 15.11).

use alloc::boxed::Box;

/// Every port ends a run.
#[derive(Debug)]
#[repr(C, align(4096))]
pub(crate) struct PortPermissions([u8; 0x3000]);

impl PortPermissions {
    /// The address of the one map that all VMs have.
    pub(crate) fn all_intercepted() -> u64 {
        static ALL: PortPermissions = PortPermissions([0xFF; 0x3000]);
        ALL.0.as_ptr().expose_provenance() as u64
    }
}

/// Two bits an MSR: read, write.
#[derive(Debug)]
#[repr(C, align(4096))]
pub(crate) struct MsrPermissions([u8; 0x2000]);

impl MsrPermissions {
    pub(crate) fn all_intercepted() -> Box<Self> {
        Box::new(Self([0xFF; 0x2000]))
    }

    pub(crate) fn address(&self) -> u64 {
        self.0.as_ptr().expose_provenance() as u64
    }

    /// Sets both bits of an MSR. One outside the map always ends a run.
    pub(crate) fn set(&mut self, msr: u32, read: bool, write: bool) {
        let base = match msr {
            0..=0x1FFF => 0,
            0xC000_0000..=0xC000_1FFF => 0x800,
            0xC001_0000..=0xC001_1FFF => 0x1000,
            _ => return,
        };
        let index = (msr & 0x1FFF) as usize;
        let byte = &mut self.0[base + index / 4];
        let shift = index % 4 * 2;
        *byte = *byte & !(3 << shift) | (u8::from(write) << 1 | u8::from(read)) << shift;
    }
}
