//! The record by the program itself: listed, told, verified, and what an edit of it costs.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

#[path = "turn/mod.rs"]
mod turn;

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use rusqlite::Connection;
use serde_json::Value;

/// A controller with a record of two runs on this machine.
struct Desk {
    folder: tempfile::TempDir,
    _turn: turn::Turn,
}

impl Desk {
    fn new() -> Desk {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let desk = Desk { folder, _turn: turn::take() };
        let steps = "- copy: {content: \"{{ params.text }}\\n\", dest: \"{{ params.root }}/file\"}\n\
                     - {fail: {msg: \"over \\e[31mred\\e[0m\"}, when: params.fail}\n";
        let params = "{root: {type: string, required: true}, text: {type: string, default: a}, \
                      fail: {type: bool, default: false}}";
        let runbook = format!("runbook: Of a test\nhosts: all\nparams: {params}\nsteps:\n{steps}");
        fs::write(desk.path("runbook.yml"), runbook).unwrap();
        fs::write(desk.path("inventory.yml"), "all: {hosts: {here: {transport: local}}}\n").unwrap();
        desk.apply(&[], 0);
        desk.apply(&["--set", "text=b", "--set", "fail=true", "--reason", "to see", "--change", "CHG-1"], 7);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rollbook"));
        command
            .args(words)
            .env("HOME", self.folder.path())
            .env("XDG_STATE_HOME", self.path("state"))
            .env("ROLLBOOK_STORE", self.path("record.db"))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    #[track_caller]
    fn said(&self, words: &[&str], code: i32) -> String {
        let output = self.run(words);
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
        said
    }

    fn apply(&self, more: &[&str], code: i32) {
        let (runbook, inventory) = (self.path("runbook.yml"), self.path("inventory.yml"));
        let root = format!("root={}", self.folder.path().display());
        let words = ["apply", text(&runbook), "-i", text(&inventory), "--yes", "--set", &root];
        self.said(&[&words, more].concat(), code);
    }

    fn database(&self) -> Connection {
        Connection::open(self.path("record.db")).unwrap()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn runs_are_listed_newest_first() {
    let desk = Desk::new();
    let said = desk.said(&["log"], 0);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert!(lines[1].contains("rolled back") && lines[1].contains("CHG-1"), "{said}");
    assert!(lines[2].contains("succeeded") && lines[2].contains("Of a test"), "{said}");
    assert_eq!(desk.said(&["log", "--outcome", "succeeded"], 0).lines().count(), 2);
    assert_eq!(desk.said(&["log", "-n", "1", "--json"], 0).lines().count(), 1);
    assert!(desk.said(&["log", "--host", "other"], 0).contains("no such run"));
    let row: Value = serde_json::from_str(desk.said(&["log", "--json"], 0).lines().next().unwrap()).unwrap();
    assert_eq!((&row["opened"]["change"], &row["closed"]["outcome"]), (&"CHG-1".into(), &"rolled_back".into()));
}

#[test]
fn a_run_is_told_whole_and_harmless() {
    let desk = Desk::new();
    let said = desk.said(&["show", "last", "--diff"], 0);
    for words in
        ["rolled back", "to see", "CHG-1", "Of a test", "sha256", "text = \"b\"", "-a", "+b", "put back", "over"]
    {
        assert!(said.contains(words), "without {words:?}: {said}");
    }
    assert!(!said.contains('\u{1b}'), "{said:?}");
    let events = desk.said(&["show", "last", "--json"], 0);
    let kinds: Vec<Value> =
        events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].clone()).collect();
    assert_eq!((&kinds[0], &kinds[kinds.len() - 1]), (&"run_opened".into(), &"run_closed".into()));
    assert!(desk.said(&["show", "1999"], 2).contains("1999"));
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let desk = Desk::new();
    let mut child = desk.command(&["show", "last"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut complaints = String::new();
    child.stderr.take().unwrap().read_to_string(&mut complaints).unwrap();
    child.wait().unwrap();
    assert_eq!(complaints, "");
}

#[test]
fn one_changed_byte_is_found_and_named() {
    let desk = Desk::new();
    assert!(desk.said(&["verify"], 0).contains("is whole"));
    let count: i64 = desk.database().query_row("SELECT max(seq) FROM entry", [], |row| row.get(0)).unwrap();
    for seq in [1, count / 2, count] {
        let database = desk.database();
        let whole: Vec<u8> =
            database.query_row("SELECT body FROM entry WHERE seq = ?1", [seq], |row| row.get(0)).unwrap();
        let mut edited = whole.clone();
        let at = edited.len() / 2;
        edited[at] ^= 1;
        let put = |body: &[u8]| database.execute("UPDATE entry SET body = ?1 WHERE seq = ?2", (body, seq)).unwrap();
        assert_eq!(put(&edited), 1);
        let said = desk.said(&["verify"], 6);
        assert!(said.contains(&format!("entry {seq} ")) && said.contains("NOT WHOLE"), "{said}");
        let told: Value = serde_json::from_str(&desk.said(&["verify", "--json"], 6)).unwrap();
        assert_eq!(told["bad"]["entry"], seq);
        assert_eq!(put(&whole), 1);
    }
    desk.said(&["verify"], 0);
}

#[test]
fn a_cut_tail_is_found_by_asking_the_target() {
    let desk = Desk::new();
    let inventory = desk.path("inventory.yml");
    let asking = ["verify", "-i", text(&inventory)];
    assert!(desk.said(&asking, 0).contains("all are in it"));
    let last = "(SELECT max(rowid) FROM entry WHERE kind = 'run_opened')";
    let cut = desk.database().execute(&format!("DELETE FROM entry WHERE seq >= {last}"), []).unwrap();
    assert!(cut > 2, "{cut}");
    assert!(desk.said(&["verify"], 0).contains("is whole"), "the file alone cannot show it");
    assert!(desk.said(&asking, 6).contains("has seen otherwise"));
}
