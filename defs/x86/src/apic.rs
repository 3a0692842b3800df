//! Layout of the local APIC's registers (SDM Vol. 3A, chapter 12 "APIC").

use bitfield_struct::bitfield;

/// A register by its x2APIC number `n`: MSR 0x800 + `n`, and offset `n << 4` in xAPIC mode
/// and in the virtual-APIC page (SDM Vol. 3A, table "Local APIC Register Address Map
/// Supported by x2APIC").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Register(pub u8);

impl Register {
    /// Local APIC ID.
    pub const ID: Self = Self(0x02);
    /// Version.
    pub const VERSION: Self = Self(0x03);
    /// Task priority.
    pub const TPR: Self = Self(0x08);
    /// Arbitration priority; xAPIC only.
    pub const APR: Self = Self(0x09);
    /// Processor priority.
    pub const PPR: Self = Self(0x0A);
    /// End of interrupt.
    pub const EOI: Self = Self(0x0B);
    /// Logical destination.
    pub const LDR: Self = Self(0x0D);
    /// Destination format; xAPIC only.
    pub const DFR: Self = Self(0x0E);
    /// Spurious-interrupt vector.
    pub const SVR: Self = Self(0x0F);
    /// In-service, first of eight.
    pub const ISR: Self = Self(0x10);
    /// Trigger mode, first of eight.
    pub const TMR: Self = Self(0x18);
    /// Interrupt request, first of eight.
    pub const IRR: Self = Self(0x20);
    /// Error status.
    pub const ESR: Self = Self(0x28);
    /// LVT of the corrected machine check.
    pub const LVT_CMCI: Self = Self(0x2F);
    /// Interrupt command; all 64 bits in x2APIC mode, the low half in xAPIC mode.
    pub const ICR: Self = Self(0x30);
    /// High half of the interrupt command; xAPIC only.
    pub const ICR_HIGH: Self = Self(0x31);
    /// LVT of the timer.
    pub const LVT_TIMER: Self = Self(0x32);
    /// LVT of the thermal sensor.
    pub const LVT_THERMAL: Self = Self(0x33);
    /// LVT of the performance counters.
    pub const LVT_PERFORMANCE: Self = Self(0x34);
    /// LVT of LINT0.
    pub const LVT_LINT0: Self = Self(0x35);
    /// LVT of LINT1.
    pub const LVT_LINT1: Self = Self(0x36);
    /// LVT of the APIC's own errors.
    pub const LVT_ERROR: Self = Self(0x37);
    /// Timer: initial count.
    pub const INITIAL_COUNT: Self = Self(0x38);
    /// Timer: current count.
    pub const CURRENT_COUNT: Self = Self(0x39);
    /// Timer: divide configuration.
    pub const DIVIDE: Self = Self(0x3E);
    /// Self IPI; x2APIC only.
    pub const SELF_IPI: Self = Self(0x3F);

    /// Offset in the virtual-APIC page and from the xAPIC base.
    pub const fn offset(self) -> u16 {
        (self.0 as u16) << 4
    }

    /// Number of the MSR in x2APIC mode.
    pub const fn msr(self) -> u32 {
        crate::msr::X2APIC + self.0 as u32
    }

    /// Register `index` (0 to 7) of a 256-bit register that starts here.
    pub const fn element(self, index: u8) -> Self {
        Self(self.0 + (index & 7))
    }
}

/// Spurious-interrupt vector register.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct SpuriousVector {
    pub vector: u8,
    /// The APIC is software-enabled.
    pub enabled: bool,
    /// Focus processor checking disabled.
    pub focus_disabled: bool,
    #[bits(22)]
    _reserved: u32,
}

/// An entry of the local vector table. The timer has `timer_mode`, the LINTs have polarity and
/// trigger mode, and only those with a delivery mode honour `delivery_mode`.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct LvtEntry {
    pub vector: u8,
    #[bits(3)]
    pub delivery_mode: u8,
    #[bits(1)]
    _reserved: u8,
    #[bits(access = RO)]
    pub delivery_pending: bool,
    pub active_low: bool,
    #[bits(access = RO)]
    pub remote_irr: bool,
    pub level_triggered: bool,
    pub masked: bool,
    #[bits(2)]
    pub timer_mode: u8,
    #[bits(13)]
    _reserved: u16,
}

/// LVT timer mode: one-shot.
pub const TIMER_ONE_SHOT: u8 = 0;
/// LVT timer mode: periodic.
pub const TIMER_PERIODIC: u8 = 1;
/// LVT timer mode: TSC deadline.
pub const TIMER_TSC_DEADLINE: u8 = 2;

/// Interrupt command register, in x2APIC format.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct InterruptCommand {
    pub vector: u8,
    #[bits(3)]
    pub delivery_mode: u8,
    pub logical: bool,
    #[bits(access = RO)]
    pub delivery_pending: bool,
    #[bits(1)]
    _reserved: u8,
    pub assert: bool,
    pub level_triggered: bool,
    #[bits(2)]
    _reserved: u8,
    #[bits(2)]
    pub shorthand: u8,
    #[bits(12)]
    _reserved: u16,
    pub destination: u32,
}

/// Shorthand: to the destination field.
pub const SHORTHAND_NONE: u8 = 0;
/// Shorthand: to self.
pub const SHORTHAND_SELF: u8 = 1;
/// Shorthand: to all including self.
pub const SHORTHAND_ALL: u8 = 2;

/// Shorthand: to all excluding self.
pub const SHORTHAND_OTHERS: u8 = 3;

/// Delivery mode: fixed.
pub const DELIVERY_FIXED: u8 = 0;
/// Delivery mode: lowest priority.
pub const DELIVERY_LOWEST_PRIORITY: u8 = 1;
/// Delivery mode: the vector is that of an 8259A.
pub const DELIVERY_EXTINT: u8 = 7;
/// Delivery mode: NMI.
pub const DELIVERY_NMI: u8 = 4;
/// Delivery mode: INIT.
pub const DELIVERY_INIT: u8 = 5;
/// Delivery mode: start-up.
pub const DELIVERY_STARTUP: u8 = 6;

/// Error status register.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct ErrorStatus {
    #[bits(5)]
    _reserved: u8,
    pub send_illegal_vector: bool,
    pub receive_illegal_vector: bool,
    pub illegal_register_address: bool,
    #[bits(24)]
    _reserved: u32,
}

/// IA32_APIC_BASE, MSR 1BH.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ApicBase {
    _reserved: u8,
    /// This is the bootstrap processor.
    pub bootstrap: bool,
    #[bits(1)]
    _reserved: u8,
    /// EXTD: x2APIC mode.
    pub x2apic: bool,
    /// EN: the APIC is globally enabled.
    pub enabled: bool,
    /// Page frame of the xAPIC registers.
    #[bits(40)]
    pub frame: u64,
    #[bits(12)]
    _reserved: u16,
}

/// A message-signalled interrupt (SDM Vol. 3A, section "Message Address Register Format"): bits 31:20 of its address.
pub const MESSAGE_ADDRESS: u32 = 0xFEE;
/// Message address: the destination is logical.
pub const MESSAGE_LOGICAL: u32 = 1 << 2;
/// Message address: place of the destination, of 8 bits.
pub const MESSAGE_DESTINATION: u32 = 12;
/// Message data: place of the delivery mode, of 3 bits.
pub const MESSAGE_DELIVERY_MODE: u32 = 8;
