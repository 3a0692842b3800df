//! COM1: a 16550A whose other end is the host's.
//!
//! A byte written is on the host's line before the write returns, so the transmitter is always
//! empty. There is no baud clock: the character timeout is immediate.

pub mod bits;

use super::Device;

use x86_defs::pc;

use bits::{
    DATA, FIFOS_ENABLED, FifoControl, INTERRUPT_ENABLE, INTERRUPT_IDENTIFICATION, InterruptEnable,
    InterruptSource, LINE_CONTROL, LINE_STATUS, LineControl, LineStatus, MODEM_CONTROL,
    MODEM_STATUS, ModemControl, ModemStatus, SCRATCH,
};

/// First of the eight ports.
pub const BASE: u16 = pc::COM1;

const FIFO_SIZE: usize = 16;

/// The other end of the line.
pub trait SerialLine {
    /// Sends one byte.
    fn send(&mut self, byte: u8);
    /// The next byte that arrived, if any.
    fn receive(&mut self) -> Option<u8>;
}

/// The UART's state.
#[derive(Clone, Debug)]
pub struct Uart {
    interrupt_enable: InterruptEnable,
    fifo_control: FifoControl,
    line_control: LineControl,
    modem_control: ModemControl,
    modem_delta: ModemStatus,
    divisor: [u8; 2],
    scratch: u8,
    fifo: [u8; FIFO_SIZE],
    first: usize,
    held: usize,
    overrun: bool,
    transmitter_interrupt: bool,
}

impl Default for Uart {
    fn default() -> Self {
        Self::new()
    }
}

impl Uart {
    /// As after a master reset.
    pub fn new() -> Self {
        Self {
            interrupt_enable: InterruptEnable::new(),
            fifo_control: FifoControl::new(),
            line_control: LineControl::new(),
            modem_control: ModemControl::new(),
            modem_delta: ModemStatus::new(),
            divisor: [12, 0],
            scratch: 0,
            fifo: [0; FIFO_SIZE],
            first: 0,
            held: 0,
            overrun: false,
            transmitter_interrupt: false,
        }
    }

    /// Reads the register at `offset` (0 to 7).
    pub fn read(&mut self, offset: u16, line: &mut impl SerialLine) -> u8 {
        let latch = self.line_control.divisor_latch();
        let [low, high] = self.divisor;
        match offset {
            DATA if latch => low,
            DATA => {
                let byte = self.take();
                self.fill(line);
                byte
            }
            INTERRUPT_ENABLE if latch => high,
            INTERRUPT_ENABLE => self.interrupt_enable.into(),
            INTERRUPT_IDENTIFICATION => {
                let source = self.source();
                if source == InterruptSource::TransmitterEmpty {
                    self.transmitter_interrupt = false;
                }
                let fifos = if self.fifo_control.enable() {
                    FIFOS_ENABLED
                } else {
                    0
                };
                fifos | source as u8
            }
            LINE_CONTROL => self.line_control.into(),
            MODEM_CONTROL => self.modem_control.into(),
            LINE_STATUS => {
                let status = LineStatus::new()
                    .with_data_ready(self.held != 0)
                    .with_overrun(self.overrun)
                    .with_holding_empty(true)
                    .with_transmitter_empty(true);
                self.overrun = false;
                status.into()
            }
            MODEM_STATUS => {
                let delta = core::mem::take(&mut self.modem_delta);
                u8::from(self.modem_lines()) | u8::from(delta)
            }
            SCRATCH => self.scratch,
            _ => 0xFF,
        }
    }

    /// Writes the register at `offset` (0 to 7).
    pub fn write(&mut self, offset: u16, value: u8, line: &mut impl SerialLine) {
        let latch = self.line_control.divisor_latch();
        let [low, high] = &mut self.divisor;
        match offset {
            DATA if latch => *low = value,
            DATA => {
                if self.modem_control.loopback() {
                    self.push(value);
                } else {
                    line.send(value);
                }
                self.transmitter_interrupt = true;
            }
            INTERRUPT_ENABLE if latch => *high = value,
            INTERRUPT_ENABLE => {
                let enable = InterruptEnable::from(value & 0x0F);
                // The holding register is empty, so enabling its interrupt raises it.
                if enable.transmitter_empty() && !self.interrupt_enable.transmitter_empty() {
                    self.transmitter_interrupt = true;
                }
                self.interrupt_enable = enable;
            }
            INTERRUPT_IDENTIFICATION => {
                let control = FifoControl::from(value);
                if control.reset_receiver() || control.enable() != self.fifo_control.enable() {
                    self.held = 0;
                }
                self.fifo_control = control
                    .with_reset_receiver(false)
                    .with_reset_transmitter(false);
                self.fill(line);
            }
            LINE_CONTROL => self.line_control = LineControl::from(value),
            MODEM_CONTROL => {
                let before = self.modem_lines();
                self.modem_control = ModemControl::from(value & 0x1F);
                self.note_modem_change(before);
            }
            SCRATCH => self.scratch = value,
            _ => {}
        }
    }

