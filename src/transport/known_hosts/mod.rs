//! Whether a host's key is the one that is known, by the rules of the system's ssh (sshd(8), SSH_KNOWN_HOSTS FILE
//! FORMAT): plain names, hashed ones, `[host]:port`, wildcards, negation, `@revoked`, `@cert-authority`.
//!
//! Files are read once a run, and names without wildcards are found by a map: a fleet costs one reading.

mod certificate;
mod host_key;
mod lines;
mod refusal;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use crate::base::Place;

pub use host_key::HostKey;
pub use refusal::{Shown, refusal};
pub(in crate::transport) use refusal::{forgetting, trusting};

use certificate::Certificate;
use lines::{Index, Line, Marker};

/// The port that ssh listens on, and for which names stand without brackets.
pub(in crate::transport) const SSH_PORT: u16 = 22;

/// What the known_hosts files say of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the host's key.
    Trusted,
    /// Nothing is known of the host. Where an authority that is known has signed the key, and yet does not vouch for
    /// it, this says why.
    Unknown(Option<&'static str>),
    /// Another key is known, and stands here.
    Changed(Place),
    /// The key, or the authority that signed it, is marked as revoked, here.
    Revoked(Place),
}

/// The files that the system's ssh looks in.
pub fn default_files() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let own = ["known_hosts", "known_hosts2"].map(|name| home.join(".ssh").join(name));
    let system = ["ssh_known_hosts", "ssh_known_hosts2"].map(|name| Path::new("/etc/ssh").join(name));
    own.into_iter().chain(system).collect()
}

/// The known_hosts files that were read. Clones share them.
#[derive(Clone, Default)]
pub struct KnownHosts(Arc<Mutex<HashMap<PathBuf, Arc<Index>>>>);

impl KnownHosts {
    /// What `files` say of `host` (as the user names it) at `port`. A file that is not there says nothing.
    pub fn about(&self, files: &[PathBuf], host: &str, port: u16) -> Known {
        let host = host.to_lowercase();
        let indexes: Vec<Arc<Index>> = files.iter().map(|file| self.index(file)).collect();
        let find = |name: &str| indexes.iter().flat_map(|index| index.lines_about(name)).collect();
        // For another port, a line without one will do too, if its key is right.
        let portless = if port == SSH_PORT { Vec::new() } else { find(&host) };
        Known { own: find(&lookup_name(&host, port)), portless, host }
    }

    fn index(&self, file: &Path) -> Arc<Index> {
        let mut read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = read.entry(file.to_owned()).or_insert_with(|| Arc::new(Index::read(file)));
        Arc::clone(index)
    }
}

fn lookup_name(host: &str, port: u16) -> String {
    if port == SSH_PORT { host.to_owned() } else { format!("[{host}]:{port}") }
}

/// What is known of a host.
pub struct Known {
    host: String,
    own: Vec<Line>,
    portless: Vec<Line>,
}

impl Known {
    /// Judges a key, at a moment in seconds since 1970.
    pub fn judge(&self, key: &HostKey, now_s: u64) -> Verdict {
        let vouched = key.certificate.as_ref().map(|certificate| self.judge_certificate(certificate, key, now_s));
        match vouched {
            None => self.judge_plain(&key.plain),
            Some(Vouched::Yes) => Verdict::Trusted,
            Some(Vouched::Revoked(place)) => Verdict::Revoked(place),
            // Without its certificate, it is a key as any other.
            Some(Vouched::No(why)) => match self.judge_plain(&key.plain) {
                Verdict::Unknown(_) => Verdict::Unknown(why),
                other => other,
            },
        }
    }

    fn judge_certificate(&self, certificate: &Certificate, key: &HostKey, now_s: u64) -> Vouched {
        for lines in [&self.own, &self.portless] {
            let with = |marker| lines.iter().filter(move |line| line.marker == marker);
            let revoked = |line: &&Line| line.key == key.plain || line.key == certificate.authority;
            if let Some(line) = with(Marker::Revoked).find(revoked) {
                return Vouched::Revoked(line.place.clone());
            }
            if with(Marker::Authority).any(|line| line.key == certificate.authority) {
                return match certificate.vouches_for(&self.host, now_s) {
                    Ok(()) => Vouched::Yes,
                    Err(why) => Vouched::No(Some(why)),
                };
            }
        }
        Vouched::No(None)
    }

    fn judge_plain(&self, key: &[u8]) -> Verdict {
        match judge(&self.own, key) {
            Verdict::Unknown(_) => match judge(&self.portless, key) {
                Verdict::Changed(_) => Verdict::Unknown(None),
                other => other,
            },
            verdict => verdict,
        }
    }

    /// The algorithms of the keys that are known: a host that is asked for one of them can be recognised.
    pub fn algorithms(&self) -> Vec<&str> {
        let plain = self.own.iter().filter(|line| line.marker == Marker::None);
        plain.map(|line| line.algorithm.as_str()).collect()
    }

    /// Whether a certificate can tell more than a plain key: an authority is known, or something is revoked.
    pub fn is_about_certificates(&self) -> bool {
        self.own.iter().chain(&self.portless).any(|line| line.marker != Marker::None)
    }
}

