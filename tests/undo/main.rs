//! The undo of finished runs, by the program itself, on a folder of this machine.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

#[path = "../laws/tree.rs"]
mod tree;
#[path = "../turn/mod.rs"]
mod turn;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use rollbook::{
    model::event::{Event, Undone},
    record::Store,
};
use tree::Tree;

/// What stands in the folder before.
const BEFORE: &str = r#"
f 0644 /app.conf "old = true\n"
  user.note "kept"
f 0644 /hosts "127.0.0.1 localhost\n10.0.0.1 db\n"
f 0600 /key "secret\n"
d 0755 /cache
f 0644 /cache/a "a\n"
d 0700 /cache/deep
f 0644 /cache/deep/b "b\n"
l /cache/link -> deep/b
d 0755 /releases
d 0755 /releases/1
l /current -> releases/1
f 0644 /untouched "as ever\n"
"#;

/// A folder to change, and a controller with a record and an inventory of its own.
struct Stage {
    folder: tempfile::TempDir,
    _turn: turn::Turn,
}

impl Stage {
    fn new() -> Stage {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let stage = Stage { folder, _turn: turn::take() };
        fs::create_dir(stage.root()).unwrap();
        tree::build(&stage.root(), BEFORE);
        fs::write(stage.path("inventory.yml"), "all:\n  hosts:\n    here: {transport: local}\n").unwrap();
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn root(&self) -> PathBuf {
        self.path("root")
    }

    fn tree(&self) -> Tree {
        Tree::read(&self.root())
    }

    fn rollbook(&self, words: &[&str]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rollbook"));
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(words)
            .arg("-i")
            .arg(self.path("inventory.yml"))
            .env("HOME", self.folder.path())
            .env("XDG_STATE_HOME", self.path("state"))
            .env("ROLLBOOK_STORE", self.path("record.db"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        Said(command.output().unwrap())
    }

    /// Applies the ten steps, all of which work; the run's id.
    fn ten_steps(&self) -> String {
        let root = format!("root={}", self.root().display());
        let runbook = "tests/runbooks/ten-steps.yml";
        self.rollbook(&["apply", runbook, "--yes", "--set", &root, "--set", "fail=false"]).ended(0);
        self.newest()
    }

    /// Applies a runbook; the run's id.
    fn apply(&self, steps: &str) -> String {
        let runbook = self.path("runbook.yml");
        let steps = steps.replace("ROOT", &self.root().display().to_string());
        fs::write(&runbook, format!("runbook: Of a test\nhosts: all\nsteps:\n{steps}")).unwrap();
        self.rollbook(&["apply", runbook.to_str().unwrap(), "--yes"]).ended(0);
        self.newest()
    }

    /// The run that was opened last.
    fn newest(&self) -> String {
        let list = self.record().runs(&Default::default()).unwrap();
        list.runs[0].run.to_string()
    }

    fn record(&self) -> Store {
        Store::open_read_only(&self.path("record.db")).unwrap()
    }

    fn edit(&self, file: &str, text: &str) {
        fs::write(self.root().join(file), text).unwrap();
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.root().join(file)).unwrap()
    }
}

struct Said(Output);

impl Said {
    fn words(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned() + &String::from_utf8_lossy(&self.0.stderr)
    }

    #[track_caller]
    fn ended(&self, code: i32) -> String {
        assert_eq!(self.0.status.code(), Some(code), "{}", self.words());
        self.words()
    }
}

/// What differs between two trees. Times are compared too, but those of folders, whose entries came and went, and of
/// links, which are made anew on the way back.
fn differences(before: &Tree, after: &Tree) -> Vec<String> {
    let made_anew = |path: &Path| [Path::new("/cache/link"), Path::new("/current")].contains(&path);
    before.differences(after, |path, thing| !thing.is_folder() && !made_anew(path))
}

const NOTHING: [String; 0] = [];

#[test]
fn a_finished_run_goes_back_whole_and_only_once() {
    let stage = Stage::new();
    let before = stage.tree();
    let run = stage.ten_steps();
    let done = stage.tree();
    let planned = stage.rollbook(&["undo", &run, "--plan", "--diff"]).ended(0);
    assert!(planned.contains("-10.0.0.1 db.internal") && planned.contains("+old = true"), "{planned}");
    assert_eq!(differences(&done, &stage.tree()), NOTHING, "a plan writes nothing");
    stage.rollbook(&["undo", &run[..15], "--yes", "--reason", "second thoughts"]).ended(0);
    assert_eq!(differences(&before, &stage.tree()), NOTHING);
    let undo = stage.newest();
    let events = stage.record().events_of(&undo.parse().unwrap()).unwrap();
    let Event::RunOpened(opened) = &events[0].event else { panic!("{events:?}") };
    assert_eq!(opened.undoes.as_ref().map(ToString::to_string), Some(run.clone()));
    assert_eq!(opened.reason.as_deref(), Some("second thoughts"));
    assert_eq!(opened.runbook.name, format!("undo of {run} (Ten steps)"));
    let again = stage.rollbook(&["undo", &run, "--yes"]).ended(0);
    assert!(again.contains(&format!("run {run} was undone by run {undo}")), "{again}");
    assert_eq!(differences(&before, &stage.tree()), NOTHING);
    // An undo is a run as any: it can be undone, and then the first run can be undone again.
    let redone = stage.rollbook(&["undo", &undo, "--yes"]).ended(8);
    assert!(redone.contains("CANNOT BE UNDONE"), "the undo of a command cannot be undone itself: {redone}");
    assert_eq!(differences(&done, &stage.tree()), NOTHING, "{redone}");
}

#[test]
fn of_ten_steps_nine_go_back_and_the_one_that_was_edited_since_is_named() {
    let stage = Stage::new();
    let before = stage.tree();
    let run = stage.ten_steps();
    stage.edit("app.conf", "by hand\n");
    let planned = stage.rollbook(&["undo", &run, "--plan"]).ended(8);
    assert!(planned.contains("app.conf  LEFT ALONE, changed by someone else since"), "{planned}");
    let said = stage.rollbook(&["undo", &run, "--yes"]).ended(8);
    assert!(said.contains("app.conf  LEFT ALONE, changed by someone else since"), "{said}");
    assert_eq!(stage.read("app.conf"), "by hand\n");
    let left = differences(&before, &stage.tree());
    assert!(!left.is_empty() && left.iter().all(|line| line.contains("app.conf")), "{left:#?}\n{said}");
    let events = stage.record().events_of(&stage.newest().parse().unwrap()).unwrap();
    let mut back: Vec<u32> = Vec::new();
    let mut drifted = Vec::new();
    for stamped in &events {
        match &stamped.event {
            Event::DeedDone { step, .. } => back.push(step.no.step + 1),
            Event::DeedUndone { step, how: Undone::Drifted(_), .. } => drifted.push(step.no.step + 1),
            _ => {}
        }
    }
    back.dedup();
    assert_eq!((back, drifted), (vec![10, 9, 8, 7, 6, 5, 4, 3, 1], vec![2]), "newest first");

    // Drift is overwritten by those alone who say why.
    stage.rollbook(&["undo", &run, "--yes", "--force-drift"]).ended(2);
    assert_eq!(stage.read("app.conf"), "by hand\n");
    let forced = ["undo", &run, "--yes", "--force-drift", "--reason", "nobody knows of that edit"];
    let said = stage.rollbook(&forced).ended(0);
    assert!(!said.contains("run true"), "what was run already is not run again: {said}");
    assert_eq!(differences(&before, &stage.tree()), NOTHING, "{said}");
    // The edit is kept, as what any run overwrites.
    stage.rollbook(&["undo", &stage.newest(), "--yes"]).ended(0);
    assert_eq!(stage.read("app.conf"), "by hand\n");
}

#[test]
fn an_undo_that_fails_is_put_back() {
    let stage = Stage::new();
    let run = stage.apply(
        "  - copy: {content: new, dest: ROOT/hosts}\n\
         \x20 - command: \"true\"\n    undo: sh -c 'test -e ROOT/let-it-pass'\n\
         \x20 - copy: {content: new, dest: ROOT/app.conf}\n",
    );
    let done = stage.tree();
    let said = stage.rollbook(&["undo", &run, "--yes"]).ended(7);
    assert!(said.contains("put back"), "{said}");
    assert_eq!(differences(&done, &stage.tree()), NOTHING, "{said}");
    stage.edit("let-it-pass", "");
    stage.rollbook(&["undo", &run, "--yes"]).ended(0);
    assert_eq!((stage.read("hosts"), stage.read("app.conf")), (hosts(), "old = true\n".to_owned()));
}

#[test]
fn after_an_undo_that_fell_back_the_commands_that_it_had_not_reached_are_undone() {
    let stage = Stage::new();
    let run = stage.apply(
        "  - command: \"true\"\n    undo: sh -c 'echo first >>ROOT/log'\n\
         \x20 - copy: {content: new, dest: ROOT/hosts}\n\
         \x20 - command: \"true\"\n    undo: sh -c 'test -e ROOT/let-it-pass'\n\
         \x20 - command: \"true\"\n    undo: {shell: 'echo $WORD >>ROOT/log'}\n    environment: {WORD: last}\n",
    );
    stage.rollbook(&["undo", &run, "--yes"]).ended(8);
    assert_eq!((stage.read("hosts"), stage.read("log")), ("new".to_owned(), "last\n".to_owned()));
    stage.edit("let-it-pass", "");
    let planned = stage.rollbook(&["undo", &run, "--plan"]).ended(0);
    assert!(planned.contains("first") && !planned.contains("$WORD"), "{planned}");
    stage.rollbook(&["undo", &run, "--yes"]).ended(0);
    assert_eq!((stage.read("hosts"), stage.read("log")), (hosts(), "last\nfirst\n".to_owned()));
}

fn hosts() -> String {
    "127.0.0.1 localhost\n10.0.0.1 db\n".to_owned()
}

#[test]
fn what_cannot_go_back_is_named() {
    let stage = Stage::new();
    let run = stage.apply(
        "  - command: touch ROOT/made-by-a-command\n\
         \x20 - file: {path: ROOT/made, state: directory}\n\
         \x20 - copy: {content: new, dest: ROOT/hosts}\n",
    );
    stage.edit("made/stranger", "of somebody else\n");
    let forced = ["undo", &run, "--yes", "--force-drift", "--reason", "not even then"];
    let said = stage.rollbook(&forced).ended(8);
    assert!(said.contains("CANNOT BE UNDONE, and stays") && said.contains("it now holds"), "{said}");
    assert_eq!((stage.read("hosts"), stage.read("made/stranger")), (hosts(), "of somebody else\n".to_owned()));
}

#[test]
fn a_plan_says_what_it_cannot_know_and_tells_the_newest_first() {
    let stage = Stage::new();
    let run = stage.apply(
        "  - file: {path: ROOT/made, state: directory}\n\
         \x20 - command: touch ROOT/made/by-a-command\n    undo: rm ROOT/made/by-a-command\n\
         \x20 - copy: {content: new, dest: ROOT/hosts}\n",
    );
    let planned = stage.rollbook(&["undo", &run, "--plan"]).ended(0);
    let at = |words: &str| planned.find(words).unwrap_or_else(|| panic!("no {words}: {planned}"));
    assert!(at("~ copy") < at("~ command") && at("~ command") < at("? file"), "{planned}");
    assert!(planned.contains("what is run before it may change that") && !planned.contains("LEFT ALONE"), "{planned}");
    let said = stage.rollbook(&["undo", &run, "--yes"]).ended(0);
    assert!(!said.contains("LEFT ALONE"), "{said}");
}

#[test]
fn what_is_not_there_to_be_undone_is_said() {
    let stage = Stage::new();
    let run = stage.apply("  - debug: {msg: hello}\n");
    let said = stage.rollbook(&["undo", &run, "--yes"]).ended(0);
    assert!(said.contains(&format!("run {run} had changed nothing here")), "{said}");
    let said = stage.rollbook(&["undo", "20200101-000000-aaaa", "--yes"]).ended(5);
    assert!(said.contains("nothing of run 20200101-000000-aaaa is kept on this host"), "{said}");
    let said = stage.rollbook(&["undo", &run]).ended(2);
    assert!(said.contains("no terminal") && said.contains("--plan"), "{said}");
    let said = stage.rollbook(&["undo", "1999", "--plan"]).ended(2);
    assert!(said.contains("no run that begins with 1999"), "{said}");
}
