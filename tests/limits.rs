//! What the program refuses, and that it ends: by the program itself.

#[path = "desk/mod.rs"]
mod desk;

use desk::Desk;

const HANDLER: &str = "handlers: [{name: told, debug: {msg: told}}]\n";

#[test]
fn handlers_have_their_agent_where_no_step_needs_one() {
    for steps in ["- raw: \"true\"\n", "- {raw: \"true\", tags: bare}\n- debug: {msg: x}\n"] {
        let desk = Desk::new(HANDLER, steps);
        let more: &[&str] = if steps.contains("bare") { &["--tags", "bare"] } else { &[] };
        desk.said("plan", more, 0);
        desk.said("apply", more, 0);
    }
}

#[test]
fn tags_that_no_step_has_are_refused() {
    let desk = Desk::new(HANDLER, "- {debug: {msg: x}, tags: [web, database]}\n- debug: {msg: y}\n");
    let said = desk.said("apply", &["--tags", "databse"], 3);
    assert!(said.contains("`databse`") && said.contains("did you mean `database`?"), "{said}");
    let said = desk.said("plan", &["--tags", "web,unheard"], 3);
    assert!(said.contains("`unheard`") && !said.contains("did you mean"), "{said}");
    desk.said("apply", &["--tags", "web"], 0);
}

#[test]
fn a_step_that_is_too_large_is_refused_before_anything_is_done() {
    let large = "x".repeat(1_100_000);
    for step in [
        format!("command: {{cmd: cat, stdin: {large}}}"),
        format!("blockinfile: {{path: ROOT/a, create: true, block: {large}}}"),
        format!("debug: {{msg: {large}}}"),
        format!("command: {{cmd: env}}\n  environment: {{A: {large}}}"),
        format!("command: {{cmd: env}}\n  undo: [\"true\", {large}]"),
    ] {
        let desk =
            Desk::new("", &format!("- copy: {{dest: ROOT/first, content: x}}\n- name: the large one\n  {step}\n"));
        let said = desk.said("apply", &[], 3);
        assert!(said.contains("too large") && said.contains("runbook.yml:6"), "{said:.2000}");
        assert!(!desk.path("root/first").exists());
    }
}

#[test]
fn a_step_that_turns_out_too_large_fails() {
    let steps = "
- copy: {dest: ROOT/first, content: x}
- command: {cmd: cat, stdin: \"{{ facts.hostname }}{{ 'x' * 1100000 }}\"}
";
    let desk = Desk::new("", steps);
    let said = desk.said("apply", &[], 7);
    assert!(said.contains("too large") && !desk.path("root/first").exists(), "{said:.2000}");
}

#[test]
fn many_handlers_are_no_larger_than_a_message() {
    let handler = |name: &str| format!("- {{name: {name}, debug: {{msg: {}}}}}\n", "x".repeat(600_000));
    let desk = Desk::new(
        &format!("handlers:\n{}{}", handler("a"), handler("b")),
        "- copy: {dest: ROOT/first, content: x}\n  notify: [a, b]\n",
    );
    desk.said("apply", &[], 0);
}
