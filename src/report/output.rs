//! The two streams. A closed pipe ends the program quietly; colours go only where they are wanted.

use std::io::{self, Write};

use anstyle::Style;

/// The program's marks.
pub(super) mod mark {
    use anstyle::{AnsiColor, Style};

    pub(crate) const CHANGED: Style = AnsiColor::Yellow.on_default();
    pub(crate) const FINE: Style = AnsiColor::Green.on_default();
    pub(crate) const FAILED: Style = AnsiColor::Red.on_default().bold();
    pub(crate) const FAINT: Style = Style::new().dimmed();
    pub(crate) const STRONG: Style = Style::new().bold();
    pub(crate) const PLACE: Style = AnsiColor::Blue.on_default();
}

/// `text` in a style; anstream takes the style away where it is not wanted.
pub(super) fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Writes one line to stdout.
pub fn write_line(line: &str) {
    survive(writeln!(anstream::stdout().lock(), "{line}"));
}

/// Writes one line to stderr, for the operator.
pub fn say(line: &str) {
    let _nobody_reads_it = writeln!(anstream::stderr().lock(), "{line}");
}

/// A reader who has gone (`| head`) ends the output, not the run: what is to be done is done without words.
fn survive(written: io::Result<()>) {
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        say(&format!("cannot write the output: {error}"));
    }
}
