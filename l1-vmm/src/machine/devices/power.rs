//! What ends the machine: the ACPI PM1 block, the reset control register and the keyboard
//! controller's reset line.

use uefi_defs::acpi;

use super::Device;
use x86_defs::pc::{KEYBOARD_COMMAND, KEYBOARD_PULSE_RESET, RESET_CONTROL, RESET_CPU};

/// What a write asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// ACPI S5.
    PowerOff,
    /// A system reset.
    Reset,
}

/// The registers' state.
#[derive(Clone, Debug, Default)]
pub struct Power {
    enables: u16,
    sleep_type: u16,
    reset_control: u8,
    request: Option<Request>,
}

impl Power {
    /// Reads the byte at `port`.
    pub fn read(&self, port: u16) -> u8 {
        let control = acpi::SCI_EN | self.sleep_type;
        match port {
            0x600 | 0x601 => 0,
            0x602 => self.enables as u8,
            0x603 => (self.enables >> 8) as u8,
            0x604 => control as u8,
            0x605 => (control >> 8) as u8,
            RESET_CONTROL => self.reset_control,
            _ => 0xFF,
        }
    }

    /// Writes the byte at `port`.
    pub fn write(&mut self, port: u16, value: u8) {
        let high = u16::from(value) << 8;
        match port {
            0x602 => self.enables = self.enables & 0xFF00 | u16::from(value) & acpi::PM1_ENABLES,
            0x603 => self.enables = self.enables & 0x00FF | high & acpi::PM1_ENABLES,
            0x605 => {
                self.sleep_type = high & acpi::SLP_TYP;
                // S5 is acpi::SLP_TYP 0; no other state is offered.
                if high & acpi::SLP_EN != 0 && self.sleep_type == 0 {
                    self.request = Some(Request::PowerOff);
                }
            }
            RESET_CONTROL => {
                if value & RESET_CPU != 0 && self.reset_control & RESET_CPU == 0 {
                    self.request = Some(Request::Reset);
                }
                self.reset_control = value & 0x0E;
            }
            KEYBOARD_COMMAND if value == KEYBOARD_PULSE_RESET => {
                self.request = Some(Request::Reset)
            }
            _ => {}
        }
    }

    /// Takes what was asked for.
    pub fn take_request(&mut self) -> Option<Request> {
        self.request.take()
    }
}

impl Device for Power {
    /// `offset` is the port.
    fn read(&mut self, offset: u32, into: &mut [u8]) {
        for (byte, port) in into.iter_mut().zip(offset as u16..) {
            *byte = Self::read(self, port);
        }
    }

    /// `offset` is the port.
    fn write(&mut self, offset: u32, from: &[u8]) {
        for (byte, port) in from.iter().zip(offset as u16..) {
            Self::write(self, port, *byte);
        }
    }

    /// A request stays: it is what the reset may come from.
    fn reset(&mut self) {
        *self = Self {
            request: self.request,
            ..Self::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_end_the_machine_as_their_specifications_say() {
        type Row<'a> = (&'a [(u16, u8)], Option<Request>);
        let table: [Row<'_>; 8] = [
            (&[(0x605, 0x20)], Some(Request::PowerOff)),
            (&[(0x605, 0x24)], None),
            (&[(0x605, 0x00), (0x604, 0xFF)], None),
            (&[(RESET_CONTROL, 0x06)], Some(Request::Reset)),
            (
                &[(RESET_CONTROL, 0x02), (RESET_CONTROL, 0x0E)],
                Some(Request::Reset),
            ),
            (&[(RESET_CONTROL, 0x02)], None),
            (&[(KEYBOARD_COMMAND, 0xFE)], Some(Request::Reset)),
            (&[(KEYBOARD_COMMAND, 0xD1)], None),
        ];
        for (writes, request) in table {
            let mut power = Power::default();
            for (port, value) in writes {
                power.write(*port, *value);
            }
            assert_eq!(power.take_request(), request, "{writes:x?}");
            assert_eq!(power.take_request(), None);
        }
    }

    #[test]
    fn acpi_mode_is_always_on() {
        let mut power = Power::default();
        power.write(0x604, 0);
        assert_eq!(power.read(0x604), 1);
    }

    #[test]
    fn pm1_enables_are_kept_and_nothing_is_ever_pending() {
        let mut power = Power::default();
        power.write(0x602, 0xFF);
        power.write(0x603, 0xFF);
        power.write(0x600, 0xFF);
        assert_eq!(
            [0x600, 0x601, 0x602, 0x603].map(|port| power.read(port)),
            [0, 0, 0x21, 0x07]
        );
    }
}
