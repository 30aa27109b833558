//! Texts of hosts and files, made harmless for a terminal.

use std::fmt::Write;

/// `text` with everything escaped that could do more than be read: control characters (C0, DEL, C1), and invisible
/// or direction-changing format characters. Line ends are escaped too: who prints lines cuts them first.
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

fn is_harmful(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_passes() {
        let all: String = (0..=0x9f).filter_map(char::from_u32).collect();
        let clean = line(&all);
        assert!(!clean.chars().any(char::is_control), "{clean}");
        assert!(clean.contains("\\u{1b}") && clean.contains("\\u{9b}") && clean.contains("\\u{7f}"));
        assert_eq!(line("plain é 漢"), "plain é 漢");
        assert_eq!(line("a\u{202e}b\u{200b}"), "a\\u{202e}b\\u{200b}");
    }
}
