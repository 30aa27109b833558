//! The agent's way onto the target: try, and only where it is missing, put it there and try once more.
//!
//! It lies under a name that is its content's digest, in a folder that only its user can write.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::{
    base::{Digest, Fault, FaultKind, Secret},
    model::inventory::Become,
    transport::{
        AgentPipe, Connection,
        channel::{Channel, LastWords},
        unreachable,
    },
    wire::message::HELLO_MAGIC,
};

/// What may come before the words that are waited for: banners, profiles that print.
const NOISE_BYTES_MAX: usize = 64 * 1024;

/// How long putting the agent there may take.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(300);

const READY: &[u8] = b"ROLLBOOK-READY\n";
const INSTALLED: &[u8] = b"ROLLBOOK-INSTALLED\n";

#[cfg(rollbook_embedded_agent)]
static EMBEDDED: Option<&[u8]> = Some(include_bytes!(env!("ROLLBOOK_AGENT_FILE")));
#[cfg(not(rollbook_embedded_agent))]
static EMBEDDED: Option<&[u8]> = None;

/// Starts the agent; puts it there first where it is missing.
pub(super) async fn agent(connection: &mut Connection, whom: &Become) -> Result<AgentPipe, Fault> {
    let program = program(connection)?;
    let places = places(connection)?;
    let name = format!("agent-{}", Digest::of(&program));
    match start(connection, &launch(&places, &name), HELLO_MAGIC, whom).await {
        Ok(channel) => return Ok(pipe(channel, false)),
        Err(NotStarted::Missing(machine)) => check_machine(&machine)?,
        Err(NotStarted::Fault(fault)) => return Err(*fault),
    }
    install(connection, &places, &name, &program, whom).await?;
    match start(connection, &launch(&places, &name), HELLO_MAGIC, whom).await {
        Ok(channel) => Ok(pipe(channel, true)),
        Err(NotStarted::Missing(_)) => Err(unreachable("the agent was put on the target and cannot be started there")
            .hint("every folder tried may be mounted noexec: name another one as `agent_dir` in the inventory")),
        Err(NotStarted::Fault(fault)) => Err(*fault),
    }
}

fn pipe(channel: Channel, installed: bool) -> AgentPipe {
    AgentPipe { reader: channel.stdout, writer: channel.stdin, installed }
}

/// The agent program: the one that was named, the one inside this program, or the one beside it.
fn program(connection: &Connection) -> Result<Vec<u8>, Fault> {
    let beside = || std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("rollbook-agent")));
    let path = match (&connection.settings.agent_program, EMBEDDED) {
        (Some(path), _) => path.clone(),
        (None, Some(bytes)) => return Ok(bytes.to_vec()),
        (None, None) => beside().ok_or_else(|| Fault::internal("cannot tell where this program is"))?,
    };
    std::fs::read(&path).map_err(|error| {
        Fault::internal(format!("there is no agent program at {}", path.display()))
            .because(&error)
            .hint("build it with `cargo build --bins`, or use a release build, which carries it inside")
    })
}

/// Folders to look in, as a shell reads them, in this order.
fn places(connection: &Connection) -> Result<String, Fault> {
    let usual = "\"$HOME/.cache/rollbook\" \"/var/tmp/rollbook-$(id -u)\" \"/run/rollbook-$(id -u)\"";
    let Some(folder) = &connection.host.connection.agent_dir else { return Ok(usual.to_owned()) };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if !folder.starts_with('/') || !folder.bytes().all(plain) {
        return Err(Fault::input(format!(
            "agent_dir {folder:?}: an absolute path of letters, digits, /, ., _ and - is needed"
        )));
    }
    Ok(format!("{folder} {usual}"))
}

/// A script that becomes the agent, or says that there is none and on which machine.
fn launch(places: &str, name: &str) -> String {
    format!(
        "for d in {places}; do if [ -O \"$d\" ] && [ ! -L \"$d\" ] && [ -x \"$d/{name}\" ]; \
         then exec \"$d/{name}\" serve; fi; done; echo \"ROLLBOOK-MISSING $(uname -m)\" >&2; exit 127"
    )
}

