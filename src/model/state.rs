//! Resources and their states: what is observed, wanted, compared, journalled and recorded.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use crate::base::{ByteText, Digest};

/// A thing on a host with an observable state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// An absolute path, without `.` and `..`, not ending in a slash (but for the root).
    Path(ByteText),
    /// A package by the name that the host's package manager gives it.
    Package(String),
    /// A service (systemd unit) by name, suffix included: `nginx.service`.
    Service(String),
    /// A user by login name.
    User(String),
    /// A group by name.
    Group(String),
}

impl Resource {
    /// The family's word: `path`, `package`, …
    pub fn family(&self) -> &'static str {
        match self {
            Resource::Path(_) => "path",
            Resource::Package(_) => "package",
            Resource::Service(_) => "service",
            Resource::User(_) => "user",
            Resource::Group(_) => "group",
        }
    }

    /// Ends the program, which has given this, or a state of it, to another family.
    #[cold]
    #[inline(never)]
    pub fn is_misplaced(&self) -> ! {
        unreachable!("{self} has come to another family")
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Resource::Path(path) => write!(f, "{path}"),
            Resource::Package(name) | Resource::Service(name) | Resource::User(name) | Resource::Group(name) => {
                write!(f, "{} {name}", self.family())
            }
        }
    }
}

/// The state of a resource. The variant always matches the resource's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Of a path.
    Path(PathState),
    /// Of a package.
    Package(PackageState),
    /// Of a service.
    Service(ServiceState),
    /// Of a user.
    User(UserState),
    /// Of a group.
    Group(GroupState),
}

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathState {
    /// Nothing.
    Absent,
    /// A regular file.
    File {
        /// What is in it.
        content: Content,
        /// Whose it is and who may do what.
        meta: Meta,
    },
    /// A directory; what is in it are resources of their own.
    Directory {
        /// Whose it is and who may do what.
        meta: Meta,
    },
    /// A symbolic link.
    Link {
        /// Where it points, as written.
        target: ByteText,
        /// Its own owner.
        uid: Id,
        /// Its own group.
        gid: Id,
    },
    /// A socket, pipe or device: seen, and never touched.
    Other {
        /// `socket`, `fifo`, `block device` or `character device`.
        kind: String,
    },
}

/// A file's content by digest and length. The bytes are found in the run's blobs, at the path itself, or in a
/// before-image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Content {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// How many bytes.
    pub bytes: u64,
}

impl Content {
    /// The content that `bytes` are.
    pub fn of(bytes: &[u8]) -> Self {
        Content { digest: Digest::of(bytes), bytes: bytes.len() as u64 }
    }
}

/// Ownership and permissions of a file or directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Permission bits, set-id and sticky bits included: `0..=0o7777`.
    pub mode: u32,
    /// The owner.
    pub uid: Id,
    /// The group.
    pub gid: Id,
    /// Extended attributes, POSIX ACLs and file capabilities among them, by full name.
    pub xattrs: BTreeMap<ByteText, ByteText>,
}

/// A user's or group's number, or, in a plan, the name of one that an earlier step will make.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Id {
    /// A number.
    Number(u32),
    /// A name that will have a number when the plan is carried out.
    ToBe(String),
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Id::Number(number) => write!(f, "{number}"),
            Id::ToBe(name) => write!(f, "{name}"),
        }
    }
}

/// A package as its manager sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageState {
    /// The installed version, if it is installed and configured.
    pub version: Option<String>,
    /// It is neither installed nor removed: an operation on it failed or was cut short. The manager's word, as in
    /// `half-configured`. No step wants this; the way back leads out of it.
    pub unfinished: Option<String>,
    /// Held back from upgrades.
    pub held: bool,
    /// Installed only because another package needs it.
    pub automatic: bool,
    /// Removed, but its configuration files are still there.
    pub residue: bool,
}

/// A service as its manager sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceState {
    /// Whether it starts at boot; for a masked service, whether it would.
    pub enabled: Enablement,
    /// Whether it is linked to `/dev/null`, so that nothing can start it.
    pub masked: bool,
    /// Whether it runs now.
    pub active: bool,
}

