//! `openssh`: the system's ssh, for whatever ssh_config can do. Each command line is one process of it.

use std::{
    fs,
    io::{self, Read},
    path::Path,
    process::Stdio,
    time::Duration,
};

use tempfile::TempPath;
use tokio::{process::Command, time::timeout};

use crate::{
    base::{Fault, FaultKind},
    model::inventory::Host,
    transport::{
        Fate, LineFault, Settings,
        channel::{Channel, Ending},
        known_hosts::{SSH_PORT, forgetting, trusting},
        unreachable,
    },
};

/// ssh's exit code for its own errors. A command may end with it too.
const OWN_ERROR: i32 = 255;

/// Keepalives that may stay unanswered.
const KEEPALIVES: u64 = 3;

/// The first version whose log tells, for those who ask, that it has logged in ([`TELL`]).
const VERSION_THAT_TELLS: (u32, u32) = (8, 7);

/// How long ssh may take to say its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);

/// What goes into ssh's log although it is no error: how the line ended, that it has logged in, and how the command
/// ended. A lower level for all of it would put the host's banner onto stderr.
const TELL: &str = "-oLogVerbose=packet.c:sshpkt_vfatal():*,clientloop.c:server_alive_check():*,\
    sshconnect2.c:ssh_userauth2():*,clientloop.c:client_loop():*";

/// ssh's words once it has logged in.
const LOGGED_IN: &str = "Authenticated to ";

/// ssh's words where it has not learned how the command ended: a signal ended it, or the line broke.
const NO_STATUS: &str = "Exit status -1";

/// What it says on stderr then, if it was the line.
const BROKE: &[&str] = &["closed by remote host.", "Read from remote host "];

/// As much of ssh's log is read.
const LOG_BYTES_MAX: u64 = 64 * 1024;

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

/// What one ssh says of itself, in a file: nothing that a command prints is in it.
pub(super) struct Log(TempPath);

impl Log {
    /// An empty one.
    fn new() -> io::Result<Self> {
        tempfile::Builder::new().prefix("rollbook-ssh-").tempfile().map(|file| Log(file.into_temp_path()))
    }

