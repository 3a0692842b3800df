//! COM2 (16550): a wire to whatever QEMU's second `-serial` is connected to.

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

/// The port, set up.
#[derive(Debug)]
pub(crate) struct Com2 {
    /// A byte had to wait for room: an interrupt tells of it.
    waiting: bool,
}

impl Com2 {
    /// Sets the port up. Its interrupt is [`super::interrupts`]'s.
    pub(crate) fn start() -> Self {
        Port::com2(register::LINE_CONTROL).write8(EIGHT_BITS);
        Port::com2(register::FIFO_CONTROL).write8(FIFOS);
        Port::com2(register::MODEM_CONTROL).write8(READY);
        Port::com2(register::INTERRUPT_ENABLE).write8(INTERRUPT_AT_DATA);
        Self { waiting: false }
    }

    /// Sends a byte; false if there is no room.
    pub(crate) fn send(&mut self, byte: u8) -> bool {
        let room = Port::com2(register::LINE_STATUS).read8() & STATUS_ROOM != 0;
        if room {
            Port::com2(register::DATA).write8(byte);
        }
        if room == self.waiting {
            self.waiting = !room;
            let also = if self.waiting { INTERRUPT_AT_ROOM } else { 0 };
            Port::com2(register::INTERRUPT_ENABLE).write8(INTERRUPT_AT_DATA | also);
        }
        room
    }

    /// A byte that has come.
    pub(crate) fn receive(&mut self) -> Option<u8> {
        let there = Port::com2(register::LINE_STATUS).read8() & STATUS_DATA != 0;
        there.then(|| Port::com2(register::DATA).read8())
    }
}
