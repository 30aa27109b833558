//! What is done on the hosts: runs that between them pass every fault point.

use std::{collections::BTreeMap, collections::HashMap, fs, os::unix::fs::DirBuilderExt, path::Path, sync::OnceLock};

use rollbook::{
    base::{Digest, Fault},
    model::{
        change::CommandSpec,
        event::Mode,
        ids::{RunId, TaskNo},
        lease::Bid,
        state::Content,
        strategy::OnFailure,
        witness::Witness,
    },
    steps::{Desk, Spec},
    wire::{
        FrameWriter, Piece, ToAgent,
        message::{BlobChunk, CHUNK_BYTES, Handlers, Open, Task, Vigil},
    },
};
use serde_json::{Value, json};

use crate::{host::Host, sample::Dice};

/// How a run ends if nothing goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It is closed, and stays.
    Stays,
    /// A step fails, and all goes back.
    GoesBack,
    /// A step fails, and what was done stays.
    Stops,
}

/// A run on a host.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// What stands there before, as tests/laws/tree.rs writes it.
    pub(crate) before: &'static str,
    pub(crate) furnish: Option<fn(&Host<'_>)>,
    /// A file that is mounted over another one. Needs root.
    pub(crate) mount: Option<(&'static str, &'static str)>,
    pub(crate) steps: fn(&mut Script<'_>),
    pub(crate) ending: Ending,
    /// The record's chain goes with it.
    pub(crate) witnessed: bool,
    /// It works only as root.
    pub(crate) needs_root: bool,
}

const BEFORE: &str = r#"
d 0755 /etc
f 0644 /etc/app.conf "one\ntwo\n"
  user.note "kept"
f 0644 /etc/drift.conf "before\n"
f 0644 /etc/hosts "127.0.0.1 localhost\n"
f 0600 /etc/key "secret\n"
d 0755 /srv
l /srv/current -> old
d 0755 /srv/old
f 0644 /srv/old/a "a\n"
d 0700 /srv/old/deep
f 0644 /srv/old/deep/b "b\n"
l /srv/old/link -> a
d 0755 /var
d 0755 /var/lib
"#;

const SMALL: &str = r#"
d 0755 /etc
f 0640 /etc/app.conf "one\n"
f 0644 /etc/group "root:x:0:\nstaff:x:34:\n"
l /etc/link -> over
f 0644 /etc/over "covered\n"
f 0644 /etc/passwd "root:x:0:0::/:/bin/sh\nann:x:12:34::/:/bin/sh\n"
f 0644 /etc/source "one\n"
d 0755 /var
d 0755 /var/lib
"#;

impl Scenario {
    /// A run without a step.
    pub(crate) const REST: Scenario = Scenario {
        name: "rest",
        before: BEFORE,
        furnish: None,
        mount: None,
        steps: |_| {},
        ending: Ending::Stays,
        witnessed: false,
        needs_root: false,
    };

    /// All of them.
    pub(crate) const ALL: &[Scenario] = &[
        Scenario { name: "all-kinds", steps: all_kinds, ..Scenario::REST },
        Scenario { name: "fails-last", steps: fails_last, ending: Ending::GoesBack, ..Scenario::REST },
        Scenario { name: "stops", steps: stops, ending: Ending::Stops, ..Scenario::REST },
        Scenario { name: "long-content", before: SMALL, steps: long_content, ..Scenario::REST },
        Scenario { name: "chance", steps: |script| chance(script, 1), ..Scenario::REST },
        Scenario { name: "chance-back", steps: |script| chance(script, 2), ending: Ending::GoesBack, ..Scenario::REST },
        Scenario { name: "housekeeping", furnish: Some(lived_in), steps: one_file, witnessed: true, ..Scenario::REST },
        Scenario {
            name: "many-witnesses",
            before: SMALL,
            furnish: Some(many_witnesses),
            steps: one_file,
            witnessed: true,
            ..Scenario::REST
        },
        Scenario {
            name: "mounted",
            before: SMALL,
            mount: Some(("etc/source", "etc/over")),
            steps: mounted,
            ending: Ending::GoesBack,
            needs_root: true,
            ..Scenario::REST
        },
        Scenario {
            name: "owners",
            before: SMALL,
            steps: owners,
            ending: Ending::GoesBack,
            needs_root: true,
            ..Scenario::REST
        },
    ];

    /// Points that only scenarios pass which need root.
    pub(crate) const ROOTS_POINTS: [&str; 7] = [
        "image.copied",
        "image.copy",
        "tools.in_place",
        "tools.in_place_cut",
        "tools.in_place_sync",
        "tools.in_place_written",
        "tools.link_owner",
    ];

    /// Those that cannot be played here.
    pub(crate) fn left_out() -> Vec<&'static str> {
        let is_root = rustix::process::geteuid().is_root();
        Scenario::ALL.iter().filter(|scenario| scenario.needs_root && !is_root).map(|scenario| scenario.name).collect()
    }

    /// What the controller sends, to the last byte.
    pub(crate) fn lines(&self, host: &Host<'_>) -> Lines {
        let mut lines = Lines::default().with(&open(host.number, Mode::Apply, self));
        let mut script = Script { host, lines: &mut lines, tasks: 0 };
        (self.steps)(&mut script);
        if self.ending != Ending::Stays {
            let undo = CommandSpec { argv: vec!["true".into()], ..Default::default() };
            script.task("command", json!({"cmd": ["false"]}), |task| task.undo = Some(undo));
        }
        let witness = self.witnessed.then(|| witness(2));
        lines.with(&ToAgent::Close { witness })
    }
}

