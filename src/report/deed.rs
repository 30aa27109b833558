//! Deeds as lines.

use crate::{
    model::{
        change::{Act, Change, Deed, DeedReport, UndoKind},
        event::Undone,
    },
    report::line::{Line, Mark},
};

/// What a deed does to its resource, as one sign.
pub(super) fn sign(report: &DeedReport) -> (Mark, &'static str) {
    match &report.deed {
        Deed::Act { .. } if report.undo == UndoKind::Irreversible => (Mark::Alarm, "!"),
        Deed::Act { .. } => (Mark::Changed, "*"),
        Deed::Change(change) if change.before.is_absent() => (Mark::Made, "+"),
        Deed::Change(change) if change.after.is_absent() => (Mark::Gone, "-"),
        Deed::Change(_) => (Mark::Changed, "~"),
    }
}

/// What a deed does, in words: the resource and what differs, or the act.
pub(super) fn words(report: &DeedReport) -> Line {
    match &report.deed {
        Deed::Change(change) => {
            Line::of(&change.resource.to_string()).column(Mark::Plain, &differences(report, change))
        }
        Deed::Act { act, .. } => Line::of(&act_words(act)),
    }
}

/// What a deed is about: the resource, or the act.
pub(super) fn resource(report: &DeedReport) -> String {
    match &report.deed {
        Deed::Change(change) => change.resource.to_string(),
        Deed::Act { act, .. } => act_words(act),
    }
}

fn differences(report: &DeedReport, change: &Change) -> String {
    let (made, gone) = (change.before.is_absent(), change.after.is_absent());
    let mut parts = report.differences.iter().map(|difference| {
        let (attribute, before, after) = (&difference.attribute, &difference.before, &difference.after);
        match attribute.as_str() {
            "type" | "state" if made && !gone => after.clone(),
            "type" | "state" if gone && !made => format!("was {before}"),
            "type" => format!("{before} → {after}"),
            _ => format!("{attribute} {before} → {after}"),
        }
    });
    let first = parts.next().unwrap_or_default();
    parts.fold(first, |all, part| format!("{all}, {part}"))
}

fn act_words(act: &Act) -> String {
    match act {
        Act::Run(command) => format!("run {}", shell_words(&command.argv)),
        Act::Restart(name) => format!("restart {name}"),
        Act::Reload(name) => format!("reload {name}"),
    }
}

/// A command as a shell would read it; as it is where it is one word.
fn shell_words(argv: &[String]) -> String {
    match argv {
        [line] => line.clone(),
        _ => shlex::try_join(argv.iter().map(String::as_str)).unwrap_or_else(|_| argv.join(" ")),
    }
}

/// How a deed is undone. What nothing undoes is not to be missed.
pub(super) fn undo(kind: UndoKind) -> (Mark, &'static str) {
    match kind {
        UndoKind::Restore => (Mark::Faint, "[undo: restore]"),
        UndoKind::Command => (Mark::Faint, "[undo: command]"),
        UndoKind::Repeat => (Mark::Faint, "[undo: again after restore]"),
        UndoKind::Irreversible => (Mark::Alarm, "[CANNOT BE UNDONE]"),
    }
}

/// How undoing went, and whether all is well.
pub(super) fn undone(how: &Undone) -> (Mark, String) {
    match how {
        Undone::Undone => (Mark::Fine, "put back".to_owned()),
        Undone::AlreadyBefore => (Mark::Fine, "was as before already".to_owned()),
        Undone::Drifted(why) => (Mark::Alarm, format!("LEFT ALONE, changed by someone else since: {why}")),
        Undone::Irreversible => (Mark::Alarm, "CANNOT BE UNDONE, and stays".to_owned()),
        Undone::Failed(why) => (Mark::Alarm, format!("COULD NOT BE PUT BACK: {why}")),
    }
}

/// Whether the resource is as it was before.
pub(super) fn is_back(how: &Undone) -> bool {
    matches!(how, Undone::Undone | Undone::AlreadyBefore)
}

/// A unified diff, indented.
pub(super) fn diff(report: &DeedReport, indent: &str) -> Vec<Line> {
    let line = |text: &str| {
        let mark = match text.as_bytes().first() {
            Some(b'+') => Mark::Made,
            Some(b'-') => Mark::Gone,
            Some(b'@') => Mark::Place,
            _ => Mark::Faint,
        };
        // A tab is shown: what differs in blanks alone would look the same otherwise.
        Line::of(indent).put(mark, &text.replace('\t', "→   "))
    };
    // `lines` would swallow a carriage return before the line's end, which may be all that differs.
    let text = report.diff.as_deref().unwrap_or_default();
    text.split_terminator('\n').map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::event::Event, report::samples};

    #[test]
    fn every_deed_has_its_words() {
        let told: Vec<String> = samples::events()
            .into_iter()
            .filter_map(|event| match event.event {
                Event::DeedDone { report, .. } | Event::DeedUndone { report, .. } => Some(report),
                _ => None,
            })
            .map(|report| format!("{} {}  {}", sign(&report).1, words(&report).plain(), undo(report.undo).1))
            .collect();
        assert_eq!(
            told,
            [
                "~ /etc/nginx/conf.d/site.conf  content 310 B → 324 B, mode 0644 → 0600  [undo: restore]",
                "~ /srv/web/current  directory → link to releases/1.2.3  [undo: restore]",
                "+ package nginx  version none → 1.26.0-1  [undo: restore]",
                "~ service nginx.service  enabled disabled → enabled, active no → yes  [undo: restore]",
                "+ user deploy  uid 1004, group deploy  [undo: restore]",
                "- group oldweb  was gid 1009, members ada  [undo: restore]",
                "* run /srv/web/bin/migrate --to 1.2.3  [undo: command]",
                "- /run/web.sock  was socket  [undo: restore]",
            ]
        );
    }

    #[test]
    fn a_diff_shows_what_blanks_hide() {
        let mut report = samples::events()
            .into_iter()
            .find_map(|event| match event.event {
                Event::DeedDone { report, .. } => Some(report),
                _ => None,
            })
            .unwrap();
        report.diff = Some("@@ -1 +1 @@\n-\ta\n+    a\r\n".to_owned());
        let lines: Vec<String> = diff(&report, "  ").iter().map(Line::plain).collect();
        assert_eq!(lines, ["  @@ -1 +1 @@", "  -→   a", "  +    a\\u{d}"]);
        report.diff = None;
        assert!(diff(&report, "  ").is_empty());
    }
}
