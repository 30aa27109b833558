//! Hostile and broken targets: each harms itself alone, in bounded time and memory, and is told clearly.
//!
//! The system's ssh is replaced by a script that plays the targets: evil ones say what their name promises, and good
//! ones run the command line on this machine, one after the other.

#[path = "turn/mod.rs"]
mod turn;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const SSH: &str = r#"#!/bin/sh
# The last two arguments are the host and the command line.
while [ $# -gt 2 ]; do shift; done
magic() { printf '\000ROLLBOOK-AGENT\n'; }
case $1 in
  good*) exec flock "$HOME" /bin/sh -c "$2" ;;
  endless) exec head -c 10737418240 /dev/zero ;;
  lineless) exec tr '\0' 'x' </dev/zero ;;
  banner) head -c 1048576 /dev/zero | tr '\0' 'b'; magic; sleep 5 ;;
  giant) magic; printf '\377\377\377\377\000\000\000\000'; sleep 5 ;;
  garbage) magic; exec cat /dev/urandom ;;
  zeros) magic; exec cat /dev/zero ;;
  silent) exec sleep 60 ;;
  mute) magic; exec sleep 60 ;;
  gone) exit 0 ;;
  refuses) echo "Permission denied (publickey)." >&2; exit 255 ;;
  noisy) printf 'Welcome!\r\nto this host\n'; yes 'I talk on stderr' | head -c 3000000 >&2; exec flock "$HOME" /bin/sh -c "$2" ;;
  escapes) printf '\033]0;owned\007\033[2J' >&2; exit 1 ;;
esac
"#;

const EVIL: [&str; 11] =
    ["endless", "lineless", "banner", "giant", "garbage", "zeros", "silent", "mute", "gone", "refuses", "escapes"];

struct Outcome {
    code: Option<i32>,
    words: String,
    peak_kib: u64,
    took: Duration,
}

fn apply(hosts: &[&str]) -> Outcome {
    let _turn = turn::take();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    let bin = path("bin");
    fs::create_dir(&bin).expect("a folder");
    fs::write(bin.join("ssh"), SSH).expect("the fake ssh");
    fs::set_permissions(bin.join("ssh"), fs::Permissions::from_mode(0o755)).expect("it can be run");
    let lines: String = hosts.iter().map(|host| format!("    {host}: {{transport: openssh}}\n")).collect();
    fs::write(path("inventory.yml"), format!("all:\n  hosts:\n{lines}")).expect("an inventory");
    let runbook = format!(
        "runbook: Among hostile hosts\nhosts: all\nsteps:\n  - file: {{path: \"{}/made\", state: directory}}\n",
        folder.path().display()
    );
    fs::write(path("runbook.yml"), runbook).expect("a runbook");
    watched(&path("runbook.yml"), &path("inventory.yml"), folder.path(), &bin)
}

/// Runs rollbook and watches how much memory it takes.
fn watched(runbook: &Path, inventory: &Path, home: &Path, bin: &Path) -> Outcome {
    let search = format!("{}:{}", bin.display(), std::env::var("PATH").expect("there is a PATH"));
    let words = home.join("words");
    let file = fs::File::create(&words).expect("a file for the words");
    let started = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_rollbook"))
        .arg("apply")
        .arg(runbook)
        .arg("-i")
        .arg(inventory)
        .args(["--yes", "--connect-timeout", "30", "--store"])
        .arg(home.join("record.db"))
        .env("PATH", search)
        .env("HOME", home)
        .env("XDG_STATE_HOME", home.join("state"))
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(file.try_clone().expect("a second handle"))
        .stderr(file)
        .spawn()
        .expect("rollbook can be started");
    let status_file = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0;
    let status = loop {
        if let Some(status) = child.try_wait().expect("it can be waited for") {
            break status;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "it hangs");
        let text = fs::read_to_string(&status_file).unwrap_or_default();
        let peak = text
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|line| line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()));
        peak_kib = peak_kib.max(peak.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(5));
    };
    let words = String::from_utf8_lossy(&fs::read(words).expect("the words")).into_owned();
    Outcome { code: status.code(), words, peak_kib, took: started.elapsed() }
}

#[test]
fn each_hostile_host_fails_alone_and_clearly() {
    let hosts: Vec<&str> = EVIL.into_iter().chain(["good", "noisy"]).collect();
    let outcome = apply(&hosts);
    let words = &outcome.words;
    for (host, reason) in [
        ("endless", "printed more than 64 KiB"),
        ("lineless", "printed more than 64 KiB"),
        ("banner", "printed more than 64 KiB"),
        ("giant", "a frame claims 4294967295 bytes"),
        ("garbage", "what came over the line is not an agent's"),
        ("zeros", "what came over the line is not an agent's"),
        ("silent", "nothing answered within"),
        ("mute", "no hello in time"),
        ("gone", "the agent could not be started"),
        ("refuses", "Permission denied"),
        ("escapes", "\\u{1b}]0;owned"),
    ] {
        let at = words.find(&format!("! {host} ")).unwrap_or_else(|| panic!("{host} is not told:\n{words}"));
        let told: String = words[at..].lines().take(3).collect();
        assert!(told.contains(reason), "{host}: {told}\n\n{words}");
    }
    for good in ["good", "noisy"] {
        let row = words.lines().rev().find(|line| line.starts_with(good)).unwrap_or_default();
        assert!(row.ends_with("succeeded"), "{good} must not suffer: {row}\n\n{words}");
    }
    assert_eq!(outcome.code, Some(9), "some hosts were done, and some were not:\n{words}");
    assert!(!words.bytes().any(|byte| byte == 0x1b || byte == 0x07), "no control byte passes");
    assert!(outcome.took < Duration::from_secs(90), "took {:?}", outcome.took);
}

#[test]
fn memory_does_not_follow_what_hosts_print() {
    let calm = apply(&["good1"]);
    assert_eq!(calm.code, Some(0), "{}", calm.words);
    let stormy = apply(&["endless", "lineless", "banner", "giant", "garbage", "zeros"]);
    assert_eq!(stormy.code, Some(4), "{}", stormy.words);
    let more = stormy.peak_kib.saturating_sub(calm.peak_kib);
    assert!(more < 8 * 1024, "{} KiB, and {} KiB among hostile hosts", calm.peak_kib, stormy.peak_kib);
}
