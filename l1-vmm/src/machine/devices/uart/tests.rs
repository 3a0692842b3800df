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
