//! Records: L1's figures for programs, beside the log's sentences for people.
//!
//! A record is one line: `@` and a JSON object (RFC 8259) of one member, the record's name, whose value is an
//! object of figures. Whoever has a figure logs it once, as a key and value of the sentence, with the
//! record's name as the target:
//!
//! ```
//! # let time = 123_u64;
//! log::info!(target: "time", of = "keys", ns = time; "time to make its keys: {time} ns");
//! ```
//!
//! is `time to make its keys: 123 ns` and `@{"time":{"of":"keys","ns":123}}`. `docs/simulator.md` lists the
//! records and who reads them. Nothing is allocated.

use core::fmt::{self, Display, Write};

use log::kv::{self, Key, Source, Value, VisitSource, VisitValue};

/// A record as its line, without the line's end.
#[derive(Clone, Copy)]
pub struct Line<'a> {
    name: &'a str,
    figures: &'a dyn Source,
}

impl<'a> Line<'a> {
    /// The record `name` of these figures.
    pub fn new(name: &'a str, figures: &'a dyn Source) -> Self {
        Self { name, figures }
    }

    /// The record of what is logged; `None` where it has no figures.
    pub fn of(logged: &'a log::Record<'_>) -> Option<Self> {
        let figures = logged.key_values();
        (figures.count() != 0).then(|| Self::new(logged.target(), figures))
    }
}

impl Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("@{")?;
        text(f, self.name)?;
        f.write_str(":{")?;
        let mut members = Members {
            out: f,
            separator: "",
        };
        self.figures.visit(&mut members).map_err(|_| fmt::Error)?;
        f.write_str("}}")
    }
}

/// Writes the members of an object.
struct Members<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    /// What comes before the next member.
    separator: &'static str,
}

impl<'kvs> VisitSource<'kvs> for Members<'_, '_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        self.out.write_str(self.separator)?;
        self.separator = ",";
        text(self.out, key)?;
        self.out.write_char(':')?;
        value.visit(Figure(self.out))
    }
}

/// Writes a value: integers of up to 64 bits and truth values as JSON's own, all else as text.
struct Figure<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl<'v> VisitValue<'v> for Figure<'_, '_> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), kv::Error> {
        Ok(text(self.0, value)?)
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        Ok(write!(self.0, "{value}")?)
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), kv::Error> {
        Ok(write!(self.0, "{value}")?)
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), kv::Error> {
        Ok(write!(self.0, "{value}")?)
    }
}

/// Writes a string with its quotes.
fn text(out: &mut fmt::Formatter<'_>, value: impl Display) -> fmt::Result {
    out.write_char('"')?;
    write!(Escaped(out), "{value}")?;
    out.write_char('"')
}

/// Writes the characters of a JSON string. The log is printable ASCII, one line a record: all other
/// characters are escaped (RFC 8259, section 7).
struct Escaped<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '"' | '\\' => write!(self.0, "\\{character}")?,
                ' '..='~' => self.0.write_char(character)?,
                _ => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        write!(self.0, "\\u{unit:04x}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};

    fn line(name: &str, figures: &dyn Source) -> String {
        Line::new(name, figures).to_string()
    }

    #[test]
    fn a_record_has_its_figures_in_order() {
        let figures = [
            ("of", Value::from("keys")),
            ("ns", Value::from(u64::MAX)),
            ("below", Value::from(-1_i64)),
            ("whole", Value::from(true)),
            ("wide", Value::from(u128::MAX)),
        ];
        assert_eq!(
            line("time", &figures),
            "@{\"time\":{\"of\":\"keys\",\"ns\":18446744073709551615,\"below\":-1,\"whole\":true,\
             \"wide\":\"340282366920938463463374607431768211455\"}}"
        );
    }

    #[test]
    fn no_text_ends_its_string_or_its_line() {
        let said = [("text", "\"}}\\\n@{\u{0}\u{7f}é\u{1f600}")];
        assert_eq!(
            line("fa\"tal", &said),
            "@{\"fa\\\"tal\":{\"text\":\"\\\"}}\\\\\\u000a@{\\u0000\\u007f\\u00e9\\ud83d\\ude00\"}}"
        );
    }

    #[test]
    fn what_is_logged_with_figures_is_a_record() {
        let figures = [("ns", 5_u64)];
        let mut logged = log::Record::builder();
        logged.target("time");
        assert!(Line::of(&logged.build()).is_none());
        let logged = logged.key_values(&figures).build();
        let line = Line::of(&logged).map(|line| line.to_string());
        assert_eq!(line.as_deref(), Some("@{\"time\":{\"ns\":5}}"));
    }
}
