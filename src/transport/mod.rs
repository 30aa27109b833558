//! Ways to get a duplex byte pipe to the agent: `ssh2`, `openssh`, `local`; and the agent's way onto the target.
//!
//! A transport knows one thing: to run a command line as the login shell reads it, with both streams and the exit
//! code. Everything else (finding the agent, putting it there, sudo) is the same for all and stands in `bootstrap`.

mod bootstrap;
mod channel;
pub mod known_hosts;
mod local;
mod openssh;
mod patience;
mod shared;
mod ssh2;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
    time::Instant,
};

use crate::{
    base::{Digest, Fault, FaultKind, Secret},
    model::{
        event::Output,
        inventory::{Become, Host, Transport},
    },
};

use channel::{Channel, Ending, LastWords, Leash};
use patience::Patience;

pub use shared::Shared;

/// Settings that hold for every connection of a run.
#[derive(Clone)]
pub struct Settings {
    /// How long connecting, host key check and login may take together. Time that a person takes to answer a question
    /// does not count.
    pub connect_timeout: Duration,
    /// A line that is silent this long, keepalives unanswered, is lost.
    pub silence_timeout: Duration,
    /// Who asks the operator for passwords and passphrases; each question at most once a run.
    pub asker: Arc<dyn Asker>,
    /// An agent program to use instead of the built-in one.
    pub agent_program: Option<PathBuf>,
    /// A program to use as the system's ssh, instead of the `ssh` that PATH finds.
    pub ssh_program: Option<PathBuf>,
    /// What the connections of the run share.
    pub shared: Shared,
}

/// Asks the operator. Implemented by the command line (a prompt without echo, or the environment).
pub trait Asker: Send + Sync {
    /// The answer to `question`, or `None` where nobody can be asked.
    fn ask(&self, question: &str) -> Option<Secret>;
}

/// The question for the password to log in with; the environment answers it as `ROLLBOOK_PASSWORD`.
pub const ASK_PASSWORD: &str = "Password for ssh";

/// The question for sudo's password; the environment answers it as `ROLLBOOK_BECOME_PASSWORD`.
pub const ASK_BECOME: &str = "Password for sudo";

/// How the question for a key's passphrase begins; the environment answers it as `ROLLBOOK_PASSPHRASE`.
pub const ASK_PASSPHRASE: &str = "Passphrase for the key";

/// A host that has proved who it is, and let us in.
///
/// With `openssh` the system's ssh connects, checks and logs in when the first command line is run, so its faults come
/// from there.
pub struct Connection {
    /// `address:port`, or `local`.
    pub address: String,
    /// The host key's fingerprint, `SHA256:…`; none for `local`, and where the system's ssh keeps it to itself.
    pub host_key: Option<String>,
    host: Host,
    settings: Settings,
    link: Link,
    last_words: LastWords,
    /// sudo's password, once it was accepted.
    become_password: Option<Secret>,
}

enum Link {
    Local,
    /// What the last ssh said of itself.
    Openssh(Option<openssh::Log>),
    Ssh2(Box<ssh2::Session>),
}

/// What becomes of a command when its channel is let go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is killed, as far as this machine can: the line to it is cut.
    Killed,
    /// On this machine it sees the end of its input, and ends when it thinks fit: an agent has something to finish.
    SeesTheEnd,
}

/// A pipe to an agent, just past its `HELLO_MAGIC`. Dropped, it lets go of the agent, which ends.
pub struct AgentPipe {
    /// What the agent says. Ends with an error where the line broke.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// What the agent is told. Shutting it down ends the agent.
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// Whether the agent had to be put there.
    pub installed: bool,
    /// The digest that the agent's hello must show.
    pub digest: Digest,
    _leash: Leash,
}

