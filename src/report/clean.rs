//! Texts of hosts and files, made harmless for a terminal.

use std::{borrow::Cow, fmt::Write};

/// `text` with everything escaped that could do more than be read: control characters (C0, DEL, C1), and characters
/// that are invisible or change the direction of writing. Line ends are escaped too: who prints lines cuts them first.
pub fn line(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_harmful(letter) {
            write!(clean, "{}", letter.escape_unicode()).expect("a String can be written to");
        } else {
            clean.push(letter);
        }
    }
    clean
}

/// As [`line`], with tabs as blanks; for texts of several lines, each line on its own.
pub fn lines(text: &str) -> impl Iterator<Item = String> {
    text.lines().map(|text| line(&text.replace('\t', "    ")))
}

/// JSON with the same characters escaped as JSON does it. The value stays the same: in well-formed JSON such
/// characters stand in strings alone.
pub fn json(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if is_harmful(letter) {
            let mut units = [0; 2];
            for unit in letter.encode_utf16(&mut units) {
                write!(clean, "\\u{unit:04x}").expect("a String can be written to");
            }
        } else {
            clean.push(letter);
        }
    }
    Cow::Owned(clean)
}

/// Control characters; and, after Unicode's general category Cf and its list of default-ignorable code points, what
/// is invisible or turns the direction of the text around it.
fn is_harmful(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{13430}'..='\u{1345f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What no terminal may get: every byte below a blank, DEL, and C1 in its two-byte form.
    fn is_safe(text: &str) -> bool {
        let bytes = text.as_bytes();
        bytes.iter().all(|byte| *byte >= b' ' && *byte != 0x7f)
            && bytes.windows(2).all(|pair| pair[0] != 0xc2 || pair[1] >= 0xa0)
    }

    #[test]
    fn no_byte_of_the_256_passes_as_a_control() {
        for byte in 0..=255u8 {
            let (alone, between) = ([byte], [b'a', byte, b'b']);
            for bytes in [&alone[..], &between] {
                let text = String::from_utf8_lossy(bytes);
                assert!(is_safe(&line(&text)) && is_safe(&json(&text)), "byte {byte:#04x}");
                lines(&text).for_each(|line| assert!(is_safe(&line), "byte {byte:#04x}"));
            }
            let as_letter = char::from(byte).to_string();
            let is_plain = matches!(byte, b' '..=b'~' | 0xa0..=0xac | 0xae..=0xff);
            assert_eq!(line(&as_letter) == as_letter, is_plain, "letter {byte:#04x}");
        }
        assert_eq!(line("\u{1b}[31m\r\n"), "\\u{1b}[31m\\u{d}\\u{a}");
    }

    #[test]
    fn what_hides_or_turns_text_is_shown() {
        let overrides = "\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}\u{200e}\u{200f}";
        let invisible = "\u{200b}\u{200c}\u{200d}\u{2060}\u{feff}\u{ad}\u{34f}\u{3164}\u{fe0f}\u{e0041}\u{e0100}";
        for letter in overrides.chars().chain(invisible.chars()) {
            let text = format!("a{letter}b");
            assert_eq!(line(&text), format!("a\\u{{{:x}}}b", u32::from(letter)));
        }
        for plain in ["plain é 漢字 → €", "שלום", "нет", "👍", "a\u{301}"] {
            assert_eq!(line(plain), plain);
        }
    }

    #[test]
    fn json_keeps_its_value() {
        let value = serde_json::json!({"a\u{7f}": ["\u{9b}31m", "\u{202e}", "\u{e0041}", "\u{1b}", "é\\\""]});
        let text = value.to_string();
        let clean = json(&text);
        assert!(is_safe(&clean) && clean.is_ascii() != text.contains('é'));
        assert!(clean.contains("\\u202e") && clean.contains("\\udb40\\udc41") && clean.contains("\\u007f"), "{clean}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&clean).unwrap(), value);
        assert!(matches!(json("{\"a\": \"é\"}"), Cow::Borrowed(_)));
    }
}
