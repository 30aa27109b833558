//! `local`: this machine, without a network. The same command lines as over ssh, read by `/bin/sh`.

use std::path::Path;

use tokio::process::Command;

use crate::{
    base::Fault,
    transport::{Fate, channel::Channel},
};

/// Runs a command line.
pub(super) fn run(line: &str, fate: Fate) -> Result<Channel, Fault> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", line]);
    at_home(&mut command);
    Channel::of_child(command, fate).map_err(|error| Fault::internal("cannot start /bin/sh").because(&error))
}

/// Starts the agent from its file.
pub(super) fn serve(program: &Path) -> Result<Channel, Fault> {
    let mut command = Command::new(program);
    command.arg("serve");
    at_home(&mut command);
    Channel::of_child(command, Fate::SeesTheEnd)
        .map_err(|error| Fault::internal(format!("cannot start the agent {}", program.display())).because(&error))
}

/// A login starts in the home directory.
fn at_home(command: &mut Command) {
    if let Some(home) = std::env::var_os("HOME").filter(|home| Path::new(home).is_dir()) {
        command.current_dir(home);
    }
}
