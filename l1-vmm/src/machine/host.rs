//! The host's devices behind L2's: ports by TDVMCALL, and L1's own interrupts.
//!
//! What the host answers is shown to L2 as it is: console input and the time of day are the
//! host's to choose on any machine that it provides.

use tdcall::tdvmcall::VmcallError;
use tdcall::{RawTdcall, Td};
use tdx_defs::Gpa;
use tdx_defs::ghci::{MmioWidth, Width};
use x86_defs::apic::{InterruptCommand, Register};
use x86_defs::{msr, pc};

use crate::machine::devices::cmos::ClockRegisters;
use crate::machine::devices::ioapic;
use crate::machine::devices::uart::{self, SerialLine, bits};

/// L1's vector for its APIC timer.
pub const TIMER_VECTOR: u8 = 0xE0;
/// L1's vector for the host's UART.
pub const CONSOLE_VECTOR: u8 = 0xE1;
/// L1's vector for the host's devices behind L2's: it says only that it is time to look at them.
pub const DEVICES_VECTOR: u8 = 0xE2;
/// L1's vector for a change of the configuration of any of them.
pub const CONFIGURATION_VECTOR: u8 = 0xE3;
/// L1's vector for telling a virtual processor that something is posted for it.
pub const KICK_VECTOR: u8 = 0xE4;

/// Software enable and spurious vector FFH.
const SVR_ENABLED: u64 = 0x1FF;
/// TSC-deadline mode.
const LVT_TSC_DEADLINE: u64 = 0b10 << 17;

/// The host's serial port and clock.
#[derive(Debug)]
pub struct HostPorts<'t, R> {
    td: &'t Td<R>,
}

impl<R> Clone for HostPorts<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for HostPorts<'_, R> {}

impl<'t, R: RawTdcall> HostPorts<'t, R> {
    /// Ports by TDVMCALLs to `td`.
    pub const fn new(td: &'t Td<R>) -> Self {
        Self { td }
    }

    fn read(&self, port: u16) -> u8 {
        // A host that refuses has no such device.
        self.td.io_read(port, Width::Byte).unwrap_or(0xFF) as u8
    }

    fn write(&self, port: u16, value: u8) {
        // A host that refuses a byte of the console loses it; L2 cannot be told on a UART.
        let _ = self.td.io_write(port, Width::Byte, u32::from(value));
    }
}

impl<R: RawTdcall> SerialLine for HostPorts<'_, R> {
    fn send(&mut self, byte: u8) {
        self.write(uart::BASE + bits::DATA, byte);
    }

    fn receive(&mut self) -> Option<u8> {
        let status = self.read(uart::BASE + bits::LINE_STATUS);
        // All ones: there is no UART.
        let ready = status != 0xFF && bits::LineStatus::from(status).data_ready();
        ready.then(|| self.read(uart::BASE + bits::DATA))
    }
}

impl<R: RawTdcall> ClockRegisters for HostPorts<'_, R> {
    fn read_clock(&mut self, index: u8) -> u8 {
        self.write(pc::RTC_INDEX, index);
        self.read(pc::RTC_DATA)
    }

    fn write_clock(&mut self, index: u8, value: u8) {
        self.write(pc::RTC_INDEX, index);
        self.write(pc::RTC_DATA, value);
    }
}

/// L1's timer interrupt: TSC-deadline mode, [`TIMER_VECTOR`].
pub fn set_up_timer<R: RawTdcall>(td: &Td<R>) -> Result<(), VmcallError> {
    td.wrmsr(Register::SVR.msr(), SVR_ENABLED)?;
    td.wrmsr(
        Register::LVT_TIMER.msr(),
        LVT_TSC_DEADLINE | u64::from(TIMER_VECTOR),
    )
}

/// Arms L1's timer for a TSC value, or disarms it.
pub fn arm_timer<R: RawTdcall>(td: &Td<R>, deadline: Option<u64>) -> Result<(), VmcallError> {
    td.wrmsr(msr::IA32_TSC_DEADLINE, deadline.unwrap_or(0))
}

/// Interrupts the virtual processor that the host knows by APIC id `id`, with [`KICK_VECTOR`]: an x2APIC's interrupt
/// command, fixed, to a physical destination.
pub(crate) fn kick<R: RawTdcall>(td: &Td<R>, id: u32) -> Result<(), VmcallError> {
    let command = InterruptCommand::new()
        .with_vector(KICK_VECTOR)
        .with_assert(true)
        .with_destination(id);
    td.wrmsr(Register::ICR.msr(), command.into())
}

/// The interrupt of the host's UART: pin 4 of the host's I/O APIC to [`CONSOLE_VECTOR`], and the
/// UART told to interrupt when it receives. Without it L2 has no console input.
pub fn set_up_console<R: RawTdcall>(td: &Td<R>) -> Result<(), VmcallError> {
    let register = |index: u8, value: u32| {
        let index = u64::from(index);
        td.mmio_write(
            Gpa(ioapic::BASE + x86_defs::ioapic::INDEX),
            MmioWidth::Dword,
            index,
        )?;
        let window = Gpa(ioapic::BASE + x86_defs::ioapic::WINDOW);
        td.mmio_write(window, MmioWidth::Dword, u64::from(value))
    };
    let entry = x86_defs::ioapic::REDIRECTION + 2 * pc::COM1_IRQ;
    register(entry + 1, 0)?;
    register(entry, u32::from(CONSOLE_VECTOR))?;
    let uart =
        |offset: u16, value: u8| td.io_write(uart::BASE + offset, Width::Byte, u32::from(value));
    uart(bits::LINE_CONTROL, 0x03)?;
    uart(bits::INTERRUPT_IDENTIFICATION, 0x07)?;
    let modem = bits::ModemControl::new()
        .with_dtr(true)
        .with_rts(true)
        .with_out2(true);
    uart(bits::MODEM_CONTROL, modem.into())?;
    uart(
        bits::INTERRUPT_ENABLE,
        bits::InterruptEnable::new().with_received_data(true).into(),
    )
}
