//! The agent's way onto the target: try, and only where it is missing, put it there and try once more.
//!
//! It lies under a name that is its content's digest, in a folder that only its user can write. Where it is there
//! already, starting it costs one channel and nothing else.

mod greeting;
mod program;
mod script;

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::{
    base::{Fault, FaultKind, Secret, point::fault},
    model::inventory::Become,
    transport::{ASK_BECOME, AgentPipe, Connection, Fate, LineFault, aside, channel::Channel, unreachable},
    wire::message::HELLO_MAGIC,
};

pub(super) use program::Programs;

use greeting::{Greeted, Greeting};
use program::Program;
use script::{MISSING, NOWHERE, Plain, READY, STORED, Script};

/// How long putting the agent there may take.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(300);

/// Bytes of the program that are written at once.
const PIECE_BYTES: usize = 256 * 1024;

/// Bytes of an answer to an installation that are read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Starts the agent; puts it there first where it is missing.
pub(super) async fn agent(connection: &mut Connection, whom: &Become) -> Result<AgentPipe, Fault> {
    let settings = &connection.settings;
    let limit = settings.connect_timeout;
    let program = settings.shared.programs.take(settings.agent_program.as_deref())?;
    if let (true, Become::No, Some(file)) = (connection.is_local(), whom, &program.file) {
        let channel = connection.run_file(file)?;
        let mut greeting = Greeting::new(HELLO_MAGIC, None);
        return match timeout(limit, greeting.hear(channel)).await {
            Ok(Greeted::Heard(channel)) => Ok(pipe(*channel, &program, false)),
            Ok(other) => Err(broken(connection, other).await),
            Err(_) => Err(silent(limit)),
        };
    }
    let folder = connection.host.connection.agent_dir.as_deref().map(Plain::folder).transpose()?;
    let serve = Script::serve(program.digest, folder.as_ref());
    match start(connection, &serve, HELLO_MAGIC, whom).await {
        Ok(channel) => return Ok(pipe(channel, &program, false)),
        Err(NotStarted::Missing(target)) => {
            check_machine(&program, &target.machine)?;
            install(connection, &program, folder.as_ref(), whom, target.unpacks).await?;
        }
        Err(NotStarted::Over(fault) | NotStarted::HungUp(fault)) => return Err(*fault),
    }
    match start(connection, &serve, HELLO_MAGIC, whom).await {
        Ok(channel) => Ok(pipe(channel, &program, true)),
        Err(NotStarted::Missing(_)) => {
            let fault = unreachable("the agent was put on the target, and cannot be started there");
            Err(with_words(fault, connection).hint("name another folder for it as `agent_dir` in the inventory"))
        }
        Err(NotStarted::Over(fault) | NotStarted::HungUp(fault)) => Err(*fault),
    }
}

fn pipe(channel: Channel, program: &Program, installed: bool) -> AgentPipe {
    let Channel { stdin, stdout, leash, .. } = channel;
    AgentPipe { reader: stdout, writer: stdin, installed, digest: program.digest, _leash: leash }
}

/// Sends the program: packed, where the target `unpacks` and there is a line in between.
async fn install(
    connection: &mut Connection,
    program: &Arc<Program>,
    folder: Option<&Plain>,
    whom: &Become,
    unpacks: bool,
) -> Result<(), Fault> {
    let is_packed = unpacks && program.can_be_packed() && !connection.is_local();
    if is_packed {
        let program = Arc::clone(program);
        aside(move || program.packed().len()).await;
    }
    let bytes = if is_packed { program.packed() } else { &program.bytes[..] };
    let take = Script::take(program.digest, program.bytes.len(), folder, is_packed);
    let mut channel = match start(connection, &take, READY, whom).await {
        Ok(channel) => channel,
        Err(NotStarted::Over(fault) | NotStarted::HungUp(fault)) => return Err(nowhere(connection).unwrap_or(*fault)),
        Err(NotStarted::Missing(_)) => return Err(wordless()),
    };
    fault!("bootstrap.ready");
    let sent = timeout(INSTALL_TIMEOUT, async {
        for piece in bytes.chunks(PIECE_BYTES) {
            fault!("bootstrap.piece");
            channel.stdin.write_all(piece).await?;
        }
        channel.stdin.shutdown().await?;
        let mut answer = Vec::new();
        (&mut channel.stdout).take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer.windows(STORED.len()).any(|window| window == STORED))
    });
    let outcome = sent.await;
    fault!("bootstrap.stored");
    let _its_words_are_read = channel.ending().await;
    let fault = with_words(unreachable("the agent cannot be put on the target"), connection);
    match outcome {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(fault),
        Ok(Err(error)) => Err(fault.because(&error)),
        Err(_) => Err(fault.hint(format!("the line is too slow: it took more than {} s", INSTALL_TIMEOUT.as_secs()))),
    }
}

