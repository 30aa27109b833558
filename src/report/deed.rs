//! A deed in one line.

use crate::{
    model::{
        change::{Act, Deed, DeedReport, UndoKind},
        event::Undone,
    },
    report::clean,
};

/// What a deed does, in words: the resource and what differs, or the act.
pub(super) fn words(report: &DeedReport) -> String {
    let text = match &report.deed {
        Deed::Change(change) => {
            let differences: Vec<String> = report
                .differences
                .iter()
                .map(|difference| match (difference.before.as_str(), difference.after.as_str()) {
                    ("", "") => difference.attribute.clone(),
                    (before, after) => format!("{} {before} → {after}", difference.attribute),
                })
                .collect();
            format!("{}  {}", change.resource, differences.join(", "))
        }
        Deed::Act { act: Act::Run(command), .. } => format!("run {}", shown(&command.argv)),
        Deed::Act { act: Act::Restart(name), .. } => format!("restart {name}"),
        Deed::Act { act: Act::Reload(name), .. } => format!("reload {name}"),
    };
    clean::line(&text)
}

/// A command as a shell would read it; as it is where it is one word.
fn shown(argv: &[String]) -> String {
    match argv {
        [line] => line.clone(),
        _ => shlex::try_join(argv.iter().map(String::as_str)).unwrap_or_else(|_| argv.join(" ")),
    }
}

/// How a deed is undone, in one word.
pub(super) fn undo(kind: UndoKind) -> &'static str {
    match kind {
        UndoKind::Restore => "undo: restore",
        UndoKind::Command => "undo: command",
        UndoKind::Repeat => "undo: again after restore",
        UndoKind::Irreversible => "CANNOT BE UNDONE",
    }
}

/// How undoing went.
pub(super) fn undone(how: &Undone) -> String {
    match how {
        Undone::Undone => "put back".to_owned(),
        Undone::AlreadyBefore => "was as before already".to_owned(),
        Undone::Drifted(why) => format!("LEFT ALONE, changed by someone else since: {}", clean::line(why)),
        Undone::Irreversible => "cannot be undone, and stays".to_owned(),
        Undone::Failed(why) => format!("COULD NOT BE PUT BACK: {}", clean::line(why)),
    }
}
