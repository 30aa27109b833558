//! An agent and a controller in one process, on a folder that stands for a machine.

#![allow(dead_code, unreachable_pub, reason = "each suite uses what it needs of this")]
#![allow(clippy::allow_attributes, reason = "which suite uses what differs, so nothing can be expected")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::{PipeReader, PipeWriter, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread::JoinHandle,
};

use rollbook::{
    agent::{self, Machine},
    base::{Digest, Fault},
    model::{
        change::CommandSpec,
        event::{Mode, StepOutcome, Undone},
        facts::Facts,
        ids::{RunId, TaskNo},
        lease::Bid,
        state::Content,
        strategy::OnFailure,
    },
    steps::{Desk, Spec},
    target::{Probe, journal::Store, process::Running},
    wire::{
        FrameReader, FrameWriter, FromAgent, Piece, ToAgent,
        message::{AHEAD_BYTES_MAX, BlobChunk, CHUNK_BYTES, Closed, HELLO_MAGIC, Hello, Open, Task, TaskEnd, Vigil},
    },
};
use serde_json::{Value, json};

/// A folder that stands for a machine, and another for its journals.
pub struct Host {
    pub folder: tempfile::TempDir,
}

impl Host {
    pub fn new() -> Host {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("root")).unwrap();
        Host { folder }
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub fn store_path(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    pub fn store(&self) -> Store {
        Store::at(self.store_path())
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap()
    }

    pub fn has(&self, path: &str) -> bool {
        fs::symlink_metadata(self.root().join(path)).is_ok()
    }

    pub fn connect(&self) -> Controller {
        let probe = Probe::new(self.root(), Facts { is_root: true, ..Facts::default() }, Running::default());
        let machine = Machine { probe, store: self.store(), digest: Digest::of(b"a test's agent") };
        let (agent_reads, to_agent) = std::io::pipe().unwrap();
        let (from_agent, agent_writes) = std::io::pipe().unwrap();
        let agent = std::thread::spawn(move || agent::serve(agent_reads, agent_writes, &machine).unwrap());
        Controller::greet(to_agent, from_agent, Some(agent))
    }

    /// Everything below the root, by a way of looking that shares no code with the agent's.
    pub fn picture(&self) -> BTreeMap<PathBuf, String> {
        picture(&self.root())
    }
}

/// The controller's end of a conversation with an agent.
pub struct Controller {
    pub hello: Hello,
    pub to_agent: Option<PipeWriter>,
    pub from_agent: PipeReader,
    pub writer: FrameWriter<ToAgent>,
    pub reader: FrameReader<FromAgent>,
    pub agent: Option<JoinHandle<()>>,
    pub contents: HashMap<Content, Vec<u8>>,
    pub tasks: u32,
}

/// What a run has told.
#[derive(Default, Debug)]
pub struct Told {
    pub messages: Vec<FromAgent>,
}

impl Told {
    pub fn closed(&self) -> &Closed {
        match self.messages.last() {
            Some(FromAgent::Closed(closed)) => closed,
            other => panic!("the last word is {other:?}"),
        }
    }

    pub fn ends(&self) -> Vec<&TaskEnd> {
        let mut ends = Vec::new();
        for message in &self.messages {
            if let FromAgent::Ended(end) = message {
                ends.push(&**end);
            }
        }
        ends
    }

    pub fn outcomes(&self) -> Vec<StepOutcome> {
        self.ends().iter().map(|end| end.outcome).collect()
    }

    pub fn undone(&self) -> Vec<&Undone> {
        let mut hows = Vec::new();
        for message in &self.messages {
            if let FromAgent::Undone { how, .. } = message {
                hows.push(how);
            }
        }
        hows
    }
}

impl Controller {
    pub fn greet(to_agent: PipeWriter, mut from_agent: PipeReader, agent: Option<JoinHandle<()>>) -> Controller {
        let mut magic = [0; HELLO_MAGIC.len()];
        from_agent.read_exact(&mut magic).unwrap();
        assert_eq!(&magic, HELLO_MAGIC);
        let mut reader = FrameReader::default();
        let FromAgent::Hello(hello) = next(&mut reader, &mut from_agent).unwrap() else { panic!("no hello") };
        Controller {
            hello: *hello,
            to_agent: Some(to_agent),
            from_agent,
            writer: FrameWriter::default(),
            reader,
            agent,
            contents: HashMap::new(),
            tasks: 0,
        }
    }

    pub fn tell(&mut self, message: &ToAgent) {
        let mut bytes = Vec::new();
        self.writer.push(message, &mut bytes);
        // An agent that has gone is found by what it does not say.
        let _gone = self.to_agent.as_mut().expect("not hung up yet").write_all(&bytes);
    }

    pub fn open(&mut self, mode: Mode, letter: u32) {
        self.open_with(mode, letter, OnFailure::Rollback);
    }

    pub fn open_with(&mut self, mode: Mode, letter: u32, on_failure: OnFailure) {
        let run = RunId::from_parts("20261123-051034", letter);
        self.tasks = 0;
        let bid = Bid { run, operator: "ann".into(), reason: None, job: None };
        let vigil = Vigil { grace_ms: 0, ..Vigil::default() };
        self.tell(&ToAgent::Open(Open { bid, mode, on_failure, witness: None, vigil }));
    }

    pub fn task(&mut self, kind: &str, args: Value) {
        self.task_with(kind, args, |_| {});
    }

