//! The IOAPIC that the host gives L1: one pin is wired, COM1's (82093AA data sheet, section 3).

use tdx_defs::ghci::MmioWidth;

/// Where it is.
pub(crate) const BASE: u64 = x86_defs::pc::IO_APIC;
/// How much of the address space it takes.
pub(crate) const SIZE: u64 = 0x1000;
/// COM1's interrupt on a PC.
pub(crate) const COM1_PIN: usize = x86_defs::pc::COM1_IRQ as usize;

const PINS: usize = x86_defs::ioapic::PINS;
const SELECT: u64 = x86_defs::ioapic::INDEX;
const WINDOW: u64 = x86_defs::ioapic::WINDOW;
const VERSION: u32 = 0x0017_0020;
const MASKED: u64 = 1 << 16;
/// Delivery status and remote IRR.
const READ_ONLY: u64 = 1 << 12 | 1 << 14;

/// What an edge comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interrupt {
    pub(crate) vector: u8,
    /// The destination, in physical mode.
    pub(crate) apic_id: u32,
}

/// The registers.
#[derive(Debug)]
pub(crate) struct IoApic {
    select: u32,
    redirection: [u64; PINS],
    /// An edge came while the pin was masked.
    latched: [bool; PINS],
}

impl IoApic {
    pub(crate) fn new() -> Self {
        Self {
            select: 0,
            redirection: [MASKED; PINS],
            latched: [false; PINS],
        }
    }

    /// An MMIO read at an offset; None if the device has no such access.
    pub(crate) fn read(&self, offset: u64, width: MmioWidth) -> Option<u32> {
        if width != MmioWidth::Dword {
            return None;
        }
        Some(match (offset, self.select) {
            (SELECT, _) => self.select,
            (WINDOW, 0) => 0,
            (WINDOW, 1) => VERSION,
            (WINDOW, register) => {
                let (pin, high) = entry(register)?;
                let value = self.redirection[pin];
                if high {
                    (value >> 32) as u32
                } else {
                    value as u32
                }
            }
            _ => return None,
        })
    }

    /// An MMIO write. `Some(Some(_))`: an interrupt that was waiting is delivered.
    pub(crate) fn write(
        &mut self,
        offset: u64,
        width: MmioWidth,
        value: u32,
    ) -> Option<Option<Interrupt>> {
        if width != MmioWidth::Dword {
            return None;
        }
        match offset {
            SELECT => self.select = value & 0xFF,
            WINDOW if self.select < 0x10 => {}
            WINDOW => {
                let (pin, high) = entry(self.select)?;
                let old = self.redirection[pin];
                let new = if high {
                    old & 0xFFFF_FFFF | u64::from(value) << 32
                } else {
                    old & !0xFFFF_FFFF | u64::from(value)
                };
                self.redirection[pin] = new & !READ_ONLY | old & READ_ONLY;
                if self.latched[pin] {
                    return Some(self.raise(pin));
                }
            }
            _ => return None,
        }
        Some(None)
    }

    /// Whether a pin's interrupts reach L1.
    pub(crate) fn is_open(&self, pin: usize) -> bool {
        self.redirection[pin] & MASKED == 0
    }

    /// An edge on a pin: what to deliver, unless the pin is masked.
    pub(crate) fn raise(&mut self, pin: usize) -> Option<Interrupt> {
        let entry = self.redirection[pin];
        let masked = entry & MASKED != 0;
        self.latched[pin] = masked;
        (!masked).then_some(Interrupt {
            vector: entry as u8,
            apic_id: (entry >> 56) as u32,
        })
    }
}

/// Pin and half of a redirection entry.
fn entry(register: u32) -> Option<(usize, bool)> {
    let index = register.checked_sub(0x10)?;
    let pin = (index / 2) as usize;
    (pin < PINS).then_some((pin, index % 2 != 0))
}
