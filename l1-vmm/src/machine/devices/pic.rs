//! The pair of 8259A interrupt controllers of a PC (Intel 8259A data sheet; edge/level control registers as in
//! Intel's I/O controller hubs, ELCR1 and ELCR2).
//!
//! Their output is the INTR line, which the local APIC passes on through LINT0: [`Pic::output`],
//! [`Pic::acknowledge`]. Nothing uses them in a usual boot, where Linux masks them; a kernel without I/O APIC
//! (`noapic`, `nosmp`, `acpi=off`) has nothing else.

use super::Device;
use x86_defs::pc::{ELCR1, ELCR2, PIC_MASTER, PIC_SLAVE};

/// Inputs of one controller.
const INPUTS: u8 = 8;
/// The master's input that the slave's output is wired to.
const CASCADE: u8 = 2;
/// What a controller answers with when its request is gone: its lowest input.
const SPURIOUS: u8 = 7;

/// ICW1: bit 4 of a write to the even port.
const ICW1: u8 = 1 << 4;
/// ICW1: an ICW4 follows.
const ICW1_ICW4: u8 = 1 << 0;
/// ICW1: there is no slave, and no ICW3.
const ICW1_SINGLE: u8 = 1 << 1;
/// OCW3: bit 3 of a write to the even port without [`ICW1`].
const OCW3: u8 = 1 << 3;
/// ICW4: automatic end of interrupt.
const ICW4_AUTO_EOI: u8 = 1 << 1;
/// ICW4: special fully nested mode.
const ICW4_FULLY_NESTED: u8 = 1 << 4;
/// Inputs that the ELCRs can make level-triggered: not the timer, keyboard, cascade, clock and FPU.
const ELCR1_WRITABLE: u8 = 0xF8;
const ELCR2_WRITABLE: u8 = 0xDE;

/// Which initialization command word the odd port waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Initialization {
    /// None: it is the mask.
    #[default]
    Done,
    Icw2,
    Icw3,
    Icw4,
}

/// What a read of the even port gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reading {
    #[default]
    Requests,
    InService,
    /// The next read, of either port, is an acknowledge.
    Poll,
}

/// One 8259A.
#[derive(Clone, Copy, Debug, Default)]
struct Controller {
    requests: u8,
    mask: u8,
    in_service: u8,
    lines: u8,
    level_triggered: u8,
    /// Vector of input 0.
    base: u8,
    /// The input of the highest priority.
    first: u8,
    initialization: Initialization,
    icw1: u8,
    icw4: u8,
    reading: Reading,
    special_mask: bool,
    rotate_on_auto_eoi: bool,
}

impl Controller {
    /// The input of the highest priority among `inputs`.
    fn highest(&self, inputs: u8) -> Option<u8> {
        (0..INPUTS)
            .map(|priority| (priority + self.first) % INPUTS)
            .find(|input| inputs & 1 << input != 0)
    }

    fn priority(&self, input: u8) -> u8 {
        input.wrapping_sub(self.first) % INPUTS
    }

    /// The input that the controller interrupts for. `cascade` is the input whose own service does not stand in
    /// its way in special fully nested mode.
    fn pending(&self, cascade: Option<u8>) -> Option<u8> {
        let requested = self.requests & !self.mask;
        if requested == 0 {
            return None;
        }
        let input = self.highest(requested)?;
        let mut serviced = self.in_service;
        if self.special_mask {
            serviced &= !self.mask;
        }
        if let Some(cascade) = cascade.filter(|_| self.icw4 & ICW4_FULLY_NESTED != 0) {
            serviced &= !(1 << cascade);
        }
        let in_the_way = self.highest(serviced);
        in_the_way
            .is_none_or(|serviced| self.priority(input) < self.priority(serviced))
            .then_some(input)
    }