fn wordless() -> Fault {
    unreachable("the agent could not be started: the target lets us in, and ends each command without a word")
        .hint("a login shell that runs nothing (nologin), or a command that its sshd forces, does this")
}

/// The script found no folder for the agent.
fn nowhere(connection: &Connection) -> Option<Fault> {
    let words = connection.last_words();
    let (_, why) = words.rsplit_once(NOWHERE)?;
    let mut fault = unreachable("there is no folder on the target that the agent can be put into and started from");
    fault.causes.extend(why.trim().split(';').map(|place| place.trim().to_owned()).filter(|place| !place.is_empty()));
    Some(fault.hint("name a folder on a file system that is not mounted noexec as `agent_dir` in the inventory"))
}

fn check_machine(program: &Program, machine: &str) -> Result<(), Fault> {
    match program.machine {
        Some(own) if !machine.is_empty() && machine != own => {
            Err(unreachable(format!("the target is a {machine:.32} machine, and the agent is made for {own}"))
                .hint(format!("build rollbook-agent for {machine:.32}, and name it with --agent")))
        }
        _ => Ok(()),
    }
}

/// A target without an agent, as far as it could tell.
#[derive(Default)]
struct Target {
    /// As `uname -m` says it.
    machine: String,
    /// It has gzip.
    unpacks: bool,
}

impl Target {
    fn of(words: &str) -> Self {
        let mut words = words.split_whitespace();
        let machine = words.next().unwrap_or_default().to_owned();
        Target { machine, unpacks: words.next() == Some("gzip") }
    }
}

/// Why a script did not come to its word.
enum NotStarted {
    /// The host hung up before any login: another try may help.
    HungUp(Box<Fault>),
    /// There is no agent that runs.
    Missing(Target),
    /// Everything else.
    Over(Box<Fault>),
}

impl From<Fault> for NotStarted {
    fn from(fault: Fault) -> Self {
        NotStarted::Over(Box::new(fault))
    }
}

/// Runs a script as `whom`, and reads until it has said `word`. Asks for sudo's password where it is needed.
async fn start(
    connection: &mut Connection,
    script: &Script,
    word: &'static [u8],
    whom: &Become,
) -> Result<Channel, NotStarted> {
    let known = connection.host.connection.become_password.clone().or_else(|| connection.become_password.clone());
    if *whom == Become::No || known.is_some() {
        return try_start(connection, script, word, whom, known).await;
    }
    match try_start(connection, script, word, whom, None).await {
        Err(NotStarted::Over(_)) if wants_password(&connection.last_words()) => {}
        other => return other,
    }
    let asker = connection.settings.asker.clone();
    let Some(password) = aside(move || asker.ask(ASK_BECOME)).await.flatten() else {
        let fault = Fault::new(FaultKind::Policy, "sudo wants a password, and there is none")
            .hint("set ROLLBOOK_BECOME_PASSWORD, write `become_password` into the inventory, or run on a terminal");
        return Err(fault.into());
    };
    let channel = try_start(connection, script, word, whom, Some(password.clone())).await?;
    connection.become_password = Some(password);
    Ok(channel)
}

/// Whether sudo refused for want of a password; the last of these is sudo-rs, which is Ubuntu's sudo since 25.10.
fn wants_password(words: &str) -> bool {
    let ways = [
        "a password is required",
        "a terminal is required to read the password",
        "interactive authentication is required",
    ];
    ways.iter().any(|way| words.contains(way))
}

async fn try_start(
    connection: &mut Connection,
    script: &Script,
    word: &'static [u8],
    whom: &Become,
    password: Option<Secret>,
) -> Result<Channel, NotStarted> {
    let mut patience = connection.patience();
    loop {
        match start_once(connection, script, word, whom, password.clone()).await {
            Err(NotStarted::HungUp(_)) if patience.another_try().await => {}
            Err(NotStarted::HungUp(fault)) => return Err(NotStarted::Over(fault)),
            other => return other,
        }
    }
}

