//! Deeds as they may leave the target.

use crate::{
    base::{Digest, secret::HIDDEN},
    model::{
        change::{Act, Change, CommandSpec, Deed, DeedReport, Undo},
        event::Undone,
        state::{Content, Meta, PathState, State},
    },
    resources::{self, Halt},
};

/// What is told instead of a sentence that may hold what a sensitive step was given.
const UNTOLD: &str = "why is not told, since the step is sensitive";

/// The report of a deed. Of a sensitive one nothing is told that was made of what it was given.
pub(super) fn of(deed: &Deed, diff: Option<String>, sensitive: bool) -> DeedReport {
    let undo = deed.undo_kind();
    let mut deed = deed.clone();
    let mut differences = Vec::new();
    match &mut deed {
        Deed::Change(Change { before, after, .. }) => {
            differences = resources::differences(before, after);
            (*before, *after) = (before.public(), after.public());
            if sensitive {
                hide_state(before);
                hide_state(after);
            }
        }
        Deed::Act { act, undo } => {
            if let Act::Run(command) = act {
                hide_command(command, sensitive);
            }
            if let Undo::Run(command) = undo {
                hide_command(command, sensitive);
            }
        }
    }
    if sensitive {
        for difference in &mut differences {
            if !["mode", "owner", "group"].contains(&difference.attribute.as_str()) {
                (difference.before, difference.after) = (HIDDEN.into(), HIDDEN.into());
            }
        }
    }
    DeedReport { deed, differences, diff: diff.filter(|_| !sensitive), undo }
}

/// Why a step halted.
pub(super) fn halt(halt: Halt, sensitive: bool) -> Halt {
    let as_made = match halt {
        _ if !sensitive => return halt,
        Halt::Failed(_) => Halt::Failed,
        Halt::NotYet(_) => Halt::NotYet,
        Halt::Unknown(_) => Halt::Unknown,
    };
    as_made(UNTOLD.into())
}

/// How undoing a deed went.
pub(super) fn undone(how: Undone, sensitive: bool) -> Undone {
    match how {
        Undone::Drifted(_) if sensitive => Undone::Drifted("it is not as it was left".into()),
        Undone::Failed(_) if sensitive => Undone::Failed(UNTOLD.into()),
        how => how,
    }
}

/// A command is told by its arguments; what it reads and its variables are its own.
fn hide_command(command: &mut CommandSpec, sensitive: bool) {
    command.stdin = command.stdin.take().map(|_| HIDDEN.into());
    command.environment.values_mut().for_each(|value| *value = HIDDEN.into());
    if sensitive {
        command.argv.iter_mut().skip(1).for_each(|argument| *argument = HIDDEN.into());
    }
}

/// A digest would let a short secret be guessed.
fn hide_state(state: &mut State) {
    if let State::Path(PathState::File { content, .. }) = state {
        *content = Content { digest: Digest([0; 32]), bytes: 0 };
    }
    if let State::Path(PathState::File { meta, .. } | PathState::Directory { meta }) = state {
        hide_values(meta);
    }
    if let State::Path(PathState::Link { target, .. }) = state {
        *target = HIDDEN.into();
    }
}

fn hide_values(meta: &mut Meta) {
    meta.xattrs.values_mut().for_each(|value| *value = HIDDEN.into());
}
