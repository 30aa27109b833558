//! Faults as messages with the source line.

use std::collections::HashMap;

use unicode_width::UnicodeWidthStr;

use crate::{
    base::{Fault, Faults, Place},
    report::{
        clean,
        output::{mark, paint, say},
    },
};

/// Columns of a source line that are shown around the place.
const WINDOW: usize = 100;

/// Prints faults to stderr, each with its source line where the file can be read.
pub fn print(faults: &Faults) {
    let mut sources = HashMap::new();
    for fault in &faults.0 {
        let text = fault.place.as_ref().and_then(|place| {
            let read = || std::fs::read_to_string(&*place.file).ok();
            sources.entry(place.file.to_string()).or_insert_with(read).clone()
        });
        lines(fault, text.as_deref()).iter().for_each(|line| say(line));
        say("");
    }
    if faults.0.len() > 1 {
        say(&paint(mark::FAILED, &format!("{} faults", faults.0.len())));
    }
}

/// A fault's lines; `text` is the file that its place is in.
pub fn lines(fault: &Fault, text: Option<&str>) -> Vec<String> {
    let mut lines = vec![format!("{} {}", paint(mark::FAILED, "error:"), clean::line(&fault.message))];
    if let Some(place) = &fault.place {
        lines.push(format!("  {} {}", paint(mark::PLACE, "-->"), clean::line(&place.to_string())));
        lines.extend(source_lines(place, text));
    }
    lines.extend(
        fault
            .causes
            .iter()
            .flat_map(|cause| clean::lines(cause).map(|line| format!("  because: {line}")).collect::<Vec<_>>()),
    );
    lines.extend(fault.hints.iter().map(|hint| format!("  {} {}", paint(mark::FINE, "help:"), clean::line(hint))));
    lines
}

/// The line that is meant, and carets under the part that is meant.
fn source_lines(place: &Place, text: Option<&str>) -> Vec<String> {
    let line = text.and_then(|text| text.lines().nth((place.line as usize).checked_sub(1)?));
    let Some(line) = line else { return Vec::new() };
    let column = place.column.saturating_sub(1) as usize;
    let start = column.saturating_sub(WINDOW / 2);
    let piece = |from: usize, count: usize| -> String {
        clean::line(&line.chars().skip(from).take(count).collect::<String>().replace('\t', "    "))
    };
    let before = piece(start, column - start);
    let meant = piece(column, (place.width as usize).clamp(1, WINDOW / 2));
    let after = piece(column + place.width as usize, WINDOW / 2);
    let number = place.line.to_string();
    let gutter = " ".repeat(number.len());
    let bar = paint(mark::PLACE, "|");
    vec![
        format!("{gutter} {bar}"),
        format!("{} {bar} {before}{meant}{after}", paint(mark::PLACE, &number)),
        format!(
            "{gutter} {bar} {}{}",
            " ".repeat(before.width()),
            paint(mark::FAILED, &"^".repeat(meant.width().max(1)))
        ),
    ]
}
