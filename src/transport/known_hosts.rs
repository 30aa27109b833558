//! Whether a host's key is the one that is known, by the rules of the system's ssh (sshd(8), SSH_KNOWN_HOSTS FILE
//! FORMAT): plain names, hashed ones, `[host]:port`, wildcards, negation, `@revoked`, `@cert-authority`.
//!
//! libssh2 speaks plain host keys only. A certificate authority's line vouches for certificates, so it says nothing of
//! a plain key: the system's ssh, offered that key, decides the same.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use hmac::{Hmac, Mac};
use sha1::Sha1;
use ssh_key::known_hosts::{Entry, HostPatterns, Marker};

use crate::base::{Fault, FaultKind, Place};

/// The longest line that is looked at; a longer one is passed over.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// The port for which names stand without brackets.
const SSH_PORT: u16 = 22;

/// What the known_hosts files say of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the host's key.
    Trusted,
    /// Nothing is known of the host.
    Unknown,
    /// Another key is known, and stands here.
    Changed(Place),
    /// The key is marked as revoked, here.
    Revoked(Place),
}

/// A line that is about the host.
struct Line {
    place: Place,
    revoked: bool,
    authority: bool,
    key: Vec<u8>,
    algorithm: String,
}

/// The files that the system's ssh looks in.
pub fn default_files() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let own = ["known_hosts", "known_hosts2"].map(|name| home.join(".ssh").join(name));
    let system = ["ssh_known_hosts", "ssh_known_hosts2"].map(|name| Path::new("/etc/ssh").join(name));
    own.into_iter().chain(system).collect()
}

/// Judges the key `blob` of `host` (as the user names it) at `port`. A file that is not there says nothing.
pub fn judge(files: &[PathBuf], host: &str, port: u16, blob: &[u8]) -> Verdict {
    let host = host.to_lowercase();
    let verdict = judge_name(files, &lookup_name(&host, port), blob);
    match verdict {
        // For another port a line without one will do, if its key is right.
        Verdict::Unknown if port != SSH_PORT => match judge_name(files, &host, blob) {
            Verdict::Trusted => Verdict::Trusted,
            Verdict::Revoked(place) => Verdict::Revoked(place),
            _ => Verdict::Unknown,
        },
        other => other,
    }
}

/// The algorithms of the keys that are known of a host: a host that is asked for one of them can be recognised.
pub fn algorithms(files: &[PathBuf], host: &str, port: u16) -> Vec<String> {
    let host = host.to_lowercase();
    let mut names = vec![lookup_name(&host, port)];
    if port != SSH_PORT {
        names.push(host);
    }
    let lines = names.iter().flat_map(|name| files.iter().flat_map(|file| lines_about(file, name)));
    let mut found: Vec<String> =
        lines.filter(|line| !line.revoked && !line.authority).map(|line| line.algorithm).collect();
    found.dedup();
    found
}

fn lookup_name(host: &str, port: u16) -> String {
    if port == SSH_PORT { host.to_owned() } else { format!("[{host}]:{port}") }
}

fn judge_name(files: &[PathBuf], name: &str, blob: &[u8]) -> Verdict {
    let mut verdict = Verdict::Unknown;
    for line in files.iter().flat_map(|file| lines_about(file, name)) {
        let same = line.key == blob;
        if line.revoked && same {
            return Verdict::Revoked(line.place);
        }
        if line.revoked || line.authority || verdict == Verdict::Trusted {
            continue;
        }
        verdict = if same { Verdict::Trusted } else { Verdict::Changed(line.place) };
    }
    verdict
}

/// The lines of a file that are about a name.
fn lines_about(file: &Path, name: &str) -> Vec<Line> {
    let Ok(opened) = fs::File::open(file) else { return Vec::new() };
    let shown = file.to_string_lossy();
    let mut found = Vec::new();
    for (number, text) in BufReader::new(opened).split(b'\n').enumerate() {
        let Ok(text) = text else { break };
        if text.len() > LINE_BYTES_MAX {
            continue;
        }
        let Ok(text) = std::str::from_utf8(&text) else { continue };
        if let Some(mut line) = line_about(text.trim(), name) {
            line.place =
                Place { line: u32::try_from(number + 1).unwrap_or(u32::MAX), column: 1, ..Place::file(&shown) };
            found.push(line);
        }
    }
    found
}

