//! The log: lines of text to the host's debug port, as isa-debugcon has it: sentences for people, and
//! figures for programs ([`l1_vmm::record`]).
//!
//! The lines of a record are written under a lock, so that those of two processors do not mix. No handler logs but to end
//! L1, and that waits for the lock only a while ([`Lines::last`]): its holder may be the processor that fails.

use core::fmt::{self, Write};
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, Ordering};

use l1_vmm::record;
use log::{Level, LevelFilter, Log, Metadata, Record};
use spin::{Mutex, MutexGuard};
use tdx_defs::ghci::Width;

use crate::arch::{clock, td};

/// The port, which is not the default of isa-debugcon (0xE9): that one is the machine's own.
const PORT: u16 = 0x402;
/// What a read gives where the device exists.
const PRESENT: u32 = 0xE9;

/// Whether the host has the port: asked once.
static EXISTS: AtomicBool = AtomicBool::new(false);

/// Taken for a record's lines, after every lock but the heap's.
static LINES: Mutex<()> = Mutex::new(());

/// How long a processor that ends L1 waits for the lock: many lines.
const LAST_WAIT: u64 = 100_000_000;

/// The port as a text writer, for whole lines; drops everything where the host has none.
pub(crate) struct Lines {
    _lock: Option<MutexGuard<'static, ()>>,
}

impl Lines {
    /// Waits until no other processor writes.
    fn next() -> Self {
        Self {
            _lock: Some(LINES.lock()),
        }
    }

    /// For the last words of L1, which are said even if another processor does not come to the end of its line, or if it
    /// is this one that is in the middle of it.
    pub(crate) fn last() -> Self {
        let end = clock::nanoseconds().saturating_add(LAST_WAIT);
        while clock::nanoseconds() < end {
            if let Some(lock) = LINES.try_lock() {
                return Self { _lock: Some(lock) };
            }
            spin_loop();
        }
        let mut lines = Self { _lock: None };
        let _ = writeln!(lines);
        lines
    }
}

impl Write for Lines {
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
        let mut lines = Lines::next();
        let _ = writeln!(lines, "{prefix}{}", record.args());
        if let Some(figures) = record::Line::of(record) {
            let _ = writeln!(lines, "{figures}");
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
