//! How a host is reached: the words for it, ours and Ansible's.

use crate::{
    base::{Fault, Secret, fault::nearest},
    model::{
        decode,
        inventory::{self, Become, Connection, Transport},
        node::{Node, Value},
        runbook::Placed,
    },
};

/// Our words. In an inventory they are no variables.
pub(super) const WORDS: [&str; 12] = [
    "address",
    "port",
    "user",
    "transport",
    "key_file",
    "password",
    "become",
    "become_password",
    "known_hosts",
    "agent_dir",
    "ssh_args",
    "become_user",
];

const TRANSPORTS: [&str; 3] = ["ssh2", "openssh", "local"];

/// One value of how a host is reached, checked.
#[derive(Clone, Debug)]
pub(super) enum Setting {
    Address(String),
    Port(u16),
    User(String),
    /// `None`: the default one, whatever an outer group says.
    Transport(Option<Transport>),
    KeyFile(String),
    Password(Secret),
    Become(Become),
    /// Ansible's switch, which leaves open whom to become.
    BecomeSwitch(bool),
    BecomeUser(String),
    BecomePassword(Secret),
    KnownHosts(Vec<String>),
    AgentDir(String),
    /// Ansible has three kinds of arguments, which are added up.
    SshArgs(usize, Placed<Vec<String>>),
}

/// The settings of a host in the making.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    connection: Connection,
    transport: Option<Transport>,
    become_user: Option<Become>,
    become_switch: Option<bool>,
    becomes: Option<String>,
    ssh_args: [Option<Placed<Vec<String>>>; 3],
}

impl Setting {
    /// Reads the value under `key`; `None` where `key` is a variable.
    pub(super) fn read(key: &str, node: &Node) -> Option<Result<Setting, Fault>> {
        if node.value == Value::Null && is_setting(key) {
            return Some(Err(Fault::input(format!("`{key}` has no value")).at(&node.place)));
        }
        Some(match key {
            "address" | "ansible_host" | "ansible_ssh_host" => word(node).map(Setting::Address),
            "port" | "ansible_port" | "ansible_ssh_port" => port(node).map(Setting::Port),
            "user" | "ansible_user" | "ansible_ssh_user" => word(node).map(Setting::User),
            "transport" => transport(node).map(|transport| Setting::Transport(Some(transport))),
            "ansible_connection" => ansible_connection(node).map(Setting::Transport),
            "key_file" | "ansible_ssh_private_key_file" | "ansible_private_key_file" => {
                word(node).map(Setting::KeyFile)
            }
            "password" | "ansible_password" | "ansible_ssh_pass" | "ansible_ssh_password" => {
                secret(node).map(Setting::Password)
            }
            "become" => becomes(node).map(Setting::Become),
            "ansible_become" => switch(node).map(Setting::BecomeSwitch),
            "become_user" | "ansible_become_user" => user(node).map(Setting::BecomeUser),
            "ansible_become_method" => return only_sudo(node).err().map(Err),
            "become_password" | "ansible_become_password" | "ansible_become_pass" => {
                secret(node).map(Setting::BecomePassword)
            }
            "known_hosts" => words(node).map(Setting::KnownHosts),
            "agent_dir" => folder(node).map(Setting::AgentDir),
            "ssh_args" | "ansible_ssh_args" => arguments(node).map(|args| Setting::SshArgs(0, args)),
            "ansible_ssh_common_args" => arguments(node).map(|args| Setting::SshArgs(1, args)),
            "ansible_ssh_extra_args" => arguments(node).map(|args| Setting::SshArgs(2, args)),
            _ => return None,
        })
    }
}

fn is_setting(key: &str) -> bool {
    WORDS.contains(&key) || matches!(key, "ansible_host" | "ansible_port" | "ansible_user" | "ansible_connection")
}

