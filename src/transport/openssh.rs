//! `openssh`: the system's ssh, for whatever ssh_config can do. Each command line is one process of it.

use std::{path::Path, time::Duration};

use tokio::process::Command;

use crate::{
    base::{Fault, FaultKind},
    model::inventory::Host,
    transport::{
        Fate, LineFault, Settings,
        channel::{Channel, Ending},
        known_hosts::trusting,
        unreachable,
    },
};

/// ssh's exit code for its own errors. A command may end with it too.
const OWN_ERROR: i32 = 255;

/// Keepalives that may stay unanswered.
const KEEPALIVES: u64 = 3;

/// Where a host is, as far as the inventory says.
pub(super) fn address(host: &Host) -> String {
    match host.connection.port {
        Some(port) => format!("{}:{port}", name(host)),
        None => name(host).to_owned(),
    }
}

fn name(host: &Host) -> &str {
    host.connection.address.as_deref().unwrap_or(host.name.as_str())
}

/// Runs a command line on a host.
pub(super) async fn run(host: &Host, settings: &Settings, line: &str) -> Result<Channel, Fault> {
    let program = settings.ssh_program.as_deref().unwrap_or(Path::new("ssh"));
    let mut command = Command::new(program);
    command.args(arguments(host, settings.connect_timeout, settings.silence_timeout)?);
    command.arg("--").arg(name(host)).arg(line);
    let turn = settings.shared.turn_at(address(host)).await;
    let mut channel = Channel::of_child(command, Fate::Killed).map_err(|error| {
        Fault::internal(format!("cannot start the system's ssh, {}", program.display())).because(&error)
    })?;
    channel.turn = Some(turn);
    Ok(channel)
}

/// What ssh is told. Of an option given twice it takes the first: what must hold stands before the inventory's
/// `ssh_args`, and what they may change behind them.
fn arguments(host: &Host, connect_timeout: Duration, silence_timeout: Duration) -> Result<Vec<String>, Fault> {
    let connection = &host.connection;
    let mut arguments: Vec<String> = [
        "-T",
        // Nobody in the middle, and nobody is asked by a program that does not know of the others.
        "-oStrictHostKeyChecking=yes",
        "-oBatchMode=yes",
        // What ssh_config may say for people, and would break a program's line.
        "-oRemoteCommand=none",
        "-oClearAllForwardings=yes",
    ]
    .map(str::to_owned)
    .into();
    if let Some(port) = connection.port {
        arguments.push(format!("-oPort={port}"));
    }
    if let Some(user) = &connection.user {
        arguments.extend(["-l".to_owned(), user.clone()]);
    }
    if let Some(key) = &connection.key_file {
        arguments.extend(["-oIdentitiesOnly=yes".to_owned(), format!("-oIdentityFile={}", file(key)?)]);
    }
    if let Some(files) = &connection.known_hosts {
        let files: Vec<String> = files.iter().map(|name| file(name)).collect::<Result<_, _>>()?;
        let files = if files.is_empty() { "/dev/null".to_owned() } else { files.join(" ") };
        arguments.push(format!("-oUserKnownHostsFile={files}"));
        arguments.push("-oGlobalKnownHostsFile=/dev/null".to_owned());
    }
    arguments.extend(connection.ssh_args.iter().cloned());
    let beat = (silence_timeout.as_secs() / KEEPALIVES).max(1);
    arguments.push(format!("-oConnectTimeout={}", connect_timeout.as_secs().max(1)));
    arguments.push(format!("-oServerAliveInterval={beat}"));
    arguments.push(format!("-oServerAliveCountMax={KEEPALIVES}"));
    // Banners are for people, and would hide what the agent says on its stderr.
    arguments.push("-oLogLevel=ERROR".to_owned());
    Ok(arguments)
}

/// A file's name as ssh_config reads it: quoted, and its `%` doubled.
fn file(name: &str) -> Result<String, Fault> {
    if name.contains(['"', '\\', '\n']) {
        return Err(Fault::input(format!("{name:?} cannot be told to the system's ssh"))
            .hint("use a file name without quotes and backslashes, or `transport: ssh2`"));
    }
    Ok(format!("\"{}\"", name.replace('%', "%%")))
}