/// A script that takes the agent from its input into the first folder that is ours and may be executed from.
fn taking(places: &str, name: &str, bytes: usize) -> String {
    format!(
        "umask 077; for d in {places}; do \
         mkdir -p \"$d\" 2>/dev/null && [ -O \"$d\" ] && [ ! -L \"$d\" ] && chmod 700 \"$d\" || continue; \
         t=\"$d/.new-$$\"; printf \"#!/bin/sh\\n\" >\"$t\" && chmod 700 \"$t\" && [ -x \"$t\" ] && \"$t\" 2>/dev/null \
         || {{ rm -f \"$t\"; continue; }}; \
         printf \"ROLLBOOK-READY\\n\"; cat >\"$t\" && [ \"$(wc -c <\"$t\")\" -eq {bytes} ] && mv \"$t\" \"$d/{name}\" \
         && printf \"ROLLBOOK-INSTALLED\\n\" && exit 0; rm -f \"$t\"; echo \"the agent did not arrive whole\" >&2; exit 1; \
         done; echo \"no folder is ours and may be executed from\" >&2; exit 1"
    )
}

async fn install(
    connection: &mut Connection,
    places: &str,
    name: &str,
    program: &[u8],
    whom: &Become,
) -> Result<(), Fault> {
    let script = taking(places, name, program.len());
    let Channel { mut stdin, mut stdout, words, .. } = match start(connection, &script, READY, whom).await {
        Ok(channel) => channel,
        Err(NotStarted::Fault(fault)) => return Err(*fault),
        Err(NotStarted::Missing(_)) => return Err(unreachable("the agent cannot be put on the target")),
    };
    let sent = timeout(INSTALL_TIMEOUT, async {
        stdin.write_all(program).await?;
        stdin.flush().await?;
        // Only a dropped pipe ends for its reader.
        drop(stdin);
        let mut answer = Vec::new();
        stdout.as_mut().take(NOISE_BYTES_MAX as u64).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(find(&answer, INSTALLED).is_some())
    });
    match sent.await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(cannot_install(&words)),
        Ok(Err(error)) => Err(cannot_install(&words).because(&error)),
        Err(_) => Err(cannot_install(&words).hint("the line is too slow: it took more than five minutes")),
    }
}

fn cannot_install(words: &LastWords) -> Fault {
    let mut fault = unreachable("the agent cannot be put on the target");
    fault.causes.extend(Some(words.text().trim().to_owned()).filter(|words| !words.is_empty()));
    fault
}

fn check_machine(machine: &str) -> Result<(), Fault> {
    if machine.is_empty() || machine == std::env::consts::ARCH {
        return Ok(());
    }
    Err(unreachable(format!("the target is a {machine:.32} machine, and the agent is for {}", std::env::consts::ARCH))
        .hint("build rollbook-agent for that machine, and name it with --agent"))
}

/// Why a script did not come to its word.
enum NotStarted {
    /// The launch script found no agent; the machine that it runs on.
    Missing(String),
    /// Everything else.
    Fault(Box<Fault>),
}

impl From<Fault> for NotStarted {
    fn from(fault: Fault) -> Self {
        NotStarted::Fault(Box::new(fault))
    }
}

/// Runs a script as `whom`, and reads until it has said `word`.
async fn start(connection: &mut Connection, script: &str, word: &[u8], whom: &Become) -> Result<Channel, NotStarted> {
    let first = sudo_password(connection, whom, false);
    match try_start(connection, script, word, whom, first.as_ref()).await {
        Err(NotStarted::Fault(fault)) if first.is_none() && wants_password(connection, whom) => {
            let Some(password) = sudo_password(connection, whom, true) else {
                return Err(fault
                    .hint("sudo wants a password: set ROLLBOOK_BECOME_PASSWORD, or run on a terminal")
                    .into());
            };
            try_start(connection, script, word, whom, Some(&password)).await
        }
        other => other,
    }
}

/// Whether sudo refused for want of a password.
fn wants_password(connection: &Connection, whom: &Become) -> bool {
    *whom != Become::No && connection.last_words().contains("password")
}

