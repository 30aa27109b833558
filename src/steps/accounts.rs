//! What `user` and `group` decide alike: names, free numbers, the host's defaults.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::{
    base::{ByteText, fault::nearest},
    model::{
        change::CommandSpec,
        state::{GroupState, PathState, Resource, State, UserState},
    },
    resources::{Halt, View},
};

/// Numbers that other sources (LDAP, …) already have are passed over, this many at most.
const FOREIGN_MAX: usize = 100;

/// A user's or group's name: a letter or underscore, then letters, digits, `_`, `-` and dots; 32 characters at most.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "controller", derive(schemars::JsonSchema), schemars(inline))]
#[serde(transparent)]
pub struct AccountName(pub String);

impl<'de> Deserialize<'de> for AccountName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let body = text.strip_suffix('$').unwrap_or(&text).as_bytes();
        let fits = body.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(byte))
            && body.first().is_some_and(|first| first.is_ascii_alphabetic() || *first == b'_')
            && text.len() <= 32;
        if !fits {
            return Err(D::Error::custom(format_args!(
                "{text:?} is no name of a user or group: a letter, then letters, digits, \"_\", \"-\" and dots, 32 at most"
            )));
        }
        Ok(AccountName(text))
    }
}

/// A text that stands in one field of an account file: no colon, no line end, no other control character.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "controller", derive(schemars::JsonSchema), schemars(inline))]
#[serde(transparent)]
pub struct AccountText(pub String);

impl<'de> Deserialize<'de> for AccountText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.contains(':') || text.chars().any(char::is_control) || text.len() > 1024 {
            return Err(D::Error::custom(
                "a colon, a line end or more than 1024 bytes cannot stand in an account file",
            ));
        }
        Ok(AccountText(text))
    }
}

/// Whether numbers or names are of users or of groups.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Noun {
    User,
    Group,
}

impl Noun {
    fn file(self) -> &'static str {
        if self == Noun::User { "passwd" } else { "group" }
    }

    fn family(self) -> &'static str {
        if self == Noun::User { "user" } else { "group" }
    }
}

/// A user's state in a view.
pub(super) fn user(now: &mut dyn View, name: &str) -> Result<UserState, Halt> {
    let resource = Resource::User(name.to_owned());
    match now.observe(&resource)? {
        State::User(state) => Ok(state),
        _ => resource.is_misplaced(),
    }
}

/// A group's state in a view.
pub(super) fn group(now: &mut dyn View, name: &str) -> Result<GroupState, Halt> {
    let resource = Resource::Group(name.to_owned());
    match now.observe(&resource)? {
        State::Group(state) => Ok(state),
        _ => resource.is_misplaced(),
    }
}

/// The users or groups of the host and of what a plan has staged, with their numbers.
pub(super) fn known(now: &mut dyn View, noun: Noun) -> Result<BTreeMap<String, u32>, Halt> {
    let mut found = BTreeMap::new();
    for line in text(now, &format!("/etc/{}", noun.file()))?.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(Ok(number))) = (fields.next(), fields.nth(1).map(str::parse)) {
            found.insert(name.to_owned(), number);
        }
    }
    for (resource, state) in now.staged_states(noun.family()) {
        let (Resource::User(name) | Resource::Group(name)) = resource else { continue };
        let number = match state {
            State::User(UserState::Present(entry)) => entry.uid,
            State::Group(GroupState::Present { gid, .. }) => gid,
            _ => None,
        };
        match number {
            Some(number) => found.insert(name, number),
            None => found.remove(&name),
        };
    }
    Ok(found)
}

/// How often a file that others write to is looked at.
const LOOKS_MAX: u32 = 5;

/// A file's text; empty where there is none. Where somebody replaces it between two looks, it is looked at again.
pub(super) fn text(now: &mut dyn View, path: &str) -> Result<String, Halt> {
    let path = ByteText::from(path);
    let mut looks = 1;
    loop {
        let PathState::File { content, .. } = now.path(&path)? else { return Ok(String::new()) };
        match now.bytes(&path, &content) {
            Ok(bytes) => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(halt) if looks == LOOKS_MAX => return Err(halt),
            Err(_) => looks += 1,
        }
    }
}

