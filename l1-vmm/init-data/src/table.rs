//! A TOML table whose keys are taken one by one, so that what remains is what nobody knows.

use crate::error::{InitDataError, Part, Place};
use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use core::ops::Range;
use toml::de::{DeTable, DeValue};

/// The most characters of an unknown key that an error shows.
const KEY_SHOWN: usize = 64;

/// What stands in a table, and where.
pub(crate) struct Table<'a> {
    part: Part,
    text: &'a str,
    entries: BTreeMap<String, Entry<'a>>,
}

struct Entry<'a> {
    at: usize,
    value: DeValue<'a>,
}

/// A text, and where it stands.
pub(crate) struct Text<'a> {
    pub(crate) place: Place,
    pub(crate) value: Cow<'a, str>,
}

impl<'a> Table<'a> {
    /// All of a text.
    pub(crate) fn parse(text: &'a str, part: Part) -> Result<Self, InitDataError> {
        let table = DeTable::parse(text).map_err(|error| InitDataError::NotToml {
            place: place(part, text, error.span().map_or(0, |span| span.start)),
            message: error.message().to_string(),
        })?;
        Ok(Self::new(part, text, table.into_inner()))
    }

    fn new(part: Part, text: &'a str, table: DeTable<'a>) -> Self {
        let entry = |(key, value): (toml::Spanned<Cow<'a, str>>, toml::Spanned<DeValue<'a>>)| {
            let Range { start: at, .. } = key.span();
            let value = value.into_inner();
            (key.into_inner().into_owned(), Entry { at, value })
        };
        let entries = table.into_iter().map(entry).collect();
        Self {
            part,
            text,
            entries,
        }
    }

    /// The text of a key, if it is there.
    pub(crate) fn text(
        &mut self,
        key: &'static str,
        expected: &'static str,
    ) -> Result<Option<Text<'a>>, InitDataError> {
        let Some((place, value)) = self.take(key) else {
            return Ok(None);
        };
        match value {
            DeValue::String(value) => Ok(Some(Text { place, value })),
            _ => Err(InitDataError::Value {
                place,
                key,
                expected,
            }),
        }
    }

    /// The text of a key that must be there.
    pub(crate) fn required(
        &mut self,
        key: &'static str,
        expected: &'static str,
    ) -> Result<Text<'a>, InitDataError> {
        self.text(key, expected)?.ok_or(InitDataError::MissingKey {
            part: self.part,
            key,
            expected,
        })
    }

    /// The table of a key, if it is there, and where.
    pub(crate) fn table(
        &mut self,
        key: &'static str,
    ) -> Result<Option<(Place, Self)>, InitDataError> {
        let Some((place, value)) = self.take(key) else {
            return Ok(None);
        };
        match value {
            DeValue::Table(table) => Ok(Some((place, Self::new(self.part, self.text, table)))),
            _ => Err(InitDataError::Value {
                place,
                key,
                expected: "a table",
            }),
        }
    }

    /// Whether nothing remains.
    pub(crate) fn end(self, known: &'static str) -> Result<(), InitDataError> {
        let place = |at| place(self.part, self.text, at);
        let first = self.entries.iter().min_by_key(|(_, entry)| entry.at);
        first.map_or(Ok(()), |(key, entry)| {
            Err(InitDataError::UnknownKey {
                place: place(entry.at),
                key: key.escape_default().take(KEY_SHOWN).collect(),
                known,
            })
        })
    }

    fn take(&mut self, key: &str) -> Option<(Place, DeValue<'a>)> {
        let Entry { at, value } = self.entries.remove(key)?;
        Some((place(self.part, self.text, at), value))
    }
}

/// The line of a byte of the text.
fn place(part: Part, text: &str, at: usize) -> Place {
    let before = text.as_bytes().iter().take(at);
    Place {
        part,
        line: before.filter(|byte| **byte == b'\n').count() + 1,
    }
}
