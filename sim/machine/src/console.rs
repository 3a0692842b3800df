//! The log on QEMU's debug console: lines for people, stamped with virtual time, and machine lines
//! `@{...}`.

use core::fmt::{self, Write};

use crate::arch::clock::ticks_per_millisecond;
use crate::arch::cpu::rdtsc;
use crate::arch::port::Port;

/// The debug console. Writing cannot fail.
struct DebugConsole;

impl Write for DebugConsole {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            Port::DEBUGCON.write8(byte);
        }
        Ok(())
    }
}

/// Prints a line, stamped, with who says it.
pub(crate) fn line(speaker: &str, text: fmt::Arguments<'_>) {
    let now = (u128::from(rdtsc()) * 1000 / u128::from(ticks_per_millisecond())) as u64;
    let (seconds, fraction) = (now / 1_000_000, now % 1_000_000);
    _ = writeln!(
        DebugConsole,
        "[{seconds:3}.{fraction:06}] {speaker}: {text}"
    );
}

/// Prints a line as it is.
pub(crate) fn plain(text: &str) {
    _ = writeln!(DebugConsole, "{text}");
}

/// Prints a line as the host.
macro_rules! say {
    ($($argument:tt)*) => {
        $crate::console::line("host", format_args!($($argument)*))
    };
}
pub(crate) use say;
