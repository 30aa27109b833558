//! The lines of a known_hosts file, and which of them are about a name.

use std::{collections::HashMap, fs, io::Read, path::Path};

use base64ct::{Base64, Encoding};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use ssh_key::{Algorithm, PublicKey};

use crate::base::Place;

/// The most that is read of a file.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    None,
    Revoked,
    Authority,
}

/// A line that is about a host.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) place: Place,
    pub(super) marker: Marker,
    pub(super) key: Vec<u8>,
    pub(super) algorithm: String,
}

/// A file, and where in it names are.
pub(super) struct Index {
    name: String,
    lines: Vec<Box<str>>,
    /// Names without wildcards, in lower case, and the numbers of their lines, from 0.
    plain: HashMap<Box<str>, Vec<usize>>,
    /// Lines with hashes, wildcards or negation: each must be asked.
    asked: Vec<usize>,
}

impl Index {
    pub(super) fn read(file: &Path) -> Self {
        let mut bytes = Vec::new();
        let _what_is_not_there_says_nothing =
            fs::File::open(file).and_then(|opened| opened.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
        Index::new(&file.to_string_lossy(), &String::from_utf8_lossy(&bytes))
    }

    pub(super) fn new(name: &str, text: &str) -> Self {
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
    pub(super) fn lines_about(&self, name: &str) -> Vec<Line> {
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

/// Whether a pattern in letters of either case matches a name in lower case.
pub(super) fn matches_pattern(pattern: &str, name: &str) -> bool {
    matches_exactly(pattern.to_lowercase().as_bytes(), name.as_bytes())
}

/// Whether a pattern with `*` and `?` matches the whole of a name, in time proportional to their lengths' product.
pub(super) fn matches_exactly(pattern: &[u8], name: &[u8]) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

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
        let mut text: String = (0..50_000).map(|host| format!("host{host} {KEY}\n")).collect();
        text.push_str(&format!("web1 {KEY}\n"));
        let index = Index::new("known_hosts", &text);
        assert_eq!((index.plain.len(), index.asked.len()), (50_001, 0));
        assert_eq!(index.lines_about("web1").first().map(|line| line.place.line), Some(50_001));
    }
}