impl Settings {
    /// Lays one more setting over those that are there.
    pub(super) fn lay(&mut self, setting: &Setting) {
        let connection = &mut self.connection;
        match setting.clone() {
            Setting::Address(address) => connection.address = Some(address),
            Setting::Port(port) => connection.port = Some(port),
            Setting::User(user) => connection.user = Some(user),
            Setting::Transport(transport) => self.transport = transport,
            Setting::KeyFile(path) => connection.key_file = Some(path),
            Setting::Password(password) => connection.password = Some(password),
            Setting::Become(whom) => {
                self.become_user = Some(whom);
                (self.become_switch, self.becomes) = (None, None);
            }
            Setting::BecomeSwitch(on) => {
                self.become_switch = Some(on);
                self.become_user = None;
            }
            Setting::BecomeUser(user) => {
                self.becomes = Some(user);
                self.become_user = None;
            }
            Setting::BecomePassword(password) => connection.become_password = Some(password),
            Setting::KnownHosts(files) => connection.known_hosts = Some(files),
            Setting::AgentDir(folder) => connection.agent_dir = Some(folder),
            Setting::SshArgs(kind, args) => self.ssh_args[kind] = Some(args),
        }
    }

    /// What they come to.
    pub(super) fn connection(&self) -> Result<Connection, Fault> {
        let given = self.ssh_args.iter().flatten().find(|args| !args.value.is_empty());
        if let (Some(Transport::Ssh2), Some(args)) = (self.transport, given) {
            let fault = Fault::input("`ssh_args` are for the system's ssh, and this host has `transport: ssh2`");
            return Err(fault.at(&args.place).hint("remove one of the two, or write `transport: openssh`"));
        }
        let implied = if given.is_some() { Transport::Openssh } else { Transport::default() };
        let switched = match (self.become_switch, self.becomes.as_deref()) {
            (Some(false), _) => Some(Become::No),
            (Some(true), None) | (_, Some("root")) => Some(Become::Root),
            (_, Some(user)) => Some(Become::User(user.to_owned())),
            (None, None) => None,
        };
        Ok(Connection {
            transport: self.transport.unwrap_or(implied),
            become_user: self.become_user.clone().or(switched),
            ssh_args: self.ssh_args.iter().flatten().flat_map(|args| args.value.iter().cloned()).collect(),
            ..self.connection.clone()
        })
    }
}

/// A text that is a whole value: not empty, no template, nothing that ssh could take for an option.
fn word(node: &Node) -> Result<String, Fault> {
    let text = plain(node)?;
    if text.is_empty() || text.starts_with('-') || text.contains(char::is_control) {
        let fault =
            Fault::input("a value that is empty, begins with a hyphen or has control characters is refused here");
        return Err(fault.at(&node.place));
    }
    Ok(text)
}

fn plain(node: &Node) -> Result<String, Fault> {
    let text = decode::text(node)?.value;
    if text.contains("{{") || text.contains("{%") {
        let fault = Fault::input("how a host is reached is read before templates are rendered").at(&node.place);
        return Err(fault.hint("write the value itself"));
    }
    Ok(text)
}

fn secret(node: &Node) -> Result<Secret, Fault> {
    plain(node).map(Secret::new)
}

fn words(node: &Node) -> Result<Vec<String>, Fault> {
    match &node.value {
        Value::List(items) => items.iter().map(word).collect(),
        _ => word(node).map(|word| vec![word]),
    }
}

fn port(node: &Node) -> Result<u16, Fault> {
    let number = match &node.value {
        Value::Int(number) => u16::try_from(*number).ok(),
        Value::Text { text, .. } => text.parse().ok(),
        _ => None,
    };
    let wrong = || Fault::input(format!("a port is a number from 1 to 65535, and this is {}", node.what()));
    number.filter(|port| *port > 0).ok_or_else(|| wrong().at(&node.place))
}

