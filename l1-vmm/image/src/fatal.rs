//! The end of L1: one line on the log, the same as a record and to the host, and nothing more.

use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use l1_vmm::record;
use log::kv::Value;

use crate::application;
use crate::arch;
use crate::debug_port::Lines;

/// What kind of failure it is: the extended error code of `TDG.VP.VMCALL<ReportFatalError>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum FatalCode {
    /// A bug: a Rust panic, or the C engine gave up.
    Panic = 0,
    /// A processor exception in L1.
    Exception = 1,
    /// A #VE that can not be served.
    VirtualizationException = 2,
    /// The processor lacks what L1 needs, or is in an unexpected state.
    Processor = 3,
    /// No entropy.
    Entropy = 4,
    /// What td-shim handed over, or the TD's configuration, is not usable.
    Configuration = 5,
    /// L2 could not be launched.
    Launch = 6,
    /// The vTPM could not be started.
    Tpm = 7,
    /// L2 could not be run on.
    Run = 8,
    /// The TPM's state was refused, and the configuration wants no guest without it.
    State = 9,
}

/// The first failure is the one that is told, whichever processor has it; later ones only halt theirs. No processor enters
/// L2 when it is set.
static ENDED: AtomicBool = AtomicBool::new(false);

/// Says why on the log and to the host, and halts. A failure on the way there only halts.
pub(crate) fn fatal(code: FatalCode, message: fmt::Arguments<'_>) -> ! {
    if !ENDED.swap(true, Ordering::Relaxed) {
        let mut line = Line::new();
        // A line that is too long is cut.
        let _ = line.write_fmt(message);
        let mut lines = Lines::last();
        let _ = writeln!(lines, "fatal: {}", line.text());
        let figures = [
            ("code", Value::from(code as u32)),
            ("text", Value::from(line.text())),
        ];
        let _ = writeln!(lines, "{}", record::Line::new("fatal", &figures));
        drop(lines);
        application::kick_all();
        arch::td().report_fatal_error(code as u32, line.text());
    }
    halt()
}

/// Whether L1 has ended, on whichever processor.
pub(crate) fn ended() -> bool {
    ENDED.load(Ordering::Relaxed)
}

/// Halts with interrupts disabled, again and again if the host returns.
pub(crate) fn halt() -> ! {
    loop {
        let _ = arch::td().hlt(true);
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let message = info.message();
    match info.location() {
        Some(location) => {
            let (file, line) = (location.file(), location.line());
            fatal(
                FatalCode::Panic,
                format_args!("panic at {file}:{line}: {message}"),
            )
        }
        None => fatal(FatalCode::Panic, format_args!("panic: {message}")),
    }
}

/// A line of text without a heap.
struct Line {
    bytes: [u8; 240],
    length: usize,
}

impl Line {
    const fn new() -> Self {
        Self {
            bytes: [0; 240],
            length: 0,
        }
    }

    fn text(&self) -> &str {
        let bytes = self.bytes.get(..self.length).unwrap_or(&[]);
        str::from_utf8(bytes).unwrap_or("(no text)")
    }
}

impl Write for Line {
    /// Control characters and what is not ASCII become dots, so that every line is one line.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let printable = character.is_ascii_graphic() || character == ' ';
            let byte = if printable { character as u8 } else { b'.' };
            *self.bytes.get_mut(self.length).ok_or(fmt::Error)? = byte;
            self.length += 1;
        }
        Ok(())
    }
}

/// The value, or the end of L1 with the error as its last line.
pub(crate) trait OrFatal<T> {
    /// See [`OrFatal`].
    fn or_fatal(self, code: FatalCode) -> T;
}

impl<T, E: fmt::Display> OrFatal<T> for Result<T, E> {
    fn or_fatal(self, code: FatalCode) -> T {
        match self {
            Ok(value) => value,
            Err(error) => fatal(code, format_args!("{error}")),
        }
    }
}
