//! Ways to get a duplex byte pipe to the agent: `ssh2`, `openssh`, `local`; and the agent's way onto the target.
//!
//! A transport knows one thing: to run a command line as the login shell reads it, with both streams and the exit
//! code. Everything else (finding the agent, putting it there, sudo) is the same for all and stands in `bootstrap`.

mod bootstrap;
mod channel;
pub mod known_hosts;
mod local;
mod openssh;
mod pacing;
mod ssh2;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    base::{Fault, FaultKind, Secret},
    model::{
        event::Output,
        inventory::{Become, Host, Transport},
    },
};

use channel::{Channel, LastWords};

pub use pacing::Pacing;

/// Settings that hold for every connection of a run.
#[derive(Clone)]
pub struct Settings {
    /// How long connecting, host key check and login may take together.
    pub connect_timeout: Duration,
    /// A line that is silent this long, keepalives unanswered, is lost.
    pub silence_timeout: Duration,
    /// Who asks the operator for passwords and passphrases; each question at most once a run.
    pub asker: Arc<dyn Asker>,
    /// An agent program to use instead of the built-in one.
    pub agent_program: Option<PathBuf>,
    /// Holds back logins that a busy server would drop.
    pub pacing: Pacing,
}

/// Asks the operator. Implemented by the command line (a prompt without echo, or the environment).
pub trait Asker: Send + Sync {
    /// The answer to `question`, or `None` where nobody can be asked.
    fn ask(&self, question: &str) -> Option<Secret>;
}

/// A host that has proved who it is, and let us in.
pub struct Connection {
    /// `address:port`, or `local`.
    pub address: String,
    /// The host key's fingerprint, `SHA256:…`; none for `local`, and where the system's ssh keeps it to itself.
    pub host_key: Option<String>,
    host: Host,
    settings: Settings,
    link: Link,
    last_words: LastWords,
}

enum Link {
    Local,
    Openssh,
    Ssh2(Box<ssh2::Session>),
}

/// A pipe to an agent, just past its `HELLO_MAGIC`.
pub struct AgentPipe {
    /// What the agent says.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// What the agent is told. Shutting it down ends the agent.
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// Whether the agent had to be put there.
    pub installed: bool,
}

/// Connects to a host, checks that it is who it says, and logs in.
pub async fn connect(host: &Host, settings: &Settings) -> Result<Connection, Fault> {
    let (address, host_key, link) = match host.connection.transport {
        Transport::Local => ("local".to_owned(), None, Link::Local),
        Transport::Openssh => (openssh::address(host), None, Link::Openssh),
        Transport::Ssh2 => {
            let session = ssh2::connect(host, settings).await?;
            (session.address.clone(), Some(session.host_key.clone()), Link::Ssh2(Box::new(session)))
        }
    };
    let (host, settings) = (host.clone(), settings.clone());
    Ok(Connection { address, host_key, host, settings, link, last_words: LastWords::default() })
}

impl Connection {
    /// Starts the agent, as `whom`; puts it there first where it is missing.
    pub async fn agent(&mut self, whom: &Become) -> Result<AgentPipe, Fault> {
        bootstrap::agent(self, whom).await
    }

    /// Runs one command line as the login shell reads it, without an agent (`raw`).
    pub async fn raw(&mut self, line: &str, limit: Duration) -> Result<Output, Fault> {
        let channel = self.run(line).await?;
        channel.finish(limit).await
    }

    /// What the agent wrote on its stderr of late: told when it ends without a word.
    pub fn last_words(&self) -> String {
        self.last_words.text()
    }

    /// Says goodbye.
    pub async fn close(self) {}

    /// Runs a command line as the login shell reads it.
    async fn run(&mut self, line: &str) -> Result<Channel, Fault> {
        let (channel, last_words) = match &mut self.link {
            Link::Local => local::run(line)?,
            Link::Openssh => openssh::run(&self.host, &self.settings, line)?,
            Link::Ssh2(session) => session.run(line).await?,
        };
        self.last_words = last_words;
        Ok(channel)
    }
}

fn unreachable(message: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Unreachable, message)
}