/// Settings by name, from lines as `UID_MIN 1000` (login.defs) or `SHELL=/bin/sh` (default/useradd).
pub(super) struct Settings(BTreeMap<String, String>);

impl Settings {
    /// What the host has set for new users and groups.
    pub(super) fn read(now: &mut dyn View) -> Result<Self, Halt> {
        let mut settings = BTreeMap::new();
        for path in ["/etc/login.defs", "/etc/default/useradd"] {
            settings.extend(pairs(&text(now, path)?));
        }
        Ok(Settings(settings))
    }

    /// A setting's text.
    pub(super) fn text(&self, name: &str, default: &str) -> String {
        self.0.get(name).map_or(default, String::as_str).to_owned()
    }

    /// A setting's number.
    pub(super) fn number(&self, name: &str, default: u32) -> u32 {
        self.0.get(name).and_then(|value| value.parse().ok()).unwrap_or(default)
    }

    /// A setting's number in octal digits.
    pub(super) fn octal(&self, name: &str) -> Option<u32> {
        self.0.get(name).and_then(|value| u32::from_str_radix(value, 8).ok()).filter(|mode| *mode <= 0o7777)
    }

    /// The numbers that new users or groups get; the defaults are those of login.defs(5).
    fn range(&self, noun: Noun, system: bool) -> RangeInclusive<u32> {
        let letter = if noun == Noun::User { "UID" } else { "GID" };
        let first = self.number(&format!("{letter}_MIN"), 1000);
        if !system {
            return first..=self.number(&format!("{letter}_MAX"), 60000);
        }
        let last = self.number(&format!("SYS_{letter}_MAX"), first.saturating_sub(1));
        self.number(&format!("SYS_{letter}_MIN"), 101)..=last
    }
}

fn pairs(text: &str) -> impl Iterator<Item = (String, String)> {
    text.lines().filter_map(|line| {
        let line = line.trim();
        let (name, value) = line.split_once(['=', ' ', '\t'])?;
        let value = value.trim().trim_matches('"');
        (!name.starts_with('#') && !value.is_empty()).then(|| (name.to_owned(), value.to_owned()))
    })
}

/// The number for a new user or group. `wish` is taken where it is free.
pub(super) fn free_number(
    now: &mut dyn View,
    settings: &Settings,
    noun: Noun,
    system: bool,
    wish: Option<u32>,
) -> Result<u32, Halt> {
    let mut taken: BTreeSet<u32> = known(now, noun)?.into_values().collect();
    let range = settings.range(noun, system);
    for _ in 0..FOREIGN_MAX {
        let number = wish.filter(|wish| !taken.contains(wish)).or_else(|| next(&taken, &range, system));
        let Some(number) = number else { break };
        if !is_foreign(now, noun, &number.to_string())? {
            return Ok(number);
        }
        taken.insert(number);
    }
    let (first, last) = (range.start(), range.end());
    Err(Halt::Failed(format!("no number from {first} to {last} is free for a new {}", noun.family())))
}

/// As `useradd` chooses: one above the highest, for system accounts one below the lowest; else the first gap.
fn next(taken: &BTreeSet<u32>, range: &RangeInclusive<u32>, system: bool) -> Option<u32> {
    if range.is_empty() {
        return None;
    }
    let mut within = taken.range(range.clone());
    let edge = match system {
        false => within.next_back().map_or(Some(*range.start()), |highest| highest.checked_add(1)),
        true => within.next().map_or(Some(*range.end()), |lowest| lowest.checked_sub(1)),
    };
    let free = |number: &u32| !taken.contains(number);
    edge.filter(|edge| range.contains(edge)).or_else(|| match system {
        false => range.clone().find(free),
        true => range.clone().rev().find(free),
    })
}