/// Whether a service starts at boot (`systemctl is-enabled`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Enablement {
    /// The unit does not exist.
    NotFound,
    /// It starts at boot.
    Enabled,
    /// It does not.
    Disabled,
    /// It has no install section, is generated, an alias …; the manager's word.
    Fixed(String),
}

/// A user's entries in passwd, shadow and group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserState {
    /// No such user.
    Absent,
    /// The entries.
    Present(UserEntry),
}

/// What is known of a user that exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserEntry {
    /// The number; `None` in a plan when the host will choose it.
    pub uid: Option<u32>,
    /// The primary group's name.
    pub group: String,
    /// Names of the supplementary groups.
    pub groups: BTreeSet<String>,
    /// The home directory as passwd has it.
    pub home: String,
    /// The login shell.
    pub shell: String,
    /// The comment (GECOS) field.
    pub comment: String,
    /// The whole line of shadow, if the agent may read it. Never leaves the target: see [`State::public`].
    pub shadow: Option<String>,
    /// Its lines as they stood, for giving back the same bytes.
    pub kept: KeptLines,
}

/// Lines of the account files as they stood when a state was read: what an undo needs to give back the same bytes
/// in the same places. They are no part of the state: two of these are always equal. They hold password hashes and
/// never leave the target: see [`State::public`].
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct KeptLines(pub Vec<KeptLine>);

/// One line of an account file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptLine {
    /// The file's name in `/etc`: `passwd`, `shadow`, `group`, `gshadow`, `subuid` or `subgid`.
    pub file: String,
    /// The name that the line before it is about; none for the first line.
    pub after: Option<String>,
    /// The line without its end.
    pub line: ByteText,
}

impl PartialEq for KeptLines {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for KeptLines {}

impl fmt::Debug for KeptLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kept lines", self.0.len())
    }
}

/// A group's entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupState {
    /// No such group.
    Absent,
    /// The entry.
    Present {
        /// The number; `None` in a plan when the host will choose it.
        gid: Option<u32>,
        /// Its members by supplementary membership.
        members: BTreeSet<String>,
        /// Its lines as they stood, for giving back the same bytes.
        kept: KeptLines,
    },
}

impl State {
    /// The state as it may leave the target: without password hashes, the line of shadow replaced by its digest.
    pub fn public(&self) -> State {
        let mut state = self.clone();
        match &mut state {
            State::User(UserState::Present(entry)) => {
                let digest = |line: String| format!("sha256:{}", Digest::of(line.as_bytes()).short());
                entry.shadow = entry.shadow.take().map(digest);
                entry.kept = KeptLines::default();
            }
            State::Group(GroupState::Present { kept, .. }) => *kept = KeptLines::default(),
            _ => {}
        }
        state
    }

    /// Whether the resource is not there.
    pub fn is_absent(&self) -> bool {
        match self {
            State::Path(state) => *state == PathState::Absent,
            State::Package(state) => state.version.is_none() && state.unfinished.is_none(),
            State::Service(state) => state.enabled == Enablement::NotFound,
            State::User(state) => *state == UserState::Absent,
            State::Group(state) => *state == GroupState::Absent,
        }
    }
}

/// One attribute in which two states differ, both sides as people read them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The attribute's word: `mode`, `owner`, `version`, …
    pub attribute: String,
    /// What it was.
    pub before: String,
    /// What it becomes.
    pub after: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_hash_leaves_the_target() {
        let line = KeptLine { file: "shadow".into(), after: None, line: "ada:$6$hash".into() };
        let kept = KeptLines(vec![line]);
        let user = State::User(UserState::Present(UserEntry {
            uid: Some(1000),
            group: "ada".into(),
            groups: BTreeSet::new(),
            home: "/home/ada".into(),
            shell: "/bin/sh".into(),
            comment: String::new(),
            shadow: Some("ada:$6$hash:1:::::".into()),
            kept: kept.clone(),
        }));
        let group = State::Group(GroupState::Present { gid: Some(1), members: BTreeSet::new(), kept });
        for state in [user, group] {
            assert!(!format!("{state:?}").contains("kept: KeptLines("));
            let seen = serde_json::to_string(&state.public()).unwrap();
            assert!(!seen.contains("$6$hash"), "{seen}");
        }
    }
}
