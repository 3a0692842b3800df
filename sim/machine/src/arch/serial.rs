//! Serial ports (16550) beside COM1: wires to whatever QEMU connects them to.

use super::port::Port;

/// Registers by their offsets.
mod register {
    /// Receiver buffer, transmitter holding.
    pub(super) const DATA: u16 = 0;
    pub(super) const INTERRUPT_ENABLE: u16 = 1;
    pub(super) const FIFO_CONTROL: u16 = 2;
    pub(super) const LINE_CONTROL: u16 = 3;
    pub(super) const MODEM_CONTROL: u16 = 4;
    pub(super) const LINE_STATUS: u16 = 5;
}

const INTERRUPT_AT_DATA: u8 = 1 << 0;
const INTERRUPT_AT_ROOM: u8 = 1 << 1;
/// FIFOs on, both empty, an interrupt for the first byte.
const FIFOS: u8 = 0b111;
const EIGHT_BITS: u8 = 0b11;
/// DTR, RTS, and OUT2, which lets interrupts through on a PC.
const READY: u8 = 0b1011;
const STATUS_DATA: u8 = 1 << 0;
const STATUS_ROOM: u8 = 1 << 5;

/// A port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// COM2: QEMU's second `-serial`.
    Com2,
    /// COM3: an `isa-serial` at its ports, with an interrupt of its own, [`super::interrupts::COM3_PIN`].
    Com3,
}

/// A port that is set up.
#[derive(Debug)]
pub(crate) struct Serial {
    line: Line,
    /// A byte had to wait for room: an interrupt tells of it.
    waiting: bool,
}

impl Serial {
    /// Sets the port up. Its interrupt is [`super::interrupts`]'s.
    pub(crate) fn start(line: Line) -> Self {
        let port = |register| Port::serial(line, register);
        port(register::LINE_CONTROL).write8(EIGHT_BITS);
        port(register::FIFO_CONTROL).write8(FIFOS);
        port(register::MODEM_CONTROL).write8(READY);
        port(register::INTERRUPT_ENABLE).write8(INTERRUPT_AT_DATA);
        Self {
            line,
            waiting: false,
        }
    }

    fn port(&self, register: u16) -> Port {
        Port::serial(self.line, register)
    }

    /// Sends a byte; false if there is no room.
    pub(crate) fn send(&mut self, byte: u8) -> bool {
        let room = self.port(register::LINE_STATUS).read8() & STATUS_ROOM != 0;
        if room {
            self.port(register::DATA).write8(byte);
        }
        if room == self.waiting {
            self.waiting = !room;
            let also = if self.waiting { INTERRUPT_AT_ROOM } else { 0 };
            self.port(register::INTERRUPT_ENABLE)
                .write8(INTERRUPT_AT_DATA | also);
        }
        room
    }

    /// A byte that has come.
    pub(crate) fn receive(&mut self) -> Option<u8> {
        let there = self.port(register::LINE_STATUS).read8() & STATUS_DATA != 0;
        there.then(|| self.port(register::DATA).read8())
    }
}