fn all_kinds(script: &mut Script<'_>) {
    let notify = |task: &mut Task| task.notify = vec![13];
    script.handler_that_reads("/etc/drift.conf", 1);
    script.task("copy", json!({"dest": "/etc/app.conf", "content": "one\nTWO\n", "mode": "0600"}), |_| {});
    script.task("copy", json!({"dest": "/etc/drift.conf", "content": "after\n"}), notify);
    script.task("file", json!({"path": "/srv/new/x", "state": "directory", "mode": "2750"}), |_| {});
    script.task("copy", json!({"dest": "/srv/new/x/file", "content": "new\n".repeat(2000)}), |_| {});
    script.command(1);
    for line in ["10.0.0.1 db", "10.0.0.2 cache", "10.0.0.3 web"] {
        script.task("lineinfile", json!({"path": "/etc/hosts", "line": line}), |_| {});
    }
    script.task("file", json!({"path": "/srv/old", "state": "absent"}), |_| {});
    script.task("file", json!({"path": "/srv/current", "state": "link", "src": "new/x"}), |_| {});
    script.task("file", json!({"path": "/etc/key", "mode": "0400"}), |_| {});
    script.command(2);
    script.task("file", json!({"path": "/srv/other", "state": "link", "src": "new"}), |_| {});
    script.command_if_woken(3);
}

fn fails_last(script: &mut Script<'_>) {
    script.task("copy", json!({"dest": "/etc/app.conf", "content": "one\nTWO\n", "mode": "0600"}), |_| {});
    script.command(1);
    script.task("file", json!({"path": "/srv/new", "state": "directory", "mode": "2750"}), |_| {});
    script.task("lineinfile", json!({"path": "/etc/hosts", "line": "10.0.0.1 db"}), |_| {});
    script.task("lineinfile", json!({"path": "/etc/hosts", "line": "10.0.0.2 cache"}), |_| {});
    script.task("file", json!({"path": "/srv/old", "state": "absent"}), |_| {});
    script.task("file", json!({"path": "/srv/current", "state": "link", "src": "new"}), |_| {});
    script.task("file", json!({"path": "/etc/key", "mode": "0400"}), |_| {});
    script.command(2);
}

fn stops(script: &mut Script<'_>) {
    script.task("copy", json!({"dest": "/etc/app.conf", "content": "one\nTWO\n"}), |_| {});
    script.command(1);
    script.task("file", json!({"path": "/srv/old", "state": "absent"}), |_| {});
}

/// What the runs that chance makes are made from: one number for all of them, and the number of each.
pub(crate) static SEED: OnceLock<u64> = OnceLock::new();

