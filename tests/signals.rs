//! Ctrl-C and SIGTERM, on a terminal and without one: what runs is finished, and what was done goes back or stays.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

#[path = "turn/mod.rs"]
mod turn;

use std::{
    fs,
    io::{Read, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

const LIMIT: Duration = Duration::from_secs(40);

/// A folder to change, and a controller with a record of its own.
struct Desk {
    folder: tempfile::TempDir,
    _turn: turn::Turn,
}

/// A file is changed, a command runs for long, and a second file would be changed.
const SLOW: &str = "  - copy: {content: new, dest: ROOT/first}
    notify: tell of it
  - command: sh ROOT/slow ROOT/said
    undo: 'true'
  - copy: {content: new, dest: ROOT/second}
handlers:
  - name: tell of it
    command: touch ROOT/told
";

/// Runs for long, and says so when it is told to end.
const SCRIPT: &str = "trap 'echo ended > $1; exit 3' TERM\necho begun > $1\nsleep 300 &\nwait\n";

impl Desk {
    fn new(steps: &str) -> Desk {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let desk = Desk { folder, _turn: turn::take() };
        fs::create_dir(desk.path("root")).unwrap();
        fs::write(desk.path("root/first"), "old").unwrap();
        fs::write(desk.path("root/slow"), SCRIPT).unwrap();
        let steps = steps.replace("ROOT", &desk.path("root").display().to_string());
        fs::write(desk.path("runbook.yml"), format!("runbook: Of a test\nhosts: all\nsteps:\n{steps}")).unwrap();
        fs::write(desk.path("inventory.yml"), "all: {hosts: {here: {transport: local}}}\n").unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path("root").join(name)).unwrap_or_default()
    }

    fn start(&self, program: &str, words: &[&str]) -> Running {
        let mut command = Command::new(program);
        command
            .args(words)
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env("XDG_STATE_HOME", self.path("state"))
            .env("ROLLBOOK_STORE", self.path("record.db"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Running::of(command.spawn().unwrap())
    }

    /// Applies without a terminal.
    fn apply(&self) -> Running {
        self.start(env!("CARGO_BIN_EXE_rollbook"), &["apply", "runbook.yml", "-i", "inventory.yml", "--yes"])
    }

    /// Applies on a terminal of its own; what is typed comes from the pipe.
    fn apply_on_a_terminal(&self) -> Running {
        // Whatever shell `script` takes: one that stays would be interrupted as well, and its exit code told.
        let line = format!("exec {} apply runbook.yml -i inventory.yml --yes", env!("CARGO_BIN_EXE_rollbook"));
        self.start("script", &["--quiet", "--return", "--echo", "never", "--command", &line, "/dev/null"])
    }

    fn until_the_command_runs(&self, running: &Running) {
        running.until("the command runs", || self.read("said") == "begun\n");
    }

    /// A run that was left is settled by whoever comes: by its agent itself, or by this.
    fn recover(&self) {
        let words = ["recover", "-i", "inventory.yml"];
        let until = Instant::now() + LIMIT;
        while self.start(env!("CARGO_BIN_EXE_rollbook"), &words).ends().0 != Some(0) {
            assert!(Instant::now() < until, "it is never settled");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

struct Running {
    child: Child,
    said: Arc<Mutex<String>>,
    readers: [JoinHandle<()>; 2],
}

impl Running {
    fn of(mut child: Child) -> Running {
        let said = Arc::new(Mutex::new(String::new()));
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let pipes: [Box<dyn Read + Send>; 2] = [Box::new(stdout), Box::new(stderr)];
        let readers = pipes.map(|mut pipe| {
            let said = Arc::clone(&said);
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                    said.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
                }
            })
        });
        Running { child, said, readers }
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    #[track_caller]
    fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let until = Instant::now() + LIMIT;
        while !is_so() {
            let waits = Instant::now() < until && !self.said().contains("error:");
            assert!(waits, "waited for {what}: {}", self.said());
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[track_caller]
    fn until_said(&self, words: &str) {
        self.until(words, || self.said().contains(words));
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn types(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn ends(mut self) -> (Option<i32>, String) {
        let until = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "it does not end: {}", self.said());
            thread::sleep(Duration::from_millis(10));
        };
        // What was written last is read by then, or soon.
        while !self.readers.iter().all(JoinHandle::is_finished) {
            assert!(Instant::now() < until, "its streams do not end: {}", self.said());
            thread::sleep(Duration::from_millis(10));
        }
        (status.code(), self.said())
    }

    #[track_caller]
    fn ended(self, code: i32) -> String {
        let (ended, said) = self.ends();
        assert_eq!(ended, Some(code), "{said}");
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _already_over = self.child.kill();
        let _already_over = self.child.wait();
    }
}

#[test]
fn without_a_terminal_either_signal_ends_the_command_and_undoes() {
    for signal in [Signal::INT, Signal::TERM] {
        let desk = Desk::new(SLOW);
        let running = desk.apply();
        desk.until_the_command_runs(&running);
        running.signal(signal);
        let said = running.ended(7);
        assert!(said.contains("the operator stopped it") && !said.contains("keep it"), "{said}");
        assert_eq!(desk.read("said"), "ended\n", "the command's group gets the signal");
        assert_eq!((desk.read("first"), desk.read("second")), ("old".to_owned(), String::new()), "{said}");
    }
}

#[test]
fn on_a_terminal_the_operator_is_asked_after_the_hosts_have_stopped() {
    for (answer, code, first) in [("undo", 7, "old"), ("keep", 9, "new")] {
        let desk = Desk::new(SLOW);
        let mut running = desk.apply_on_a_terminal();
        desk.until_the_command_runs(&running);
        running.types("\u{3}");
        running.until_said("Undo what was done, or keep it as it is?");
        running.until("the command ends", || desk.read("said") == "ended\n");
        assert_eq!(desk.read("first"), "new", "nothing goes back before the answer");
        running.types("what?\n");
        running.until("the question again", || running.said().matches("or keep it as it is?").count() > 1);
        running.types(&format!("{answer}\n"));
        let said = running.ended(code);
        assert_eq!((desk.read("first").as_str(), desk.read("second").as_str()), (first, ""), "{said}");
        assert!(said.contains("the operator stopped it"), "{said}");
        assert_eq!(said.contains("notified, and not run: tell of it"), answer == "keep", "{said}");
        // It is settled either way: another run may begin, and what was kept can be undone.
        let words = ["undo", "2", "-i", "inventory.yml", "--yes"];
        desk.start(env!("CARGO_BIN_EXE_rollbook"), &words).ended(0);
        assert_eq!(desk.read("first"), "old");
    }
}

#[test]
fn the_second_signal_leaves_and_says_how_to_go_on() {
    let desk = Desk::new(SLOW);
    let mut running = desk.apply_on_a_terminal();
    desk.until_the_command_runs(&running);
    running.types("\u{3}");
    running.until_said("or keep it as it is?");
    running.types("\u{3}");
    let said = running.ended(9);
    assert!(said.contains("rollbook recover 2") && said.contains("-i inventory.yml"), "{said}");
    desk.recover();
    assert_eq!(desk.read("first"), "old", "{said}");
}

#[test]
fn without_an_agent_those_that_wait_for_their_turn_are_stopped_too() {
    let desk = Desk::new("  - raw: echo begun > ROOT/said; sleep 60\n    throttle: 1\n");
    fs::write(desk.path("inventory.yml"), "all: {vars: {transport: local}, hosts: {here: , there: }}\n").unwrap();
    let running = desk.apply();
    desk.until_the_command_runs(&running);
    running.signal(Signal::TERM);
    let said = running.ended(9);
    assert_eq!(said.matches("stopped by the operator").count(), 2, "{said}");
}

#[test]
fn what_a_host_is_at_is_finished_first() {
    // One step removes all of them, one after the other: it stops between two, and all come back.
    let desk = Desk::new("  - file: {path: ROOT/many, state: absent}\n  - copy: {content: new, dest: ROOT/first}\n");
    let many = desk.path("root/many");
    fs::create_dir(&many).unwrap();
    for at in 0..3000 {
        fs::write(many.join(at.to_string()), at.to_string()).unwrap();
    }
    let left = || fs::read_dir(&many).map_or(0, Iterator::count);
    let running = desk.apply();
    running.until("files go", || left() < 3000);
    running.signal(Signal::TERM);
    let said = running.ended(7);
    assert_eq!((left(), desk.read("first").as_str()), (3000, "old"), "{said}");
}