/// Whether a name or number is known to the host from elsewhere than its own files (LDAP, …).
pub(super) fn is_foreign(now: &mut dyn View, noun: Noun, key: &str) -> Result<bool, Halt> {
    if !has_other_sources(&text(now, "/etc/nsswitch.conf")?, noun) {
        return Ok(false);
    }
    let argv = ["getent", "--", noun.file(), key].map(str::to_owned).to_vec();
    let call = CommandSpec { argv, timeout_s: Some(20), ok_codes: vec![0, 2], ..CommandSpec::default() };
    let output = now.ask(&call)?;
    match output.code {
        Some(0) => Ok(true),
        Some(2) => Ok(false),
        _ => Err(Halt::Failed(format!("getent cannot say whether there is a {} {key} elsewhere", noun.family()))),
    }
}

/// Whether nsswitch.conf(5) names other sources than this host itself.
fn has_other_sources(nsswitch: &str, noun: Noun) -> bool {
    let sources =
        nsswitch.lines().filter_map(|line| line.trim().strip_prefix(noun.file())?.trim_start().strip_prefix(':'));
    let own = |word: &str| matches!(word, "files" | "compat" | "systemd" | "altfiles") || word.starts_with('[');
    sources.flat_map(str::split_whitespace).take_while(|word| !word.starts_with('#')).any(|word| !own(word))
}

/// There is no group of this name.
pub(super) fn no_group(now: &mut dyn View, name: &str) -> Halt {
    let known = known(now, Noun::Group).unwrap_or_default();
    match nearest(name, known.keys().map(String::as_str)) {
        Some(near) => Halt::Failed(format!("there is no group {name}; the nearest is {near}")),
        None => Halt::Failed(format!("there is no group {name}; make it in an earlier step")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for right in ["ada", "_apt", "www-data", "a.b_C-1", "machine$"] {
            assert!(serde_json::from_value::<AccountName>(right.into()).is_ok(), "{right}");
        }
        for wrong in ["", "1a", "-a", "a b", "a:b", "a\n", "é", "$", "a$b", "abcdefghijklmnopqrstuvwxyz0123456"] {
            assert!(serde_json::from_value::<AccountName>(wrong.into()).is_err(), "{wrong:?}");
        }
        assert!(serde_json::from_value::<AccountText>("a:b".into()).is_err());
    }

    #[test]
    fn numbers_are_chosen_as_useradd_does() {
        let taken = |numbers: &[u32]| numbers.iter().copied().collect::<BTreeSet<_>>();
        assert_eq!(next(&taken(&[0, 65534]), &(1000..=60000), false), Some(1000));
        assert_eq!(next(&taken(&[1000, 1005]), &(1000..=60000), false), Some(1006));
        assert_eq!(next(&taken(&[1000, 1002]), &(1000..=1002), false), Some(1001));
        assert_eq!(next(&taken(&[998, 999, 1000]), &(101..=999), true), Some(997));
        assert_eq!(next(&taken(&[101, 999]), &(101..=999), true), Some(998));
        assert_eq!(next(&taken(&[5, 6]), &(5..=6), true), None);
    }

    #[test]
    fn other_sources_are_seen() {
        let debian =
            "# x\npasswd:         files systemd\ngroup:  files [SUCCESS=merge] systemd # sss\nhosts: files dns\n";
        assert!(!has_other_sources(debian, Noun::User) && !has_other_sources(debian, Noun::Group));
        assert!(has_other_sources("passwd : files sss", Noun::User) && !has_other_sources("", Noun::User));
        assert!(!has_other_sources("passwd_compat: nis\npasswd: compat", Noun::User));
    }

    #[test]
    fn settings_are_read() {
        let found: BTreeMap<_, _> =
            pairs("# UID_MIN 5\nUID_MIN\t\t 1000\nSHELL=/bin/sh\nX\nY=\nHOME_MODE 0700\n").collect();
        let settings = Settings(found);
        assert_eq!((settings.number("UID_MIN", 1), settings.octal("HOME_MODE")), (1000, Some(0o700)));
        assert_eq!((settings.text("SHELL", "/x"), settings.text("Y", "/x")), ("/bin/sh".into(), "/x".into()));
    }
}
