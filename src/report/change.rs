//! What happens on a host, a line at a time.

use crate::{
    model::{
        change::DeedReport,
        event::{StepEnd, StepLabel, StepOutcome, Undone},
        ids::HostName,
    },
    report::{
        deed,
        line::{Line, Mark},
    },
};

/// The beginning of a line about a step on a host.
pub(super) fn head(mark: Mark, sign: &str, host: &HostName, step: &StepLabel) -> Line {
    Line::default()
        .put(mark, sign)
        .put(Mark::Plain, " ")
        .put(Mark::Plain, host.as_str())
        .column(Mark::Strong, &step.name)
}

/// A deed that was done.
pub(super) fn done(host: &HostName, step: &StepLabel, report: &DeedReport, diff: bool) -> Vec<Line> {
    let (mark, sign) = deed::sign(report);
    let (undo_mark, undo) = deed::undo(report.undo);
    let line = head(mark, sign, host, step).put(Mark::Plain, "  ").join(deed::words(report));
    let mut lines = vec![line.column(undo_mark, undo)];
    if diff {
        lines.extend(deed::diff(report, "    "));
    }
    lines
}

/// A deed that was undone, or could not be.
pub(super) fn undone(host: &HostName, step: &StepLabel, report: &DeedReport, how: &Undone) -> Line {
    let (mark, words) = deed::undone(how);
    let what = deed::resource(report);
    head(mark, "<", host, step).column(Mark::Plain, &what).column(mark, &words)
}

/// A step that changed nothing: its sign, its name, and what it says.
pub(super) fn ended(step: &StepLabel, end: &StepEnd) -> Line {
    let (mark, sign, word) = signs(end.outcome);
    let line = Line::default().put(mark, sign).put(Mark::Plain, " ").put(Mark::Strong, &step.name);
    with_words(line, word, end)
}

/// The same, with the host.
pub(super) fn ended_on(host: &HostName, step: &StepLabel, end: &StepEnd) -> Line {
    let (mark, sign, word) = signs(end.outcome);
    with_words(head(mark, sign, host, step), word, end)
}

fn with_words(line: Line, word: &str, end: &StepEnd) -> Line {
    line.column(Mark::Faint, word).column(Mark::Plain, end.message.as_deref().unwrap_or_default())
}

/// How a step ended, as a sign and a word.
pub(super) fn signs(outcome: StepOutcome) -> (Mark, &'static str, &'static str) {
    match outcome {
        StepOutcome::Ok => (Mark::Fine, "=", ""),
        StepOutcome::Changed => (Mark::Changed, "~", ""),
        StepOutcome::Skipped => (Mark::Faint, ".", "skipped"),
        StepOutcome::Unknown => (Mark::Changed, "?", "known only when applied"),
        StepOutcome::Failed => (Mark::Alarm, "!", "FAILED"),
    }
}
