//! A private sshd on a loopback port, with keys of its own: for the suites that need a real one.

#![allow(dead_code, unreachable_pub, reason = "each suite uses what it needs of this")]
#![allow(clippy::allow_attributes, reason = "which suite uses what differs, so nothing can be expected")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A running sshd. It ends when this is dropped.
pub struct Sshd {
    child: Child,
    pub folder: tempfile::TempDir,
    pub port: u16,
}

impl Sshd {
    /// Starts one; `settings` are more lines for its configuration.
    pub fn start(settings: &str) -> Sshd {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        make_key(&path("host_key"));
        make_key(&path("id"));
        fs::copy(path("id.pub"), path("authorized_keys")).unwrap();
        let port = free_port();
        let configuration = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {host}\nAuthorizedKeysFile {keys}\nPidFile none\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nMaxStartups 100\n{settings}\n",
            host = path("host_key").display(),
            keys = path("authorized_keys").display(),
        );
        fs::write(path("sshd_config"), configuration).unwrap();
        // Where a root sshd separates its privileges; Debian's package makes it at boot.
        let _not_root = fs::create_dir("/run/sshd");
        let child = Command::new("/usr/sbin/sshd")
            .arg("-D")
            .arg("-f")
            .arg(path("sshd_config"))
            .arg("-E")
            .arg(path("log"))
            .stdin(Stdio::null())
            .spawn()
            .expect("sshd is installed: tests/run does it");
        let mut sshd = Sshd { child, folder, port };
        sshd.wait();
        let key = fs::read_to_string(sshd.path("host_key.pub")).unwrap();
        let key: Vec<&str> = key.split_whitespace().take(2).collect();
        fs::write(sshd.path("known_hosts"), format!("[127.0.0.1]:{port} {}\n", key.join(" "))).unwrap();
        sshd
    }

    /// A file of its folder: `id`, `host_key.pub`, `known_hosts`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A host's line in an inventory.
    pub fn host(&self, name: &str, transport: &str) -> String {
        format!(
            "    {name}: {{transport: {transport}, address: 127.0.0.1, port: {}, user: root, key_file: {}, \
             known_hosts: {}}}\n",
            self.port,
            self.path("id").display(),
            self.path("known_hosts").display()
        )
    }

    fn wait(&mut self) {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", self.port)) {
                let mut banner = String::new();
                if BufReader::new(stream).read_line(&mut banner).is_ok() && banner.starts_with("SSH-") {
                    return;
                }
            }
            let log = fs::read_to_string(self.path("log")).unwrap_or_default();
            assert!(Instant::now() < until && self.child.try_wait().unwrap().is_none(), "sshd does not answer: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _already_gone = self.child.wait();
    }
}

/// Makes a key without a passphrase.
pub fn make_key(path: &Path) {
    let status =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"]).arg(path).status();
    assert!(status.expect("ssh-keygen is installed: tests/run does it").success());
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