/// What ssh itself says when it cannot reach a host, in the order in which it is looked for.
const COMPLAINTS: &[(&str, Complaint)] = &[
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", Complaint::Changed),
    ("is marked as revoked", Complaint::Revoked),
    ("REVOKED HOST KEY DETECTED", Complaint::Revoked),
    ("Host key verification failed", Complaint::Unknown),
    ("Permission denied (", Complaint::Denied),
    ("Too many authentication failures", Complaint::Denied),
    ("Could not resolve hostname", Complaint::NoSuchName),
    ("Connection timed out", Complaint::Silent),
    ("timed out during banner exchange", Complaint::Silent),
    ("Connection refused", Complaint::Refused),
    ("No route to host", Complaint::Refused),
    ("Network is unreachable", Complaint::Refused),
    // Before the words for why: nobody has logged in yet, however the line ended.
    ("kex_exchange_identification:", Complaint::HungUp),
    ("banner exchange:", Complaint::HungUp),
    ("not responding", Complaint::Broken),
    ("Broken pipe", Complaint::Broken),
    ("Connection closed by", Complaint::HungUp),
    ("Connection reset by", Complaint::HungUp),
    ("Bad configuration option", Complaint::Configuration),
    ("command-line: line 0:", Complaint::Configuration),
    ("unknown option", Complaint::Configuration),
    ("Unable to negotiate with", Complaint::NothingInCommon),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Complaint {
    Changed,
    Revoked,
    Unknown,
    Denied,
    NoSuchName,
    Silent,
    Refused,
    Broken,
    HungUp,
    Configuration,
    NothingInCommon,
}

fn complaint(ending: Ending, words: &str) -> Option<Complaint> {
    if ending.code != Some(OWN_ERROR) {
        return None;
    }
    COMPLAINTS.iter().find(|(text, _)| words.contains(text)).map(|(_, complaint)| *complaint)
}

/// What an exit code of 255 with ssh's own words means; `None` where it was the command that ended so.
pub(super) fn line_fault(ending: Ending, words: &str, host: &Host) -> Option<LineFault> {
    let complaint = complaint(ending, words)?;
    let address = address(host);
    let fault = match complaint {
        Complaint::Changed => unreachable(format!("THE HOST KEY OF {address} HAS CHANGED"))
            .hint("somebody may be listening in, or the host was installed anew: find out which")
            .hint("if it was installed anew, ssh's words say how its old key is removed"),
        Complaint::Revoked => unreachable(format!("THE HOST KEY OF {address} IS REVOKED")),
        Complaint::Unknown => unreachable(format!("the host key of {address} is not known"))
            .hint("compare its fingerprint with one that you got another way, such as on the host's console")
            .hint(format!("then trust it: {}", trusting(name(host), host.connection.port, None, "~/.ssh/known_hosts"))),
        Complaint::Denied => unreachable(format!("{address} did not let us in"))
            .hint("the system's ssh is not asked for passwords here: load your key into an ssh agent, or use `transport: ssh2`"),
        Complaint::NoSuchName => unreachable(format!("the name {address} cannot be resolved")),
        Complaint::Silent => unreachable(format!("{address} does not answer")),
        Complaint::Refused => unreachable(format!("cannot connect to {address}")),
        Complaint::Broken => unreachable(format!("the line to {address} broke")),
        Complaint::HungUp => unreachable(format!("{address} hung up"))
            .hint("a busy sshd does this (`MaxStartups`), and one that has banned this address"),
        Complaint::Configuration => Fault::new(FaultKind::Input, "the system's ssh does not take its configuration")
            .hint("look at ssh_config and at `ssh_args`"),
        Complaint::NothingInCommon => unreachable(format!("{address} and the system's ssh have no algorithm in common")),
    };
    let fault = with_words(fault, words);
    Some(if complaint == Complaint::HungUp { LineFault::HungUp(fault) } else { LineFault::Over(fault) })
}

/// Adds ssh's own words; of the frame of `@` around its warnings nothing is told.
fn with_words(mut fault: Fault, words: &str) -> Fault {
    let lines = words.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('@'));
    let told: Vec<&str> = lines.collect();
    fault.causes.extend(Some(told.join(" ")).filter(|text| !text.is_empty()));
    fault
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_hangs_up_before_the_login_is_tried_again() {
        let ending = Ending { code: Some(OWN_ERROR), ..Default::default() };
        let of = |words| complaint(ending, words);
        // A bastion turned the jump away.
        assert_eq!(of("banner exchange: Connection to UNKNOWN port 65535: Broken pipe"), Some(Complaint::HungUp));
        assert_eq!(of("kex_exchange_identification: write: Broken pipe"), Some(Complaint::HungUp));
        assert_eq!(of("Connection timed out during banner exchange"), Some(Complaint::Silent));
        assert_eq!(of("client_loop: send disconnect: Broken pipe"), Some(Complaint::Broken));
    }
}
