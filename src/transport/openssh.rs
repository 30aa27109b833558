//! `openssh`: the system's ssh, for whatever ssh_config can do.

use tokio::process::Command;

use crate::{
    base::Fault,
    model::inventory::Host,
    transport::{
        Settings,
        channel::{Channel, LastWords},
        unreachable,
    },
};

/// Where a host is, as far as the inventory says.
pub(super) fn address(host: &Host) -> String {
    let name = host.connection.address.as_deref().unwrap_or(host.name.as_str());
    match host.connection.port {
        Some(port) => format!("{name}:{port}"),
        None => name.to_owned(),
    }
}

/// Runs a command line on a host.
pub(super) fn run(host: &Host, settings: &Settings, line: &str) -> Result<(Channel, LastWords), Fault> {
    let mut command = Command::new("ssh");
    let seconds = settings.connect_timeout.as_secs().max(1);
    command.args(["-T", "-oBatchMode=yes", "-oStrictHostKeyChecking=yes"]);
    command.arg(format!("-oConnectTimeout={seconds}"));
    command.arg(format!("-oServerAliveInterval={}", (settings.silence_timeout.as_secs() / 3).max(1)));
    let connection = &host.connection;
    if let Some(port) = connection.port {
        command.arg(format!("-oPort={port}"));
    }
    if let Some(user) = &connection.user {
        command.arg(format!("-oUser={user}"));
    }
    if let Some(key) = &connection.key_file {
        command.arg(format!("-oIdentityFile={key}"));
    }
    if let Some(files) = &connection.known_hosts {
        command.arg(format!("-oUserKnownHostsFile={}", files.join(" ")));
    }
    command.args(&connection.ssh_args);
    command.arg("--").arg(connection.address.as_deref().unwrap_or(host.name.as_str())).arg(line);
    Channel::of_child(command).map_err(|error| unreachable("cannot start the system's ssh").because(&error))
}
