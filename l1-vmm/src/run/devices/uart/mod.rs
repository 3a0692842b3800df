//! COM1: a 16550A whose other end is the host's.
//!
//! A byte written is on the host's line before the write returns, so the transmitter is always
//! empty. There is no baud clock: the character timeout is immediate.

pub mod bits;

use bits::{
    DATA, FIFOS_ENABLED, FifoControl, INTERRUPT_ENABLE, INTERRUPT_IDENTIFICATION, InterruptEnable,
    InterruptSource, LINE_CONTROL, LINE_STATUS, LineControl, LineStatus, MODEM_CONTROL,
    MODEM_STATUS, ModemControl, ModemStatus, SCRATCH,
};

/// First of the eight ports.
pub const BASE: u16 = 0x3F8;
/// The I/O APIC pin of the interrupt.
pub const PIN: usize = 4;

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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::VecDeque;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[derive(Default)]
    struct Line {
        sent: Vec<u8>,
        arrived: VecDeque<u8>,
    }

    impl SerialLine for Line {
        fn send(&mut self, byte: u8) {
            self.sent.push(byte);
        }

        fn receive(&mut self) -> Option<u8> {
            self.arrived.pop_front()
        }
    }

    /// A UART set up as Linux's 8250 driver leaves it after start-up.
    fn started() -> (Uart, Line) {
        let (mut uart, mut line) = (Uart::new(), Line::default());
        for (offset, value) in [
            (INTERRUPT_IDENTIFICATION, 0x81),
            (LINE_CONTROL, 0x03),
            (MODEM_CONTROL, 0x0B),
        ] {
            uart.write(offset, value, &mut line);
        }
        (uart, line)
    }

    #[test]
    fn looks_like_a_16550a_to_linux_autoconfig() {
        let (mut uart, mut line) = (Uart::new(), Line::default());
        let line = &mut line;
        // autoconfig(): IER bits, loopback, FIFO detection.
        uart.write(INTERRUPT_ENABLE, 0, line);
        assert_eq!(uart.read(INTERRUPT_ENABLE, line) & 0xF, 0);
        uart.write(INTERRUPT_ENABLE, 0x0F, line);
        assert_eq!(uart.read(INTERRUPT_ENABLE, line), 0x0F);
        uart.write(INTERRUPT_ENABLE, 0x4F, line);
        assert_eq!(uart.read(INTERRUPT_ENABLE, line), 0x0F, "no XScale");
        uart.write(INTERRUPT_ENABLE, 0, line);
        uart.write(MODEM_CONTROL, 0x1A, line);
        assert_eq!(uart.read(MODEM_STATUS, line) & 0xF0, 0x90);
        uart.write(MODEM_CONTROL, 0, line);
        uart.write(INTERRUPT_IDENTIFICATION, 1, line);
        assert_eq!(uart.read(INTERRUPT_IDENTIFICATION, line) >> 6, 3);
        // autoconfig_16550a(): no EFR, no 64-byte FIFO.
        uart.write(LINE_CONTROL, 0x80, line);
        assert_ne!(uart.read(INTERRUPT_IDENTIFICATION, line), 0);
        uart.write(LINE_CONTROL, 0, line);
        uart.write(INTERRUPT_IDENTIFICATION, 0x21, line);
        assert_eq!(uart.read(INTERRUPT_IDENTIFICATION, line) >> 5, 6);
        uart.write(SCRATCH, 0x5A, line);
        assert_eq!(uart.read(SCRATCH, line), 0x5A);
    }

    #[test]
    fn bytes_go_out_at_once_and_raise_the_transmitter_interrupt() {
        let (mut uart, mut line) = started();
        uart.write(INTERRUPT_ENABLE, 0x02, &mut line);
        assert!(uart.interrupt(), "enabling raises it");
        assert_eq!(uart.read(INTERRUPT_IDENTIFICATION, &mut line), 0xC2);
        assert!(!uart.interrupt(), "reading it clears it");
        uart.write(DATA, b'x', &mut line);
        assert_eq!(line.sent, b"x");
        assert!(uart.interrupt());
        assert_eq!(uart.read(LINE_STATUS, &mut line), 0x60);
    }

    #[test]
    fn out2_gates_the_interrupt_line() {
        let (mut uart, mut line) = started();
        uart.write(INTERRUPT_ENABLE, 0x02, &mut line);
        for (control, interrupt) in [(0x03, false), (0x0B, true), (0x1B, false)] {
            uart.write(MODEM_CONTROL, control, &mut line);
            assert_eq!(uart.interrupt(), interrupt, "MCR {control:#x}");
        }
    }

    #[test]
    fn received_bytes_interrupt_by_trigger_level_or_timeout() {
        let (mut uart, mut line) = started();
        uart.write(INTERRUPT_ENABLE, 0x01, &mut line);
        line.arrived.extend(b"abc");
        uart.fill(&mut line);
        assert_eq!(
            uart.read(INTERRUPT_IDENTIFICATION, &mut line),
            0xCC,
            "timeout below 8"
        );
        line.arrived.extend(b"defghijklmnopqrstuvwxyz");
        uart.fill(&mut line);
        assert_eq!(uart.read(INTERRUPT_IDENTIFICATION, &mut line), 0xC4);
        assert_eq!(line.arrived.len(), 26 - 16, "the rest waits at the host");
        let mut text = Vec::new();
        while uart.read(LINE_STATUS, &mut line) & 1 != 0 {
            text.push(uart.read(DATA, &mut line));
        }
        assert_eq!(text, b"abcdefghijklmnopqrstuvwxyz");
        assert!(!uart.interrupt());
    }

    #[test]
    fn the_divisor_latch_hides_data_and_interrupt_enable() {
        let (mut uart, mut line) = started();
        uart.write(LINE_CONTROL, 0x83, &mut line);
        uart.write(DATA, 1, &mut line);
        uart.write(INTERRUPT_ENABLE, 2, &mut line);
        assert_eq!(
            (uart.read(DATA, &mut line), uart.read(1, &mut line)),
            (1, 2)
        );
        uart.write(LINE_CONTROL, 0x03, &mut line);
        assert_eq!(uart.read(INTERRUPT_ENABLE, &mut line), 0);
        assert!(line.sent.is_empty());
    }

    #[test]
    fn loopback_receives_what_is_sent_and_overruns() {
        let (mut uart, mut line) = started();
        uart.write(MODEM_CONTROL, 0x10, &mut line);
        for byte in 0..17 {
            uart.write(DATA, byte, &mut line);
        }
        assert!(line.sent.is_empty());
        assert_eq!(uart.read(LINE_STATUS, &mut line) & 3, 3);
        assert_eq!(
            uart.read(LINE_STATUS, &mut line) & 3,
            1,
            "reading clears the overrun"
        );
        assert_eq!(uart.read(DATA, &mut line), 0);
    }

    proptest! {
        #[test]
        fn any_access_is_answered(accesses in prop::collection::vec((any::<bool>(), 0u16..8, any::<u8>()), 0..200)) {
            let (mut uart, mut line) = (Uart::new(), Line::default());
            line.arrived.extend(0..=255u8);
            for (write, offset, value) in accesses {
                if write { uart.write(offset, value, &mut line) } else { uart.read(offset, &mut line); }
                prop_assert!(uart.held <= FIFO_SIZE);
            }
        }
    }
}
