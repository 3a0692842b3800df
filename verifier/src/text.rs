//! Text out of evidence, as it can be shown.

/// A text with everything escaped that could make it look like another one, on a terminal, on a page or in JSON: control
/// and format characters (those that set the direction of writing among them), separators of lines and paragraphs, marks
/// that join what stands before them, and what is not assigned or for private use.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            // What `escape_debug` escapes for the sake of Rust's literals.
            '"' | '\'' | '\\' => shown.push(character),
            _ => shown.extend(character.escape_debug()),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("a\x1b[2J\nb … é"), "a\\u{1b}[2J\\nb … é");
        assert_eq!(printable("\u{9b}2J \"'\\"), "\\u{9b}2J \"'\\");
    }

    /// Unicode 15, "Bidi_Control", and the rest of general category Cf that a text could hide with.
    #[test]
    fn format_characters_do_not_reach_a_reader() {
        let hidden = [
            '\u{ad}',
            '\u{61c}',
            '\u{feff}',
            '\u{fff9}',
            '\u{e0001}',
            '\u{e0041}',
        ]
        .into_iter()
        .chain('\u{200b}'..='\u{200f}')
        .chain('\u{2028}'..='\u{202e}')
        .chain('\u{2060}'..='\u{206f}');
        for character in hidden {
            let shown = printable(&format!("init={character}hs/nib/"));
            assert!(
                shown.contains("\\u{") && shown.is_ascii(),
                "{character:?}: {shown}"
            );
        }
    }
}