/// A dozen steps as they fall. They may meet the same things again and again, and change nothing.
fn chance(script: &mut Script<'_>, own: u64) {
    let mut dice = Dice(SEED.get().expect("set before anything is played").wrapping_add(own));
    let mut commands = 0;
    for _ in 0..12 {
        let (path, mode) = (dice.below(3), ["0600", "0644", "0640"][dice.below(3)]);
        let content = "a line\n".repeat(dice.below(400));
        let (kind, args) = match dice.below(9) {
            0 | 1 => ("copy", json!({"dest": format!("/srv/file{path}"), "content": content, "mode": mode})),
            2 => ("copy", json!({"dest": "/etc/app.conf", "content": content})),
            3 => ("lineinfile", json!({"path": "/etc/hosts", "line": format!("10.0.0.{path} host")})),
            4 => ("file", json!({"path": format!("/srv/folder{path}/a/b"), "state": "directory"})),
            5 => ("file", json!({"path": format!("/srv/link{path}"), "state": "link", "src": mode, "force": true})),
            6 => {
                let gone = ["/srv/old", "/srv/file1", "/srv/folder2", "/srv/link0", "/etc/drift.conf"][dice.below(5)];
                ("file", json!({"path": gone, "state": "absent"}))
            }
            7 => ("file", json!({"path": "/etc/key", "mode": mode})),
            _ => {
                commands += 1;
                script.command(commands);
                continue;
            }
        };
        script.task(kind, args, |_| {});
    }
}

fn one_file(script: &mut Script<'_>) {
    script.task("copy", json!({"dest": "/etc/app.conf", "content": "other\n"}), |_| {});
}

/// A content that is too long to be held in memory, judged by a command before it is in place.
fn long_content(script: &mut Script<'_>) {
    let content = "a line of a long file\n".repeat(60_000);
    let validate = ["grep", "-q", "long", "%s"];
    script.task("copy", json!({"dest": "/etc/app.conf", "content": content, "validate": validate}), |_| {});
    script.task("copy", json!({"dest": "/etc/new.conf", "content": "not long\n", "validate": validate}), |_| {});
}

fn mounted(script: &mut Script<'_>) {
    script.task("copy", json!({"dest": "/etc/over", "content": "longer than before\n"}), |_| {});
    script.task("copy", json!({"dest": "/etc/app.conf", "content": "other\n"}), |_| {});
}

fn owners(script: &mut Script<'_>) {
    script.task(
        "file",
        json!({"path": "/etc/link", "state": "link", "src": "over", "owner": "ann", "group": "staff"}),
        |_| {},
    );
    script.task("copy", json!({"dest": "/etc/app.conf", "content": "other\n", "owner": "ann"}), |_| {});
}

/// A store with settled runs, one more than are kept, and the folder of a run that was never begun.
fn lived_in(host: &Host<'_>) {
    let runs = private_runs(host);
    for n in 0..21 {
        private(&runs.join(RunId::from_parts("20250101-000000", n).as_str()));
    }
    let begun = runs.join(format!("{}.open", RunId::from_parts("20250102-000000", 1)));
    private(&begun);
    private(&begun.join("images"));
}

fn many_witnesses(host: &Host<'_>) {
    private_runs(host);
    let lines: String = (0..4000).map(|seq| serde_json::to_string(&old_witness(seq)).unwrap() + "\n").collect();
    fs::write(host.store().join("witnesses"), lines).unwrap();
}

fn private_runs(host: &Host<'_>) -> std::path::PathBuf {
    private(&host.store());
    private(&host.store().join("runs"));
    host.store().join("runs")
}

fn private(path: &Path) {
    fs::DirBuilder::new().mode(0o700).create(path).unwrap();
}

fn old_witness(seq: u64) -> Witness {
    Witness { store: "old".into(), seq, hash: Digest::of(b"old") }
}

fn witness(seq: u64) -> Witness {
    Witness { store: "store".into(), seq, hash: Digest::of(&seq.to_le_bytes()) }
}

/// How a run is opened.
pub(crate) fn open(number: u32, mode: Mode, scenario: &Scenario) -> ToAgent {
    let on_failure = if scenario.ending == Ending::Stops { OnFailure::Stop } else { OnFailure::Rollback };
    let run = RunId::from_parts("20261123-051034", number);
    let witness = scenario.witnessed.then(|| witness(1));
    let bid = Bid { run, operator: "ann".into(), reason: None, job: None };
    // A controller that goes is lost at once, and one that is silent is not.
    let vigil = Vigil { silence_ms: 120_000, grace_ms: 0, confirm_ms: None };
    ToAgent::Open(Open { bid, mode, on_failure, witness, vigil })
}

/// The bytes of messages, and where each of them ends.
#[derive(Default)]
pub(crate) struct Lines(pub(crate) Vec<u8>, FrameWriter<ToAgent>, pub(crate) Vec<usize>);

