//! Hosts, groups, and how each host is reached.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    base::{Fault, Secret},
    model::{ids::HostName, node::Node},
};

/// All that the inventory says, merged: every host with the variables that hold for it.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// The hosts, in the order of the file.
    pub hosts: Vec<Arc<Host>>,
    /// The groups by name, each with its hosts (its children's included) in the order of the file. `all` holds
    /// every host.
    pub groups: BTreeMap<String, Vec<HostName>>,
}

/// A host with everything that holds for it.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name.
    pub name: HostName,
    /// The groups that it is in, `all` first, outer before inner.
    pub groups: Arc<[String]>,
    /// Its variables: all, groups from the outside in, the host's own. Connection values are not among them.
    pub vars: HostVars,
    /// How it is reached.
    pub connection: Connection,
}

/// Variables by name, as written in the inventory.
pub type InventoryVars = BTreeMap<Arc<str>, Arc<Node>>;

/// A host's variables. What its groups give is shared by all hosts of the same groups.
#[derive(Clone, Debug, Default)]
pub struct HostVars {
    shared: Arc<InventoryVars>,
    own: InventoryVars,
}

impl HostVars {
    /// The groups' variables, and the host's own, which hide them.
    pub fn new(shared: Arc<InventoryVars>, own: InventoryVars) -> Self {
        HostVars { shared, own }
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&Arc<Node>> {
        self.own.get(name).or_else(|| self.shared.get(name))
    }

    /// Every name with its value, once, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Node)> {
        let mut all: Vec<_> = self.shared.iter().filter(|(name, _)| !self.own.contains_key(*name)).collect();
        all.extend(&self.own);
        all.sort_unstable_by(|a, b| a.0.cmp(b.0));
        all.into_iter().map(|(name, node)| (name, &**node))
    }

    /// Every name, once, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<str>> {
        self.iter().map(|(name, _)| name)
    }
}

/// How a host is reached. `None` leaves it to the transport's default (for ssh: ssh_config's, then ssh's own).
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// Address or name to connect to; the host's name otherwise.
    pub address: Option<String>,
    /// TCP port.
    pub port: Option<u16>,
    /// Login name.
    pub user: Option<String>,
    /// Which transport.
    pub transport: Transport,
    /// Private key file.
    pub key_file: Option<String>,
    /// Login password. Better left to the prompt or to `ROLLBOOK_PASSWORD`.
    pub password: Option<Secret>,
    /// Password for sudo. Better left to the prompt or to `ROLLBOOK_BECOME_PASSWORD`.
    pub become_password: Option<Secret>,
    /// Whom to become; overrides the runbook's `become`.
    pub become_user: Option<Become>,
    /// known_hosts files to look in; the user's and the system's otherwise.
    pub known_hosts: Option<Vec<String>>,
    /// Folder on the target for the agent program, where the default ones cannot be used.
    pub agent_dir: Option<String>,
    /// Arguments for the system's ssh (`transport: openssh` only).
    pub ssh_args: Vec<String>,
}

/// A way to get a duplex byte pipe to the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// libssh2.
    #[default]
    Ssh2,
    /// The system's ssh.
    Openssh,
    /// This machine, no network.
    Local,
}

impl Transport {
    /// The word that the user writes.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Ssh2 => "ssh2",
            Transport::Openssh => "openssh",
            Transport::Local => "local",
        }
    }
}

/// Whom the agent runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Become {
    /// The login user.
    #[default]
    No,
    /// root, by sudo.
    Root,
    /// This user, by sudo.
    User(String),
}

/// Whom `become` can name: a word that means itself in every login shell.
pub fn check_user(name: &str) -> Result<(), Fault> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !name.is_empty() && !name.starts_with('-') && name.bytes().all(plain) {
        return Ok(());
    }
    let fault = Fault::input(format!("{name:?} is no user's name that one can become"));
    Err(fault.hint("write letters, digits, `.`, `_` and `-`, or `true` for root"))
}

/// What `agent_dir` can be: an absolute path that means itself in every login shell.
pub fn check_agent_dir(path: &str) -> Result<(), Fault> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if path.starts_with('/') && path.bytes().all(plain) && !path.split('/').any(|part| part == "..") {
        return Ok(());
    }
    let fault = Fault::input(format!("agent_dir {path:?} is no folder that can be used"));
    Err(fault.hint("write an absolute path of letters, digits, `.`, `_`, `-` and `/`"))
}

impl Become {
    /// The user's name. None for the login user, whoever that is.
    pub fn name(&self) -> Option<&str> {
        match self {
            Become::No => None,
            Become::Root => Some("root"),
            Become::User(name) => Some(name),
        }
    }
}
