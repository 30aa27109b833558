//! Whether a host's key is the one that is known, by the rules of the system's ssh (sshd(8), SSH_KNOWN_HOSTS FILE
//! FORMAT): plain names, hashed ones, `[host]:port`, wildcards, negation, `@revoked`, `@cert-authority`.
//!
//! libssh2 speaks plain host keys only. A certificate authority's line vouches for certificates, so it says nothing of
//! a plain key: the system's ssh, offered that key, decides the same.
//!
//! Files are read once a run, and names without wildcards are found by a map: a fleet costs one reading.

use std::{
    collections::HashMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use base64ct::{Base64, Encoding};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use ssh_key::{Algorithm, PublicKey};

use crate::base::{Fault, FaultKind, Place};

/// The most that is read of a file.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

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
        Known { own: find(&lookup_name(&host, port)), portless }
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
    own: Vec<Line>,
    portless: Vec<Line>,
}

impl Known {
    /// Judges a key, given as the bytes that ssh sends.
    pub fn judge(&self, key: &[u8]) -> Verdict {
        match judge(&self.own, key) {
            Verdict::Unknown => match judge(&self.portless, key) {
                Verdict::Changed(_) => Verdict::Unknown,
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
    alike.or_else(|| plain().next_back()).map_or(Verdict::Unknown, |line| Verdict::Changed(line.place.clone()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marker {
    None,
    Revoked,
    Authority,
}

/// A line that is about a host.
#[derive(Debug)]
struct Line {
    place: Place,
    marker: Marker,
    key: Vec<u8>,
    algorithm: String,
}

/// A file, and where in it names are.
struct Index {
    name: String,
    lines: Vec<Box<str>>,
    /// Names without wildcards, in lower case, and the numbers of their lines, from 0.
    plain: HashMap<Box<str>, Vec<usize>>,
    /// Lines with hashes, wildcards or negation: each must be asked.
    asked: Vec<usize>,
}

impl Index {
    fn read(file: &Path) -> Self {
        let mut bytes = Vec::new();
        let _what_is_not_there_says_nothing =
            fs::File::open(file).and_then(|opened| opened.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
        Index::new(&file.to_string_lossy(), &String::from_utf8_lossy(&bytes))
    }

    fn new(name: &str, text: &str) -> Self {
        let lines = text.split('\n').map(Box::from).collect();
        let mut index = Index { name: name.to_owned(), lines, plain: HashMap::new(), asked: Vec::new() };
        for (number, line) in index.lines.iter().enumerate() {
            let Some((_, hosts, _)) = fields(line) else { continue };
            if hosts.starts_with('|') || hosts.contains(['*', '?', '!']) {
                index.asked.push(number);
                continue;
            }
            for host in hosts.split(',') {
                index.plain.entry(host.to_lowercase().into()).or_default().push(number);
            }
        }
        index
    }

    /// The lines that are about a name, in their order. A malformed one is about nothing, as for the system's ssh.
    fn lines_about(&self, name: &str) -> Vec<Line> {
        let plain = self.plain.get(name).into_iter().flatten().copied();
        let asked = self.asked.iter().copied().filter(|number| is_about(&self.lines[*number], name));
        let mut numbers: Vec<usize> = plain.chain(asked).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.into_iter().filter_map(|number| self.line(number)).collect()
    }

    fn line(&self, number: usize) -> Option<Line> {
        let (marker, _, key) = fields(&self.lines[number])?;
        let mut words = key.split([' ', '\t']).filter(|word| !word.is_empty());
        let (kind, text) = (words.next()?, words.next()?.trim_end());
        let key = PublicKey::from_openssh(&[kind, text].join(" ")).ok()?;
        if matches!(key.algorithm(), Algorithm::Other(_)) {
            return None;
        }
        let line = u32::try_from(number + 1).unwrap_or(u32::MAX);
        let place = Place { line, column: 1, ..Place::file(&self.name) };
        Some(Line { place, marker, key: key.to_bytes().ok()?, algorithm: key.algorithm().as_str().to_owned() })
    }
}

/// Marker, hosts, and the rest of a line; `None` for comments, empty and malformed lines.
fn fields(line: &str) -> Option<(Marker, &str, &str)> {
    let blank = [' ', '\t'];
    let line = line.trim_end_matches('\r').trim_start_matches(blank);
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (marker, line) = match line.strip_prefix('@') {
        None => (Marker::None, line),
        Some(marked) => {
            let (word, rest) = marked.split_once(blank)?;
            let marker = match word {
                "revoked" => Marker::Revoked,
                "cert-authority" => Marker::Authority,
                _ => return None,
            };
            (marker, rest.trim_start_matches(blank))
        }
    };
    let (hosts, key) = line.split_once(blank)?;
    let key = key.trim_start_matches(blank);
    // Two markers are one too many.
    (!hosts.starts_with('@') && !key.is_empty() && !key.starts_with('#')).then_some((marker, hosts, key))
}

/// Whether the hosts of a line match a name.
fn is_about(line: &str, name: &str) -> bool {
    match fields(line) {
        Some((_, hosts, _)) if hosts.starts_with('|') => matches_hash(hosts, name).unwrap_or(false),
        Some((_, hosts, _)) => matches_list(hosts, name),
        None => false,
    }
}

/// Whether a list of patterns matches: one must, and no negated one may.
fn matches_list(patterns: &str, name: &str) -> bool {
    let mut matched = false;
    for pattern in patterns.split(',') {
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

/// Whether `|1|salt|hash` is the HMAC-SHA1 of a name.
fn matches_hash(hosts: &str, name: &str) -> Option<bool> {
    let (salt, hash) = hosts.strip_prefix("|1|")?.split_once('|')?;
    let (salt, hash) = (Base64::decode_vec(salt).ok()?, Base64::decode_vec(hash).ok()?);
    let mut mac = Hmac::<Sha1>::new_from_slice(&salt).ok()?;
    mac.update(name.as_bytes());
    Some(salt.len() == 20 && mac.verify_slice(&hash).is_ok())
}

/// The key that a host showed, as it is told of.
pub struct Shown<'a> {
    /// The host, as the user names it.
    pub host: &'a str,
    /// The port.
    pub port: u16,
    /// The key's type by ssh-keyscan's word: `ed25519`, `ecdsa`, `rsa`.
    pub kind: &'a str,
    /// `SHA256:…`.
    pub fingerprint: &'a str,
    /// The file that a new host would be written to.
    pub file: &'a str,
}

/// What to tell of a key that is not trusted; `None` if it is.
pub fn refusal(verdict: &Verdict, shown: &Shown<'_>) -> Option<Fault> {
    let Shown { host, port, kind, fingerprint, file } = *shown;
    let refused = |message: String| Fault::new(FaultKind::Unreachable, message);
    let name = lookup_name(host, port);
    let key = format!("its {kind} key is {fingerprint}");
    match verdict {
        Verdict::Trusted => None,
        Verdict::Unknown => Some(
            refused(format!("the host key of {name} is not known; {key}"))
                .hint("compare that fingerprint with one that you got another way, such as on the host's console")
                .hint(format!("then trust it: {}", trusting(host, Some(port), Some(kind), file))),
        ),
        Verdict::Changed(place) => Some(
            refused(format!("THE HOST KEY OF {name} HAS CHANGED; {key}, and another one is known"))
                .at(place)
                .hint("somebody may be listening in, or the host was installed anew: find out which")
                .hint(format!(
                    "if it was installed anew: ssh-keygen -f {} -R {}, and then trust its new key",
                    quoted(&place.file),
                    quoted(&name)
                )),
        ),
        Verdict::Revoked(place) => Some(
            refused(format!("THE HOST KEY OF {name} IS REVOKED; {key}, which must not be used any more"))
                .at(place)
                .hint("whoever holds a revoked key can pass for the host: give the host a new key"),
        ),
    }
}

/// The command that would trust a host.
pub(super) fn trusting(host: &str, port: Option<u16>, kind: Option<&str>, file: &str) -> String {
    let mut words = vec!["ssh-keyscan".to_owned()];
    words.extend(port.filter(|port| *port != SSH_PORT).map(|port| format!("-p {port}")));
    words.extend(kind.map(|kind| format!("-t {kind}")));
    words.extend([quoted(host), ">>".to_owned(), file.to_owned()]);
    words.join(" ")
}

/// A word as a shell would read it.
fn quoted(word: &str) -> String {
    shlex::try_quote(word).map_or_else(|_| word.to_owned(), std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";
    const ECDSA: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBMAiSn7BXq6nrzsg5vPvlbxmAlDKbTPqS9PhmdAhPmVNU6hFQ5OFdyPnlWnwEwPoqWWLJzKPYm/yyQbLuGI8cfE=";

    fn blob(key: &str) -> Vec<u8> {
        PublicKey::from_openssh(key).unwrap().to_bytes().unwrap()
    }

    /// The verdict on [`ED25519`] of `web1` at a port, and the line that it names.
    fn verdict(text: &str, port: u16) -> (&'static str, u32) {
        let known = KnownHosts::default();
        let file = Path::new("known_hosts");
        known.0.lock().unwrap().insert(file.to_owned(), Arc::new(Index::new("known_hosts", text)));
        match known.about(&[file.to_owned()], "Web1", port).judge(&blob(ED25519)) {
            Verdict::Trusted => ("trusted", 0),
            Verdict::Unknown => ("unknown", 0),
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

    #[test]
    fn patterns_match_as_for_ssh() {
        for (pattern, name, expected) in [
            ("web?", "web", false),
            ("*.example.com", "a.b.example.com", true),
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            (&"*a".repeat(40), &"a".repeat(39), false),
        ] {
            assert_eq!(matches_pattern(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_large_file_is_asked_only_where_it_must_be() {
        let mut text: String = (0..50_000).map(|host| format!("host{host} {OTHER}\n")).collect();
        text.push_str(&format!("web1 {ED25519}\n"));
        let index = Index::new("known_hosts", &text);
        assert_eq!((index.plain.len(), index.asked.len()), (50_001, 0));
        assert_eq!(index.lines_about("web1").first().map(|line| line.place.line), Some(50_001));
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let shown =
            Shown { host: "web1", port: 2222, kind: "ed25519", fingerprint: "SHA256:x", file: "~/.ssh/known_hosts" };
        let fault = refusal(&Verdict::Unknown, &shown).unwrap();
        assert_eq!(fault.hints[1], "then trust it: ssh-keyscan -p 2222 -t ed25519 web1 >> ~/.ssh/known_hosts");
        let place = Place { line: 7, column: 1, ..Place::file("/home/o/.ssh/known_hosts") };
        let fault = refusal(&Verdict::Changed(place), &shown).unwrap();
        assert!(fault.to_string().starts_with("/home/o/.ssh/known_hosts:7:1: THE HOST KEY OF [web1]:2222"), "{fault}");
        assert!(fault.hints[1].contains("ssh-keygen -f /home/o/.ssh/known_hosts -R '[web1]:2222'"), "{fault:?}");
        assert_eq!(refusal(&Verdict::Trusted, &shown), None);
    }
}