    /// Takes what arrived on the line, as far as the FIFO has room: the rest waits at the host.
    pub fn fill(&mut self, line: &mut impl SerialLine) {
        if self.modem_control.loopback() {
            return;
        }
        while self.held < self.capacity() {
            let Some(byte) = line.receive() else { break };
            self.push(byte);
        }
    }

    /// Level of the interrupt line.
    pub fn interrupt(&self) -> bool {
        let gate = self.modem_control.out2() && !self.modem_control.loopback();
        gate && self.source() != InterruptSource::None
    }

    /// The pending interrupt of the highest priority.
    fn source(&self) -> InterruptSource {
        let enable = self.interrupt_enable;
        let delta = u8::from(self.modem_delta) & 0x0F != 0;
        if enable.line_status() && self.overrun {
            InterruptSource::LineStatus
        } else if enable.received_data() && self.held >= self.trigger() {
            InterruptSource::ReceivedData
        } else if enable.received_data() && self.held != 0 {
            InterruptSource::CharacterTimeout
        } else if enable.transmitter_empty() && self.transmitter_interrupt {
            InterruptSource::TransmitterEmpty
        } else if enable.modem_status() && delta {
            InterruptSource::ModemStatus
        } else {
            InterruptSource::None
        }
    }

    fn capacity(&self) -> usize {
        if self.fifo_control.enable() {
            FIFO_SIZE
        } else {
            1
        }
    }

    fn trigger(&self) -> usize {
        match (self.fifo_control.enable(), self.fifo_control.trigger()) {
            (false, _) | (true, 0) => 1,
            (true, 1) => 4,
            (true, 2) => 8,
            (true, _) => 14,
        }
    }

    fn push(&mut self, byte: u8) {
        if self.held >= self.capacity() {
            self.overrun = true;
            return;
        }
        if let Some(slot) = self.fifo.get_mut((self.first + self.held) % FIFO_SIZE) {
            *slot = byte;
            self.held += 1;
        }
    }

    fn take(&mut self) -> u8 {
        if self.held == 0 {
            return 0;
        }
        let byte = self.fifo.get(self.first).copied().unwrap_or(0);
        self.first = (self.first + 1) % FIFO_SIZE;
        self.held -= 1;
        byte
    }

    /// The modem inputs: looped back from the outputs, or a peer that is always there.
    fn modem_lines(&self) -> ModemStatus {
        let control = self.modem_control;
        if control.loopback() {
            ModemStatus::new()
                .with_cts(control.rts())
                .with_dsr(control.dtr())
                .with_ri(control.out1())
                .with_dcd(control.out2())
        } else {
            ModemStatus::new()
                .with_cts(true)
                .with_dsr(true)
                .with_dcd(true)
        }
    }

    fn note_modem_change(&mut self, before: ModemStatus) {
        let after = self.modem_lines();
        let delta = self.modem_delta;
        self.modem_delta = delta
            .with_delta_cts(delta.delta_cts() || before.cts() != after.cts())
            .with_delta_dsr(delta.delta_dsr() || before.dsr() != after.dsr())
            .with_trailing_edge_ri(delta.trailing_edge_ri() || before.ri() && !after.ri())
            .with_delta_dcd(delta.delta_dcd() || before.dcd() != after.dcd());
    }
}

/// COM1 as a device: the UART, and the line to the host.
#[derive(Debug)]
pub struct Com1<L> {
    uart: Uart,
    line: L,
}

impl<L: SerialLine> Com1<L> {
    /// A UART on `line`.
    pub fn new(line: L) -> Self {
        Self {
            uart: Uart::new(),
            line,
        }
    }

    /// Takes what arrived on the line.
    pub fn receive(&mut self) {
        self.uart.fill(&mut self.line);
    }
}

impl<L: SerialLine> Device for Com1<L> {
    fn read(&mut self, offset: u32, into: &mut [u8]) {
        for (byte, register) in into.iter_mut().zip(offset as u16..) {
            *byte = self.uart.read(register, &mut self.line);
        }
    }

    fn write(&mut self, offset: u32, from: &[u8]) {
        for (byte, register) in from.iter().zip(offset as u16..) {
            self.uart.write(register, *byte, &mut self.line);
        }
    }

    fn line(&self) -> bool {
        self.uart.interrupt()
    }

    fn reset(&mut self) {
        self.uart = Uart::new();
    }
}

#[cfg(test)]
mod tests;
