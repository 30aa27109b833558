//! `local`: this machine, without a network. The same command lines as over ssh, read by `/bin/sh`.

use tokio::process::Command;

use crate::{
    base::Fault,
    transport::channel::{Channel, LastWords},
};

/// Runs a command line.
pub(super) fn run(line: &str) -> Result<(Channel, LastWords), Fault> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", line]);
    if let Some(home) = std::env::var_os("HOME") {
        command.current_dir(home);
    }
    Channel::of_child(command).map_err(|error| Fault::internal("cannot start /bin/sh").because(&error))
}
