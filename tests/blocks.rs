//! Blocks by the program itself: undone alone, rescued, nested, and told.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

#[path = "turn/mod.rs"]
mod turn;

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

/// A folder to change, and a controller with a record of its own.
struct Desk {
    folder: tempfile::TempDir,
    _turn: turn::Turn,
}

impl Desk {
    fn new(more: &str, steps: &str) -> Desk {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let desk = Desk { folder, _turn: turn::take() };
        fs::create_dir(desk.path("root")).unwrap();
        fs::write(desk.path("root/kept"), "as it was\n").unwrap();
        let steps = steps.replace("ROOT", &desk.path("root").display().to_string());
        fs::write(desk.path("runbook.yml"), format!("runbook: Of a test\nhosts: all\n{more}steps:\n{steps}")).unwrap();
        fs::write(desk.path("inventory.yml"), "all: {hosts: {here: {transport: local}}}\n").unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, verb: &str, more: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_rollbook"))
            .args([verb, "runbook.yml", "-i", "inventory.yml"])
            .args(more)
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env("XDG_STATE_HOME", self.path("state"))
            .env("ROLLBOOK_STORE", self.path("record.db"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    #[track_caller]
    fn apply(&self, code: i32, files: &[&str]) -> String {
        let said = self.said("apply", &["--yes"], code);
        assert_eq!(self.files(), files, "{said}");
        said
    }

    #[track_caller]
    fn said(&self, verb: &str, more: &[&str], code: i32) -> String {
        let output = self.run(verb, more);
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{said}");
        said
    }

    /// What lies in the folder, by name, each with its text.
    fn files(&self) -> Vec<String> {
        let mut files: Vec<String> = fs::read_dir(self.path("root"))
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                let text = fs::read_to_string(entry.path()).unwrap();
                format!("{}: {}", entry.file_name().to_string_lossy(), text.trim_end())
            })
            .collect();
        files.sort();
        files
    }
}

const RESCUED: &str = "
- copy: {dest: ROOT/first, content: a}
- name: try it
  block:
    - copy: {dest: ROOT/kept, content: other}
    - copy: {dest: ROOT/new, content: b}
      notify: told
    - fail: {msg: no luck}
      id: attempt
    - copy: {dest: ROOT/never, content: c}
  rescue:
    - copy: {dest: ROOT/rescue, content: \"{{ steps.attempt.message }}\"}
  always:
    - copy: {dest: ROOT/always, content: d}
- copy: {dest: ROOT/last, content: e}
";

const AFTER_RESCUE: [&str; 5] = ["always: d", "first: a", "kept: as it was", "last: e", "rescue: no luck"];

#[test]
fn a_block_that_fails_is_undone_alone_and_rescued() {
    let handlers = "handlers: [{name: told, copy: {dest: ROOT/handled, content: x}}]\n";
    let desk = Desk::new(&handlers.replace("ROOT", "/nowhere"), RESCUED);
    let plan = desk.said("plan", &[], 9);
    assert!(plan.contains("known only when applied"), "what failed is not known in a plan: {plan}");
    let said = desk.apply(0, &AFTER_RESCUE);
    assert!(said.contains("no luck") && !said.contains("/nowhere"), "its handlers are not woken: {said}");
    desk.apply(0, &AFTER_RESCUE);
}

#[test]
fn a_plan_foresees_that_a_block_fails_and_is_rescued() {
    let desk =
        Desk::new("handlers: [{name: told, debug: {msg: x}}]\n", &RESCUED.replace("{{ steps.attempt.message }}", "f"));
    let plan = desk.said("plan", &[], 0);
    assert_eq!(desk.files(), ["kept: as it was"], "{plan}");
    for told in ["/root/first", "/root/rescue", "/root/always", "/root/last", "would FAIL"] {
        assert!(plan.contains(told), "{told} is to come: {plan}");
    }
    assert!(!plan.contains("/root/never"), "{plan}");
}

#[test]
fn without_a_rescue_the_run_fails_and_all_is_undone() {
    let steps =
        RESCUED.replace("  rescue:\n    - copy: {dest: ROOT/rescue, content: \"{{ steps.attempt.message }}\"}\n", "");
    let desk = Desk::new("handlers: [{name: told, debug: {msg: x}}]\n", &steps);
    let said = desk.apply(7, &["kept: as it was"]);
    assert!(said.contains("no luck"), "{said}");
}

#[test]
fn a_rescue_that_fails_is_undone_too_and_the_block_around_it_rescues() {
    let desk = Desk::new(
        "",
        "
- block:
    - copy: {dest: ROOT/outer, content: a}
    - block:
        - copy: {dest: ROOT/inner, content: b}
        - fail: {msg: inner}
      rescue:
        - copy: {dest: ROOT/rescue, content: c}
        - fail: {msg: rescue}
        - copy: {dest: ROOT/never, content: c}
      always:
        - copy: {dest: ROOT/always, content: d}
    - copy: {dest: ROOT/not, content: e}
  rescue:
    - copy: {dest: ROOT/outer-rescue, content: f}
- block:
    - copy: {dest: ROOT/fine, content: g}
  rescue:
    - copy: {dest: ROOT/nothing, content: h}
",
    );
    desk.apply(0, &["fine: g", "kept: as it was", "outer-rescue: f"]);
}

#[test]
fn a_block_at_the_very_end_fails_the_run_also_where_hosts_wait_for_each_other() {
    for more in ["", "strategy: {rollback: run}\n", "strategy: {verify: [{debug: {msg: fine}}]}\n"] {
        let steps = "\n- copy: {dest: ROOT/first, content: a}\n- block: [{copy: {dest: ROOT/b, content: b}}, {fail: {msg: over}}]\n";
        let desk = Desk::new(more, steps);
        desk.apply(7, &["kept: as it was"]);
    }
}

#[test]
fn conditions_and_tags_of_a_block_are_those_of_its_steps() {
    let desk = Desk::new(
        "",
        "
- block: [{copy: {dest: ROOT/no, content: a}}]
  when: false
- block: [{copy: {dest: ROOT/yes, content: \"{{ text }}\"}}]
  vars: {text: b}
  tags: [chosen]
- copy: {dest: ROOT/other, content: c}
",
    );
    let said = desk.said("apply", &["--yes", "--tags", "chosen"], 0);
    assert_eq!(desk.files(), ["kept: as it was", "yes: b"], "{said}");
}
