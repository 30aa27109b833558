//! A case: a folder with steps, the tree before, the tree after, and what is to be seen in between.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use rollbook::{
    base::{Fault, Faults},
    model::{
        change::CommandSpec,
        decode,
        ids::TaskNo,
        node::{Entry, Node, Value},
        state::Content,
    },
    steps::{self, Desk, KINDS, Spec, fields::CommandLine},
    syntax::yaml,
    wire::message::Task,
};
use serde::Deserialize;

/// What a case's `case.yml` says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// One sentence.
    pub(crate) about: String,
    /// Local files by name; `{{ name }}` in a template is filled in from `vars`.
    #[serde(default)]
    files: BTreeMap<String, String>,
    #[serde(default)]
    vars: BTreeMap<String, String>,
    /// What a server on `@port@` answers to each request.
    #[serde(default)]
    server: Option<String>,
    /// The paths that are changed, in order; `run NAME` for a command.
    pub(crate) changed: Vec<String>,
    /// Paths that are made anew by the way back of a command: they do not get their old times.
    #[serde(default)]
    pub(crate) remade: Vec<String>,
    /// A part of the message with which the last step fails.
    #[serde(default)]
    pub(crate) fails: Option<String>,
    /// A plan cannot know what one of the steps will do.
    #[serde(default)]
    pub(crate) unknown: bool,
    #[serde(skip)]
    pub(crate) name: String,
    #[serde(skip)]
    folder: PathBuf,
}

impl Case {
    /// Every case, sorted by name: `kind/case`.
    pub(crate) fn all() -> Vec<Case> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
        let mut all = Vec::new();
        for kind in folders(&root) {
            assert!(steps::find(&kind).is_some(), "tests/cases/{kind} is named after no kind");
            all.extend(folders(&root.join(&kind)).into_iter().map(|case| Case::read(&root, &format!("{kind}/{case}"))));
        }
        assert!(all.len() >= KINDS.len(), "only {} cases", all.len());
        all
    }

    fn read(root: &Path, name: &str) -> Case {
        let folder = root.join(name);
        let (mut node, steps) = parts(&folder, "/", "1");
        let Value::Map(entries) = &mut node.value else { panic!("{name} is no mapping") };
        entries.retain(|entry| entry.key != "steps");
        let mut case: Case =
            decode::with(&node, |reader| Case::deserialize(reader)).unwrap_or_else(|faults| panic!("{name}: {faults}"));
        let kind = name.split('/').next().unwrap();
        assert!(steps.iter().any(|step| step.child(kind).is_some()), "{name} has no step of its kind");
        assert!(!case.about.is_empty(), "{name}");
        case.name = name.to_owned();
        case.folder = folder;
        case
    }

    /// The tree before.
    pub(crate) fn before(&self) -> String {
        fs::read_to_string(self.folder.join("before.tree")).unwrap_or_default()
    }

    /// The tree after; the same as before where nothing changes, or all is put back.
    pub(crate) fn after(&self) -> String {
        match fs::read_to_string(self.folder.join("after.tree")) {
            Ok(text) => text,
            Err(_) => self.before(),
        }
    }

    /// Starts the server that the case's steps ask, if there is one.
    pub(crate) fn server(&self) -> Option<Server> {
        self.server.as_deref().map(Server::start)
    }

    /// The tasks as they are sent, and the contents that they need.
    pub(crate) fn tasks(&self, root: &Path, server: Option<&Server>) -> (Vec<Task>, Vec<Vec<u8>>) {
        let mut desk = CaseDesk { case: self, contents: Vec::new() };
        let port = server.map_or(String::new(), |server| server.port.to_string());
        let (_, steps) = parts(&self.folder, root.to_str().unwrap(), &port);
        let tasks = steps.iter().enumerate().map(|(number, step)| self.task(number as u32, step, &mut desk));
        (tasks.collect(), desk.contents)
    }

    fn task(&self, number: u32, step: &Node, desk: &mut CaseDesk<'_>) -> Task {
        let told = |faults: Faults| -> ! { panic!("{}: {faults}", self.name) };
        let entries = step.as_map().unwrap();
        let undo = step.child("undo").map(|undo| {
            let CommandLine(argv) =
                decode::with(undo, |reader| CommandLine::deserialize(reader)).unwrap_or_else(|faults| told(faults));
            CommandSpec { argv, ..Default::default() }
        });
        let entry = entries.iter().find(|entry| entry.key != "undo").unwrap();
        let manual = steps::find(&entry.key).unwrap_or_else(|| panic!("{}: no kind {}", self.name, entry.key));
        let mut fields = entry.value.clone();
        if fields.as_map().is_none() {
            let short = Entry { key: manual.short.unwrap().to_owned(), ..entry.clone() };
            fields.value = Value::Map(vec![short]);
        }
        let spec = decode::with(&fields, |reader| Spec::decode(manual.name, reader));
        let mut spec = spec.unwrap_or_else(|faults| told(faults));
        spec.prepare(desk).unwrap_or_else(|fault| told(fault.into()));
        Task {
            no: TaskNo { step: number, item: 0 },
            kind: manual.name.to_owned(),
            args: spec.pack(),
            notify: Vec::new(),
            only_if_notified: false,
            undo,
            retry: None,
            timeout_s: Some(30),
            confirm_ms: None,
            environment: BTreeMap::new(),
            sensitive: false,
        }
    }
}