    fn acknowledge(&mut self, input: u8) {
        let bit = 1 << input;
        if self.icw4 & ICW4_AUTO_EOI == 0 {
            self.in_service |= bit;
        } else if self.rotate_on_auto_eoi {
            self.first = (input + 1) % INPUTS;
        }
        // A level that is still there asks again.
        if self.level_triggered & bit == 0 {
            self.requests &= !bit;
        }
    }

    fn set_line(&mut self, input: u8, level: bool) {
        let bit = 1 << input;
        let rose = level && self.lines & bit == 0;
        if level {
            self.lines |= bit;
        } else {
            self.lines &= !bit;
        }
        if self.level_triggered & bit != 0 {
            self.requests = self.requests & !bit | self.lines & bit;
        } else if rose {
            self.requests |= bit;
        } else if !level {
            // An edge-triggered request falls with its line (8259A data sheet, figure "IR Triggering Timing").
            self.requests &= !bit;
        }
    }

    fn write_command(&mut self, value: u8) {
        if value & ICW1 != 0 {
            *self = Self {
                lines: self.lines,
                level_triggered: self.level_triggered,
                icw1: value,
                initialization: Initialization::Icw2,
                ..Self::default()
            };
        } else if value & OCW3 != 0 {
            match value & 0b11 {
                0b10 => self.reading = Reading::Requests,
                0b11 => self.reading = Reading::InService,
                _ => {}
            }
            if value & 1 << 2 != 0 {
                self.reading = Reading::Poll;
            }
            if value & 1 << 6 != 0 {
                self.special_mask = value & 1 << 5 != 0;
            }
        } else {
            self.write_end_of_interrupt(value);
        }
    }

    /// OCW2.
    fn write_end_of_interrupt(&mut self, value: u8) {
        let named = value & 0b111;
        match value >> 5 {
            0b000 => self.rotate_on_auto_eoi = false,
            0b100 => self.rotate_on_auto_eoi = true,
            // Non-specific, and rotating.
            command @ (0b001 | 0b101) => {
                if let Some(input) = self.highest(self.in_service) {
                    self.in_service &= !(1 << input);
                    if command == 0b101 {
                        self.first = (input + 1) % INPUTS;
                    }
                }
            }
            0b011 => self.in_service &= !(1 << named),
            0b111 => {
                self.in_service &= !(1 << named);
                self.first = (named + 1) % INPUTS;
            }
            0b110 => self.first = (named + 1) % INPUTS,
            _ => {}
        }
    }

    fn write_data(&mut self, value: u8) {
        self.initialization = match self.initialization {
            Initialization::Done => {
                self.mask = value;
                Initialization::Done
            }
            Initialization::Icw2 => {
                self.base = value & 0xF8;
                if self.icw1 & ICW1_SINGLE == 0 {
                    Initialization::Icw3
                } else {
                    self.after_icw3()
                }
            }
            // The wiring is what it is.
            Initialization::Icw3 => self.after_icw3(),
            Initialization::Icw4 => {
                self.icw4 = value;
                Initialization::Done
            }
        };
    }

    fn after_icw3(&self) -> Initialization {
        if self.icw1 & ICW1_ICW4 != 0 {
            Initialization::Icw4
        } else {
            Initialization::Done
        }
    }

    /// An acknowledge by reading: bit 7 and the input, or 0.
    fn poll(&mut self, cascade: Option<u8>) -> u8 {
        self.reading = Reading::Requests;
        match self.pending(cascade) {
            Some(input) => {
                self.acknowledge(input);
                1 << 7 | input
            }
            None => 0,
        }
    }

    fn read(&mut self, odd: bool, cascade: Option<u8>) -> u8 {
        match (self.reading, odd) {
            (Reading::Poll, _) => self.poll(cascade),
            (_, true) => self.mask,
            (Reading::Requests, false) => self.requests,
            (Reading::InService, false) => self.in_service,
        }
    }

