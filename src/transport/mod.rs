//! Ways to get a duplex byte pipe to the agent: `ssh2`, `openssh`, `local`; and the agent's way onto the target.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    base::{Fault, Secret},
    model::{
        event::Output,
        inventory::{Become, Host},
    },
};

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
pub async fn connect(_host: &Host, _settings: &Settings) -> Result<Connection, Fault> {
    todo!("transport")
}

impl Connection {
    /// Starts the agent, as `whom`; puts it there first where it is missing.
    pub async fn agent(&mut self, _whom: &Become) -> Result<AgentPipe, Fault> {
        todo!("transport")
    }

    /// Runs one command line as the login shell reads it, without an agent (`raw`).
    pub async fn raw(&mut self, _line: &str, _limit: Duration) -> Result<Output, Fault> {
        todo!("transport")
    }

    /// What the agent wrote on its stderr of late: told when it ends without a word.
    pub fn last_words(&self) -> String {
        todo!("transport")
    }

    /// Says goodbye.
    pub async fn close(self) {
        todo!("transport")
    }
}