fn sudo_password(connection: &Connection, whom: &Become, ask: bool) -> Option<Secret> {
    if *whom == Become::No {
        return None;
    }
    let known = connection.host.connection.become_password.clone();
    known.or_else(|| ask.then(|| connection.settings.asker.ask("Password for sudo")).flatten())
}

async fn try_start(
    connection: &mut Connection,
    script: &str,
    word: &[u8],
    whom: &Become,
    password: Option<&Secret>,
) -> Result<Channel, NotStarted> {
    let prompt = prompt();
    let limit = connection.settings.connect_timeout;
    let line = command_line(script, whom, password.map(|_| prompt.as_str()))?;
    let mut channel = connection.run(&line).await?;
    match timeout(limit, wait_for(&mut channel, word, &prompt, password)).await {
        Ok(Ok(true)) => Ok(channel),
        Ok(Ok(false)) => Err(ended_early(connection, channel).await),
        Ok(Err(fault)) => Err(fault.into()),
        Err(_) => Err(unreachable(format!("nothing answered within {} s of logging in", limit.as_secs())).into()),
    }
}

/// The script for the login shell to read: whatever shell that is, it knows `exec`, words and single quotes.
fn command_line(script: &str, whom: &Become, prompt: Option<&str>) -> Result<String, Fault> {
    debug_assert!(!script.contains('\''), "a script stands in single quotes");
    let user = match whom {
        Become::No => return Ok(format!("exec /bin/sh -c '{script}'")),
        Become::Root => "root",
        Become::User(user) => user,
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if user.is_empty() || user.starts_with('-') || !user.bytes().all(plain) {
        return Err(Fault::input(format!("{user:?} is no user's name")));
    }
    let how = prompt.map_or_else(|| "-n".to_owned(), |prompt| format!("-S -p {prompt}"));
    Ok(format!("exec sudo {how} -H -u {user} -- /bin/sh -c '{script}'"))
}

/// A prompt that nobody else can have printed.
fn prompt() -> String {
    let mut random = [0u8; 16];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).expect("the kernel has randomness");
    random.iter().fold("rollbook-".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// Reads stdout up to and with `word`; answers sudo's prompt once. False where the stream ends before.
async fn wait_for(channel: &mut Channel, word: &[u8], prompt: &str, password: Option<&Secret>) -> Result<bool, Fault> {
    let mut noise = Vec::new();
    let mut asked = 0;
    loop {
        let mut byte = [0u8; 1];
        tokio::select! {
            read = channel.stdout.read(&mut byte) => match read {
                Ok(1..) => noise.push(byte[0]),
                _ => return Ok(false),
            },
            () = channel.words.more() => {
                let prompts = channel.words.text().matches(prompt).count();
                if prompts > 1 {
                    return Err(Fault::new(FaultKind::Policy, "sudo does not accept the password"));
                }
                if prompts > asked && let Some(password) = password {
                    asked = prompts;
                    let line = format!("{}\n", password.expose());
                    let _told_by_its_end = channel.stdin.write_all(line.as_bytes()).await;
                }
            }
        }
        if noise.ends_with(word) {
            return Ok(true);
        }
        if noise.len() > NOISE_BYTES_MAX {
            return Err(unreachable(format!(
                "the target printed more than {} KiB before its agent could speak",
                NOISE_BYTES_MAX >> 10
            ))
            .hint("make its login banner or shell profile silent for logins without a terminal"));
        }
    }
}

/// The script is over without its word: says why.
async fn ended_early(connection: &Connection, channel: Channel) -> NotStarted {
    let status = timeout(Duration::from_secs(5), channel.exit).await;
    let words = connection.last_words();
    if let Some(at) = words.rfind("ROLLBOOK-MISSING ") {
        let machine = words[at..].split_whitespace().nth(1).unwrap_or_default();
        return NotStarted::Missing(machine.to_owned());
    }
    let code = status.ok().and_then(Result::ok).and_then(Result::ok).and_then(|status| status.code());
    let how = code.map_or_else(String::new, |code| format!(" (exit code {code})"));
    let mut fault = unreachable(format!("the agent could not be started{how}"));
    fault.causes.extend(Some(words.trim().to_owned()).filter(|words| !words.is_empty()));
    fault.into()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