/// A line, if it is about a name. A malformed line is about nothing, as for the system's ssh.
fn line_about(text: &str, name: &str) -> Option<Line> {
    if text.is_empty() || text.starts_with('#') || !may_be_about(text, name) {
        return None;
    }
    let entry: Entry = text.parse().ok()?;
    let about = match entry.host_patterns() {
        HostPatterns::Patterns(patterns) => matches_list(patterns, name),
        HostPatterns::HashedName { salt, hash } => matches_hash(salt, hash, name),
    };
    about.then(|| Line {
        place: Place::file(""),
        revoked: entry.marker() == Some(&Marker::Revoked),
        authority: entry.marker() == Some(&Marker::CertAuthority),
        key: entry.public_key().to_bytes().unwrap_or_default(),
        algorithm: entry.public_key().algorithm().as_str().to_owned(),
    })
}

/// A cheap look before a line is parsed: most lines of a large file name other hosts.
fn may_be_about(text: &str, name: &str) -> bool {
    let hosts = text.split_whitespace().find(|word| !word.starts_with('@')).unwrap_or_default();
    hosts.starts_with('|') || hosts.contains(['*', '?']) || hosts.to_lowercase().contains(name)
}

/// Whether a list of patterns matches: one must, and no negated one may.
fn matches_list(patterns: &[String], name: &str) -> bool {
    let mut matched = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(negated) if matches_pattern(negated, name) => return false,
            Some(_) => {}
            None => matched |= matches_pattern(pattern, name),
        }
    }
    matched
}

/// Whether a pattern with `*` and `?` matches the whole of a name, in time proportional to their lengths' product.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_lowercase().into_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(letter) if *letter == b'?' || *letter == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    p = at + 1;
                    n = from + 1;
                    star = Some((at, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|letter| *letter == b'*')
}

fn matches_hash(salt: &[u8], hash: &[u8; 20], name: &str) -> bool {
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(salt) else { return false };
    mac.update(name.as_bytes());
    mac.verify_slice(hash).is_ok()
}

/// What to tell of a key that is not trusted; `None` if it is.
pub fn refusal(verdict: &Verdict, host: &str, port: u16, key_type: &str, fingerprint: &str) -> Option<Fault> {
    let refused = |message: String| Fault::new(FaultKind::Unreachable, message);
    let name = lookup_name(host, port);
    let key = format!("its key is {key_type} {fingerprint}");
    match verdict {
        Verdict::Trusted => None,
        Verdict::Unknown => Some(
            refused(format!("the host key of {name} is not known; {key}"))
                .hint("compare that fingerprint with one that you got another way, such as on the host's console")
                .hint(format!("then trust it: ssh-keyscan -p {port} {host} >> ~/.ssh/known_hosts")),
        ),
        Verdict::Changed(place) => Some(
            refused(format!("THE HOST KEY OF {name} HAS CHANGED; {key}, and another one is known"))
                .at(place)
                .hint("somebody may be listening in, or the host was installed anew: find out which")
                .hint(format!("if it was installed anew: ssh-keygen -R '{name}', and then trust its new key")),
        ),
        Verdict::Revoked(place) => Some(
            refused(format!("THE HOST KEY OF {name} IS REVOKED; {key}, which must not be used any more")).at(place),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_for_ssh() {
        for (pattern, name, expected) in [
            ("web1", "web1", true),
            ("WEB1", "web1", true),
            ("web?", "web1", true),
            ("web?", "web", false),
            ("*.example.com", "a.b.example.com", true),
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("[web1]:2222", "[web1]:2222", true),
        ] {
            assert_eq!(matches_pattern(pattern, name), expected, "{pattern} {name}");
        }
        let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        assert!(matches_list(&list("*.net,!bad.net"), "good.net"));
        assert!(!matches_list(&list("*.net,!bad.net"), "bad.net"));
        assert!(!matches_list(&list("!bad.net"), "good.net"));
    }
}
