//! The two streams. A closed pipe ends the output quietly; colours go only where they are wanted.

use std::{
    io::{self, IsTerminal, Write},
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    },
};

use anstream::{AutoStream, ColorChoice, adapter::strip_str};
use anstyle::Style;

use crate::report::line::{Line, shortened};

/// The program's marks.
pub(super) mod mark {
    use anstyle::{AnsiColor, Style};

    pub(crate) const FINE: Style = AnsiColor::Green.on_default();
    pub(crate) const FAILED: Style = AnsiColor::Red.on_default().bold();
    pub(crate) const PLACE: Style = AnsiColor::Blue.on_default();
}

/// Whether colours are wanted: on a terminal, unless `NO_COLOR`, `CLICOLOR` or `TERM` say otherwise.
static STDOUT_COLOURED: LazyLock<bool> = LazyLock::new(|| AutoStream::choice(&io::stdout()) != ColorChoice::Never);
static STDERR_COLOURED: LazyLock<bool> = LazyLock::new(|| AutoStream::choice(&io::stderr()) != ColorChoice::Never);

/// Nobody reads stdout any more, or it cannot be written.
static STDOUT_ENDED: AtomicBool = AtomicBool::new(false);

/// Stdout could not be written, and its reader had not just gone.
static STDOUT_FAILED: AtomicBool = AtomicBool::new(false);

/// A status line stands on stderr and must be erased before anything else is written.
static STATUS_SHOWN: AtomicBool = AtomicBool::new(false);

/// `text` in a style; it is taken away again where it is not wanted.
pub(super) fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Writes one line to stdout; its colours are taken away where they are not wanted.
pub fn write_line(line: &str) {
    let line = if *STDOUT_COLOURED { line.to_owned() } else { strip_str(line).to_string() };
    write_text(&(line + "\n"));
}

/// Writes lines to stdout as they are: for programs to read.
pub(super) fn write_bare(lines: impl Iterator<Item = String>) {
    write_text(&lines.map(|line| line + "\n").collect::<String>());
}

/// Writes lines to stdout, with one call of the system where that can be.
pub fn write_lines(lines: &[Line]) {
    let text = |line: &Line| if *STDOUT_COLOURED { line.painted() } else { line.plain() };
    write_text(&lines.iter().map(|line| text(line) + "\n").collect::<String>());
}

fn write_text(text: &str) {
    if text.is_empty() || STDOUT_ENDED.load(Ordering::Relaxed) {
        return;
    }
    erase_status();
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    drop(stdout);
    // A reader who has gone (`| head`) ends the output, not the run: what is to be done is done without words.
    if let Err(error) = written {
        STDOUT_ENDED.store(true, Ordering::Relaxed);
        if error.kind() != io::ErrorKind::BrokenPipe {
            STDOUT_FAILED.store(true, Ordering::Relaxed);
            say(&format!("cannot write the output, and go on without it: {error}"));
        }
    }
}

/// Whether something was not written to stdout although somebody was there to read it: a full disk, for example.
pub fn is_incomplete() -> bool {
    STDOUT_FAILED.load(Ordering::Relaxed)
}

/// Whether nobody reads stdout any more: there is no use in making more output.
pub fn is_over() -> bool {
    STDOUT_ENDED.load(Ordering::Relaxed)
}

/// Writes one line to stderr, for the operator.
pub fn say(line: &str) {
    erase_status();
    let line = if *STDERR_COLOURED { line.to_owned() } else { strip_str(line).to_string() };
    let _nobody_reads_it = writeln!(io::stderr().lock(), "{line}");
}

/// Columns of the terminal that stdout is, if it is one.
pub(super) fn columns() -> Option<usize> {
    let stdout = io::stdout();
    let size = stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(&stdout).ok()).flatten()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns >= 40)
}

/// Columns of the terminal that a status line can stand on: stderr, if it is one that can erase.
pub(super) fn status_columns() -> Option<usize> {
    let stderr = io::stderr();
    let can_erase = stderr.is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
    let size = can_erase.then(|| rustix::termios::tcgetwinsize(&stderr).ok()).flatten()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns >= 40)
}

/// Puts up the status line in place of the one before. Its text must be clean.
pub(super) fn put_status(text: &str, columns: usize) {
    let text = shortened(text, columns - 1);
    let _nobody_reads_it = write!(io::stderr().lock(), "\r\x1b[K{text}");
    STATUS_SHOWN.store(true, Ordering::Relaxed);
}

/// Takes the status line away, if there is one.
pub(super) fn erase_status() {
    if STATUS_SHOWN.swap(false, Ordering::Relaxed) {
        let _nobody_reads_it = write!(io::stderr().lock(), "\r\x1b[K");
    }
}
