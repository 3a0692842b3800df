//! RTC and CMOS, ports 70H and 71H: the host's clock (MC146818A datasheet).
//!
//! The time is the host's word, which a guest in a TD cannot trust anyway. Nothing else of the
//! host's CMOS is shown: firmware settings there (memory size, boot order) would be lies about
//! this machine.

use x86_defs::pc::{RTC_DATA as DATA, RTC_INDEX as INDEX};

use super::Device;

/// Register B: 24-hour and binary mode are the clock's, its interrupts are not wired.
const STATUS_B: u8 = 0x0B;
const INTERRUPT_ENABLES: u8 = 0x70;
/// Where many PCs keep the century. The FADT names none: a kernel takes the years for 2000 to 2099.
const CENTURY: u8 = 0x32;

/// The host's clock registers.
pub trait ClockRegisters {
    /// Reads register `index`.
    fn read_clock(&mut self, index: u8) -> u8;
    /// Writes register `index`.
    fn write_clock(&mut self, index: u8, value: u8);
}

/// The index latch.
#[derive(Clone, Debug, Default)]
pub struct Cmos {
    index: u8,
}

impl Cmos {
    /// Reads `port`, one of the two.
    pub fn read(&self, port: u16, clock: &mut impl ClockRegisters) -> u8 {
        match port {
            DATA if self.is_clock() => clock.read_clock(self.index),
            DATA => 0,
            _ => 0xFF,
        }
    }

    /// Writes `port`, one of the two. Bit 7 of the index port is the NMI gate: not kept.
    pub fn write(&mut self, port: u16, value: u8, clock: &mut impl ClockRegisters) {
        match port {
            INDEX => self.index = value & 0x7F,
            DATA if self.index == STATUS_B => {
                clock.write_clock(STATUS_B, value & !INTERRUPT_ENABLES);
            }
            DATA if self.is_clock() => clock.write_clock(self.index, value),
            _ => {}
        }
    }

    fn is_clock(&self) -> bool {
        matches!(self.index, 0x00..=0x0D | CENTURY)
    }
}

/// The clock as a device: the latch, and the host's clock behind it.
#[derive(Debug)]
pub struct Rtc<C> {
    cmos: Cmos,
    clock: C,
}

impl<C: ClockRegisters> Rtc<C> {
    /// In front of `clock`.
    pub fn new(clock: C) -> Self {
        Self {
            cmos: Cmos::default(),
            clock,
        }
    }
}

impl<C: ClockRegisters> Device for Rtc<C> {
    fn read(&mut self, offset: u32, into: &mut [u8]) {
        for (byte, port) in into.iter_mut().zip(INDEX + offset as u16..) {
            *byte = self.cmos.read(port, &mut self.clock);
        }
    }

    fn write(&mut self, offset: u32, from: &[u8]) {
        for (byte, port) in from.iter().zip(INDEX + offset as u16..) {
            self.cmos.write(port, *byte, &mut self.clock);
        }
    }

    /// The clock goes on.
    fn reset(&mut self) {
        self.cmos = Cmos::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Clock([u8; 128]);

    impl ClockRegisters for Clock {
        fn read_clock(&mut self, index: u8) -> u8 {
            self.0[usize::from(index)]
        }

        fn write_clock(&mut self, index: u8, value: u8) {
            self.0[usize::from(index)] = value;
        }
    }

    #[test]
    fn only_the_clock_is_the_hosts() {
        let (mut cmos, mut clock) = (Cmos::default(), Clock([0xA5; 128]));
        for (index, shown) in [
            (0x00, true),
            (0x0D, true),
            (0x0E, false),
            (0x32, true),
            (0x34, false),
        ] {
            cmos.write(INDEX, index | 0x80, &mut clock);
            assert_eq!(
                cmos.read(DATA, &mut clock),
                if shown { 0xA5 } else { 0 },
                "{index:#x}"
            );
            cmos.write(DATA, 0x11, &mut clock);
            assert_eq!(clock.0[usize::from(index)] == 0x11, shown, "{index:#x}");
        }
    }

    #[test]
    fn the_clocks_interrupts_stay_off() {
        let (mut cmos, mut clock) = (Cmos::default(), Clock([0; 128]));
        cmos.write(INDEX, STATUS_B, &mut clock);
        cmos.write(DATA, 0x72, &mut clock);
        assert_eq!(clock.0[usize::from(STATUS_B)], 0x02);
    }
}