/// What the authorities say.
enum Vouched {
    Yes,
    /// None that is known does; why, if one has signed.
    No(Option<&'static str>),
    Revoked(Place),
}

/// Revocation goes before everything, wherever it stands; then a line with the key; then any other line.
fn judge(lines: &[Line], key: &[u8]) -> Verdict {
    let same = |line: &&Line| line.key == key;
    if let Some(line) = lines.iter().filter(|line| line.marker == Marker::Revoked).find(same) {
        return Verdict::Revoked(line.place.clone());
    }
    let plain = || lines.iter().filter(|line| line.marker == Marker::None);
    if plain().any(|line| same(&line)) {
        return Verdict::Trusted;
    }
    // The line of the same type is the one to look at, if there is one.
    let alike = plain().find(|line| key.get(4..).is_some_and(|rest| rest.starts_with(line.algorithm.as_bytes())));
    alike.or_else(|| plain().next_back()).map_or(Verdict::Unknown(None), |line| Verdict::Changed(line.place.clone()))
}

#[cfg(test)]
mod tests {
    use base64ct::{Base64, Encoding};
    use hmac::{Hmac, Mac};
    use sha1::Sha1;
    use ssh_key::PublicKey;

    use super::*;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";
    const ECDSA: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBMAiSn7BXq6nrzsg5vPvlbxmAlDKbTPqS9PhmdAhPmVNU6hFQ5OFdyPnlWnwEwPoqWWLJzKPYm/yyQbLuGI8cfE=";

    fn shown(key: &str) -> HostKey {
        HostKey::parse(&PublicKey::from_openssh(key).unwrap().to_bytes().unwrap()).unwrap()
    }

    /// The verdict on [`ED25519`] of `web1` at a port, and the line that it names.
    fn verdict(text: &str, port: u16) -> (&'static str, u32) {
        let known = KnownHosts::default();
        let file = Path::new("known_hosts");
        known.0.lock().unwrap().insert(file.to_owned(), Arc::new(Index::new("known_hosts", text)));
        match known.about(&[file.to_owned()], "Web1", port).judge(&shown(ED25519), 0) {
            Verdict::Trusted => ("trusted", 0),
            Verdict::Unknown(_) => ("unknown", 0),
            Verdict::Changed(place) => ("changed", place.line),
            Verdict::Revoked(place) => ("revoked", place.line),
        }
    }

    #[test]
    fn the_rules_of_ssh_hold() {
        let lines = |form: &str| form.replace("KEY", ED25519).replace("OTHER", OTHER).replace("ECDSA", ECDSA);
        for (form, port, expected) in [
            ("web1 KEY", 22, ("trusted", 0)),
            ("WEB1 KEY a comment", 22, ("trusted", 0)),
            ("  web1\tKEY", 22, ("trusted", 0)),
            ("web1 KEY\r", 22, ("trusted", 0)),
            ("web2,web1 KEY", 22, ("trusted", 0)),
            ("web? KEY", 22, ("trusted", 0)),
            ("*,!web1 KEY", 22, ("unknown", 0)),
            ("!web1 KEY", 22, ("unknown", 0)),
            ("web2 KEY", 22, ("unknown", 0)),
            ("web1 OTHER", 22, ("changed", 1)),
            ("# web1 KEY\n\nweb1 OTHER", 22, ("changed", 3)),
            ("web1 ECDSA", 22, ("changed", 1)),
            ("web1 OTHER\nweb1 ECDSA", 22, ("changed", 1)),
            ("web1 OTHER\nweb1 KEY", 22, ("trusted", 0)),
            ("web1 KEY\n@revoked * KEY", 22, ("revoked", 2)),
            ("@revoked web1 OTHER\nweb1 KEY", 22, ("trusted", 0)),
            ("@cert-authority * KEY", 22, ("unknown", 0)),
            ("@cert-authority * KEY\nweb1 KEY", 22, ("trusted", 0)),
            ("@unknown web1 KEY", 22, ("unknown", 0)),
            ("@revoked @revoked web1 KEY", 22, ("unknown", 0)),
            ("web1 ssh-ed25519 nonsense", 22, ("unknown", 0)),
            ("web1", 22, ("unknown", 0)),
            ("web1 # KEY", 22, ("unknown", 0)),
            ("[web1]:2222 KEY", 2222, ("trusted", 0)),
            ("[web1]:2222 KEY", 22, ("unknown", 0)),
            ("web1 KEY", 2222, ("trusted", 0)),
            ("web1 OTHER", 2222, ("unknown", 0)),
            ("[web1]:2222 OTHER\nweb1 KEY", 2222, ("changed", 1)),
            ("[web*]:* KEY", 2222, ("trusted", 0)),
        ] {
            assert_eq!(verdict(&lines(form), port), expected, "{form:?} at {port}");
        }
    }

    #[test]
    fn hashed_names_are_found() {
        let salt = [7u8; 20];
        let hash = |name: &str| {
            let mut mac = Hmac::<Sha1>::new_from_slice(&salt).unwrap();
            mac.update(name.as_bytes());
            let hash = mac.finalize().into_bytes();
            format!("|1|{}|{}", Base64::encode_string(&salt), Base64::encode_string(&hash))
        };
        assert_eq!(verdict(&format!("{} {ED25519}", hash("web1")), 22), ("trusted", 0));
        assert_eq!(verdict(&format!("{} {ED25519}", hash("[web1]:2222")), 2222), ("trusted", 0));
        assert_eq!(verdict(&format!("{} {ED25519}", hash("web2")), 22), ("unknown", 0));
        assert_eq!(verdict(&format!("|1|AAAA|{} {ED25519}", &hash("web1")[32..]), 22), ("unknown", 0));
    }
}