async fn start_once(
    connection: &mut Connection,
    script: &Script,
    word: &'static [u8],
    whom: &Become,
    password: Option<Secret>,
) -> Result<Channel, NotStarted> {
    let prompt = password.is_some().then(Plain::nonce).filter(|_| *whom != Become::No);
    let line = script.line(whom, prompt.as_ref())?;
    let channel = connection.run(&line, Fate::SeesTheEnd).await?;
    let mut greeting = Greeting::new(word, password.zip(prompt));
    let limit = connection.settings.connect_timeout;
    match timeout(limit, greeting.hear(channel)).await {
        Ok(Greeted::Heard(channel)) => Ok(*channel),
        Ok(Greeted::Ended(channel)) => Err(ended_early(connection, *channel, *whom != Become::No).await),
        Ok(Greeted::Refused(fault)) => Err(NotStarted::Over(fault)),
        Err(_) => Err(silent(limit).into()),
    }
}

fn silent(limit: Duration) -> Fault {
    unreachable(format!("the target let us in, and then nothing answered within {} s", limit.as_secs()))
        .hint("a login shell that waits for something, or a sudo that asks a person, does this")
}

/// The script is over without its word: says why.
async fn ended_early(connection: &Connection, mut channel: Channel, by_sudo: bool) -> NotStarted {
    let ending = channel.ending().await;
    if let Some(why) = channel.lost.why() {
        return with_words(unreachable(format!("the line broke: {why}")), connection).into();
    }
    match connection.line_fault(ending) {
        Some(LineFault::HungUp(fault)) => return NotStarted::HungUp(Box::new(fault)),
        Some(LineFault::Over(fault)) => return fault.into(),
        None => {}
    }
    let words = connection.last_words();
    if let Some((_, told)) = words.rsplit_once(MISSING) {
        return NotStarted::Missing(Target::of(told));
    }
    if by_sudo && let Some(fault) = sudo_fault(&words) {
        return fault.into();
    }
    let how = match ending.map(|ending| (ending.code, ending.signal)) {
        // It was found, and is not whole or cannot be started: that is as good as missing, once.
        Some((Some(126), _)) => return NotStarted::Missing(Target::default()),
        Some((Some(0 | 127), _)) if words.trim().is_empty() => return NotStarted::Missing(Target::default()),
        Some((Some(code), _)) => format!(" (exit code {code})"),
        Some((_, Some(signal))) => format!(" (ended by signal {signal})"),
        _ => String::new(),
    };
    with_words(unreachable(format!("the agent could not be started{how}")), connection).into()
}

/// What a broken start of a local agent means.
async fn broken(connection: &Connection, greeted: Greeted) -> Fault {
    match greeted {
        Greeted::Refused(fault) => *fault,
        Greeted::Heard(channel) | Greeted::Ended(channel) => match ended_early(connection, *channel, false).await {
            NotStarted::Over(fault) | NotStarted::HungUp(fault) => *fault,
            NotStarted::Missing(_) => unreachable("the agent ended without a word"),
        },
    }
}

/// What sudo, or sudo-rs, says when it refuses, in its English.
fn sudo_fault(words: &str) -> Option<Fault> {
    let refused = |message: &str, hint: &str| Some(Fault::new(FaultKind::Policy, message).hint(hint));
    let said = |text: &str| words.contains(text);
    if wants_password(words) {
        return refused("sudo wants a password", "set ROLLBOOK_BECOME_PASSWORD, or run on a terminal");
    }
    if said("sudo: not found") || said("sudo: command not found") || said("sudo: No such file") {
        return refused("the target has no sudo", "install it, or log in as the user that is to be become");
    }
    if said("must have a tty") {
        return refused("the target's sudo wants a terminal", "remove `requiretty` from its sudoers");
    }
    if said("unknown user") || said("sudo: user '") && said("' not found") {
        return refused("there is no such user on the target to become", "look at `become`");
    }
    let forbidden = ["not in the sudoers file", "not allowed to", "may not run", "I'm afraid I can't do that"];
    if forbidden.into_iter().any(said) {
        return refused("sudo does not allow it", "the login user needs a rule in the target's sudoers");
    }
    None
}

fn with_words(mut fault: Fault, connection: &Connection) -> Fault {
    fault.causes.extend(Some(connection.last_words().trim().to_owned()).filter(|words| !words.is_empty()));
    fault
}