/// A case's file, and its steps as in a runbook. `@root@` is where the tree's root is found by commands, which know of
/// no other; `@port@` is the server's.
fn parts(folder: &Path, root: &str, port: &str) -> (Node, Vec<Node>) {
    let path = folder.join("case.yml");
    let text = fs::read_to_string(&path).unwrap().replace("@root@", root).replace("@port@", port);
    let node = yaml::parse(path.to_str().unwrap(), &text).unwrap_or_else(|faults| panic!("{faults}"));
    let Some(Value::List(steps)) = node.child("steps").map(|steps| steps.value.clone()) else {
        panic!("{}: no steps", path.display())
    };
    (node, steps)
}

fn folders(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A desk with the case's own files on it.
struct CaseDesk<'a> {
    case: &'a Case,
    contents: Vec<Vec<u8>>,
}

impl Desk for CaseDesk<'_> {
    fn file(&mut self, path: &str) -> Result<Content, Fault> {
        let text = self.case.files.get(path).unwrap_or_else(|| panic!("{}: no file {path}", self.case.name));
        Ok(self.put(text.clone().into_bytes()))
    }

    fn template(&mut self, path: &str) -> Result<Content, Fault> {
        let text = self.case.files.get(path).unwrap_or_else(|| panic!("{}: no file {path}", self.case.name)).clone();
        let filled =
            self.case.vars.iter().fold(text, |text, (name, value)| text.replace(&format!("{{{{ {name} }}}}"), value));
        Ok(self.put(filled.into_bytes()))
    }

    fn put(&mut self, bytes: Vec<u8>) -> Content {
        let content = Content::of(&bytes);
        self.contents.push(bytes);
        content
    }

    fn holds_secret(&self, _: &str) -> bool {
        false
    }
}

/// A server on loopback that answers everybody the same, until it is dropped.
pub(crate) struct Server {
    port: u16,
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    fn start(answer: &str) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (over, answer) = (Arc::new(AtomicBool::new(false)), answer.to_owned());
        let stop = Arc::clone(&over);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let mut stream = stream.unwrap();
                stream.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
                // A visitor who only looks whether someone is here says nothing.
                if stream.read(&mut [0; 4096]).is_ok_and(|bytes| bytes > 0) {
                    let _visitor_may_have_left = stream.write_all(answer.as_bytes());
                }
            }
        });
        Server { port, over, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(thread) = self.thread.take() {
            let _already_told = thread.join();
        }
    }
}

#[test]
fn every_case_can_be_read_and_built() {
    for case in Case::all() {
        let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        crate::tree::build(place.path(), &case.before());
        let server = case.server();
        let (tasks, _) = case.tasks(place.path(), server.as_ref());
        assert!(!tasks.is_empty());
        let own = |text: &str| {
            let mut lines: Vec<&str> = text.lines().collect();
            lines.sort_unstable();
            lines.join("\n")
        };
        assert_eq!(own(&crate::tree::Tree::read(place.path()).text()), own(&case.before()), "{}", case.name);
    }
}
