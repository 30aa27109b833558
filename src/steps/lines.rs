//! A text file as lines, each with its own ending, and where in it a new line belongs.

use regex_lite::{Captures, Regex, RegexBuilder};

/// Bytes that a compiled expression may take: what a runbook writes cannot eat the host's memory. Matching takes time
/// in proportion to the text, whatever the expression.
const REGEX_BYTES_MAX: usize = 1024 * 1024;

/// A regular expression for lines. A line that is no UTF-8 matches none.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Regex);

impl Pattern {
    pub(super) fn is_match(&self, line: &[u8]) -> bool {
        std::str::from_utf8(line).is_ok_and(|line| self.0.is_match(line))
    }

    pub(super) fn captures<'a>(&self, line: &'a [u8]) -> Option<Captures<'a>> {
        self.0.captures(std::str::from_utf8(line).ok()?)
    }
}

/// Compiles a regular expression. The error is a sentence.
pub(super) fn compile(field: &str, text: &str) -> Result<Pattern, String> {
    build(field, text, false)
}

/// Whether a text of several lines matches somewhere: `^` and `$` stand at the ends of each line. Bytes that are no UTF-8
/// match nothing but a dot.
pub(super) fn is_in(field: &str, text: &str, bytes: &[u8]) -> Result<bool, String> {
    Ok(build(field, text, true)?.0.is_match(&String::from_utf8_lossy(bytes)))
}

fn build(field: &str, text: &str, lines: bool) -> Result<Pattern, String> {
    if text.is_empty() {
        return Err(format!("{field} is empty, and would match every line"));
    }
    let built = RegexBuilder::new(text).multi_line(lines).crlf(lines).size_limit(REGEX_BYTES_MAX).build();
    built.map(Pattern).map_err(|error| format!("{field} is no regular expression: {error}"))
}

/// Lines with their endings. Put together they are the file, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lines(pub(super) Vec<Vec<u8>>);

impl Lines {
    /// Splits a file.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Lines(bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect())
    }

    /// The file again.
    pub(super) fn join(&self) -> Vec<u8> {
        self.0.concat()
    }

    /// The ending of the file's lines: that of its first.
    pub(super) fn ending(&self) -> &'static [u8] {
        if self.0.first().is_some_and(|line| line.ends_with(b"\r\n")) { b"\r\n" } else { b"\n" }
    }

    /// The texts without endings.
    pub(super) fn texts(&self) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator {
        self.0.iter().map(|line| text_of(line))
    }

    /// Replaces a line's text; its ending stays.
    pub(super) fn replace(&mut self, at: usize, text: &[u8]) {
        let ending = self.0[at][text_of(&self.0[at]).len()..].to_vec();
        self.0[at] = [text, &ending].concat();
    }

    /// Puts lines in before line `at`. A last line that has no ending yet gets one if something comes after it.
    pub(super) fn insert<'a>(&mut self, at: usize, texts: impl IntoIterator<Item = &'a [u8]>) {
        let ending = self.ending();
        if at == self.0.len()
            && let Some(last) = self.0.last_mut()
            && !last.ends_with(b"\n")
        {
            last.extend_from_slice(ending);
        }
        self.0.splice(at..at, texts.into_iter().map(|text| [text, ending].concat()));
    }
}

/// A line without its ending.
fn text_of(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Where something new goes.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// Before the first line.
    Beginning,
    /// After the last line.
    End,
    /// After a line that matches; after the last line if none does.
    After(Pattern),
    /// Before a line that matches; after the last line if none does.
    Before(Pattern),
}

impl Place {
    /// What `insertafter` and `insertbefore` say. The error is a sentence.
    pub(super) fn of(after: Option<&str>, before: Option<&str>) -> Result<Place, String> {
        match (after, before) {
            (Some(_), Some(_)) => Err("insertafter and insertbefore exclude each other".into()),
            (None | Some("EOF"), None) => Ok(Place::End),
            (None, Some("BOF")) => Ok(Place::Beginning),
            (Some("BOF"), None) | (None, Some("EOF")) => {
                Err("write insertbefore: BOF for the beginning of the file, insertafter: EOF for its end".into())
            }
            (Some(text), None) => compile("insertafter", text).map(Place::After),
            (None, Some(text)) => compile("insertbefore", text).map(Place::Before),
        }
    }

    /// The number of the line before which to put it; of several that match, the last one counts, or the first.
    pub(super) fn find(&self, lines: &Lines, first: bool) -> usize {
        let end = lines.0.len();
        let matching = |regex: &Pattern| match first {
            true => lines.texts().position(|text| regex.is_match(text)),
            false => lines.texts().rposition(|text| regex.is_match(text)),
        };
        match self {
            Place::Beginning => 0,
            Place::End => end,
            Place::After(regex) => matching(regex).map_or(end, |at| at + 1),
            Place::Before(regex) => matching(regex).unwrap_or(end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_its_lines() {
        for file in [&b""[..], b"a", b"a\n", b"a\r\nb", b"\n\n", b"\xff\n\r\r\n"] {
            assert_eq!(Lines::of(file).join(), file);
        }
    }

    #[test]
    fn endings_are_kept() {
        let mut lines = Lines::of(b"a\r\nb");
        lines.insert(2, [&b"c"[..]]);
        lines.replace(0, b"x");
        assert_eq!(lines.join(), b"x\r\nb\r\nc\r\n");
        let mut lines = Lines::of(b"a\nb");
        lines.replace(1, b"x");
        lines.insert(0, [&b"0"[..]]);
        assert_eq!(lines.join(), b"0\na\nx");
    }

    #[test]
    fn places_are_found_and_mistakes_told() {
        let lines = Lines::of(b"a\nb\na\n");
        let at = |after, before, first| Place::of(after, before).map(|place| place.find(&lines, first));
        assert_eq!(at(None, None, false), Ok(3));
        assert_eq!(at(Some("^a"), None, false), Ok(3));
        assert_eq!(at(Some("^a"), None, true), Ok(1));
        assert_eq!(at(None, Some("^a"), false), Ok(2));
        assert_eq!(at(None, Some("BOF"), false), Ok(0));
        assert_eq!(at(None, Some("none"), false), Ok(3));
        assert!(at(Some("a"), Some("b"), false).is_err());
        assert!(at(Some("(?=a)"), None, false).unwrap_err().contains("look-around"));
        assert!(at(Some("a{1000}{1000}{1000}"), None, false).unwrap_err().contains("size limit"));
    }
}