    fn text(&self) -> String {
        let mut bytes = Vec::new();
        let read = fs::File::open(&self.0).and_then(|file| file.take(LOG_BYTES_MAX).read_to_end(&mut bytes));
        read.map(|_| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

/// Whether an ssh tells in its log that it has logged in; asked once a run.
async fn tells(program: &Path, settings: &Settings) -> bool {
    let ask = || async {
        let mut command = Command::new(program);
        let asked = command.arg("-V").stdin(Stdio::null()).kill_on_drop(true).output();
        let output = timeout(VERSION_TIMEOUT, asked).await.ok()?.ok()?;
        version(&String::from_utf8_lossy(&output.stderr))
    };
    settings.shared.ssh_version.get_or_init(ask).await.is_some_and(|version| version >= VERSION_THAT_TELLS)
}

/// The version in `OpenSSH_9.2p1 Debian-2, OpenSSL 3.0.19`.
fn version(words: &str) -> Option<(u32, u32)> {
    let (major, rest) = words.strip_prefix("OpenSSH_")?.split_once('.')?;
    let minor = rest.split(|letter: char| !letter.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Runs a command line on a host. Also gives what ssh says of itself, where it keeps that apart.
pub(super) async fn run(host: &Host, settings: &Settings, line: &str) -> Result<(Channel, Option<Log>), Fault> {
    let program = settings.ssh_program.as_deref().unwrap_or(Path::new("ssh"));
    let mut command = Command::new(program);
    command.args(arguments(host, settings.connect_timeout, settings.silence_timeout)?);
    let log = if tells(program, settings).await { Log::new().ok() } else { None };
    if let Some(log) = &log {
        command.arg(TELL).arg("-E").arg(&log.0);
    }
    command.arg("--").arg(name(host)).arg(line);
    let turn = settings.shared.turn_at(address(host)).await;
    let mut channel = Channel::of_child(command, Fate::Killed).map_err(|error| {
        Fault::internal(format!("cannot start the system's ssh, {}", program.display())).because(&error)
    })?;
    channel.turn = Some(turn);
    Ok((channel, log))
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

fn complaint(ending: Ending, own: Option<&str>, words: &str) -> Option<Complaint> {
    if ending.code != Some(OWN_ERROR) {
        return None;
    }
    let of = |told: &str| COMPLAINTS.iter().find(|(text, _)| told.contains(text)).map(|(_, complaint)| *complaint);
    match own {
        // The command may have begun, and `words` are the host's, but for the last of them.
        Some(own) if own.contains(LOGGED_IN) => {
            let broke = own.contains(NO_STATUS) && BROKE.iter().any(|text| words.contains(text));
            (broke || of(own).is_some()).then_some(Complaint::Broken)
        }
        // What its jumps and proxies say is on stderr.
        Some(own) => of(&format!("{own}\n{words}")),
        None => of(words),
    }
}

/// The exit code of a command, where ssh has learned one: it has none to give for a signal, and ends with its own.
pub(super) fn exit_code(ending: Ending, log: Option<&Log>) -> Option<i32> {
    let unknown = || log.is_some_and(|log| log.text().contains(NO_STATUS));
    ending.code.filter(|code| *code != OWN_ERROR || !unknown())
}

/// What an exit code of 255 with ssh's own words means; `None` where it was the command that ended so.
pub(super) fn line_fault(ending: Ending, log: Option<&Log>, words: &str, host: &Host) -> Option<LineFault> {
    let own = log.map(Log::text);
    let complaint = complaint(ending, own.as_deref(), words)?;
    let address = address(host);
    let fault = match complaint {
        Complaint::Changed => unreachable(format!("THE HOST KEY OF {address} HAS CHANGED"))
            .hint("somebody may be listening in, or the host was installed anew: find out which")
            .hint(format!(
                "if it was installed anew: {}, with the file that ssh's words name, and then trust its new key",
                forgetting(name(host), host.connection.port.unwrap_or(SSH_PORT), "FILE")
            )),
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
            .hint("a busy sshd does this (`MaxStartups`), and one that has banned this address (`PerSourcePenalties`)"),
        Complaint::Configuration => Fault::new(FaultKind::Input, "the system's ssh does not take its configuration")
            .hint("look at ssh_config and at `ssh_args`"),
        Complaint::NothingInCommon => unreachable(format!("{address} and the system's ssh have no algorithm in common")),
    };
    let fault = with_words(fault, &(readable(own.as_deref().unwrap_or_default()) + words));
    Some(if complaint == Complaint::HungUp { LineFault::HungUp(fault) } else { LineFault::Over(fault) })
}

/// ssh's log as a person wants to read it: without where in its sources a line comes from, and without what is no trouble.
fn readable(own: &str) -> String {
    let is_trouble =
        |line: &&str| !["sshconnect2.c:", "clientloop.c:client_loop()"].iter().any(|place| line.starts_with(place));
    let lines = own.lines().filter(is_trouble);
    let text = |line: &str| {
        let forced = line.split_once("): ").filter(|(place, _)| place.contains(".c:"));
        forced.map_or(line, |(_, text)| text).to_owned() + "\n"
    };
    lines.map(text).collect()
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

    const OWN_END: Ending = Ending { code: Some(OWN_ERROR), signal: None };
    const HUNG_UP: &str = "packet.c:sshpkt_vfatal():2074 (bin=ssh, pid=7): Connection closed by 192.0.2.7 port 22\n";
    const LOST: &str = "clientloop.c:client_loop():1713 (bin=ssh, pid=7): Exit status -1\n";
    const IN: &str = "sshconnect2.c:ssh_userauth2():482 (bin=ssh, pid=7): Authenticated to web1 ([192.0.2.7]:22).\n";

    #[test]
    fn who_hangs_up_before_the_login_is_tried_again() {
        let of = |words| complaint(OWN_END, None, words);
        // A bastion turned the jump away.
        assert_eq!(of("banner exchange: Connection to UNKNOWN port 65535: Broken pipe"), Some(Complaint::HungUp));
        assert_eq!(of("kex_exchange_identification: write: Broken pipe"), Some(Complaint::HungUp));
        assert_eq!(of("Connection timed out during banner exchange"), Some(Complaint::Silent));
        assert_eq!(of("client_loop: send disconnect: Broken pipe"), Some(Complaint::Broken));
        assert_eq!(complaint(OWN_END, Some(HUNG_UP), ""), Some(Complaint::HungUp));
        assert_eq!(complaint(OWN_END, Some(HUNG_UP), "Permission denied (publickey)."), Some(Complaint::Denied));
    }

    #[test]
    fn what_a_host_says_is_not_taken_for_ssh() {
        assert_eq!(complaint(OWN_END, Some(IN), "kex_exchange_identification: Permission denied ("), None);
        assert_eq!(complaint(OWN_END, Some(&(IN.to_owned() + HUNG_UP)), "any"), Some(Complaint::Broken));
        let lost = IN.to_owned() + LOST;
        assert_eq!(
            complaint(OWN_END, Some(&lost), "Connection to web1 closed by remote host.\r\n"),
            Some(Complaint::Broken)
        );
        assert_eq!(complaint(OWN_END, Some(&lost), "Killed"), None, "a signal");
        assert_eq!(complaint(Ending { code: Some(1), signal: None }, Some(HUNG_UP), ""), None);
    }

    #[test]
    fn its_log_is_shown_without_its_places() {
        let own = IN.to_owned() + LOST + "kex_exchange_identification: read: Connection reset by peer\n" + HUNG_UP;
        let shown =
            "kex_exchange_identification: read: Connection reset by peer\nConnection closed by 192.0.2.7 port 22\n";
        assert_eq!(readable(&own), shown);
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(version("OpenSSH_9.2p1 Debian-2+deb12u10, OpenSSL 3.0.19 27 Jan 2026\n"), Some((9, 2)));
        assert_eq!(version("OpenSSH_10.5p1"), Some((10, 5)));
        assert_eq!(version("Sun_SSH_1.1"), None);
    }
}