    /// Everything masked, as a PC's firmware leaves it.
    fn masked() -> Self {
        Self {
            mask: 0xFF,
            ..Self::default()
        }
    }
}

/// Both controllers. It calls its registers by their ports.
#[derive(Clone, Debug)]
pub struct Pic {
    master: Controller,
    slave: Controller,
}

impl Default for Pic {
    fn default() -> Self {
        Self {
            master: Controller::masked(),
            slave: Controller::masked(),
        }
    }
}

impl Pic {
    /// Sets the level of ISA interrupt `irq`, 0 to 15.
    pub fn set_line(&mut self, irq: u8, level: bool) {
        match irq {
            0..INPUTS => self.master.set_line(irq, level),
            _ => self.slave.set_line(irq % INPUTS, level),
        }
        self.cascade();
    }

    /// The level of INTR.
    pub fn output(&self) -> bool {
        self.master.pending(Some(CASCADE)).is_some()
    }

    /// INTA: the vector. If the request is gone, the spurious one of the controller that asked.
    pub fn acknowledge(&mut self) -> u8 {
        let Some(input) = self.master.pending(Some(CASCADE)) else {
            return self.master.base | SPURIOUS;
        };
        self.master.acknowledge(input);
        let vector = if input == CASCADE {
            let slaves = self.slave.pending(None);
            if let Some(input) = slaves {
                self.slave.acknowledge(input);
            }
            self.slave.base | slaves.unwrap_or(SPURIOUS)
        } else {
            self.master.base | input
        };
        self.cascade();
        vector
    }

    /// Brings the master's cascade input to the slave's output. It falls at each acknowledge, so that the next
    /// request is an edge.
    fn cascade(&mut self) {
        let level = self.slave.pending(None).is_some();
        self.master.set_line(CASCADE, false);
        self.master.set_line(CASCADE, level);
    }

    fn read_port(&mut self, port: u16) -> u8 {
        let value = match port {
            PIC_MASTER => self.master.read(false, Some(CASCADE)),
            0x21 => self.master.read(true, Some(CASCADE)),
            PIC_SLAVE => self.slave.read(false, None),
            0xA1 => self.slave.read(true, None),
            ELCR1 => self.master.level_triggered,
            ELCR2 => self.slave.level_triggered,
            _ => 0xFF,
        };
        self.cascade();
        value
    }

    fn write_port(&mut self, port: u16, value: u8) {
        match port {
            PIC_MASTER => self.master.write_command(value),
            0x21 => self.master.write_data(value),
            PIC_SLAVE => self.slave.write_command(value),
            0xA1 => self.slave.write_data(value),
            ELCR1 => self.master.level_triggered = value & ELCR1_WRITABLE,
            ELCR2 => self.slave.level_triggered = value & ELCR2_WRITABLE,
            _ => {}
        }
        self.cascade();
    }
}

impl Device for Pic {
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

    fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As Linux initializes them: vectors 30H and 38H, normal EOI.
    fn ready() -> Pic {
        let mut pic = Pic::default();
        for (port, value) in [
            (0x20, 0x11),
            (0x21, 0x30),
            (0x21, 0x04),
            (0x21, 0x01),
            (0xA0, 0x11),
            (0xA1, 0x38),
            (0xA1, 0x02),
            (0xA1, 0x01),
            (0x21, 0x00),
            (0xA1, 0x00),
        ] {
            pic.write_port(port, value);
        }
        pic
    }

    #[test]
    fn a_mask_reads_back_as_drivers_probe_it() {
        let mut pic = Pic::default();
        assert_eq!(pic.read_port(0x21), 0xFF, "masked at first");
        pic.write_port(0x21, 0xFB);
        assert_eq!(pic.read_port(0x21), 0xFB);
    }