impl Lines {
    pub(crate) fn with(mut self, message: &ToAgent) -> Lines {
        self.push(message);
        self
    }

    fn push(&mut self, message: &ToAgent) {
        self.1.push(message, &mut self.0);
        self.2.push(self.0.len());
    }
}

/// Tasks as the engine sends them: rendered, prepared, their contents ahead of them.
pub(crate) struct Script<'s> {
    host: &'s Host<'s>,
    lines: &'s mut Lines,
    tasks: u32,
}

impl Script<'_> {
    pub(crate) fn task(&mut self, kind: &str, args: Value, change: impl FnOnce(&mut Task)) {
        let mut spec = Spec::decode(kind, args).unwrap();
        let mut desk = Contents::default();
        spec.prepare(&mut desk).unwrap();
        for (content, bytes) in desk.0 {
            // An empty content is one empty piece.
            for offset in (0..bytes.len().max(1)).step_by(CHUNK_BYTES) {
                let piece = &bytes[offset..bytes.len().min(offset + CHUNK_BYTES)];
                let offset = offset as u64;
                self.lines.push(&ToAgent::Blob(BlobChunk { content, offset, piece: Piece::packed(piece.to_vec()) }));
            }
        }
        let mut task = task(self.tasks, kind, &spec);
        self.tasks += 1;
        change(&mut task);
        self.lines.push(&ToAgent::Task(Box::new(task)));
    }

    /// A command that leaves a file and a line for each time that it runs, and whose undo takes the file away.
    fn command(&mut self, number: u32) {
        self.counted(number, false);
    }

    /// A handler that is notified by a step and is not run when all goes well: it notes what a file holds.
    fn handler_that_reads(&mut self, path: &str, notified_by: u32) {
        let script = format!(
            "echo \"read $(cat {})\" >> {}",
            self.host.root().join(&path[1..]).display(),
            self.host.deeds_path().display()
        );
        let spec = Spec::decode("command", json!({"cmd": ["/bin/sh", "-c", script]})).unwrap();
        let task =
            Task { no: TaskNo { step: NEVER_SENT, item: 0 }, only_if_notified: true, ..task(0, "command", &spec) };
        let notified_by = [(notified_by, vec![NEVER_SENT])].into();
        self.lines.push(&ToAgent::Handlers(Handlers { tasks: vec![task], notified_by }));
    }

    fn command_if_woken(&mut self, number: u32) {
        self.counted(number, true);
    }

    fn counted(&mut self, number: u32, only_if_notified: bool) {
        let made = self.host.root().join(format!("srv/command-{number}"));
        let (made, deeds) = (made.display().to_string(), self.host.deeds_path().display().to_string());
        let script = |words: &str, then: &str| {
            ["/bin/sh", "-c", "echo \"$1\" >> \"$2\"; $3 \"$4\"", "sh", words, &deeds, then, &made].map(str::to_owned)
        };
        let undo = script(&format!("undo {number}"), "rm -f").to_vec();
        self.task("command", json!({"cmd": script(&format!("do {number}"), "touch")}), |task| {
            task.only_if_notified = only_if_notified;
            task.undo = Some(CommandSpec { argv: undo, ..Default::default() });
        });
    }
}

fn task(step: u32, kind: &str, spec: &Spec) -> Task {
    Task {
        no: TaskNo { step, item: 0 },
        kind: kind.into(),
        args: spec.pack(),
        notify: Vec::new(),
        only_if_notified: false,
        undo: None,
        retry: None,
        timeout_s: Some(30),
        confirm_ms: None,
        environment: BTreeMap::new(),
        sensitive: false,
    }
}

/// The number of a handler's step whose turn does not come.
const NEVER_SENT: u32 = 99;

/// A desk that takes bytes in.
#[derive(Default)]
struct Contents(HashMap<Content, Vec<u8>>);

impl Desk for Contents {
    fn file(&mut self, path: &str) -> Result<Content, Fault> {
        Err(Fault::input(format!("no local file {path} in this test")))
    }

    fn template(&mut self, path: &str) -> Result<Content, Fault> {
        Err(Fault::input(format!("no template {path} in this test")))
    }

    fn put(&mut self, bytes: Vec<u8>) -> Content {
        let content = Content::of(&bytes);
        self.0.insert(content, bytes);
        content
    }

    fn holds_secret(&self, _text: &str) -> bool {
        false
    }
}