/// Connects to a host, checks that it is who it says, and logs in.
pub async fn connect(host: &Host, settings: &Settings) -> Result<Connection, Fault> {
    let (address, host_key, link) = match host.connection.transport {
        Transport::Local => ("local".to_owned(), None, Link::Local),
        Transport::Openssh => (openssh::address(host), None, Link::Openssh(None)),
        Transport::Ssh2 => {
            let session = ssh2::connect(host, settings).await?;
            (session.address.clone(), Some(session.host_key.clone()), Link::Ssh2(Box::new(session)))
        }
    };
    let (host, settings) = (host.clone(), settings.clone());
    let last_words = LastWords::default();
    Ok(Connection { address, host_key, host, settings, link, last_words, become_password: None })
}

impl Connection {
    /// Starts the agent, as `whom`; puts it there first where it is missing.
    pub async fn agent(&mut self, whom: &Become) -> Result<AgentPipe, Fault> {
        bootstrap::agent(self, whom).await
    }

    /// Runs one command line as the login shell reads it, without an agent (`raw`). At its limit it is let go, and
    /// what it had printed until then is told.
    pub async fn raw(&mut self, line: &str, limit: Duration) -> Result<Output, Fault> {
        let mut patience = self.patience();
        loop {
            let channel = self.run(line, Fate::Killed).await?;
            let output = channel.finish(limit).await?;
            let ending = Ending { code: output.code, signal: output.signal };
            match self.line_fault(Some(ending)) {
                None => return Ok(Output { code: self.exit_code(ending), ..output }),
                Some(LineFault::HungUp(_)) if patience.another_try().await => {}
                Some(LineFault::HungUp(fault) | LineFault::Over(fault)) => return Err(fault),
            }
        }
    }

    /// What the agent wrote on its stderr of late, at most 4 KiB: told when it ends without a word.
    pub fn last_words(&self) -> String {
        self.last_words.text()
    }

    /// Says goodbye, and waits a little until it was heard.
    pub async fn close(self) {
        if let Link::Ssh2(session) = self.link {
            session.close().await;
        }
    }

    fn is_local(&self) -> bool {
        matches!(self.link, Link::Local)
    }

    /// Runs a command line as the login shell reads it.
    async fn run(&mut self, line: &str, fate: Fate) -> Result<Channel, Fault> {
        let channel = match &mut self.link {
            Link::Local => local::run(line, fate)?,
            Link::Openssh(log) => {
                let (channel, own) = openssh::run(&self.host, &self.settings, line).await?;
                *log = own;
                channel
            }
            Link::Ssh2(session) => session.run(line, self.settings.connect_timeout).await?,
        };
        self.last_words = channel.words.clone();
        Ok(channel)
    }

    /// Runs the agent from a file on this machine.
    fn run_file(&mut self, program: &Path) -> Result<Channel, Fault> {
        let channel = local::serve(program)?;
        self.last_words = channel.words.clone();
        Ok(channel)
    }

    /// How long a host that hangs up is tried again.
    fn patience(&self) -> Patience {
        Patience::until(Instant::now() + self.settings.connect_timeout)
    }

    /// A command's own exit code.
    fn exit_code(&self, ending: Ending) -> Option<i32> {
        match &self.link {
            Link::Openssh(log) => openssh::exit_code(ending, log.as_ref()),
            Link::Local | Link::Ssh2(_) => ending.code,
        }
    }

    /// What the end of a command says of the line rather than of the command.
    fn line_fault(&self, ending: Option<Ending>) -> Option<LineFault> {
        match &self.link {
            Link::Openssh(log) => openssh::line_fault(ending?, log.as_ref(), &self.last_words(), &self.host),
            Link::Local | Link::Ssh2(_) => None,
        }
    }
}

/// A fault of the line.
enum LineFault {
    /// The host hung up before any login, as a busy one does: another try may help.
    HungUp(Fault),
    /// No other try would help, or the command had begun.
    Over(Fault),
}

fn unreachable(message: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Unreachable, message)
}

/// Runs what blocks (a question to a person, an ssh agent that wants a touch) in a thread of its own, which the end of
/// the program does not wait for. `None` where it broke down.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (tell, told) = oneshot::channel();
    std::thread::spawn(move || {
        let _nobody_waits_any_more = tell.send(work());
    });
    told.await.ok()
}
