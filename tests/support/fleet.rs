//! A fleet of this process's own, and its hosts. It goes down when the process ends, however it ends.

use std::{
    collections::BTreeMap,
    io::Write,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
};

use serde_json::Value;

use super::Tree;

/// Seconds that any command of the fleet may take; building a base is the longest.
const LIMIT_S: &str = "600";

/// What a host is (tests/fleet/README.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Systemd,
    Light,
    Sysvinit,
    Busybox,
    Hardened,
    Bastion,
    Inner,
    Dnf,
    Zypper,
    Pacman,
}

impl Kind {
    /// As `fleet up --kind` knows it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Systemd => "systemd",
            Kind::Light => "light",
            Kind::Sysvinit => "sysvinit",
            Kind::Busybox => "busybox",
            Kind::Hardened => "hardened",
            Kind::Bastion => "bastion",
            Kind::Inner => "inner",
            Kind::Dnf => "dnf",
            Kind::Zypper => "zypper",
            Kind::Pacman => "pacman",
        }
    }
}

/// Hosts that are up, on one machine, in a network of their own.
pub(crate) struct Fleet {
    id: String,
    hosts: Mutex<BTreeMap<Kind, Hosts>>,
}

/// The hosts of a kind.
#[derive(Default)]
struct Hosts {
    up: usize,
    idle: Vec<usize>,
}

/// A host as nobody has used it before, from this process's fleet.
pub(crate) fn host(kind: Kind) -> Host {
    hosts(kind, 1).remove(0)
}

/// The same, so many at once.
pub(crate) fn hosts(kind: Kind, count: usize) -> Vec<Host> {
    static FLEET: OnceLock<Fleet> = OnceLock::new();
    FLEET.get_or_init(|| Fleet::named(&format!("t{}", std::process::id()))).hosts(kind, count)
}

impl Fleet {
    /// A fleet of another name.
    pub(crate) fn named(id: &str) -> Fleet {
        Fleet { id: id.to_owned(), hosts: Mutex::default() }
    }

    /// Fresh hosts: those that were given back, wiped, and more. They are given back when they are dropped.
    fn hosts(&'static self, kind: Kind, count: usize) -> Vec<Host> {
        // Held while hosts boot: what `up` makes depends on how many are up.
        let mut all = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let hosts = all.entry(kind).or_default();
        let mut numbers = hosts.idle.split_off(hosts.idle.len().saturating_sub(count));
        for number in &numbers {
            self.run(&["wipe", &format!("{}{number}", kind.name())]);
        }
        let more = count - numbers.len();
        if more > 0 {
            self.up(kind, hosts.up + more);
            numbers.extend(hosts.up + 1..=hosts.up + more);
            hosts.up += more;
        }
        let inventory = self.inventory();
        numbers.into_iter().map(|number| Host::of(self, kind, number, &inventory)).collect()
    }

    /// Its name.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Where this machine keeps what it knows of the fleet while it is up.
    pub(crate) fn state(&self) -> PathBuf {
        let home = std::env::var_os("FLEET_HOME").map(PathBuf::from);
        let cache = || std::env::var_os("XDG_CACHE_HOME").map_or("/var/cache".into(), PathBuf::from);
        home.unwrap_or_else(|| cache().join("rollbook-fleet")).join("run").join(&self.id)
    }

    /// Has so many hosts of a kind up.
    pub(crate) fn up(&self, kind: Kind, count: usize) {
        let owner = std::process::id().to_string();
        self.run(&["up", &count.to_string(), "--kind", kind.name(), "--owner", &owner]);
    }

    /// A command of the fleet.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=5", LIMIT_S, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fleet/fleet")])
            .args(words)
            .env("FLEET_ID", &self.id)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command of the fleet that must succeed; what it printed.
    #[track_caller]
    pub(crate) fn run(&self, words: &[&str]) -> String {
        succeeded(&self.command(words).output().unwrap(), &words.join(" "))
    }

    /// What is known of the fleet: keys, addresses, where the hosts' disks can be seen.
    pub(crate) fn inventory(&self) -> Value {
        serde_json::from_str(&self.run(&["inventory"])).unwrap()
    }
}

/// A host of the fleet, for one test.
pub(crate) struct Host {
    fleet: &'static Fleet,
    number: usize,
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) address: String,
    /// The fleet's private key, which every user of the host takes.
    pub(crate) key: PathBuf,
    pub(crate) known_hosts: PathBuf,
    /// A configuration for the system's ssh that knows the fleet's hosts by their names.
    pub(crate) ssh_config: PathBuf,
    /// Where the host's disk is seen from this machine. What the host mounts over it (`/run`) is not.
    pub(crate) root: PathBuf,
}

