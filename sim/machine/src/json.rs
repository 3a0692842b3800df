//! A writer of one-line JSON objects, for the machine lines of the log.

use alloc::string::String;
use core::fmt::{Display, Write};

/// An object that is being written.
#[derive(Debug)]
pub(crate) struct Object(String);

impl Object {
    pub(crate) fn new() -> Self {
        Self(String::from("{"))
    }

    fn key(&mut self, key: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        quoted(&mut self.0, key);
        self.0.push(':');
    }

    /// A number.
    pub(crate) fn number(mut self, key: &str, value: u64) -> Self {
        self.key(key);
        _ = write!(self.0, "{value}");
        self
    }

    /// true or false.
    pub(crate) fn flag(mut self, key: &str, value: bool) -> Self {
        self.key(key);
        _ = write!(self.0, "{value}");
        self
    }

    /// A string.
    pub(crate) fn text(mut self, key: &str, value: &str) -> Self {
        self.key(key);
        quoted(&mut self.0, value);
        self
    }

    /// Bytes as a string of hexadecimal digits.
    pub(crate) fn hex(mut self, key: &str, value: &[u8]) -> Self {
        self.key(key);
        self.0.push('"');
        for byte in value {
            _ = write!(self.0, "{byte:02x}");
        }
        self.0.push('"');
        self
    }

    /// An object in the object.
    pub(crate) fn object(mut self, key: &str, value: Object) -> Self {
        self.key(key);
        self.0.push_str(&value.finish());
        self
    }

    /// An object of numbers.
    pub(crate) fn counts<K: Display>(
        self,
        key: &str,
        counts: impl Iterator<Item = (K, u64)>,
    ) -> Self {
        let mut inner = Object::new();
        for (name, count) in counts {
            inner.key(&alloc::format!("{name}"));
            _ = write!(inner.0, "{count}");
        }
        self.object(key, inner)
    }

    /// The object as text.
    pub(crate) fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }

    /// Prints the object as a machine line.
    pub(crate) fn print(self) {
        crate::console::plain(&alloc::format!("@{}", self.finish()));
    }
}

/// A string with its quotes and escapes (RFC 8259, section 7).
fn quoted(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            control if control < ' ' => _ = write!(out, "\\u{:04x}", control as u32),
            other => out.push(other),
        }
    }
    out.push('"');
}
