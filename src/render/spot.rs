//! Places of faults: from the bytes that the template engine means to lines and columns of the user's file.

use std::ops::Range;

use minijinja::Error;

use crate::base::Place;

/// The bytes of `text` that `error` means. `added` bytes stood before `text` when it was rendered.
pub(super) fn bytes(error: &Error, undefined: Option<&str>, text: &str, added: usize) -> Range<usize> {
    let range = error.range().map(|range| range.start.saturating_sub(added)..range.end.saturating_sub(added));
    let range = range.filter(|range| range.start <= range.end && text.get(range.clone()).is_some());
    let range = range.unwrap_or_else(|| line(text, error.line().unwrap_or(1)));
    let Some(expression) = undefined else { return range };
    // What the engine points at may be the filter that the undefined value was given to.
    let line = line(text, text[..range.start].matches('\n').count() + 1);
    let whole = 0..text.len();
    let within = |part: &Range<usize>| {
        let found = find_word(&text[part.clone()], expression)?;
        Some(part.start + found.start..part.start + found.end)
    };
    let found = within(&range).or_else(|| within(&line)).or_else(|| within(&whole));
    found.unwrap_or(range)
}

/// Where `expression`, or at least its last part, stands in `text` as a word of its own, not in quotes.
pub(super) fn find_word(text: &str, expression: &str) -> Option<Range<usize>> {
    let last = expression.rsplit(['.', '[']).next().unwrap_or(expression);
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    [expression, last].into_iter().find_map(|word| {
        let mut places = text.match_indices(word).map(|(at, _)| at..at + word.len());
        places.find(|at| {
            let (before, after) = (&text[..at.start], &text[at.end..]);
            !before.ends_with(part_of_name) && !after.starts_with(part_of_name) && !ends_quoted(before)
        })
    })
}

/// Whether what follows `text` stands in quotes.
fn ends_quoted(text: &str) -> bool {
    let mut quote = None;
    let mut escaped = false;
    for c in text.chars() {
        match quote {
            _ if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            None if matches!(c, '\'' | '"') => quote = Some(c),
            _ => {}
        }
    }
    quote.is_some()
}

fn line(text: &str, number: usize) -> Range<usize> {
    let mut start = 0;
    for (at, line) in text.split_inclusive('\n').enumerate() {
        if at + 1 == number {
            return start..start + line.trim_end().len();
        }
        start += line.len();
    }
    0..0
}

/// Line and column of a byte, both from 0, and how many characters are meant on that line.
fn position(text: &str, bytes: &Range<usize>) -> (u32, u32, u32) {
    let before = &text[..bytes.start];
    let line = before.matches('\n').count();
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
    let width = text[bytes.clone()].lines().next().unwrap_or_default().chars().count().max(1);
    let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    (small(line), small(column), small(width))
}

pub(super) fn in_file(file: &str, text: &str, bytes: Range<usize>) -> Place {
    let (line, column, width) = position(text, &bytes);
    Place { file: file.into(), line: line + 1, column: column + 1, width }
}

/// Bytes of a file that are looked through for the place of a fault.
const FILE_MAX: u64 = 64 << 20;

/// Lines that a text may have in its file.
const LINES_MAX: usize = 10_000;

/// The place of bytes of a YAML scalar. Where a plain or quoted text stands as it is, it is counted. Blocks, folded
/// lines and escapes are looked up in the file.
pub(super) fn in_text(place: &Place, text: &str, bytes: Range<usize>) -> Place {
    let (line, column, width) = position(text, &bytes);
    let (length, given) = (text.chars().count(), place.width as usize);
    if !text.contains('\n') && (given == length || given == length + 2) {
        let quote = u32::from(given > length);
        return Place { column: place.column + quote + column, width, ..place.clone() };
    }
    let snippet = text[bytes.clone()].lines().next().unwrap_or_default();
    let nth = text[..bytes.start].matches(snippet).count();
    let fallback = || {
        if line == 0 { place.clone() } else { Place { line: place.line + line, column: 1, width: 1, ..place.clone() } }
    };
    look_up(place, snippet, nth).unwrap_or_else(fallback)
}

/// Where `snippet` stands for the time `nth` (from 0) after the beginning of a text at `place`.
fn look_up(place: &Place, snippet: &str, nth: usize) -> Option<Place> {
    let small = std::fs::metadata(&*place.file).ok().filter(|file| file.is_file() && file.len() <= FILE_MAX);
    let source = small.and_then(|_| std::fs::read_to_string(&*place.file).ok()).filter(|_| !snippet.is_empty())?;
    let lines = source.lines().enumerate().skip(place.line.checked_sub(1)? as usize).take(LINES_MAX);
    let found = lines.flat_map(|(number, line)| {
        let first = number + 1 == place.line as usize;
        let begin =
            if first { line.char_indices().nth(place.column as usize - 1).map_or(line.len(), |(at, _)| at) } else { 0 };
        line[begin..].match_indices(snippet).map(move |(at, _)| (number, line[..begin + at].chars().count()))
    });
    let (line, column) = found.into_iter().nth(nth)?;
    let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let width = small(snippet.chars().count());
    Some(Place { line: small(line + 1), column: small(column + 1), width, ..place.clone() })
}
