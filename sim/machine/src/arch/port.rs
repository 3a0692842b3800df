//! Port I/O.

use core::arch::asm;

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
}
