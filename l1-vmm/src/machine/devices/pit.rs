//! The 8254 programmable interval timer of a PC, and port 61H, which gates its third counter and reads its output
//! (Intel 8254 data sheet; NMI status and control register of Intel's I/O controller hubs).
//!
//! Counter 0 is ISA interrupt 0. Linux uses it only where it has no local APIC timer (`nolapic`, `acpi=off`); its
//! time, as every timer's here, is the TSC's.

mod counter;

use super::Device;
use super::frequency::Ticks;
use counter::Counter;
use x86_defs::pc::{PIT, SYSTEM_CONTROL};

/// Control word: read-back command instead of a counter.
const READ_BACK: u8 = 3;
/// Read-back: do not latch the count; do not latch the status. The bits are inverted.
const NO_COUNT: u8 = 1 << 5;
const NO_STATUS: u8 = 1 << 4;
/// Port 61H: gate of counter 2, speaker.
const SYSTEM_WRITABLE: u8 = 0b11;
/// Port 61H: the refresh cycle, which toggles every 15 µs; the output of counter 2.
const REFRESH: u8 = 1 << 4;
const OUTPUT_2: u8 = 1 << 5;
/// Ticks of half a refresh cycle.
const REFRESH_TICKS: u64 = 18;

/// The timer. It calls its registers by their ports.
#[derive(Clone, Debug)]
pub struct Pit {
    ticks: Ticks,
    now: u64,
    counters: [Counter; 3],
    system_control: u8,
}

impl Pit {
    /// Nothing counts. Time is told in ticks of the TSC, of which `ratio` are a tick of the crystal clock.
    pub fn new(ratio: u32) -> Self {
        Self {
            ticks: Ticks::interval_timer(ratio),
            now: 0,
            counters: [Counter::new(true), Counter::new(true), Counter::new(false)],
            system_control: 0,
        }
    }

    /// TSC value at which counter 0 next interrupts.
    pub fn expiry(&self) -> Option<u64> {
        let [first, ..] = &self.counters;
        first.expiry().map(|tick| self.ticks.tsc_of(tick))
    }

    /// Whether counter 0 interrupted at or before `now`; missed periods are not made up for.
    pub fn expire(&mut self, now: u64) -> bool {
        self.now = now;
        let tick = self.ticks.at(now);
        let [first, ..] = &mut self.counters;
        first.expire(tick)
    }

    fn tick(&self) -> u64 {
        self.ticks.at(self.now)
    }

    fn read_port(&mut self, port: u16) -> u8 {
        let tick = self.tick();
        if port == SYSTEM_CONTROL {
            let [.., speaker] = &self.counters;
            let refresh = if (tick / REFRESH_TICKS).is_multiple_of(2) {
                0
            } else {
                REFRESH
            };
            let output = if speaker.output(tick) { OUTPUT_2 } else { 0 };
            return self.system_control | refresh | output;
        }
        match self.counters.get_mut(usize::from(port.wrapping_sub(PIT))) {
            Some(counter) => counter.read(tick),
            // The control word cannot be read.
            None => 0xFF,
        }
    }

    fn write_port(&mut self, port: u16, value: u8) {
        let tick = self.tick();
        if port == SYSTEM_CONTROL {
            self.system_control = value & SYSTEM_WRITABLE;
            let [.., speaker] = &mut self.counters;
            speaker.set_gate(value & 1 != 0, tick);
            return;
        }
        match self.counters.get_mut(usize::from(port.wrapping_sub(PIT))) {
            Some(counter) => counter.write(value, tick),
            None => self.control(value, tick),
        }
    }

    fn control(&mut self, value: u8, tick: u64) {
        match value >> 6 {
            READ_BACK => {
                for (index, counter) in self.counters.iter_mut().enumerate() {
                    if value & 2 << index != 0 {
                        if value & NO_COUNT == 0 {
                            counter.latch_count(tick);
                        }
                        if value & NO_STATUS == 0 {
                            counter.latch_status(tick);
                        }
                    }
                }
            }
            index => {
                if let Some(counter) = self.counters.get_mut(usize::from(index)) {
                    counter.control(value, tick);
                }
            }
        }
    }
}

