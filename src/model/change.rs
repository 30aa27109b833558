//! Changes, acts, and how each is undone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    base::ByteText,
    model::{
        event::Output,
        state::{Content, Difference, Meta, PathState, Resource, State},
    },
};

/// A resource, its state before, and its state after: the one law.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What changes.
    pub resource: Resource,
    /// How it was.
    pub before: State,
    /// How it becomes.
    pub after: State,
}

impl Change {
    /// The way back.
    pub fn reversed(&self) -> Change {
        Change { resource: self.resource.clone(), before: self.after.clone(), after: self.before.clone() }
    }

    /// The file that it makes, or gives a new content: its path, the content, the attributes.
    pub fn new_file(&self) -> Option<(&ByteText, &Content, &Meta)> {
        let Resource::Path(path) = &self.resource else { return None };
        let State::Path(PathState::File { content, meta }) = &self.after else { return None };
        let stays = matches!(&self.before, State::Path(PathState::File { content: old, .. }) if old == content);
        (!stays).then_some((path, content, meta))
    }

    /// The new content that it brings, if it brings one.
    pub fn new_content(&self) -> Option<&Content> {
        self.new_file().map(|(_, content, _)| content)
    }
}

/// A command to start: never a glued string.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandSpec {
    /// The program and its arguments; never empty.
    pub argv: Vec<String>,
    /// Where to start it; the agent's home otherwise.
    pub chdir: Option<String>,
    /// Variables laid over a clean environment.
    pub environment: BTreeMap<String, String>,
    /// What it reads.
    pub stdin: Option<String>,
    /// Seconds after which its process group is ended.
    pub timeout_s: Option<u64>,
    /// Exit codes that mean success; empty means 0 alone.
    pub ok_codes: Vec<i32>,
}

impl CommandSpec {
    /// Whether a run of it that ended so has succeeded.
    pub fn accepts(&self, output: &Output) -> bool {
        let fine = |code: i32| if self.ok_codes.is_empty() { code == 0 } else { self.ok_codes.contains(&code) };
        !output.timed_out && output.code.is_some_and(fine)
    }
}

/// Work without an observable state of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Runs a command.
    Run(CommandSpec),
    /// Restarts a service.
    Restart(String),
    /// Tells a service to read its configuration again.
    Reload(String),
}

/// How an act is undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undo {
    /// By running this.
    Run(CommandSpec),
    /// By doing the act once more when everything else has been put back: a reload reads the old file again.
    Repeat,
    /// It cannot be undone, and the plan says so.
    Irreversible,
}

/// One thing that a step does to a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// A resource is brought to another state. Undone by bringing it back.
    Change(Change),
    /// An act is done.
    Act {
        /// What.
        act: Act,
        /// How it is undone.
        undo: Undo,
    },
}

/// How a deed is undone, as one word for people and the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UndoKind {
    /// The state before is kept and put back.
    Restore,
    /// A command of the runbook's undoes it.
    Command,
    /// The act is repeated after everything else is back.
    Repeat,
    /// Nothing undoes it.
    Irreversible,
}

impl Deed {
    /// The file that it makes, or gives a new content: see [`Change::new_file`].
    pub fn new_file(&self) -> Option<(&ByteText, &Content, &Meta)> {
        match self {
            Deed::Change(change) => change.new_file(),
            Deed::Act { .. } => None,
        }
    }

    /// How it is undone.
    pub fn undo_kind(&self) -> UndoKind {
        match self {
            Deed::Change(_) => UndoKind::Restore,
            Deed::Act { undo: Undo::Run(_), .. } => UndoKind::Command,
            Deed::Act { undo: Undo::Repeat, .. } => UndoKind::Repeat,
            Deed::Act { undo: Undo::Irreversible, .. } => UndoKind::Irreversible,
        }
    }
}

/// A deed as people and the record see it: states without password hashes, what differs in words, and the
/// difference of contents where both are text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeedReport {
    /// What is done; for a change, both states as [`State::public`] gives them.
    pub deed: Deed,
    /// Which attributes differ.
    pub differences: Vec<Difference>,
    /// A unified diff of the contents, at most 64 KiB, where both are UTF-8 text and the step is not sensitive.
    pub diff: Option<String>,
    /// How it is undone.
    pub undo: UndoKind,
}
