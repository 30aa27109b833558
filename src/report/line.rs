//! A line in pieces: each text is made harmless when it is put in, and has a mark that the theme gives a colour.

use anstyle::{AnsiColor, Style};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::report::clean;

/// What a piece of a line is to the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Text.
    Plain,
    /// What the line is about.
    Strong,
    /// Beside the point.
    Faint,
    /// Something was made, or a line of a diff added.
    Made,
    /// Something is another than before.
    Changed,
    /// Something was removed, or a line of a diff.
    Gone,
    /// All is well.
    Fine,
    /// Something is wrong, or cannot be undone.
    Alarm,
    /// A place in a diff.
    Place,
}

impl Mark {
    /// The theme.
    fn style(self) -> Style {
        match self {
            Mark::Plain => Style::new(),
            Mark::Strong => Style::new().bold(),
            Mark::Faint => Style::new().dimmed(),
            Mark::Made | Mark::Fine => AnsiColor::Green.on_default(),
            Mark::Changed => AnsiColor::Yellow.on_default(),
            Mark::Gone => AnsiColor::Red.on_default(),
            Mark::Alarm => AnsiColor::Red.on_default().bold(),
            Mark::Place => AnsiColor::Cyan.on_default(),
        }
    }
}

/// One line of output, without its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    pieces: Vec<(Mark, String)>,
}

impl Line {
    /// A line of one plain text.
    pub fn of(text: &str) -> Self {
        Line::default().put(Mark::Plain, text)
    }

    /// Adds a text.
    #[must_use]
    pub fn put(mut self, mark: Mark, text: &str) -> Self {
        if !text.is_empty() {
            self.pieces.push((mark, clean::line(text)));
        }
        self
    }

    /// Adds two blanks and a text, unless it is empty.
    #[must_use]
    pub fn column(self, mark: Mark, text: &str) -> Self {
        match text {
            "" => self,
            text => self.put(Mark::Plain, "  ").put(mark, text),
        }
    }

    /// Adds another line's pieces.
    #[must_use]
    pub fn join(mut self, other: Line) -> Self {
        self.pieces.extend(other.pieces);
        self
    }

    /// The text alone.
    pub fn plain(&self) -> String {
        self.pieces.iter().map(|(_, text)| text.as_str()).collect()
    }

    /// The text with the theme's escapes.
    pub fn painted(&self) -> String {
        let paint = |(mark, text): &(Mark, String)| match mark {
            Mark::Plain => text.clone(),
            mark => format!("{style}{text}{style:#}", style = mark.style()),
        };
        self.pieces.iter().map(paint).collect()
    }

    /// Columns on a terminal.
    pub fn width(&self) -> usize {
        self.pieces.iter().map(|(_, text)| text.width()).sum()
    }

    /// The line shortened to `columns`: the longest piece loses its end, as often as it takes. The last piece stays
    /// whole: it says how a change is undone.
    #[must_use]
    pub fn cut(mut self, columns: usize) -> Self {
        const LEFT: usize = 12;
        while self.width() > columns {
            let excess = self.width() - columns;
            let last = self.pieces.len().saturating_sub(1);
            let longest = self.pieces[..last].iter_mut().max_by_key(|(_, text)| text.width());
            let Some((_, text)) = longest.filter(|(_, text)| text.width() > LEFT) else { return self };
            *text = shortened(text, text.width().saturating_sub(excess).max(LEFT));
        }
        self
    }
}

/// A text of at most `columns`, with a sign that something is missing.
pub(super) fn shortened(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut used = 1;
    let fits = |letter: &char| {
        used += letter.width().unwrap_or(0);
        used <= columns
    };
    let kept: String = text.chars().take_while(fits).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_clean_and_colours_stand_around_it() {
        let line = Line::of("a\u{1b}[2J").put(Mark::Alarm, "b\n").column(Mark::Faint, "").column(Mark::Faint, "c");
        assert_eq!(line.plain(), "a\\u{1b}[2Jb\\u{a}  c");
        let painted = line.painted();
        assert_eq!(anstream::adapter::strip_str(&painted).to_string(), line.plain());
        assert!(painted.contains("\u{1b}[1m\u{1b}[31mb\\u{a}\u{1b}[0m"), "{painted:?}");
    }

    #[test]
    fn a_line_is_cut_where_it_is_longest_and_keeps_its_last_piece() {
        let line = Line::of("~ web01").column(Mark::Strong, "the site is configured");
        let line = line.column(Mark::Plain, &"漢字".repeat(20)).column(Mark::Faint, "[undo: restore]");
        let cut = line.clone().cut(70);
        assert!(cut.width() <= 70, "{}", cut.width());
        assert!(cut.plain().starts_with("~ web01  the site is configured  漢") && cut.plain().contains('…'));
        assert!(cut.plain().ends_with("…  [undo: restore]"), "{}", cut.plain());
        assert_eq!(line.clone().cut(500), line);
        let tiny = line.cut(3).plain();
        assert!(tiny.ends_with("[undo: restore]"), "{tiny}");
    }
}