impl Device for Pit {
    /// `offset` is the port.
    fn read(&mut self, offset: u32, into: &mut [u8]) {
        for (byte, port) in into.iter_mut().zip(offset as u16..) {
            *byte = self.read_port(port);
        }
    }

    /// `offset` is the port.
    fn write(&mut self, offset: u32, from: &[u8]) {
        for (byte, port) in from.iter().zip(offset as u16..) {
            self.write_port(port, *byte);
        }
    }

    fn advance(&mut self, now: u64) {
        self.now = now;
    }

    fn line(&self) -> bool {
        let [first, ..] = &self.counters;
        first.output(self.tick())
    }

    fn reset(&mut self) {
        let (ticks, now) = (self.ticks, self.now);
        *self = Self {
            ticks,
            now,
            ..Self::new(1)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATIO: u32 = 40;
    /// TSC ticks a second.
    const SECOND: u64 = 1_000_000_000;

    fn at(pit: &mut Pit, nanoseconds: u64) {
        pit.advance(nanoseconds);
    }

    #[test]
    fn counter_0_interrupts_at_the_rate_it_is_given() {
        let mut pit = Pit::new(RATIO);
        // As Linux: mode 2, HZ 250.
        for (port, value) in [(0x43, 0x34), (0x40, 0xA4), (0x40, 0x12)] {
            pit.write_port(port, value);
        }
        let mut interrupts = 0;
        while let Some(expiry) = pit.expiry().filter(|expiry| *expiry <= SECOND) {
            assert!(pit.expire(expiry));
            assert!(!pit.expire(expiry));
            interrupts += 1;
        }
        // 1193182 / 4772.
        assert_eq!(interrupts, 250);
    }

    #[test]
    fn a_shot_comes_once() {
        // As Linux: mode 4, and mode 0.
        for control in [0x38, 0x30] {
            let mut pit = Pit::new(RATIO);
            assert_eq!(pit.expiry(), None);
            for (port, value) in [(0x43, control), (0x40, 0xE8), (0x40, 0x03)] {
                pit.write_port(port, value);
            }
            let expiry = pit.expiry().unwrap();
            assert!((838_000..840_000).contains(&expiry), "{expiry}");
            assert!(!pit.expire(expiry - 1));
            assert!(pit.expire(expiry));
            assert_eq!(pit.expiry(), None);
        }
    }

    #[test]
    fn counter_2_measures_time_by_port_61h() {
        let mut pit = Pit::new(RATIO);
        // As Linux's pit_calibrate_tsc: gate on, mode 0, 50 ms.
        pit.write_port(0x61, 0x01);
        for (port, value) in [(0x43, 0xB0), (0x42, 0x0B), (0x42, 0xE9)] {
            pit.write_port(port, value);
        }
        assert_eq!(pit.read_port(0x61) & 0x20, 0);
        at(&mut pit, 49_900_000);
        assert_eq!(pit.read_port(0x61) & 0x20, 0);
        at(&mut pit, 50_100_000);
        assert_eq!(pit.read_port(0x61) & 0x21, 0x21);
    }

    #[test]
    fn the_refresh_bit_toggles() {
        let mut pit = Pit::new(RATIO);
        let first = pit.read_port(0x61) & REFRESH;
        at(&mut pit, 16_000);
        assert_ne!(pit.read_port(0x61) & REFRESH, first);
    }

    #[test]
    fn the_read_back_command_latches_count_and_status() {
        let mut pit = Pit::new(RATIO);
        for (port, value) in [(0x43, 0x34), (0x40, 0x00), (0x40, 0x10)] {
            pit.write_port(port, value);
        }
        at(&mut pit, 838_100);
        pit.write_port(0x43, 0xC2);
        at(&mut pit, 2_000_000);
        let status = pit.read_port(0x40);
        assert_eq!(
            status, 0xB4,
            "output high, count loaded, mode 2, low and high"
        );
        let count = u16::from(pit.read_port(0x40)) | u16::from(pit.read_port(0x40)) << 8;
        assert_eq!(count, 0x1000 - 1000);
    }
}
