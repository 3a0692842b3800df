//! Layout of the I/O APIC's registers (82093AA datasheet; Intel chipset datasheets for
//! version 20H and the EOI register).

use bitfield_struct::bitfield;

/// IOREGSEL: offset of the index register.
pub const INDEX: u64 = 0x00;
/// IOWIN: offset of the data window.
pub const WINDOW: u64 = 0x10;
/// EOI register, version 20H.
pub const EOI: u64 = 0x40;

/// Index of the identification register.
pub const IDENTIFICATION: u8 = 0x00;
/// Index of the version register.
pub const VERSION: u8 = 0x01;
/// Index of the arbitration register.
pub const ARBITRATION: u8 = 0x02;
/// Index of the low half of redirection entry 0.
pub const REDIRECTION: u8 = 0x10;

/// Interrupt inputs.
pub const PINS: usize = 24;

/// An entry of the redirection table.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Redirection {
    pub vector: u8,
    #[bits(3)]
    pub delivery_mode: u8,
    pub logical: bool,
    /// Read-only.
    pub delivery_pending: bool,
    pub active_low: bool,
    /// Read-only: a level interrupt was accepted and has not been ended.
    pub remote_irr: bool,
    pub level_triggered: bool,
    pub masked: bool,
    #[bits(39)]
    _reserved: u64,
    pub destination: u8,
}

/// Bits of a redirection entry that a write changes.
pub const REDIRECTION_WRITABLE: u64 = 0xFF00_0000_0001_AFFF;
