//! What is wrong in files is told with exact words, all of it at once, before any connection.
//!
//! `ROLLBOOK_BLESS=1 cargo test --test invalid` writes the expectations anew: read the difference before it is
//! committed.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/invalid")
}

fn plan(runbook: &str, inventory: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rollbook"))
        .args(["plan", runbook, "-i", inventory])
        .args(options(runbook))
        .current_dir(folder())
        .env("NO_COLOR", "1")
        .env_remove("ROLLBOOK_STORE")
        .output()
        .expect("rollbook can be started")
}

/// The options that a sample's first line asks for: `# rollbook plan --tags some`.
fn options(runbook: &str) -> Vec<String> {
    let text = fs::read(folder().join(runbook)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let asked = text.lines().next().and_then(|line| line.strip_prefix("# rollbook plan "));
    asked.into_iter().flat_map(str::split_whitespace).map(str::to_owned).collect()
}

/// Runs every sample of a folder, and gives those whose words differ from what is expected.
fn check(kind: &str, run: impl Fn(&str) -> Output) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for entry in fs::read_dir(folder().join(kind)).expect("the samples are there") {
        let path = entry.expect("a folder can be read").path();
        if path.extension().is_none_or(|extension| extension != "yml") {
            continue;
        }
        seen += 1;
        let name = path.file_name().expect("a sample has a name").to_string_lossy().into_owned();
        let output = run(&format!("{kind}/{name}"));
        let said = format!(
            "exit {}\n{}{}",
            output.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let expected = path.with_extension("expected");
        if std::env::var_os("ROLLBOOK_BLESS").is_some() {
            fs::write(&expected, &said).expect("an expectation can be written");
        } else if fs::read_to_string(&expected).ok().as_deref() != Some(&said) {
            wrong.push(format!("{name}:\n{said}"));
        }
        if !(3..=5).contains(&output.status.code().unwrap_or(-1)) {
            wrong.push(format!("{name} must be refused:\n{said}"));
        }
    }
    assert!(seen > 0, "there are samples");
    wrong
}

#[test]
fn runbooks_are_refused_in_exact_words() {
    let wrong = check("runbooks", |runbook| plan(runbook, "good-inventory.yml"));
    assert!(wrong.is_empty(), "other words than expected:\n{}", wrong.join("\n"));
}

#[test]
fn inventories_are_refused_in_exact_words() {
    let wrong = check("inventories", |inventory| plan("good-runbook.yml", inventory));
    assert!(wrong.is_empty(), "other words than expected:\n{}", wrong.join("\n"));
}

/// The program's words and its exit code for a runbook of these bytes, with bounded memory and time: its own, however busy
/// the machine is.
fn bounded(text: &[u8]) -> (String, Option<i32>) {
    let file = tempfile::Builder::new().suffix(".yml").tempfile().expect("a temporary file");
    file.as_file().write_all(text).expect("it can be written");
    // The limits are on address space and on the processor's time: a program that would take 2 GB for 200 KB, or more than
    // a second, ends without a code.
    let output = Command::new("/bin/sh")
        .args(["-c", "ulimit -v 1000000; ulimit -t 1; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_rollbook"), "plan"])
        .arg(file.path())
        .args(["-i", "good-inventory.yml"])
        .current_dir(folder())
        .env("NO_COLOR", "1")
        .output()
        .expect("rollbook can be started");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    (words, output.status.code())
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..2000 {
        let below = level - 1;
        let ten = format!("*a{below}, ").repeat(10);
        bomb.push_str(&format!("a{level}: &a{level} [{ten}]\n"));
    }
    assert!(bomb.len() > 150_000, "it is about 200 KB: {}", bomb.len());
    let (words, code) = bounded(bomb.as_bytes());
    assert_eq!(code, Some(3), "{words}");
    assert!(words.contains("the aliases of this file stand for more than"), "{words}");
}

#[test]
fn deep_nesting_is_refused() {
    for (open, close) in [("[", "]"), ("{a: ", "}")] {
        let text = format!("runbook: {}{}\n", open.repeat(100_000), close.repeat(100_000));
        let (words, code) = bounded(text.as_bytes());
        assert_eq!(code, Some(3), "{words}");
        assert!(words.contains("error:"), "{words}");
    }
    let block: String = (0..2000).map(|depth| format!("{}- \n", " ".repeat(depth))).collect();
    let (words, code) = bounded(block.as_bytes());
    assert_eq!(code, Some(3), "{words}");
}

#[test]
fn a_directory_is_no_file() {
    let output = plan("runbooks", "good-inventory.yml");
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3));
    assert!(words.contains("runbooks is a directory, and a file is needed"), "{words}");
}
