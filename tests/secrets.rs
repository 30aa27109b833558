//! Secrets by the program itself: whatever is done with one, neither the screen nor the record ever has it.

#[path = "desk/mod.rs"]
mod desk;

use desk::Desk;

const SECRET: &str = "hunter2secret";

/// Neither what was said nor what was recorded of the newest run holds a text.
#[track_caller]
fn is_hidden(desk: &Desk, said: &str, secret: &str) {
    let recorded = desk.recorded();
    assert!(!said.contains(secret), "said: {said}");
    let at = recorded.lines().find(|line| line.contains(secret));
    assert!(at.is_none(), "recorded: {at:?}");
}

#[test]
fn every_text_and_number_of_a_sensitive_list_or_map_is_hidden() {
    let params = "params:
  keys: {type: list, required: true, sensitive: true}
  door: {type: map, required: true, sensitive: true}
";
    let steps = "
- debug: {msg: \"{{ params.keys[0] }} {{ params.door.inner.pin }}\"}
- copy: {dest: ROOT/keys, content: \"{{ params.keys[1].deep }}\\n{{ params.door.inner.pin }}\\n\"}
";
    let desk = Desk::new(params, steps);
    desk.write("values.yml", "keys: [one-of-two, {deep: hunter2secret}]\ndoor: {inner: {pin: 471147}}\n");
    let said = desk.said("apply", &["--set", "@values.yml", "--diff"], 0);
    assert_eq!(desk.read("root/keys"), "hunter2secret\n471147\n");
    for secret in ["one-of-two", SECRET, "471147"] {
        is_hidden(&desk, &said, secret);
    }
    let argument = "runbook: Of a test\nhosts: all\n".to_owned()
        + params
        + "steps:\n- command: [\"echo\", \"{{ params.keys[0] }}\"]\n";
    desk.write("runbook.yml", &argument);
    let said = desk.said("plan", &["--set", "@values.yml"], 5);
    assert!(said.contains("sensitive value"), "{said}");
}

const TOKEN: &str = "params: {token: {type: string, required: true, sensitive: true}}\n";

#[test]
fn escaped_forms_of_a_secret_are_hidden() {
    let token = "ab\"cd'ef\\gh\tij<kl";
    let steps = "
- copy:
    dest: ROOT/app
    content: \"{{ {'token': params.token} | to_json }}\\n{{ params.token | tojson }}\\nTOKEN={{ params.token | quote }}\\n\"
";
    let desk = Desk::new(TOKEN, steps);
    let said = desk.said("apply", &["--set", &format!("token={token}"), "--diff"], 0);
    assert!(desk.read("root/app").contains(r#"{"token": "ab\"cd"#), "{}", desk.read("root/app"));
    // Only of the difference: a path or a run's name may hold two letters by chance.
    let shown: Vec<&str> = said.lines().filter(|line| line.starts_with("    +")).collect();
    assert_eq!(shown.len(), 3, "{said}");
    for part in ["ab", "cd", "ef", "gh", "ij", "kl"] {
        assert!(!shown.iter().any(|line| line.contains(part)), "{part}: {said}");
    }
    is_hidden(&desk, &said, "gh\\");
}

#[test]
fn an_undo_shows_and_records_no_contents_where_the_run_had_secrets() {
    let steps = "- copy: {dest: ROOT/app, content: \"token={{ params.token }}\\n\"}\n";
    let desk = Desk::new(TOKEN, steps);
    desk.write("root/app", "token=old\n");
    desk.said("apply", &["--set", "token=hunter2secret"], 0);
    let run = desk.newest();
    let undo =
        |run: &str, more: &[&str]| desk.ended(&[&["undo", run, "-i", "inventory.yml", "--diff"], more].concat(), 0);
    let planned = undo(&run, &["--plan"]);
    assert!(planned.contains("root/app") && !planned.contains(SECRET), "{planned}");
    assert!(planned.contains("sensitive"), "why there is no diff is said: {planned}");
    let said = undo(&run, &["--yes"]);
    assert_eq!(desk.read("root/app"), "token=old\n");
    is_hidden(&desk, &said, SECRET);
    let said = undo(&desk.newest(), &["--yes"]);
    assert_eq!(desk.read("root/app"), "token=hunter2secret\n");
    is_hidden(&desk, &said, SECRET);
}

#[test]
fn an_undo_shows_contents_where_the_run_had_no_secrets() {
    let desk = Desk::new("", "- copy: {dest: ROOT/app, content: \"new\\n\"}\n");
    desk.write("root/app", "old\n");
    desk.said("apply", &[], 0);
    let planned = desk.ended(&["undo", &desk.newest(), "-i", "inventory.yml", "--diff", "--plan"], 0);
    assert!(planned.contains("-new") && planned.contains("+old"), "{planned}");
}

#[test]
fn what_is_refused_before_the_connection_shows_no_secret() {
    for step in [
        "- {debug: {msg: x}, when: params.token}",
        "- copy: {dest: \"{{ params.token }}\", content: x}",
        "- {debug: {msg: x}, loop: \"{{ params.token }}\"}",
    ] {
        let desk = Desk::new(TOKEN, &format!("{step}\n"));
        for verb in ["plan", "apply"] {
            let said = desk.said(verb, &["--set", "token=hunter2secret"], 3);
            assert!(said.contains("runbook.yml:") && !said.contains(SECRET), "{step}: {said}");
        }
    }
}

#[test]
fn what_is_wrong_with_a_sensitive_step_is_told_without_its_values() {
    let steps = "- {copy: {dest: \"{{ place }}\", content: x}, sensitive: true}\n";
    let desk = Desk::new("vars: {place: hunter2secret}\n", steps);
    let said = desk.said("plan", &[], 3);
    assert!(said.contains("no absolute path") && !said.contains("\"hunter2secret"), "{said}");
}

#[test]
fn files_of_values_are_not_quoted() {
    let desk = Desk::new(
        "params: {token: {type: string, required: true, sensitive: true, pattern: '[a-z]+'}}\n",
        "- debug: {msg: x}\n",
    );
    for (values, words) in [
        ("token: hunter2secret\n", "token"),
        ("tokn: hunter2secret\n", "`tokn`"),
        ("token: [hunter2secret\n", "values.yml:"),
        ("token: {a: hunter2secret}\n", "token"),
    ] {
        desk.write("values.yml", values);
        let said = desk.said("plan", &["--set", "@values.yml"], 3);
        assert!(said.contains(words) && !said.contains(SECRET), "{values}: {said}");
    }
}

/// Steps that show what they are given where they may, each with the exit codes of a plan and an apply.
const TELLING: [(&str, i32, i32); 8] = [
    ("raw: \"true hunter2secret\"", 0, 0),
    ("raw: \"echo hunter2secret; false\"", 0, 9),
    ("debug: {msg: hunter2secret}", 0, 0),
    ("command: {cmd: \"true\", creates: /nonexistent/hunter2secret}", 0, 8),
    ("command: {cmd: \"cat /nonexistent/hunter2secret\", changes: false}", 0, 7),
    ("fail: {msg: hunter2secret}", 9, 7),
    ("assert: {that: \"1 == 2\", fail_msg: hunter2secret}", 9, 7),
    ("http: {url: \"http://127.0.0.1:1/hunter2secret\"}", 0, 7),
];

#[test]
fn nothing_of_a_sensitive_step_is_told() {
    for (step, planned, applied) in TELLING {
        let desk = Desk::new("", &format!("- name: of a test\n  {step}\n  sensitive: true\n"));
        let said = desk.said("plan", &["--verbose"], planned);
        assert!(!said.contains(SECRET), "{step}: {said}");
        let said = desk.said("apply", &["--verbose"], applied);
        is_hidden(&desk, &said, SECRET);
        let is_silent = [7, 8].contains(&applied);
        assert!(!is_silent || said.contains("the step is sensitive"), "why it is silent is said: {step}: {said}");
    }
}

#[test]
fn what_goes_back_of_a_sensitive_step_is_not_told() {
    let steps = "
- {file: {path: ROOT/link, state: link, src: hunter2secret, force: true}, sensitive: true}
- shell: \"ln -sfn hunter2secret-too ROOT/link\"
  undo: \"true\"
- fail: {msg: so that it goes back}
";
    let desk = Desk::new("", steps);
    let said = desk.said("apply", &["--verbose"], 8);
    let told = desk.recorded();
    let undone = told.lines().filter(|line| line.contains("\"deed_undone\"") && line.contains("/link"));
    let undone: Vec<_> = undone.filter(|line| line.contains("\"sensitive\":true")).collect();
    assert!(!undone.is_empty() && undone.iter().all(|line| !line.contains(SECRET)), "{undone:?}");
    assert!(said.contains("not as it was left") || said.contains("changed by someone else"), "{said}");
}

#[test]
fn variables_that_are_set_are_on_record() {
    let desk = Desk::new("vars: {keep: 1, app_password: x}\n", "- debug: {msg: \"{{ keep }}\"}\n");
    desk.write("values.yml", "app_password: hunter2secret\n");
    let said = desk.said("apply", &["--set", "keep=5", "--set", "@values.yml"], 0);
    is_hidden(&desk, &said, SECRET);
    let recorded = desk.recorded();
    assert!(recorded.contains(r#""set":{"app_password":"[hidden]","keep":"5"}"#), "{recorded}");
    let shown = desk.ended(&["show", &desk.newest()], 0);
    assert!(shown.contains("keep = \"5\""), "{shown}");
}