    #[test]
    fn an_edge_interrupts_once() {
        let mut pic = ready();
        pic.set_line(4, true);
        assert!(pic.output());
        assert_eq!(pic.acknowledge(), 0x34);
        assert!(!pic.output());
        pic.write_port(0x20, 0x20);
        assert!(!pic.output(), "the line has not fallen");
        pic.set_line(4, false);
        pic.set_line(4, true);
        assert_eq!(pic.acknowledge(), 0x34);
    }

    #[test]
    fn the_slaves_come_through_the_cascade() {
        let mut pic = ready();
        pic.set_line(9, true);
        assert_eq!(pic.acknowledge(), 0x39);
        pic.write_port(0x20, 0x0B);
        pic.write_port(0xA0, 0x0B);
        assert_eq!((pic.read_port(0x20), pic.read_port(0xA0)), (0x04, 0x02));
        // A higher one of the slave's has to wait for the master's EOI, another master's does not.
        pic.set_line(8, true);
        assert!(!pic.output());
        pic.set_line(1, true);
        assert_eq!(pic.acknowledge(), 0x31);
        for (port, value) in [(0x20, 0x61), (0xA0, 0x61), (0x20, 0x62)] {
            pic.write_port(port, value);
        }
        assert_eq!(pic.acknowledge(), 0x38);
    }

    #[test]
    fn priorities_nest() {
        let mut pic = ready();
        pic.set_line(4, true);
        assert_eq!(pic.acknowledge(), 0x34);
        pic.set_line(5, true);
        assert!(!pic.output());
        pic.set_line(0, true);
        assert_eq!(pic.acknowledge(), 0x30);
        pic.write_port(0x20, 0x20);
        assert!(!pic.output(), "4 is in service");
        pic.write_port(0x20, 0x20);
        assert_eq!(pic.acknowledge(), 0x35);
    }

    #[test]
    fn a_level_asks_until_it_falls() {
        let mut pic = ready();
        pic.write_port(ELCR2, 0xFF);
        assert_eq!(pic.read_port(ELCR2), 0xDE);
        pic.set_line(9, true);
        assert_eq!(pic.acknowledge(), 0x39);
        pic.write_port(0xA0, 0x20);
        pic.write_port(0x20, 0x20);
        assert_eq!(pic.acknowledge(), 0x39);
        pic.set_line(9, false);
        pic.write_port(0xA0, 0x20);
        pic.write_port(0x20, 0x20);
        assert!(!pic.output());
    }

    #[test]
    fn a_request_that_is_gone_is_spurious() {
        let mut pic = ready();
        pic.set_line(4, true);
        pic.set_line(4, false);
        assert!(!pic.output());
        assert_eq!(pic.acknowledge(), 0x37);
        pic.write_port(0x20, 0x0B);
        assert_eq!(pic.read_port(0x20), 0, "nothing is in service");
    }

    #[test]
    fn a_poll_is_an_acknowledge() {
        let mut pic = ready();
        pic.set_line(3, true);
        pic.write_port(0x20, 0x0C);
        assert_eq!(pic.read_port(0x20), 0x83);
        assert!(!pic.output());
    }

    proptest! {
        /// Whatever is written, every acknowledge of an output ends the request of an edge, and the vector is of
        /// the controllers' sixteen.
        #[test]
        fn nothing_is_lost_or_endless(
            writes in proptest::collection::vec((prop_oneof![Just(0x20u16), Just(0x21), Just(0xA0), Just(0xA1)], any::<u8>()), 0..40),
            irqs in proptest::collection::vec((0u8..16, any::<bool>()), 0..20),
        ) {
            let mut pic = Pic::default();
            for (port, value) in writes {
                pic.write_port(port, value);
            }
            for (irq, level) in irqs {
                pic.set_line(irq, level);
            }
            let mut taken = 0;
            while pic.output() {
                let vector = pic.acknowledge();
                prop_assert!(vector & 0xF8 == pic.master.base || vector & 0xF8 == pic.slave.base);
                taken += 1;
                prop_assert!(taken <= 16);
            }
        }
    }
}
