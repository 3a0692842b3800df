//! Layout of the 16550A's registers (National Semiconductor PC16550D datasheet).

use bitfield_struct::bitfield;

/// Offset 0: receiver buffer (read), transmitter holding (write), or divisor latch low.
pub const DATA: u16 = 0;
/// Offset 1: interrupt enable, or divisor latch high.
pub const INTERRUPT_ENABLE: u16 = 1;
/// Offset 2: interrupt identification (read), FIFO control (write).
pub const INTERRUPT_IDENTIFICATION: u16 = 2;
/// Offset 3: line control.
pub const LINE_CONTROL: u16 = 3;
/// Offset 4: modem control.
pub const MODEM_CONTROL: u16 = 4;
/// Offset 5: line status.
pub const LINE_STATUS: u16 = 5;
/// Offset 6: modem status.
pub const MODEM_STATUS: u16 = 6;
/// Offset 7: scratch.
pub const SCRATCH: u16 = 7;

/// IER.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct InterruptEnable {
    pub received_data: bool,
    pub transmitter_empty: bool,
    pub line_status: bool,
    pub modem_status: bool,
    #[bits(4)]
    _reserved: u8,
}

/// IIR: what interrupts, by falling priority. Bit 0 clear means that something does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum InterruptSource {
    /// Overrun, parity, framing or break.
    LineStatus = 0b0110,
    /// The receiver FIFO reached its trigger level.
    ReceivedData = 0b0100,
    /// The FIFO holds bytes below its trigger level and none was read for a while.
    CharacterTimeout = 0b1100,
    /// The transmitter took the last byte.
    TransmitterEmpty = 0b0010,
    /// A modem line changed.
    ModemStatus = 0b0000,
    /// Nothing.
    None = 0b0001,
}

/// IIR bits 7:6: the FIFOs are enabled.
pub const FIFOS_ENABLED: u8 = 0xC0;

/// FCR.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct FifoControl {
    pub enable: bool,
    pub reset_receiver: bool,
    pub reset_transmitter: bool,
    pub dma_mode: bool,
    #[bits(2)]
    _reserved: u8,
    /// Trigger level: 1, 4, 8 or 14 bytes.
    #[bits(2)]
    pub trigger: u8,
}

/// LCR: only the bit that changes the register map has behaviour.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct LineControl {
    #[bits(7)]
    pub format: u8,
    /// DLAB.
    pub divisor_latch: bool,
}

/// MCR.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct ModemControl {
    pub dtr: bool,
    pub rts: bool,
    pub out1: bool,
    /// OUT2: on a PC, gates the interrupt line.
    pub out2: bool,
    pub loopback: bool,
    #[bits(3)]
    _reserved: u8,
}

/// LSR.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct LineStatus {
    pub data_ready: bool,
    pub overrun: bool,
    pub parity_error: bool,
    pub framing_error: bool,
    pub break_received: bool,
    pub holding_empty: bool,
    pub transmitter_empty: bool,
    pub fifo_error: bool,
}

/// MSR.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct ModemStatus {
    pub delta_cts: bool,
    pub delta_dsr: bool,
    pub trailing_edge_ri: bool,
    pub delta_dcd: bool,
    pub cts: bool,
    pub dsr: bool,
    pub ri: bool,
    pub dcd: bool,
}
