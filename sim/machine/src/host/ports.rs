//! The host's port devices.

use alloc::string::String;
use core::mem::take;
use uefi_defs::acpi;
use x86_defs::pc::{self, RESET_CONTROL, RTC_DATA, RTC_INDEX};

use tdx_defs::ghci::Width;

use super::fw_cfg::{self, FwCfg};
use super::memory::TdMemory;
use crate::arch::cpu::rdtsc;
use crate::arch::port::Port;
use crate::json::Object;

const DEBUGCON: u16 = 0x402;
/// What `isa-debugcon` reads as (QEMU: hw/char/debugcon.c).
const DEBUGCON_PRESENT: u32 = 0xE9;
/// PM1a_CNT of the ICH9's power management block, where firmware and L1 put it.
pub(super) const PM1A_CONTROL: u16 = 0x604;
/// SLP_EN; SLP_TYP, bits 12:10, is 0 for S5 (ACPI 6.5, 4.8.3.2.1).
const SLEEP_ENABLE: u32 = acpi::SLP_EN as u32;
const SLEEP_TYPE: u32 = acpi::SLP_TYP as u32;
/// RST_CNT: bit 2 resets.
const RESET_CPU: u32 = pc::RESET_CPU as u32;
/// COM1's transmit register.
const TRANSMIT: u16 = pc::COM1;
/// The longest line of L1's log that is kept whole: more than any record of L1's is long.
const LINE: usize = 1024;

/// What a port write asks of the whole machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MachineRequest {
    PowerOff,
    Reboot,
}

/// The devices.
#[derive(Debug)]
pub(crate) struct Ports {
    fw_cfg: Option<FwCfg>,
    /// The line of L1's log that is being written.
    line: String,
    /// Its start was too long and has been printed.
    line_cut: bool,
    /// Something was written to a console since this was last asked.
    progress: bool,
    /// L1's DLAB bit: the transmit register is a divisor.
    divisor_latch: bool,
}

impl Ports {
    pub(crate) fn new(fw_cfg: Option<FwCfg>) -> Self {
        Self {
            fw_cfg,
            line: String::new(),
            line_cut: false,
            progress: false,
            divisor_latch: false,
        }
    }

    /// IN. A port without a device reads all ones.
    pub(crate) fn read(&mut self, port: u16, width: Width) -> u32 {
        let value = match (port, width) {
            (DEBUGCON, Width::Byte) => Some(DEBUGCON_PRESENT),
            (RTC_DATA, Width::Byte) => Some(Port::RTC_DATA.read8().into()),
            (PM1A_CONTROL, Width::Word) => Some(0),
            (RESET_CONTROL, Width::Byte) => Some(0),
            (_, Width::Byte) if Port::com1(port).is_some() => {
                Port::com1(port).map(|register| register.read8().into())
            }
            _ => self
                .fw_cfg
                .as_mut()
                .and_then(|device| device.read(port, width)),
        };
        value.unwrap_or(width.mask())
    }

    /// OUT. A port without a device drops what is written.
    pub(crate) fn write(
        &mut self,
        port: u16,
        width: Width,
        value: u32,
        td_memory: &TdMemory,
        shared_bit: u64,
    ) -> Option<MachineRequest> {
        const LINE_CONTROL: u16 = TRANSMIT + 3;
        match (port, width) {
            (DEBUGCON, Width::Byte) => self.log(value as u8),
            (RTC_INDEX, Width::Byte) => Port::RTC_INDEX.write8(value as u8),
            (RTC_DATA, Width::Byte) => Port::RTC_DATA.write8(value as u8),
            (PM1A_CONTROL, Width::Word) if value & SLEEP_ENABLE != 0 => {
                return (value & SLEEP_TYPE == 0).then_some(MachineRequest::PowerOff);
            }
            (RESET_CONTROL, Width::Byte) if value & RESET_CPU != 0 => {
                return Some(MachineRequest::Reboot);
            }
            (_, Width::Byte) if Port::com1(port).is_some() => {
                if port == LINE_CONTROL {
                    self.divisor_latch = value & 0x80 != 0;
                }
                self.progress |= port == TRANSMIT && !self.divisor_latch;
                if let Some(register) = Port::com1(port) {
                    register.write8(value as u8);
                }
            }
            (port @ (fw_cfg::port::SELECTOR..=fw_cfg::port::DMA_LOW), _) => {
                if let Some(device) = &mut self.fw_cfg {
                    device.write(port, width, value, td_memory, shared_bit);
                }
            }
            _ => {}
        }
        None
    }

    fn log(&mut self, byte: u8) {
        match byte {
            b'\n' => {
                self.flush();
                self.line_cut = false;
            }
            b'\r' => {}
            // What L1 writes is not trusted to be text.
            b' '..=b'~' => self.line.push(char::from(byte)),
            _ => self.line.push('?'),
        }
        if self.line.len() >= LINE {
            self.flush();
            self.line_cut = true;
        }
    }

    /// Prints what L1 has written of a line. A record of L1's is quoted in one of the simulator's: whatever
    /// L1 writes, it is no record of the simulator's own.
    pub(crate) fn flush(&mut self) {
        if !self.line.is_empty() {
            self.progress = true;
            let line = take(&mut self.line);
            match line.strip_prefix('@') {
                Some(record) if !self.line_cut => Object::new()
                    .text("l1_record", record)
                    .number("tsc", rdtsc())
                    .print(),
                _ => crate::console::line("L1", format_args!("{line}")),
            }
        }
    }

    /// Something else happened on a console.
    pub(crate) fn note_progress(&mut self) {
        self.progress = true;
    }

    /// Whether something was written to a console since the last call.
    pub(crate) fn take_progress(&mut self) -> bool {
        take(&mut self.progress)
    }
}
