//! Port I/O.

use core::arch::asm;

use super::serial::Line;

/// A port of one of the machine's devices that cannot reach memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Port(u16);

impl Port {
    /// `-debugcon`: a byte written is a byte of the log.
    pub(crate) const DEBUGCON: Self = Self(0xE9);
    /// `-device isa-debug-exit`: ends QEMU with status `2 * value + 1`.
    pub(crate) const DEBUG_EXIT: Self = Self(0xF4);
    pub(crate) const RTC_INDEX: Self = Self(0x70);
    pub(crate) const RTC_DATA: Self = Self(0x71);
    pub(crate) const PIC_MASTER_MASK: Self = Self(0x21);
    pub(crate) const PIC_SLAVE_MASK: Self = Self(0xA1);

    /// Configuration mechanism 1 of QEMU's PCI bus, which [`super::pci`] uses.
    pub(super) const PCI_ADDRESS: Self = Self(x86_defs::pc::PCI_CONFIG_ADDRESS);
    pub(super) const PCI_DATA: Self = Self(x86_defs::pc::PCI_CONFIG_DATA);

    /// The register of a serial port at an offset below 8.
    pub(super) const fn serial(line: Line, offset: u16) -> Self {
        let first = match line {
            Line::Com2 => x86_defs::pc::COM2,
            Line::Com3 => x86_defs::pc::COM3,
        };
        Self(first + (offset & 7))
    }

    /// One of the eight registers of COM1; None if `port` is none of them.
    pub(crate) fn com1(port: u16) -> Option<Self> {
        (0x3F8..=0x3FF).contains(&port).then_some(Self(port))
    }

    pub(crate) fn write8(self, value: u8) {
        // SAFETY: the devices behind the ports of this type have no access to memory.
        unsafe { asm!("out dx, al", in("dx") self.0, in("al") value, options(nomem, nostack)) };
    }

    pub(crate) fn read8(self) -> u8 {
        let value: u8;
        // SAFETY: as for writing.
        unsafe { asm!("in al, dx", in("dx") self.0, out("al") value, options(nomem, nostack)) };
        value
    }

    pub(super) fn write32(self, value: u32) {
        // SAFETY: only `super::pci` has ports of doublewords. It puts BARs where no RAM is, and devices of its bus access
        // what the IOMMU lets them, which is no memory of this program's.
        unsafe { asm!("out dx, eax", in("dx") self.0, in("eax") value, options(nomem, nostack)) };
    }

    pub(super) fn read32(self) -> u32 {
        let value: u32;
        // SAFETY: as for writing.
        unsafe { asm!("in eax, dx", in("dx") self.0, out("eax") value, options(nomem, nostack)) };
        value
    }
}