fn transport(node: &Node) -> Result<Transport, Fault> {
    let text = plain(node)?;
    match &*text {
        "ssh2" => Ok(Transport::Ssh2),
        "openssh" => Ok(Transport::Openssh),
        "local" => Ok(Transport::Local),
        _ => {
            let fault = Fault::input(format!("there is no transport {text:.40?}")).at(&node.place);
            Err(match nearest(&text, TRANSPORTS) {
                Some(near) => fault.hint(format!("did you mean `{near}`?")),
                None => fault.hint(format!("the transports are {}", TRANSPORTS.join(", "))),
            })
        }
    }
}

fn ansible_connection(node: &Node) -> Result<Option<Transport>, Fault> {
    let text = plain(node)?;
    match text.strip_prefix("ansible.builtin.").unwrap_or(&text) {
        "local" => Ok(Some(Transport::Local)),
        "ssh" | "smart" | "paramiko" | "paramiko_ssh" | "libssh" => Ok(None),
        _ => {
            let fault = Fault::input(format!("the connection {text:.40?} is not supported")).at(&node.place);
            Err(fault.hint("hosts are reached by ssh, or locally: `ssh` or `local`"))
        }
    }
}

fn becomes(node: &Node) -> Result<Become, Fault> {
    match &node.value {
        Value::Bool(true) => Ok(Become::Root),
        Value::Bool(false) => Ok(Become::No),
        Value::Text { text, plain: true } if truth(text).is_some() => {
            Err(Fault::input(format!("{text} is not a boolean here")).at(&node.place).hint("write true or false"))
        }
        _ => user(node).map(|user| if user == "root" { Become::Root } else { Become::User(user) }),
    }
}

fn user(node: &Node) -> Result<String, Fault> {
    let name = word(node)?;
    inventory::check_user(&name).map(|()| name).map_err(|fault| fault.at(&node.place))
}

fn folder(node: &Node) -> Result<String, Fault> {
    let path = word(node)?;
    inventory::check_agent_dir(&path).map(|()| path).map_err(|fault| fault.at(&node.place))
}

/// Ansible's own booleans, as its inventories have them.
fn switch(node: &Node) -> Result<bool, Fault> {
    let found = match &node.value {
        Value::Bool(on) => Some(*on),
        Value::Int(number @ (0 | 1)) => Some(*number == 1),
        Value::Text { text, .. } => truth(text),
        _ => None,
    };
    found.ok_or_else(|| Fault::input(format!("expected yes or no, and this is {}", node.what())).at(&node.place))
}

fn truth(text: &str) -> Option<bool> {
    match &*text.to_ascii_lowercase() {
        "yes" | "true" | "on" | "1" => Some(true),
        "no" | "false" | "off" | "0" => Some(false),
        _ => None,
    }
}

fn only_sudo(node: &Node) -> Result<(), Fault> {
    let method = plain(node)?;
    if method.ends_with("sudo") {
        return Ok(());
    }
    Err(Fault::input(format!("only sudo is supported to become someone, not {method:.40}")).at(&node.place))
}

/// Arguments as a list, or as one text that is split as a shell splits it.
fn arguments(node: &Node) -> Result<Placed<Vec<String>>, Fault> {
    let value = match &node.value {
        Value::List(items) => items.iter().map(plain).collect::<Result<Vec<_>, _>>()?,
        Value::Null => Vec::new(),
        _ => shlex::split(&plain(node)?)
            .ok_or_else(|| Fault::input("these arguments cannot be split: a quote is not closed").at(&node.place))?,
    };
    let unsafe_option = |argument: &&String| {
        let argument = argument.to_ascii_lowercase().replace(['=', ' '], "");
        argument.contains("stricthostkeycheckingno") || argument.contains("stricthostkeycheckingaccept-new")
    };
    // Given as two words: `-o StrictHostKeyChecking no`.
    if let Some(argument) = value.iter().find(unsafe_option) {
        let fault = Fault::input(format!("{argument}: host keys are always checked")).at(&node.place);
        return Err(fault.hint("remove this argument, and put the hosts' keys into known_hosts"));
    }
    Ok(Placed { value, place: node.place.clone() })
}
