//! Tables: columns as wide as what is in them.

use std::ops::Range;

use unicode_width::UnicodeWidthStr;

use crate::report::{
    clean,
    line::{Line, Mark},
};

/// A table in the making.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<(Mark, String)>>,
    numbers: Range<usize>,
}

impl Table {
    /// A table with a heading.
    pub fn new(heading: &[&str]) -> Self {
        let heading = heading.iter().map(|cell| (Mark::Strong, (*cell).to_owned())).collect();
        Table { rows: vec![heading], numbers: 0..0 }
    }

    /// These columns hold numbers, and stand to the right.
    pub fn numbers(&mut self, columns: Range<usize>) {
        self.numbers = columns;
    }

    /// Adds a row of plain texts. They are made harmless here.
    pub fn row(&mut self, cells: Vec<String>) {
        self.marked_row(cells.into_iter().map(|text| (Mark::Plain, text)).collect());
    }

    /// Adds a row of marked texts. They are made harmless here.
    pub fn marked_row(&mut self, cells: Vec<(Mark, String)>) {
        self.rows.push(cells.into_iter().map(|(mark, text)| (mark, clean::line(&text))).collect());
    }

    /// The lines, without blanks at their ends.
    pub fn lines(&self) -> Vec<Line> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cells = |column: usize| self.rows.iter().filter_map(move |row| row.get(column));
        let width = |column: usize| cells(column).map(|(_, text)| text.width()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        self.rows.iter().map(|row| self.line(row, &widths)).collect()
    }

    fn line(&self, row: &[(Mark, String)], widths: &[usize]) -> Line {
        let mut line = Line::default();
        let mut gap = 0;
        for (column, ((mark, text), width)) in row.iter().zip(widths).enumerate() {
            let padding = width - text.width();
            let before = if self.numbers.contains(&column) { padding } else { 0 };
            if !text.is_empty() {
                line = line.put(Mark::Plain, &" ".repeat(gap + before)).put(*mark, text);
                gap = 0;
            }
            gap += padding - before + 2 + if text.is_empty() { before } else { 0 };
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_is_left_at_the_end() {
        let mut table = Table::new(&["host", "ok", "outcome"]);
        table.numbers(1..2);
        let cells = |texts: [&str; 3]| texts.map(str::to_owned).to_vec();
        table.row(cells(["web01", "3", "succeeded"]));
        table.row(cells(["漢字 and more", "12", "\u{1b}[m"]));
        table.row(cells(["x", "", ""]));
        let lines: Vec<String> = table.lines().iter().map(Line::plain).collect();
        let expected =
            ["host           ok  outcome", "web01           3  succeeded", "漢字 and more  12  \\u{1b}[m", "x"];
        assert_eq!(lines, expected);
    }
}
