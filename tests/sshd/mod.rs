//! A private sshd on a loopback port: its own host keys, its own client key, a home of its own. Nothing of this
//! machine's ssh is read or written. It runs as whoever runs the test, root or not, and ends with the fixture.

#![allow(dead_code, unreachable_pub, reason = "each suite uses what it needs of this")]
#![allow(clippy::allow_attributes, reason = "which suite uses what differs, so nothing can be expected")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rollbook::model::inventory::{self, Host, Transport};
use rustix::process::{Pid, Signal, kill_process_group};

/// How long it may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(20);

const PASSWD: &str = "/etc/passwd";

/// A running sshd.
pub struct Sshd {
    folder: tempfile::TempDir,
    child: Child,
    /// Where it listens.
    pub port: u16,
}

impl Sshd {
    /// One with an Ed25519 host key; `settings` are more lines for its configuration. They go before its own, and the
    /// first of a kind counts.
    pub fn start(settings: &str) -> Self {
        Sshd::with(&["ed25519"], settings)
    }

    /// The same, with host keys of these types.
    pub fn with(keys: &[&str], settings: &str) -> Self {
        Sshd::prepared(keys, |_| settings.to_owned())
    }

    /// The same; `prepare` gets the folder once its keys are made, and gives the settings.
    pub fn prepared(keys: &[&str], prepare: impl FnOnce(&Path) -> String) -> Self {
        let folder = tempfile::Builder::new().prefix("sshd-").tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("home")).unwrap();
        keys.iter().for_each(|kind| generate(&at(&format!("host_{kind}")), kind, ""));
        generate(&at("id_ed25519"), "ed25519", "");
        fs::copy(at("id_ed25519.pub"), at("authorized_keys")).unwrap();
        let mut text = prepare(folder.path()) + "\n";
        keys.iter().for_each(|kind| text.push_str(&format!("HostKey {}\n", at(&format!("host_{kind}")).display())));
        text.push_str(&format!(
            "ListenAddress 127.0.0.1\nPidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n\
             AuthorizedKeysFile {0}/authorized_keys\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             SetEnv HOME={0}/home\nPrintMotd no\n",
            folder.path().display()
        ));
        // Of this one the last counts.
        if !text.contains("MaxStartups") {
            text.push_str("MaxStartups 200\n");
        }
        // Hosts that are refused, as tests want it, would have this address banned.
        if version() >= (9, 8) {
            text.push_str("PerSourcePenalties no\n");
        }
        fs::write(at("sshd_config"), text).unwrap();
        let port = free_port();
        let mut sshd = Sshd { child: spawn(folder.path(), port), folder, port };
        sshd.wait_until_it_listens();
        fs::write(sshd.known_hosts(), format!("[127.0.0.1]:{} {}\n", sshd.port, sshd.host_key(keys[0]))).unwrap();
        sshd
    }

    /// One on which this program is the login shell of whoever runs the test, as its `passwd` in a mount namespace of its
    /// own says. Needs root.
    pub fn with_login_shell(shell: &Path) -> Self {
        let user = own_name() + ":";
        Sshd::prepared(&["ed25519"], |folder| {
            let lines = fs::read_to_string(PASSWD).unwrap();
            let changed = lines.lines().map(|line| match line.strip_prefix(&*user) {
                Some(_) => format!("{}:{}\n", line.rsplit_once(':').unwrap().0, shell.display()),
                None => format!("{line}\n"),
            });
            fs::write(folder.join("passwd"), changed.collect::<String>()).unwrap();
            String::new()
        })
    }

    fn wait_until_it_listens(&mut self) {
        let until = Instant::now() + START_TIMEOUT;
        // Another that took the port meanwhile may greet, too.
        while !self.log().contains("Server listening on") || !greets(SocketAddr::from(([127, 0, 0, 1], self.port))) {
            assert!(Instant::now() < until, "sshd does not listen: {}", self.log());
            if self.child.try_wait().unwrap().is_some() && self.log().contains("Address already in use") {
                self.port = free_port();
                self.child = spawn(self.folder.path(), self.port);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The private key that lets in.
    pub fn key(&self) -> PathBuf {
        self.path("id_ed25519")
    }

    /// The home of whoever logs in.
    pub fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// A host key: type and base64.
    pub fn host_key(&self, kind: &str) -> String {
        let text = fs::read_to_string(self.path(&format!("host_{kind}.pub"))).unwrap();
        text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }

    /// A known_hosts file that trusts the first of its keys.
    pub fn known_hosts(&self) -> PathBuf {
        self.path("known_hosts")
    }

    /// Its line in an inventory.
    pub fn host(&self, name: &str, transport: &str) -> String {
        format!(
            "    {name}: {{transport: {transport}, address: 127.0.0.1, port: {}, user: {}, key_file: {}, \
             known_hosts: {}}}\n",
            self.port,
            own_name(),
            self.key().display(),
            self.known_hosts().display()
        )
    }

    /// It as a host of an inventory that was read.
    pub fn as_host(&self, transport: Transport) -> Host {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        Host {
            name: "web1".into(),
            groups: [].into(),
            vars: Default::default(),
            connection: inventory::Connection {
                address: Some("127.0.0.1".to_owned()),
                port: Some(self.port),
                user: Some(own_name()),
                transport,
                key_file: Some(text(self.key())),
                known_hosts: Some(vec![text(self.known_hosts())]),
                // Nothing of this machine's ssh_config may matter.
                ssh_args: vec!["-F/dev/null".to_owned()],
                ..Default::default()
            },
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // Its sessions are in its process group.
        if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
            let _already_gone = kill_process_group(group, Signal::KILL);
        }
        let _reaped = self.child.wait();
    }
}

/// The login name of whoever runs the test.
pub fn own_name() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The version of the OpenSSH on the path: major, minor.
pub fn version() -> (u32, u32) {
    let output = Command::new("ssh").arg("-V").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let digits = text.strip_prefix("OpenSSH_").unwrap().split(|letter: char| !letter.is_ascii_digit());
    let mut numbers = digits.map(|digits| digits.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// Makes a key pair.
pub fn generate(file: &Path, kind: &str, passphrase: &str) {
    let bits: &[&str] = if kind == "rsa" { &["-b", "2048"] } else { &[] };
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", kind, "-N", passphrase, "-C", "test", "-f"]).arg(file).args(bits).stdin(Stdio::null());
    assert!(command.status().unwrap().success(), "ssh-keygen failed");
}

/// The first `sshd` on the path, so that another OpenSSH can be tried, or the system's. It wants to be called by its whole
/// path.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.map(|folder| folder.join("sshd")).find(|program| program.is_file());
    found.expect("sshd is installed (openssh-server)")
}

fn spawn(folder: &Path, port: u16) -> Child {
    if rustix::process::geteuid().is_root() {
        // Where sshd locks itself in before the login; the system's package would have made it.
        fs::create_dir_all("/run/sshd").unwrap();
        fs::set_permissions("/run/sshd", fs::Permissions::from_mode(0o755)).unwrap();
    }
    let log = fs::File::create(folder.join("log")).unwrap();
    let own_passwd = folder.join("passwd");
    let mut command = match own_passwd.exists() {
        true => {
            let mut command = Command::new("unshare");
            let bind = format!("mount --bind \"$0\" {PASSWD} && exec \"$@\"");
            command.args(["--mount", "--propagation", "private", "sh", "-c", &bind]).arg(own_passwd).arg(program());
            command
        }
        false => Command::new(program()),
    };
    command
        .args(["-D", "-e", "-p", &port.to_string(), "-f"])
        .arg(folder.join("sshd_config"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .spawn()
        .expect("sshd can be run")
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn greets(address: SocketAddr) -> bool {
    let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).is_ok() && line.starts_with("SSH-2.0-")
}