impl Host {
    fn of(fleet: &'static Fleet, kind: Kind, number: usize, inventory: &Value) -> Host {
        let name = format!("{}{number}", kind.name());
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{inventory}")).to_owned();
        let found = inventory["hosts"].as_array().unwrap().iter().find(|host| host["name"] == name.as_str()).unwrap();
        Host {
            fleet,
            number,
            kind,
            name,
            address: text(&found["address"]),
            key: text(&inventory["key"]).into(),
            known_hosts: text(&inventory["known_hosts"]).into(),
            ssh_config: text(&inventory["ssh_config"]).into(),
            root: text(&found["root"]).into(),
        }
    }

    /// A command of this machine, in the network that the host is in.
    pub(crate) fn nearby(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.fleet.command(&["exec"]);
        command.arg(program);
        command
    }

    /// Runs a shell script as root on the host, past its network and sshd; what it printed.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> String {
        succeeded(&self.console(script).output().unwrap(), &format!("{script} on {}", self.name))
    }

    /// The same as a command yet to be started.
    pub(crate) fn console(&self, script: &str) -> Command {
        self.fleet.command(&["console", &self.name, "/bin/sh", "-ec", script])
    }

    /// Runs a shell script over ssh as a user; how it ended.
    pub(crate) fn ssh(&self, user: &str, script: &str) -> Output {
        self.ssh_command(user, script, 10).output().unwrap()
    }

    fn ssh_command(&self, user: &str, script: &str, timeout_s: u32) -> Command {
        let destination = format!("{user}@{}", self.name);
        let mut ssh = self.nearby("ssh");
        ssh.arg("-F").arg(&self.ssh_config);
        ssh.args(["-o", &format!("ConnectTimeout={timeout_s}"), &destination, script]);
        ssh
    }

    /// Whether it answers over ssh.
    pub(crate) fn answers(&self) -> bool {
        self.ssh("root", "true").status.success()
    }

    /// Whether nothing at all comes from it for a while: neither a refusal nor that there is no way.
    pub(crate) fn is_silent(&self) -> bool {
        let said = self.ssh_command("root", "true", 3).output().unwrap();
        !said.status.success() && String::from_utf8_lossy(&said.stderr).contains("timed out")
    }

    /// When this boot of it began, in the kernel's ticks since this machine's own boot.
    pub(crate) fn boot(&self) -> String {
        self.fleet.run(&["boot-time", &self.name])
    }

    /// All that stands below a folder of its disk, looked at from outside.
    pub(crate) fn tree(&self, folder: &str) -> Tree {
        Tree::read(&self.outside(folder))
    }

    /// Where a path of its disk is seen from this machine.
    pub(crate) fn outside(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A line for each thing below a folder, by the host's own tools over ssh: type, mode, owner, links, time of files,
    /// target, digest; and all extended attributes and ACLs where it has the tools to show them.
    #[track_caller]
    pub(crate) fn digests(&self, folder: &str) -> String {
        let script = format!(
            "cd {folder} && find . | sort | while IFS= read -r p; do stat -c '%n %F %a %u:%g' \"$p\"; \
             if [ -L \"$p\" ]; then readlink \"$p\"; elif [ -f \"$p\" ]; then stat -c '%y %h' \"$p\"; sha256sum <\"$p\"; fi; \
             done; if command -v getfattr >/dev/null; then find . | sort | xargs getfattr -h -d -m - ; \
             find . ! -type l | sort | xargs getfacl -n; fi"
        );
        let (user, shell, first) = match self.kind {
            Kind::Hardened => ("ops", "sudo -S -p '' sh -s", "ops\n"),
            _ => ("root", "sh -s", ""),
        };
        let mut ssh = self.ssh_command(user, shell, 10);
        let mut ssh = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        ssh.stdin.take().unwrap().write_all(format!("{first}{script}\n").as_bytes()).unwrap();
        succeeded(&ssh.wait_with_output().unwrap(), &format!("the digests of {folder} on {}", self.name))
    }

    /// Pulls its cable out: what is sent to it is lost in silence.
    pub(crate) fn cut(&self) {
        self.fleet.run(&["cut", &self.name]);
    }

    /// Puts its cable back, and waits until it answers.
    pub(crate) fn heal(&self) {
        self.fleet.run(&["heal", &self.name]);
    }

    /// Stops all its processes where they are.
    pub(crate) fn freeze(&self) {
        self.fleet.run(&["freeze", &self.name]);
    }

    /// Lets them go on, and waits until it answers.
    pub(crate) fn thaw(&self) {
        self.fleet.run(&["thaw", &self.name]);
    }

    /// Has it up, which it is.
    pub(crate) fn up_again(&self) {
        self.fleet.up(self.kind, self.number);
    }

    /// Gives it a fresh disk.
    pub(crate) fn wipe(&self) {
        self.fleet.run(&["wipe", &self.name]);
    }

    /// Pulls its power plug and boots it again, with the disk that it had.
    pub(crate) fn reset(&self) {
        self.fleet.run(&["reset", &self.name]);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let mut all = self.fleet.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(self.kind).or_default().idle.push(self.number);
    }
}

/// What a command printed, which must have succeeded.
#[track_caller]
fn succeeded(output: &Output, what: &str) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{what}: {}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    text
}
