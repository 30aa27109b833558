//! From what a step wants to what is to be done.

use std::collections::HashMap;

use crate::{
    model::{
        change::{Act, Change, CommandSpec, Deed, Undo},
        event::Output,
        state::Resource,
    },
    resources::{self, Halt, View, service},
    steps::Decision,
    target::Tools,
    wire::message::Task,
};

/// The changes that a decision asks for: its states without those that are there already, each with the state before
/// it. A resource that is named twice goes straight to the last state.
pub(super) fn changes(view: &mut dyn View, decision: &Decision) -> Result<Vec<Change>, Halt> {
    let mut changes: Vec<Change> = Vec::new();
    let mut known: HashMap<&Resource, usize> = HashMap::new();
    for (resource, after) in &decision.states {
        match known.get(resource) {
            Some(at) => changes[*at].after = after.clone(),
            None => {
                known.insert(resource, changes.len());
                let before = view.observe(resource)?;
                changes.push(Change { resource: resource.clone(), before, after: after.clone() });
            }
        }
    }
    changes.retain(|change| !resources::differences(&change.before, &change.after).is_empty());
    Ok(changes)
}

/// The acts of a decision, each with its undo and the task's environment.
pub(super) fn acts(task: &Task, decision: &Decision) -> Vec<Deed> {
    let undo = |act: &Act| match (act, &task.undo) {
        (Act::Run(command), Some(undo)) => Undo::Run(beside(command, of_task(task, undo))),
        // A handler's command stands for the files that notified it: it is run again when they are back.
        (Act::Run(_), None) if task.only_if_notified => Undo::Repeat,
        (Act::Run(_), None) => Undo::Irreversible,
        (Act::Restart(_) | Act::Reload(_), _) => Undo::Repeat,
    };
    let with_environment = |act: &Act| match act {
        Act::Run(command) => Act::Run(of_task(task, command)),
        other => other.clone(),
    };
    decision.acts.iter().map(|act| Deed::Act { act: with_environment(act), undo: undo(act) }).collect()
}

/// An undo starts where the command did.
fn beside(command: &CommandSpec, undo: CommandSpec) -> CommandSpec {
    CommandSpec { chdir: undo.chdir.or_else(|| command.chdir.clone()), ..undo }
}

/// A command of a task: with the task's variables below its own, and ended with the task's time.
pub(super) fn of_task(task: &Task, command: &CommandSpec) -> CommandSpec {
    let mut command = command.clone();
    for (name, value) in &task.environment {
        command.environment.entry(name.clone()).or_insert_with(|| value.clone());
    }
    command.timeout_s = command.timeout_s.or(task.timeout_s);
    command
}

/// Carries an act out: what its command printed, and how it ended.
pub(super) fn carry_out(tools: &Tools<'_>, act: &Act) -> (Option<Output>, Result<(), Halt>) {
    let command = match act {
        Act::Run(command) => command,
        Act::Restart(name) => return (None, service::restart(tools, name)),
        Act::Reload(name) => return (None, service::reload(tools, name)),
    };
    match tools.act(command) {
        Ok(output) if command.accepts(&output) => (Some(output), Ok(())),
        Ok(output) => {
            let why = failure(&words_of(act), &output);
            (Some(output), Err(Halt::Failed(why)))
        }
        Err(error) => (None, Err(Halt::io(format_args!("starting {}", words_of(act)), &error))),
    }
}

/// How a command failed.
fn failure(words: &str, output: &Output) -> String {
    match (output.timed_out, output.code, output.signal) {
        (true, ..) => format!("{words} took too long and was ended"),
        (_, Some(code), _) => format!("{words} ended with code {code}"),
        (_, None, Some(signal)) => format!("{words} was ended by signal {signal}"),
        (_, None, None) => format!("{words} failed"),
    }
}

/// An act in a few words.
pub(super) fn words_of(act: &Act) -> String {
    match act {
        Act::Run(command) => format!("{:?}", command.argv.first().map_or("", String::as_str)),
        Act::Restart(name) => format!("restarting {name}"),
        Act::Reload(name) => format!("reloading {name}"),
    }
}

/// The changes in runs that go together: those of packages and other families need one transaction, paths go one by
/// one.
pub(super) fn together(changes: &[Change]) -> impl Iterator<Item = &[Change]> {
    changes.chunk_by(|a, b| {
        let family = a.resource.family();
        family == b.resource.family() && !matches!(a.resource, Resource::Path(_))
    })
}

/// Whether a change is more than a few small writes.
pub(super) fn takes_time(change: &Change) -> bool {
    !matches!(change.resource, Resource::Path(_)) || change.new_content().is_some_and(|new| new.bytes > QUICK_BYTES)
}

/// A content that is written in no time.
const QUICK_BYTES: u64 = 1024 * 1024;
