//! A folder to change, and a controller with a record of its own: the program itself, on this machine.

#![allow(dead_code, clippy::unwrap_used, clippy::allow_attributes, reason = "each suite uses what it needs of this")]

#[path = "../turn/mod.rs"]
mod turn;

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use rollbook::record::Store;

/// No run of these suites takes longer.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Desk {
    folder: tempfile::TempDir,
    _turn: turn::Turn,
}

impl Desk {
    /// One with a runbook of these texts, in which `ROOT` stands for the folder.
    pub(crate) fn new(head: &str, steps: &str) -> Desk {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let desk = Desk { folder, _turn: turn::take() };
        fs::create_dir(desk.path("root")).unwrap();
        desk.write("inventory.yml", "all: {hosts: {here: {transport: local}}}\n");
        desk.write("runbook.yml", &format!("runbook: Of a test\nhosts: all\n{head}steps:\n{steps}"));
        desk
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text.replace("ROOT", &self.path("root").display().to_string())).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// What the program said to the end of it, and its exit code; one that hangs is ended and fails the test.
    #[track_caller]
    pub(crate) fn ended(&self, words: &[&str], code: i32) -> String {
        let output = self.run(words);
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{said}");
        said
    }

    /// The same of `plan` or `apply` of its runbook.
    #[track_caller]
    pub(crate) fn said(&self, verb: &str, more: &[&str], code: i32) -> String {
        let yes: &[&str] = if verb == "apply" { &["--yes"] } else { &[] };
        self.ended(&[&[verb, "runbook.yml", "-i", "inventory.yml"], yes, more].concat(), code)
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rollbook"))
            .args(words)
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env("XDG_STATE_HOME", self.path("state"))
            .env("ROLLBOOK_STORE", self.path("record.db"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(fs::File::create(self.path("stdout")).unwrap())
            .stderr(fs::File::create(self.path("stderr")).unwrap())
            .spawn()
            .unwrap();
        let end = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > end {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("{words:?} hangs: {}{}", self.read("stdout"), self.read("stderr"));
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        Output {
            status,
            stdout: fs::read(self.path("stdout")).unwrap(),
            stderr: fs::read(self.path("stderr")).unwrap(),
        }
    }

    fn record(&self) -> Store {
        Store::open_read_only(&self.path("record.db")).unwrap()
    }

    /// The run that was opened last.
    pub(crate) fn newest(&self) -> String {
        self.record().runs(&Default::default()).unwrap().runs[0].run.to_string()
    }

    /// Every entry of the newest run, as it is kept.
    pub(crate) fn recorded(&self) -> String {
        let (record, mut bodies) = (self.record(), String::new());
        let run = self.newest().parse().unwrap();
        let read = record.each_entry_of(&run, |entry| {
            bodies.push_str(&String::from_utf8_lossy(&entry.body));
            bodies.push('\n');
            Ok(())
        });
        read.unwrap();
        bodies
    }
}
