//! A command judges new content: a private copy of it before it is in place, or the host after.

use std::path::Path;

use crate::{
    model::{change::CommandSpec, event::Output},
    resources::Halt,
    steps::Validate,
    target::{Blobs, Probe},
};

/// What stands for the copy's path in an argument.
const COPY: &str = "%s";

/// Whether it judges a copy, before anything is changed.
pub(super) fn is_before(validate: &Validate) -> bool {
    validate.command.argv.iter().any(|argument| argument.contains(COPY))
}

/// Runs the judge. What it printed, if it refused.
pub(super) fn judge(probe: &Probe, blobs: &Blobs, validate: &Validate) -> Result<Option<Output>, Halt> {
    if !is_before(validate) {
        return ask(probe, &validate.command);
    }
    let copy = blobs
        .private_copy(&validate.content)
        .map_err(|error| Halt::io("making a private copy for the validation", &error))?;
    ask(probe, &with_copy(&validate.command, copy.path()))
}

fn ask(probe: &Probe, command: &CommandSpec) -> Result<Option<Output>, Halt> {
    let output = probe.ask(command).map_err(|error| Halt::io(format_args!("running {:?}", name(command)), &error))?;
    Ok((!command.accepts(&output)).then_some(output))
}

/// The judge's name.
pub(super) fn name(command: &CommandSpec) -> &str {
    command.argv.first().map_or("", String::as_str)
}

fn with_copy(command: &CommandSpec, copy: &Path) -> CommandSpec {
    let path = copy.to_string_lossy();
    let argv = command.argv.iter().map(|argument| argument.replace(COPY, &path)).collect();
    CommandSpec { argv, ..command.clone() }
}
