//! Addresses that every PC has at the same place: I/O ports and memory windows.

/// Index port of the real-time clock and CMOS (MC146818A).
pub const RTC_INDEX: u16 = 0x70;
/// Data port of the real-time clock and CMOS.
pub const RTC_DATA: u16 = 0x71;
/// First of the two ports of the master interrupt controller (8259A).
pub const PIC_MASTER: u16 = 0x20;
/// First of the two ports of the slave interrupt controller.
pub const PIC_SLAVE: u16 = 0xA0;
/// Edge/level control register of the master (Intel I/O controller hubs, ELCR1).
pub const ELCR1: u16 = 0x4D0;
/// Edge/level control register of the slave.
pub const ELCR2: u16 = 0x4D1;
/// First of the four ports of the interval timer (8254): three counters and the control word.
pub const PIT: u16 = 0x40;
/// ISA interrupt of the interval timer's counter 0.
pub const TIMER_IRQ: u8 = 0;
/// Input of the I/O APIC that ISA interrupt 0 is wired to.
pub const TIMER_GSI: u8 = 2;
/// NMI status and control: gate and output of the interval timer's counter 2 (Intel I/O controller hubs, NMI_SC).
pub const SYSTEM_CONTROL: u16 = 0x61;
/// Frequency of the power-management timer in Hz (ACPI 6.5, section 4.8.3.3). The interval timer's is a third.
pub const ACPI_TIMER_HZ: u32 = 3_579_545;
/// Command port of the keyboard controller (8042).
pub const KEYBOARD_COMMAND: u16 = 0x64;
/// Keyboard controller command: pulse the reset line (output port bit 0).
pub const KEYBOARD_PULSE_RESET: u8 = 0xFE;
/// Power-on self-test codes.
pub const POST: u16 = 0x80;
/// First of the eight ports of COM1 (16550).
pub const COM1: u16 = 0x3F8;
/// ISA interrupt of COM1.
pub const COM1_IRQ: u8 = 4;
/// First of the eight ports of COM2 (16550).
pub const COM2: u16 = 0x2F8;
/// ISA interrupt of COM2.
pub const COM2_IRQ: u8 = 3;
/// First of the eight ports of COM3 (16550).
pub const COM3: u16 = 0x3E8;
/// CONFIG_ADDRESS (PCI Local Bus 3.0, section 3.2.2.3.2).
pub const PCI_CONFIG_ADDRESS: u16 = 0xCF8;
/// CONFIG_DATA, four bytes.
pub const PCI_CONFIG_DATA: u16 = 0xCFC;
/// Reset control register (Intel I/O controller hubs, RST_CNT).
pub const RESET_CONTROL: u16 = 0xCF9;
/// RST_CNT: a system reset, not only the processor's.
pub const SYSTEM_RESET: u8 = 1 << 1;
/// RST_CNT: a rising edge resets.
pub const RESET_CPU: u8 = 1 << 2;
/// Base of the I/O APIC.
pub const IO_APIC: u64 = 0xFEC0_0000;
/// Base of the local APIC's registers after a reset (SDM Vol. 3A, "Local APIC Status and Location").
pub const LOCAL_APIC: u64 = 0xFEE0_0000;
/// The first instruction after a reset (SDM Vol. 3A, "First Instruction Executed").
pub const RESET_VECTOR: u64 = 0xFFFF_FFF0;
