//! Character classes of the "C" locale, in the tables that glibc's `<ctype.h>` macros index.
#![allow(
    clippy::indexing_slicing,
    reason = "tables made at compile time, where a wrong index is an error"
)]

/// Characters −128 to 255.
const COUNT: usize = 384;
/// Where character 0 is.
const ZERO: usize = 128;

/// Bits of a class entry, as glibc has them on little-endian machines.
mod class {
    pub(super) const UPPER: u16 = 1 << 8;
    pub(super) const LOWER: u16 = 1 << 9;
    pub(super) const ALPHA: u16 = 1 << 10;
    pub(super) const DIGIT: u16 = 1 << 11;
    pub(super) const XDIGIT: u16 = 1 << 12;
    pub(super) const SPACE: u16 = 1 << 13;
    pub(super) const PRINT: u16 = 1 << 14;
    pub(super) const GRAPH: u16 = 1 << 15;
    pub(super) const BLANK: u16 = 1 << 0;
    pub(super) const CNTRL: u16 = 1 << 1;
    pub(super) const PUNCT: u16 = 1 << 2;
    pub(super) const ALNUM: u16 = 1 << 3;
}

const fn class_of(character: u8) -> u16 {
    let rows = [
        (character.is_ascii_uppercase(), class::UPPER),
        (character.is_ascii_lowercase(), class::LOWER),
        (character.is_ascii_alphabetic(), class::ALPHA),
        (character.is_ascii_digit(), class::DIGIT),
        (character.is_ascii_hexdigit(), class::XDIGIT),
        (matches!(character, b' ' | b'\t'..=b'\r'), class::SPACE),
        (matches!(character, b' '..=b'~'), class::PRINT),
        (character.is_ascii_graphic(), class::GRAPH),
        (matches!(character, b' ' | b'\t'), class::BLANK),
        (character.is_ascii_control(), class::CNTRL),
        (character.is_ascii_punctuation(), class::PUNCT),
        (character.is_ascii_alphanumeric(), class::ALNUM),
    ];
    let mut bits = 0;
    let mut row = 0;
    while row < rows.len() {
        if rows[row].0 {
            bits |= rows[row].1;
        }
        row += 1;
    }
    bits
}

static CLASSES: [u16; COUNT] = {
    let mut table = [0; COUNT];
    let mut character = 0;
    while character < 128 {
        table[ZERO + character] = class_of(character as u8);
        character += 1;
    }
    table
};

static LOWER_CASE: [i32; COUNT] = {
    let mut table = [0; COUNT];
    let mut index = 0;
    while index < COUNT {
        let character = index as i32 - ZERO as i32;
        table[index] = match character {
            0..128 => (character as u8).to_ascii_lowercase() as i32,
            other => other,
        };
        index += 1;
    }
    table
};

/// A pointer to the entry of character 0 of a constant table.
#[repr(transparent)]
struct Origin<T>(*const T);

// SAFETY: points into a constant.
unsafe impl<T: Sync> Sync for Origin<T> {}

static CLASSES_ORIGIN: Origin<u16> = Origin(CLASSES.as_ptr().wrapping_add(ZERO));
static LOWER_CASE_ORIGIN: Origin<i32> = Origin(LOWER_CASE.as_ptr().wrapping_add(ZERO));

/// The table behind `isalpha` and its kin.
#[unsafe(no_mangle)]
extern "C" fn __ctype_b_loc() -> *const *const u16 {
    (&raw const CLASSES_ORIGIN).cast()
}

/// The table behind `tolower`.
#[unsafe(no_mangle)]
extern "C" fn __ctype_tolower_loc() -> *const *const i32 {
    (&raw const LOWER_CASE_ORIGIN).cast()
}
