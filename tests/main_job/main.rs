//! The main job, end to end, by the program itself: applied, at rest, undone, recorded.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

mod killed;
#[path = "../sshd/mod.rs"]
mod sshd;
#[path = "../laws/tree.rs"]
mod tree;
#[path = "../turn/mod.rs"]
mod turn;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use rollbook::{
    model::event::{Event, Stamped, StepOutcome, Undone},
    record::Store,
};
use serde_json::Value;
use sshd::Sshd;
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
    fn new(hosts: &str) -> Stage {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let stage = Stage { folder, _turn: turn::take() };
        fs::create_dir(stage.root()).unwrap();
        tree::build(&stage.root(), BEFORE);
        fs::write(stage.path("inventory.yml"), format!("all:\n  hosts:\n{hosts}")).unwrap();
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn root(&self) -> PathBuf {
        self.path("root")
    }

    fn command(&self, verb: &str, more: &[&str]) -> Command {
        self.command_for(Path::new("tests/runbooks/ten-steps.yml"), verb, more)
    }

    fn command_for(&self, runbook: &Path, verb: &str, more: &[&str]) -> Command {
        let (runbook, inventory) = (runbook.display().to_string(), self.path("inventory.yml").display().to_string());
        let mut command = self.rollbook(&[verb, &runbook, "-i", &inventory]);
        command.arg("--set").arg(format!("root={}", self.root().display())).args(more);
        command
    }

    fn rollbook(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rollbook"));
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(words)
            .env("HOME", self.folder.path())
            .env("XDG_STATE_HOME", self.path("state"))
            .env("ROLLBOOK_STORE", self.path("record.db"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, verb: &str, more: &[&str]) -> Output {
        self.command(verb, more).output().unwrap()
    }

    fn events(&self) -> Vec<Stamped> {
        let store = Store::open_read_only(&self.path("record.db")).unwrap();
        let run = store.find("2").unwrap();
        store.events_of(&run).unwrap()
    }
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What differs between two trees: everything is compared, times too, but the times of folders, whose entries came
/// and went, and of the two links that are made anew on the way back.
fn differences(before: &Tree, after: &Tree) -> Vec<String> {
    let made_anew = |path: &Path| [Path::new("/cache/link"), Path::new("/current")].contains(&path);
    before.differences(after, |path, thing| !thing.is_folder() && !made_anew(path))
}

const LOCAL: &str = "    here: {transport: local}\n";

#[test]
fn a_failing_ninth_step_leaves_all_as_it_was() {
    let stage = Stage::new(LOCAL);
    let before = Tree::read(&stage.root());
    let output = stage.run("apply", &["--yes"]);
    let said = words(&output);
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert!(said.contains("the ninth step says why"), "the tool's last words are shown:\n{said}");
    assert_eq!(differences(&before, &Tree::read(&stage.root())), [] as [String; 0], "{said}");
    let events = stage.events();
    let made: Vec<String> = events
        .iter()
        .filter_map(|stamped| match &stamped.event {
            Event::DeedDone { report, .. } => Some(serde_json::to_string(&report.deed).unwrap()),
            _ => None,
        })
        .collect();
    let undone: Vec<String> = events
        .iter()
        .filter_map(|stamped| match &stamped.event {
            Event::DeedUndone { report, how: Undone::Undone, .. } => Some(serde_json::to_string(&report.deed).unwrap()),
            _ => None,
        })
        .filter(|deed| deed.contains("\"change\""))
        .collect();
    assert!(made.len() >= 12, "eight steps changed things: {made:?}");
    let backwards: Vec<String> = made.iter().rev().cloned().collect();
    assert_eq!(undone, backwards, "everything that was made is undone, newest first");
}

#[test]
fn a_plan_is_true_and_a_second_run_rests() {
    let stage = Stage::new(LOCAL);
    let before = Tree::read(&stage.root());
    let plan = stage.run("plan", &["--json", "--set", "fail=false"]);
    assert_eq!(plan.status.code(), Some(0), "{}", words(&plan));
    assert_eq!(differences(&before, &Tree::read(&stage.root())), [] as [String; 0], "a plan writes nothing");
    let coming = stage.run("plan", &["--exit-code", "--set", "fail=false"]);
    assert_eq!(coming.status.code(), Some(10), "{}", words(&coming));
    let planned = deeds(&words(&plan));
    let applied = stage.run("apply", &["--yes", "--json", "--set", "fail=false"]);
    assert_eq!(applied.status.code(), Some(0), "{}", words(&applied));
    assert_eq!(planned, deeds(&words(&applied)), "what was planned is what was done");
    let done = Tree::read(&stage.root());
    assert!(done.text().contains("/never"), "{}", done.text());
    // The ninth step is a command without a guard: it runs each time, and nothing else does.
    let again = stage.run("apply", &["--yes", "--json", "--set", "fail=false"]);
    assert_eq!(again.status.code(), Some(0), "{}", words(&again));
    let acts: Vec<Value> = deeds(&words(&again));
    assert!(acts.iter().all(|deed| deed.get("act").is_some()) && acts.len() == 1, "{acts:?}");
    assert_eq!(differences(&done, &Tree::read(&stage.root())), [] as [String; 0], "the second run changes nothing");
}

/// The deeds of a run in JSON lines: a plan tells them with the end of each step, an apply one by one.
fn deeds(lines: &str) -> Vec<Value> {
    let events = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events
        .flat_map(|found| match found["event"].as_str() {
            Some("step_ended") => found["end"]["deeds"].as_array().cloned().unwrap_or_default(),
            Some("deed_done") => vec![found["report"].clone()],
            _ => Vec::new(),
        })
        .map(|report| report["deed"].clone())
        .collect()
}

#[test]
fn an_interrupted_run_is_undone() {
    let stage = Stage::new(LOCAL);
    fs::write(
        stage.path("slow.yml"),
        "runbook: Slow\nhosts: all\nparams:\n  root: {type: string, required: true}\nsteps:\n\
         \x20 - copy: {content: new, dest: \"{{ params.root }}/app.conf\"}\n  - command: sleep 60\n",
    )
    .unwrap();
    let before = Tree::read(&stage.root());
    let mut command = stage.command_for(&stage.path("slow.yml"), "apply", &["--yes", "--json"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while fs::read_to_string(stage.root().join("app.conf")).unwrap() != "new" {
        assert!(Instant::now() < until, "the first step is never done");
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(200));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let started = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(started.elapsed() < Duration::from_secs(30), "the sleep was ended");
    assert_eq!(output.status.code(), Some(7), "{}", words(&output));
    assert_eq!(differences(&before, &Tree::read(&stage.root())), [] as [String; 0], "{}", words(&output));
}

#[test]
#[ignore = "needs sshd: tests/run"]
fn all_transports_give_the_same_events_and_the_same_result() {
    let sshd = Sshd::start("");
    let mut stories = Vec::new();
    for transport in ["local", "ssh2", "openssh"] {
        for fail in ["true", "false"] {
            let stage = Stage::new(&sshd.host("host", transport));
            let before = Tree::read(&stage.root());
            let output = stage.run("apply", &["--yes", "--set", &format!("fail={fail}")]);
            let said = words(&output);
            assert_eq!(output.status.code(), Some(if fail == "true" { 7 } else { 0 }), "{transport}: {said}");
            let after = Tree::read(&stage.root());
            if fail == "true" {
                assert_eq!(differences(&before, &after), [] as [String; 0], "{transport}: {said}");
            }
            let text = after.text().replace(&stage.root().display().to_string(), "/ROOT");
            stories.push((transport, fail, story(&stage.events(), &stage.root()), text));
        }
    }
    for (transport, fail, story, text) in &stories[2..] {
        let (_, _, local_story, local_text) = stories.iter().find(|(_, other, ..)| other == fail).unwrap();
        assert_eq!(story, local_story, "{transport} tells another story than local");
        assert_eq!(text, local_text, "{transport} leaves another tree than local");
    }
}

/// What happened, without what differs from run to run: times, ids, addresses, folders.
fn story(events: &[Stamped], root: &Path) -> Vec<String> {
    let root = root.display().to_string();
    let mut lines = Vec::new();
    for stamped in events {
        lines.push(match &stamped.event {
            Event::DeedDone { step, report, .. } => {
                format!("done {} {}", step.name, serde_json::to_string(report).unwrap())
            }
            Event::DeedUndone { step, report, how, .. } => {
                format!("undone {} {} {how:?}", step.name, serde_json::to_string(report).unwrap())
            }
            Event::StepEnded { step, end, .. } => {
                let deeds = serde_json::to_string(&end.deeds).unwrap();
                format!("ended {} {:?} {deeds} {:?} {:?}", step.name, end.outcome, end.message, end.output)
            }
            Event::HostEnded { outcome, counts, .. } => format!("host {outcome:?} {counts:?}"),
            Event::RunClosed { outcome, .. } => format!("run {outcome:?}"),
            Event::RunOpened(_) => "opened".to_owned(),
            Event::HostConnected(_) => "connected".to_owned(),
            Event::HostUnreachable { .. } => "unreachable".to_owned(),
            Event::StepStarted { step, .. } => format!("started {}", step.name),
            Event::Note { message, .. } => format!("note {message}"),
        });
    }
    let failed = events
        .iter()
        .any(|stamped| matches!(&stamped.event, Event::StepEnded { end, .. } if end.outcome == StepOutcome::Failed));
    lines.push(format!("failed: {failed}"));
    // The rendered file names the folder's release, so its digest differs; the digest is not the transport's.
    lines.iter().map(|line| without_digests(&line.replace(&root, "/ROOT"))).collect()
}

/// A text with everything that looks like a SHA-256 digest replaced.
fn without_digests(text: &str) -> String {
    let mut clean = String::new();
    for piece in text.split_inclusive(|letter: char| !letter.is_ascii_hexdigit()) {
        let hex = piece.trim_end_matches(|letter: char| !letter.is_ascii_hexdigit());
        if hex.len() == 64 || hex.len() == 12 {
            clean.push_str("DIGEST");
            clean.push_str(&piece[hex.len()..]);
        } else {
            clean.push_str(piece);
        }
    }
    clean
}

#[test]
#[ignore = "needs sshd: tests/run"]
fn a_connected_host_costs_little_memory() {
    let sshd = Sshd::start("");
    let peak = |count: usize| {
        let hosts: String = (0..count).map(|at| sshd.host(&format!("host{at}"), "ssh2")).collect();
        let stage = Stage::new(&hosts);
        // Agents of the same host take turns at its lock, so each looks only.
        let mut child = stage.command("plan", &["--forks", "100", "--json"]).stdout(Stdio::null()).spawn().unwrap();
        let status = format!("/proc/{}/status", child.id());
        let mut peak_kib = 0;
        while child.try_wait().unwrap().is_none() {
            let text = fs::read_to_string(&status).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            peak_kib = peak_kib.max(number.unwrap_or(0));
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(child.wait().unwrap().success());
        peak_kib
    };
    let (few, many) = (peak(2), peak(42));
    let each = many.saturating_sub(few) / 40;
    assert!(each < 1024, "{each} KiB a host ({few} KiB for 2, {many} KiB for 42)");
}
