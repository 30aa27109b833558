//! A host made of nothing but states, for the unit tests of kinds.

use std::collections::{BTreeMap, HashMap};

use crate::{
    base::{ByteText, Fault},
    model::{
        change::CommandSpec,
        event::Output,
        facts::Facts,
        state::{Content, GroupState, Id, Meta, PathState, Resource, State, UserState},
    },
    resources::{Halt, View},
    steps::{Decision, Desk, Kind, Spec},
};

/// A view without a host.
#[derive(Default)]
pub(super) struct Fake {
    pub(super) paths: BTreeMap<ByteText, PathState>,
    pub(super) facts: Facts,
    pub(super) planning: bool,
    pub(super) staged: bool,
    /// Exit codes by command line; what is not in here cannot be started.
    pub(super) commands: HashMap<String, i32>,
    pub(super) asked: Vec<String>,
    blobs: HashMap<Content, Vec<u8>>,
}

pub(super) fn meta(mode: u32) -> Meta {
    Meta { mode, uid: Id::Number(7), gid: Id::Number(8), xattrs: BTreeMap::new() }
}

impl Fake {
    /// A host with these paths: ending in a slash a directory, `a -> b` a link, else a file with its name as content.
    pub(super) fn with(paths: &[&str]) -> Fake {
        let mut fake = Fake::default();
        fake.paths.insert("/".into(), PathState::Directory { meta: meta(0o755) });
        for path in paths {
            let (path, state) = match (path.split_once(" -> "), path.strip_suffix('/')) {
                (Some((path, target)), _) => {
                    (path, PathState::Link { target: target.into(), uid: Id::Number(7), gid: Id::Number(8) })
                }
                (None, Some(path)) => (path, PathState::Directory { meta: meta(0o755) }),
                (None, None) => {
                    (*path, PathState::File { content: fake.put(path.as_bytes().to_vec()), meta: meta(0o600) })
                }
            };
            fake.paths.insert(path.into(), state);
        }
        fake
    }

    /// What a step wants here, written as in a runbook's JSON form.
    pub(super) fn ask_step<K: Kind>(&mut self, fields: &str) -> Result<Decision, Halt> {
        let mut step: K = serde_json::from_str(fields).unwrap_or_else(|error| panic!("{fields}: {error}"));
        step.prepare(&mut Shelf).map_err(|fault| Halt::Failed(fault.to_string()))?;
        step.want(self)
    }

    /// The same in words: `path: state` for every state.
    pub(super) fn told<K: Kind>(&mut self, fields: &str) -> Result<Vec<String>, String> {
        let decision = self.ask_step::<K>(fields).map_err(|halt| halt.message().to_owned())?;
        Ok(decision.states.iter().map(|(resource, state)| format!("{resource}: {}", words(state))).collect())
    }
}

fn words(state: &State) -> String {
    let State::Path(state) = state else { panic!("{state:?}") };
    match state {
        PathState::Absent => "absent".into(),
        PathState::File { meta, .. } => format!("file {:04o} {}:{}", meta.mode, meta.uid, meta.gid),
        PathState::Directory { meta } => format!("directory {:04o} {}:{}", meta.mode, meta.uid, meta.gid),
        PathState::Link { target, uid, gid } => format!("link to {target} {uid}:{gid}"),
        PathState::Other { kind } => kind.clone(),
    }
}

impl View for Fake {
    fn observe(&mut self, resource: &Resource) -> Result<State, Halt> {
        Ok(match resource {
            Resource::Path(path) => State::Path(self.paths.get(path).cloned().unwrap_or(PathState::Absent)),
            Resource::User(_) => State::User(UserState::Absent),
            Resource::Group(_) => State::Group(GroupState::Absent),
            other => panic!("{other}"),
        })
    }

    fn bytes(&mut self, _: &ByteText, content: &Content) -> Result<Vec<u8>, Halt> {
        Ok(self.blobs[content].clone())
    }

    fn list(&mut self, path: &ByteText) -> Result<Vec<ByteText>, Halt> {
        Ok(self.paths.keys().filter(|other| other.as_path().parent() == Some(path.as_path())).cloned().collect())
    }

    fn ask(&mut self, command: &CommandSpec) -> Result<Output, Halt> {
        let line = command.argv.join(" ");
        let code = self.commands.get(&line).copied();
        self.asked.push(line);
        let code = code.ok_or_else(|| Halt::Failed("no such program".into()))?;
        Ok(Output { code: Some(code), ..Default::default() })
    }

    fn put(&mut self, bytes: Vec<u8>) -> Content {
        let content = Content::of(&bytes);
        self.blobs.insert(content, bytes);
        content
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn planning(&self) -> bool {
        self.planning
    }

    fn staged(&self) -> bool {
        self.staged
    }

    fn own(&self) -> (Id, Id) {
        (Id::Number(1), Id::Number(2))
    }
}

/// A desk on which every local file's name is its content, and on which `hunter2` is sensitive.
pub(super) struct Shelf;

impl Desk for Shelf {
    fn file(&mut self, path: &str) -> Result<Content, Fault> {
        Ok(Content::of(path.as_bytes()))
    }

    fn template(&mut self, path: &str) -> Result<Content, Fault> {
        self.file(path)
    }

    fn put(&mut self, bytes: Vec<u8>) -> Content {
        Content::of(&bytes)
    }

    fn holds_secret(&self, text: &str) -> bool {
        text.contains("hunter2")
    }
}

#[test]
fn every_kind_survives_the_wire() {
    let steps = [
        ("command", r#"{"cmd": "a 'b c'", "creates": "/x", "ok_codes": [0, 3]}"#),
        ("copy", r#"{"src": "motd", "dest": "/etc/", "mode": "0640", "owner": 5, "validate": "check %s"}"#),
        ("file", r#"{"path": "/x", "state": "link", "src": "y", "parents": true}"#),
        ("http", r#"{"url": "http://a/", "status": [200, 204], "headers": {"X": 1}, "timeout": "500ms"}"#),
        ("lineinfile", r#"{"path": "/x", "line": "a", "insertbefore": "BOF"}"#),
        ("assert", r#"{"that": true}"#),
        ("wait_for", r#"{"port": 22}"#),
    ];
    for (kind, fields) in steps {
        let mut spec = Spec::decode(kind, &mut serde_json::Deserializer::from_str(fields)).unwrap();
        spec.prepare(&mut Shelf).unwrap();
        assert_eq!(Spec::unpack(&spec.pack()).unwrap(), spec, "{kind}");
    }
}
