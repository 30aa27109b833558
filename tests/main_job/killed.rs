//! The controller is killed, at any time: the host goes back or is done, the record is whole, and has all that was shown.

use std::{
    fs,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use rollbook::record::Store;
use serde_json::Value;

use crate::{LOCAL, Stage, Tree, differences, words};

/// How many kills, and the time between one run's and the next one's, so that some come early and some late.
const KILLS: u32 = 14;
const LATER_EACH: Duration = Duration::from_millis(15);

#[test]
fn a_controller_that_is_killed_leaves_a_whole_host_and_a_whole_record() {
    let done = {
        let stage = Stage::new(LOCAL);
        assert_eq!(stage.run("apply", &["--yes", "--set", "fail=false"]).status.code(), Some(0));
        text(&stage)
    };
    let (mut back, mut finished) = (0, 0);
    for nth in 0..KILLS {
        let stage = Stage::new(LOCAL);
        let before = Tree::read(&stage.root());
        let shown = stage.path("shown");
        let mut child = stage
            .command("apply", &["--yes", "--json", "--set", "fail=false"])
            .stdout(fs::File::create(&shown).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(LATER_EACH * nth);
        child.kill().unwrap();
        child.wait().unwrap();
        settle(&stage);
        match differences(&before, &Tree::read(&stage.root())).is_empty() {
            true => back += 1,
            false => {
                assert_eq!(text(&stage), done, "neither as it was nor as it was to be, killed at {nth}");
                finished += 1;
            }
        }
        let verified = stage.rollbook(&["verify"]).output().unwrap();
        assert_eq!(verified.status.code(), Some(0), "killed at {nth}: {}", words(&verified));
        all_that_was_shown_is_kept(&stage, &fs::read_to_string(&shown).unwrap());
    }
    assert!(back > 0, "some kill came before the end ({finished} came after)");
}

/// What stands there, wherever that is. The rendered file names its folder.
fn text(stage: &Stage) -> String {
    let root = stage.root().display().to_string();
    let text = Tree::read(&stage.root()).text().replace(&root, "/ROOT");
    text.lines().filter(|line| !line.contains("/app.conf")).collect::<Vec<_>>().join("\n")
}

/// Has the host put back, if there is anything to put back. Its agent may still be at the resource at hand.
fn settle(stage: &Stage) {
    let inventory = stage.path("inventory.yml").display().to_string();
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let output = stage.rollbook(&["recover", "-i", &inventory]).output().unwrap();
        match output.status.code() {
            Some(0) => return,
            _ => assert!(Instant::now() < until, "it does not settle: {}", words(&output)),
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Nothing is shown before it is on record.
fn all_that_was_shown_is_kept(stage: &Stage, shown: &str) {
    let whole = shown.rsplit_once('\n').map_or("", |(whole, _torn)| whole);
    let lines: Vec<Value> = whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let Some(first) = lines.first() else { return };
    let store = Store::open_read_only(&stage.path("record.db")).unwrap();
    let kept = store.events_of(&store.find(first["run"].as_str().unwrap()).unwrap()).unwrap();
    let kept: Vec<Value> = kept.iter().map(|event| serde_json::to_value(event).unwrap()).collect();
    for line in lines.iter().filter(|line| !["step_started", "note"].contains(&line["event"].as_str().unwrap())) {
        assert!(kept.contains(line), "shown, and not on record: {line}");
    }
}