    /// Sends a task as the engine does: rendered, prepared, its contents ahead of it.
    pub fn task_with(&mut self, kind: &str, args: Value, change: impl FnOnce(&mut Task)) {
        let mut spec = Spec::decode(kind, args).unwrap();
        let mut desk = TestDesk::default();
        spec.prepare(&mut desk).unwrap();
        for (content, bytes) in desk.contents {
            if content.bytes <= AHEAD_BYTES_MAX {
                self.send(content, &bytes);
            }
            self.contents.insert(content, bytes);
        }
        let no = TaskNo { step: self.tasks, item: 0 };
        self.tasks += 1;
        let mut task = Task {
            no,
            kind: kind.into(),
            args: spec.pack(),
            notify: Vec::new(),
            only_if_notified: false,
            undo: None,
            retry: None,
            timeout_s: None,
            confirm_ms: None,
            environment: BTreeMap::new(),
            sensitive: false,
        };
        change(&mut task);
        self.tell(&ToAgent::Task(Box::new(task)));
    }

    pub fn send(&mut self, content: Content, bytes: &[u8]) {
        let pieces: Vec<&[u8]> = if bytes.is_empty() { vec![bytes] } else { bytes.chunks(CHUNK_BYTES).collect() };
        for (nth, piece) in pieces.into_iter().enumerate() {
            let offset = (nth * CHUNK_BYTES) as u64;
            self.tell(&ToAgent::Blob(BlobChunk { content, offset, piece: Piece::packed(piece.to_vec()) }));
        }
    }

    pub fn close(&mut self) -> Told {
        self.tell(&ToAgent::Close { witness: None });
        self.listen()
    }

    /// Listens to the end of the run, and sends what is needed.
    pub fn listen(&mut self) -> Told {
        let mut told = Told::default();
        loop {
            let message = next(&mut self.reader, &mut self.from_agent).expect("the agent ended without a last word");
            self.give(&message);
            let is_last = matches!(message, FromAgent::Closed(_));
            told.messages.push(message);
            if is_last {
                return told;
            }
        }
    }

    fn give(&mut self, message: &FromAgent) {
        if let FromAgent::Need(content) = message {
            let bytes = self.contents[content].clone();
            self.send(*content, &bytes);
        }
    }

    /// Waits for the first message that fits, and sends what is needed.
    pub fn await_message(&mut self, fits: impl Fn(&FromAgent) -> bool) -> FromAgent {
        loop {
            let message = next(&mut self.reader, &mut self.from_agent).expect("the agent ended too early");
            self.give(&message);
            if fits(&message) {
                return message;
            }
        }
    }

    /// Hangs up, and waits until the agent has done what it does then.
    pub fn hang_up(mut self) {
        self.to_agent = None;
        while next(&mut self.reader, &mut self.from_agent).is_some() {}
        if let Some(agent) = self.agent.take() {
            agent.join().unwrap();
        }
    }
}

fn next(reader: &mut FrameReader<FromAgent>, pipe: &mut PipeReader) -> Option<FromAgent> {
    loop {
        if let Some(message) = reader.next_message().unwrap() {
            return Some(message);
        }
        let mut buffer = [0; 64 * 1024];
        match pipe.read(&mut buffer).unwrap() {
            0 => return None,
            n => reader.feed(&buffer[..n]),
        }
    }
}

/// A desk that takes bytes in.
#[derive(Default)]
pub struct TestDesk {
    pub contents: HashMap<Content, Vec<u8>>,
}

impl Desk for TestDesk {
    fn file(&mut self, path: &str) -> Result<Content, Fault> {
        Err(Fault::input(format!("no local file {path} in this test")))
    }

    fn template(&mut self, path: &str) -> Result<Content, Fault> {
        Err(Fault::input(format!("no template {path} in this test")))
    }

    fn put(&mut self, bytes: Vec<u8>) -> Content {
        let content = Content::of(&bytes);
        self.contents.insert(content, bytes);
        content
    }

    fn holds_secret(&self, _text: &str) -> bool {
        false
    }
}

pub fn sh(script: &str) -> CommandSpec {
    CommandSpec { argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(), ..Default::default() }
}

/// A `shell` step's arguments.
pub fn shell(script: &str) -> Value {
    json!({ "cmd": script })
}

pub fn picture(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let seen = fs::symlink_metadata(&path).unwrap();
            let what = if seen.is_dir() {
                todo.push(path.clone());
                "folder".to_owned()
            } else if seen.is_symlink() {
                format!("link {:?}", fs::read_link(&path).unwrap())
            } else {
                let digest = Digest::of(&fs::read(&path).unwrap());
                let times = (seen.mtime(), seen.mtime_nsec());
                format!("file {digest} {times:?} inode {} links {}", seen.ino(), seen.nlink())
            };
            let attributes = attributes(&path);
            found.insert(path, format!("{what} {:o} {}:{} {attributes:?}", seen.mode(), seen.uid(), seen.gid()));
        }
    }
    found
}

/// The `user.*` attributes of what is at a path itself.
fn attributes(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = [0u8; 4096];
    let Ok(length) = rustix::fs::llistxattr(path, &mut names[..]) else { return BTreeMap::new() };
    let own = names[..length].split(|byte| *byte == 0).filter(|name| name.starts_with(b"user."));
    own.map(|name| {
        let mut value = [0u8; 4096];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        (name.to_vec(), value[..length].to_vec())
    })
    .collect()
}
