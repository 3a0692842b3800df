//! The log: lines of text to the host's debug port, as isa-debugcon has it: sentences for people, and
//! figures for programs ([`l1_vmm::record`]).

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};

use l1_vmm::record;
use log::{Level, LevelFilter, Log, Metadata, Record};
use tdx_defs::ghci::Width;

use crate::arch::td;

/// The port, which is not the default of isa-debugcon (0xE9): that one is the machine's own.
const PORT: u16 = 0x402;
/// What a read gives where the device exists.
const PRESENT: u32 = 0xE9;

/// Whether the host has the port: asked once.
static EXISTS: AtomicBool = AtomicBool::new(false);

/// The port as a text writer; drops everything where the host has none.
pub(crate) struct DebugPort;

impl Write for DebugPort {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if EXISTS.load(Ordering::Relaxed) {
            for byte in text.bytes() {
                // A host that refuses a byte loses it.
                let _ = td().io_write(PORT, Width::Byte, byte.into());
            }
        }
        Ok(())
    }
}

struct Logger;

impl Log for Logger {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let prefix = match record.level() {
            Level::Error => "error: ",
            Level::Warn => "warning: ",
            Level::Info | Level::Debug | Level::Trace => "",
        };
        let _ = writeln!(DebugPort, "{prefix}{}", record.args());
        if let Some(figures) = record::Line::of(record) {
            let _ = writeln!(DebugPort, "{figures}");
        }
    }

    fn flush(&self) {}
}

/// Looks for the port and makes it the destination of `log`.
pub(crate) fn start() {
    let found = td().io_read(PORT, Width::Byte) == Ok(PRESENT);
    EXISTS.store(found, Ordering::Relaxed);
    if log::set_logger(&Logger).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}
