//! Whole runs of an agent: plan, apply, twice is once, the way back, a lost controller, recovery.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod agent_support;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    time::{Duration, Instant},
};

use agent_support::{Controller, Host, sh, shell};
use rollbook::{
    model::{
        change::{Deed, UndoKind},
        event::{HostOutcome, Mode, StepOutcome, Undone},
        ids::RunId,
        lease::Stand,
        runbook::Retry,
        strategy::OnFailure,
    },
    wire::{FromAgent, ToAgent, message::Settle},
};
use serde_json::json;

/// A host with something of everything.
fn lived_in() -> Host {
    let host = Host::new();
    host.write("etc/app.conf", "one\ntwo\n");
    fs::set_permissions(host.root().join("etc/app.conf"), fs::Permissions::from_mode(0o640)).unwrap();
    rustix::fs::setxattr(host.root().join("etc/app.conf"), "user.kept", b"yes", rustix::fs::XattrFlags::empty())
        .unwrap();
    fs::hard_link(host.root().join("etc/app.conf"), host.root().join("etc/second.conf")).unwrap();
    let old = std::time::UNIX_EPOCH + Duration::new(1_600_000_000, 123);
    fs::File::open(host.root().join("etc/app.conf")).unwrap().set_modified(old).unwrap();
    host.write("srv/old/a/b/deep", "deep");
    host.write("srv/old/a/top", "top");
    symlink("a/top", host.root().join("srv/old/link")).unwrap();
    host
}

/// Nine steps of all sorts that change a lived-in host.
fn nine_steps(controller: &mut Controller) {
    controller.task("copy", json!({"dest": "/etc/app.conf", "content": "one\nTWO\n", "mode": "0600"}));
    controller.task("file", json!({"path": "/srv/new/x/y", "state": "directory", "mode": "2750"}));
    controller.task("copy", json!({"dest": "/srv/new/x/y/file", "content": "new\n"}));
    controller.task("file", json!({"path": "/srv/old", "state": "absent"}));
    controller.task("file", json!({"path": "/srv/current", "state": "link", "src": "new/x"}));
    controller.task("lineinfile", json!({"path": "/etc/app.conf", "line": "three"}));
    controller.task("file", json!({"path": "/etc/second.conf", "mode": "0604"}));
    controller.task("file", json!({"path": "/etc/empty", "state": "touch"}));
    controller.task("file", json!({"path": "/srv/current", "state": "absent"}));
}

#[test]
fn a_plan_says_what_an_apply_does_and_writes_nothing() {
    let host = lived_in();
    let before = host.picture();
    let mut controller = host.connect();
    controller.open(Mode::Plan, 1);
    nine_steps(&mut controller);
    let plan = controller.close();
    assert_eq!(plan.closed().outcome, HostOutcome::Succeeded);
    assert_eq!(host.picture(), before);
    assert!(!host.store_path().exists(), "a plan has written to the store");
    controller.open(Mode::Apply, 2);
    nine_steps(&mut controller);
    let apply = controller.close();
    assert_eq!(apply.closed().outcome, HostOutcome::Succeeded, "{apply:?}");
    assert_eq!(apply.closed().counts.changed, 9);
    assert_eq!(plan.outcomes(), apply.outcomes());
    let planned: Vec<_> = plan.ends().iter().flat_map(|end| end.deeds.clone()).collect();
    let done: Vec<_> = apply
        .messages
        .iter()
        .filter_map(|message| match message {
            FromAgent::Done { report, .. } => Some((**report).clone()),
            _ => None,
        })
        .collect();
    assert_eq!(planned, done);
    assert!(planned[0].diff.as_deref().unwrap().contains("-two\n+TWO\n"));
    assert_eq!(host.read("etc/app.conf"), "one\nTWO\nthree\n");
    controller.hang_up();
}

#[test]
fn twice_is_once() {
    let host = lived_in();
    let mut controller = host.connect();
    for (letter, changed) in [(1, 8), (2, 0)] {
        controller.open(Mode::Apply, letter);
        nine_steps_without_last(&mut controller);
        let told = controller.close();
        assert_eq!(
            (told.closed().outcome, told.closed().counts.changed),
            (HostOutcome::Succeeded, changed),
            "{told:?}"
        );
    }
    assert_eq!(
        fs::read_dir(host.store_path().join("runs")).unwrap().count(),
        1,
        "a run that changed nothing left something"
    );
    controller.hang_up();
}

fn nine_steps_without_last(controller: &mut Controller) {
    controller.task("file", json!({"path": "/srv/new/x/y", "state": "directory", "mode": "2750"}));
    controller.task("copy", json!({"dest": "/srv/new/x/y/file", "content": "new\n"}));
    controller.task("file", json!({"path": "/srv/old", "state": "absent"}));
    controller.task("file", json!({"path": "/srv/current", "state": "link", "src": "new/x"}));
    controller.task("lineinfile", json!({"path": "/etc/app.conf", "line": "three"}));
    controller.task("file", json!({"path": "/etc/second.conf", "mode": "0604"}));
    controller.task("file", json!({"path": "/etc/empty", "state": "touch"}));
    controller.task("shell", json!({"cmd": "true", "creates": "/etc/app.conf"}));
    controller.task("copy", json!({"dest": "/etc/third.conf", "content": ""}));
}

#[test]
fn a_failure_at_the_end_puts_everything_exactly_back() {
    let host = lived_in();
    let before = host.picture();
    let mut controller = host.connect();
    controller.open(Mode::Apply, 1);
    nine_steps(&mut controller);
    controller.task("fail", json!({"msg": "enough"}));
    controller.task("copy", json!({"dest": "/etc/never", "content": "never"}));
    let told = controller.listen();
    assert_eq!(told.closed().outcome, HostOutcome::RolledBack, "{told:?}");
    assert!(told.closed().message.as_deref().unwrap().contains("enough"));
    assert!(told.undone().iter().all(|how| **how == Undone::Undone), "{:?}", told.undone());
    assert_eq!(told.closed().counts.undone as usize, told.undone().len());
    assert_eq!(host.picture(), before);
    assert_eq!(host.store().unsettled().unwrap(), None);
    controller.hang_up();
}

#[test]
fn with_stop_what_was_done_stays() {
    let host = lived_in();
    let mut controller = host.connect();
    controller.open_with(Mode::Apply, 1, OnFailure::Stop);
    controller.task("copy", json!({"dest": "/etc/new", "content": "new"}));
    controller.task("fail", json!({"msg": "enough"}));
    let told = controller.listen();
    assert_eq!(told.closed().outcome, HostOutcome::Failed);
    assert_eq!(host.read("etc/new"), "new");
    controller.open(Mode::Apply, 2);
    assert_eq!(controller.close().closed().outcome, HostOutcome::Succeeded);
    controller.hang_up();
}

#[test]
fn what_someone_else_changed_since_is_left_alone_and_named() {
    let host = lived_in();
    let mut controller = host.connect();
    controller.open(Mode::Apply, 1);
    controller.task("copy", json!({"dest": "/etc/app.conf", "content": "ours"}));
    controller.task("copy", json!({"dest": "/etc/other.conf", "content": "ours"}));
    controller.task("file", json!({"path": "/srv/made", "state": "directory"}));
    let theirs = host.root().join("etc/app.conf");
    let stray = host.root().join("srv/made/stray");
    controller.task("shell", shell(&format!("echo theirs > {}; echo x > {}", theirs.display(), stray.display())));
    controller.task("fail", json!({"msg": "enough"}));
    let told = controller.listen();
    assert_eq!(told.closed().outcome, HostOutcome::NeedsRecovery);
    let hows = told.undone();
    assert!(
        matches!(hows[..], [Undone::Irreversible, Undone::Drifted(_), Undone::Undone, Undone::Drifted(_)]),
        "{hows:?}"
    );
    assert_eq!(host.read("etc/app.conf"), "theirs\n");
    assert!(!host.has("etc/other.conf") && host.has("srv/made/stray"));
    assert!(told.closed().message.as_deref().unwrap().contains("/etc/app.conf"));
    controller.hang_up();
}

#[test]
fn commands_are_undone_by_their_undo_and_the_failed_one_too() {
    let host = Host::new();
    let log = host.root().join("log");
    let note = |word: &str| format!("echo {word} >> {}", log.display());
    let mut controller = host.connect();
    controller.open(Mode::Apply, 1);
    controller.task_with("shell", shell(&note("one")), |task| task.undo = Some(sh(&note("undo-one"))));
    controller.task_with("shell", shell(&format!("{}; exit 3", note("two"))), |task| {
        task.undo = Some(sh(&note("undo-two")));
    });
    let told = controller.listen();
    assert_eq!(told.closed().outcome, HostOutcome::RolledBack, "{told:?}");
    assert_eq!(host.read("log"), "one\ntwo\nundo-two\nundo-one\n");
    let failed = told.ends()[1];
    assert_eq!(failed.output.as_ref().unwrap().code, Some(3));
    assert!(failed.message.as_deref().unwrap().contains("ended with code 3"));
    controller.hang_up();
}

#[test]
fn a_failed_command_without_undo_does_not_need_recovery_and_a_done_one_does() {
    let host = Host::new();
    let mut controller = host.connect();
    controller.open(Mode::Apply, 1);
    controller.task("copy", json!({"dest": "/file", "content": "x"}));
    controller.task("command", json!({"cmd": "false"}));
    assert_eq!(controller.listen().closed().outcome, HostOutcome::RolledBack);
    controller.open(Mode::Apply, 2);
    controller.task("command", json!({"cmd": "true"}));
    controller.task("command", json!({"cmd": "false"}));
    let told = controller.listen();
    assert_eq!(told.closed().outcome, HostOutcome::NeedsRecovery);
    assert_eq!(told.undone(), [&Undone::Irreversible]);
    controller.hang_up();
}

#[test]
fn a_lost_controller_is_a_reason_to_put_everything_back() {
    let host = lived_in();
    let before = host.picture();
    let mut controller = host.connect();
    controller.open(Mode::Apply, 1);
    nine_steps(&mut controller);
    controller.await_message(|message| matches!(message, FromAgent::Ended(end) if end.no.step == 8));
    assert_ne!(host.picture(), before);
    controller.hang_up();
    assert_eq!(host.picture(), before);
    assert_eq!(host.store().unsettled().unwrap(), None);
}

#[test]
fn a_lost_controller_ends_a_command_that_would_take_long() {
    let host = Host::new();
    let mut controller = host.connect();
    controller.open(Mode::Apply, 1);
    controller.task("copy", json!({"dest": "/file", "content": "x"}));
    controller.task("command", json!({"cmd": "sleep 300"}));
    controller.await_message(|message| matches!(message, FromAgent::Started(no) if no.step == 1));
    let started = Instant::now();
    controller.hang_up();
    assert!(started.elapsed() < Duration::from_secs(100));
    assert!(!host.has("file"));
}

#[test]
fn cancelling_ends_the_command_and_unwinds() {
    let host = Host::new();
    let mut controller = host.connect();
    controller.open(Mode::Apply, 1);
    controller.task("copy", json!({"dest": "/file", "content": "x"}));
    controller.task("command", json!({"cmd": "sleep 300"}));
    controller.await_message(|message| matches!(message, FromAgent::Started(no) if no.step == 1));
    std::thread::sleep(Duration::from_millis(100));
    controller.tell(&ToAgent::Cancel);
    let told = controller.listen();
    assert_eq!(told.closed().outcome, HostOutcome::RolledBack);
    assert_eq!(told.ends()[0].message.as_deref(), Some("it was cancelled"));
    assert!(!host.has("file"));
    controller.hang_up();
}

#[test]
fn the_controller_can_ask_for_the_way_back() {
    let host = lived_in();
    let before = host.picture();
    let mut controller = host.connect();
    controller.open(Mode::Apply, 1);
    nine_steps(&mut controller);
    controller.tell(&ToAgent::Unwind);
    assert_eq!(controller.listen().closed().outcome, HostOutcome::RolledBack);
    assert_eq!(host.picture(), before);
    controller.hang_up();
}

#[test]
fn large_contents_are_asked_for_only_where_they_differ() {
    let host = Host::new();
    let large: String = (0..200_000).map(|n| format!("{n}\n")).collect();
    let mut controller = host.connect();
    for (letter, needs) in [(1, 1), (2, 0)] {
        controller.open(Mode::Apply, letter);
        controller.task("copy", json!({"dest": "/large", "content": large}));
        let told = controller.close();
        assert_eq!(told.closed().outcome, HostOutcome::Succeeded, "{:?}", told.closed());
        let asked = told.messages.iter().filter(|message| matches!(message, FromAgent::Need(_))).count();
        assert_eq!(asked, needs);
    }
    assert_eq!(host.read("large"), large);
    controller.open(Mode::Plan, 3);
    controller.task("copy", json!({"dest": "/other", "content": large}));
    let told = controller.close();
    assert_eq!(told.outcomes(), [StepOutcome::Changed]);
    assert!(told.messages.iter().all(|message| !matches!(message, FromAgent::Need(_))));
    controller.hang_up();
}

/// The file that is sent is itself moved to its place: whoever else wants it gets another one.
#[test]
fn a_large_content_that_two_steps_want_is_in_both_places() {
    let host = Host::new();
    let large: String = (0..200_000).map(|n| format!("{n}\n")).collect();
    host.write("before", "text\n");
    let before = host.picture();
    let mut controller = host.connect();
    for (letter, fails) in [(1, true), (2, false)] {
        controller.open(Mode::Apply, letter);
        controller.task("copy", json!({"dest": "/one", "content": large, "mode": "0640"}));
        controller.task("copy", json!({"dest": "/before", "content": large}));
        controller.task("lineinfile", json!({"path": "/one", "line": "one more"}));
        if fails {
            controller.task("fail", json!({"msg": "this far"}));
        }
        let told = controller.close();
        match fails {
            true => assert_eq!((told.closed().outcome, host.picture()), (HostOutcome::RolledBack, before.clone())),
            false => assert_eq!(told.closed().outcome, HostOutcome::Succeeded, "{:?}", told.closed()),
        }
    }
    controller.hang_up();
    assert_eq!(host.read("one"), format!("{large}one more\n"));
    assert_eq!(host.read("before"), large);
    let inode = |path| std::os::unix::fs::MetadataExt::ino(&host.root().join(path).metadata().unwrap());
    assert_ne!(inode("one"), inode("before"));
}

#[test]
fn handlers_run_when_they_are_woken_and_only_then() {
    let host = Host::new();
    let mut controller = host.connect();
    for (letter, outcome) in [(1, StepOutcome::Changed), (2, StepOutcome::Skipped)] {
        controller.open(Mode::Apply, letter);
        controller.task_with("copy", json!({"dest": "/file", "content": "x"}), |task| task.notify = vec![1]);
        controller.task_with("command", json!({"cmd": "true"}), |task| task.only_if_notified = true);
        assert_eq!(controller.close().outcomes()[1], outcome);
    }
    controller.hang_up();
}

#[test]
fn a_handlers_command_is_run_again_when_the_files_are_back() {
    let host = Host::new();
    host.write("conf", "old");
    let log = host.root().join("log");
    let read = format!("echo \"$GREETING $(cat {0}/conf)\" >> {0}/log", host.root().display());
    let steps = |controller: &mut agent_support::Controller, letter| {
        controller.open(Mode::Apply, letter);
        controller.task_with("copy", json!({"dest": "/conf", "content": "new"}), |task| task.notify = vec![1]);
        controller.task_with("shell", shell(&read), |task| {
            task.only_if_notified = true;
            task.environment = [("GREETING".to_owned(), "read".to_owned())].into();
        });
    };
    let mut controller = host.connect();
    steps(&mut controller, 1);
    controller.task("fail", json!({"msg": "enough"}));
    let told = controller.listen();
    assert_eq!(told.closed().outcome, HostOutcome::RolledBack, "{told:?}");
    assert_eq!(fs::read_to_string(&log).unwrap(), "read new\nread old\n");
    controller.hang_up();

    // One that fails with the new file, and with the old one too, is not held against the host.
    let mut controller = host.connect();
    controller.open(Mode::Apply, 2);
    controller.task_with("copy", json!({"dest": "/conf", "content": "new"}), |task| task.notify = vec![1]);
    controller.task_with("command", json!({"cmd": "false"}), |task| task.only_if_notified = true);
    let told = controller.listen();
    assert_eq!((told.closed().outcome, host.read("conf")), (HostOutcome::RolledBack, "old".to_owned()), "{told:?}");
    controller.hang_up();
}

#[test]
fn new_content_is_judged_before_it_is_in_place() {
    let host = lived_in();
    let before = host.picture();
    let mut controller = host.connect();
    controller.open(Mode::Apply, 1);
    controller.task("copy", json!({"dest": "/etc/app.conf", "content": "good\n", "validate": "grep -q good %s"}));
    controller.task("copy", json!({"dest": "/etc/app.conf", "content": "bad\n", "validate": "grep good %s"}));
    let told = controller.listen();
    assert_eq!(told.outcomes(), [StepOutcome::Changed, StepOutcome::Failed]);
    assert!(told.ends()[1].message.as_deref().unwrap().contains("refused it"));
    assert_eq!(host.picture(), before);
    controller.open(Mode::Apply, 2);
    controller.task("copy", json!({"dest": "/etc/app.conf", "content": "in place\n", "validate": "false"}));
    assert_eq!(controller.listen().closed().outcome, HostOutcome::RolledBack);
    assert_eq!(host.picture(), before);
    controller.hang_up();
}

#[test]
fn retries_and_deadlines_are_kept() {
    let host = Host::new();
    let count = host.root().join("count");
    let mut controller = host.connect();
    controller.open(Mode::Apply, 1);
    let script = format!("echo x >> {0}; test $(wc -l < {0}) -ge 3", count.display());
    controller.task_with("shell", shell(&script), |task| task.retry = Some(Retry { times: 5, delay_ms: 10 }));
    controller.task_with("command", json!({"cmd": "sleep 60"}), |task| task.timeout_s = Some(1));
    let told = controller.listen();
    assert_eq!(told.outcomes(), [StepOutcome::Changed, StepOutcome::Failed]);
    assert_eq!(told.ends()[0].attempts, 3);
    assert!(told.ends()[1].message.as_deref().unwrap().contains("its time was over"), "{:?}", told.ends()[1]);
    controller.hang_up();
}

#[test]
fn a_guard_that_still_sees_work_fails_the_step() {
    let host = Host::new();
    let mut controller = host.connect();
    controller.open(Mode::Apply, 1);
    controller.task("command", json!({"cmd": "true", "creates": "/never/made"}));
    let told = controller.listen();
    assert_eq!(told.outcomes(), [StepOutcome::Failed]);
    let message = told.ends()[0].message.as_deref().unwrap();
    assert_eq!(message, "it has run, but /never/made does not exist");
    controller.hang_up();
}

#[test]
fn of_a_sensitive_task_nothing_is_told() {
    let host = Host::new();
    host.write("file", "hunter1");
    let mut controller = host.connect();
    for mode in [Mode::Plan, Mode::Apply] {
        controller.open(mode, 1);
        controller.task_with("copy", json!({"dest": "/file", "content": "hunter2"}), |task| task.sensitive = true);
        controller.task_with("shell", json!({"cmd": "cat; echo hunter2 >&2", "stdin": "hunter2"}), |task| {
            task.sensitive = true;
            task.undo = Some(sh("echo hunter2"));
            task.environment.insert("PASSWORD".into(), "hunter2".into());
        });
        controller.task("shell", json!({"cmd": "cat > /dev/null", "stdin": "hunter2"}));
        let told = controller.close();
        let text = format!("{told:?}");
        assert_eq!(told.closed().outcome, HostOutcome::Succeeded, "{text}");
        assert!(!text.contains("hunter2"), "{text}");
        assert!(!text.contains(&rollbook::base::Digest::of(b"hunter2").short()), "{text}");
    }
    controller.hang_up();
}

#[test]
fn an_open_run_is_told_and_settled() {
    let host = lived_in();
    let before = host.picture();
    let mut first = host.connect();
    first.open(Mode::Apply, 1);
    nine_steps(&mut first);
    first.await_message(|message| matches!(message, FromAgent::Ended(end) if end.no.step == 8));
    let mut second = host.connect();
    assert_eq!(second.hello.open_run.as_ref().unwrap().stand, Stand::Working);
    second.open(Mode::Apply, 2);
    let refused = second.listen();
    assert_eq!(refused.closed().outcome, HostOutcome::Failed);
    assert!(refused.closed().message.as_deref().unwrap().contains("of ann is at work"));
    first.hang_up();
    assert_eq!(host.picture(), before);
    second.tell(&ToAgent::Recover { run: None, how: Settle::Back });
    assert_eq!(second.listen().closed().outcome, HostOutcome::Succeeded);
    second.hang_up();
}

#[test]
fn only_the_run_that_is_meant_is_settled() {
    let host = lived_in();
    let run = |letter| RunId::from_parts("20261123-051034", letter);
    let recover = |letter| ToAgent::Recover { run: Some(run(letter)), how: Settle::Back };
    let mut first = host.connect();
    first.open(Mode::Apply, 1);
    first.task("copy", json!({"dest": "/etc/app.conf", "content": "new"}));
    first.await_message(|message| matches!(message, FromAgent::Ended(_)));
    let mut second = host.connect();
    // The run that was found has ended, and another one is at work now.
    for word in [ToAgent::Steal { run: run(9), words: "bob: she is on leave".into() }, recover(9)] {
        second.tell(&word);
        let told = second.listen();
        assert_eq!((told.closed().outcome, told.closed().message.as_deref()), (HostOutcome::NotStarted, None));
    }
    assert_eq!(first.close().closed().outcome, HostOutcome::Succeeded);
    assert_eq!(host.read("etc/app.conf"), "new");
    second.tell(&recover(1));
    let told = second.listen();
    assert_eq!((told.closed().outcome, told.closed().message.as_deref()), (HostOutcome::Succeeded, None));
    first.hang_up();
    second.hang_up();
}

#[test]
fn a_journal_that_cannot_be_read_is_not_taken_for_none() {
    let host = lived_in();
    let mut controller = host.connect();
    controller.open(Mode::Apply, 1);
    controller.task("copy", json!({"dest": "/etc/app.conf", "content": "new"}));
    controller.close();
    let folder = host.store_path().join("runs").join(RunId::from_parts("20261123-051034", 1).to_string());
    let mut journal = fs::read(folder.join("journal")).unwrap();
    journal[20] ^= 1;
    fs::write(folder.join("journal"), journal).unwrap();
    fs::rename(&folder, folder.with_extension("open")).unwrap();
    controller.tell(&ToAgent::Recover { run: None, how: Settle::Back });
    let told = controller.listen();
    assert_eq!(told.closed().outcome, HostOutcome::NeedsRecovery, "{told:?}");
    assert!(told.closed().message.as_deref().unwrap().contains("put back by hand"), "{told:?}");
    controller.hang_up();
}

#[test]
fn the_undo_kind_is_told_before_anything_is_done() {
    let host = Host::new();
    let mut controller = host.connect();
    controller.open(Mode::Plan, 1);
    controller.task_with("command", json!({"cmd": "true"}), |task| task.undo = Some(sh("true")));
    controller.task("command", json!({"cmd": "true"}));
    controller.task("copy", json!({"dest": "/file", "content": "x"}));
    let told = controller.close();
    let kinds: Vec<UndoKind> = told.ends().iter().map(|end| end.deeds[0].undo).collect();
    assert_eq!(kinds, [UndoKind::Command, UndoKind::Irreversible, UndoKind::Restore]);
    assert!(matches!(told.ends()[0].deeds[0].deed, Deed::Act { .. }));
    controller.hang_up();
}

#[test]
fn a_plan_too_large_for_one_message_is_told_in_pieces() {
    let host = Host::new();
    for n in 0..5000 {
        host.write(&format!("tree/with/a/rather/long/path/{n:0100}"), "");
    }
    let mut controller = host.connect();
    controller.open(Mode::Plan, 1);
    controller.task("file", json!({"path": "/tree", "state": "absent"}));
    let told = controller.close();
    let before = told.messages.iter().filter(|message| matches!(message, FromAgent::Done { .. })).count();
    assert_eq!(before + told.ends()[0].deeds.len(), 5006);
    assert!(before > 0);
    controller.hang_up();
}

#[test]
fn garbage_from_the_controller_is_a_lost_controller() {
    let host = Host::new();
    let mut controller = host.connect();
    controller.open(Mode::Apply, 1);
    controller.task("copy", json!({"dest": "/file", "content": "x"}));
    controller.await_message(|message| matches!(message, FromAgent::Ended(_)));
    assert!(host.has("file"));
    std::io::Write::write_all(controller.to_agent.as_mut().unwrap(), &[0xff; 64]).unwrap();
    controller.hang_up();
    assert!(!host.has("file"));
}

#[test]
fn a_plan_goes_on_after_a_failure_and_says_so_at_the_end() {
    let host = Host::new();
    let mut controller = host.connect();
    controller.open(Mode::Plan, 1);
    controller.task("file", json!({"path": "/missing", "state": "file"}));
    controller.task("copy", json!({"dest": "/file", "content": "x"}));
    let told = controller.close();
    assert_eq!(told.outcomes(), [StepOutcome::Failed, StepOutcome::Changed]);
    assert_eq!(told.closed().outcome, HostOutcome::Failed);
    controller.hang_up();
}

#[test]
fn contents_that_come_faster_than_the_work_do_not_pile_up_and_are_not_lost() {
    let host = Host::new();
    let mut controller = host.connect();
    controller.open(Mode::Apply, 1);
    controller.task("command", json!({"cmd": "sleep 0.5"}));
    let contents: Vec<Vec<u8>> = (0..24u8).map(|n| vec![n; 2_000_000]).collect();
    for bytes in &contents {
        controller.send(rollbook::model::state::Content::of(bytes), bytes);
    }
    let text = String::from_utf8(contents[7].clone()).unwrap();
    controller.task("copy", json!({"dest": "/seventh", "content": text}));
    let told = controller.close();
    assert_eq!(told.closed().outcome, HostOutcome::Succeeded);
    assert!(told.messages.iter().all(|message| !matches!(message, FromAgent::Need(_))), "it had been sent ahead");
    assert_eq!(host.read("seventh"), text);
    let left = fs::read_dir(host.store_path().join("runs")).unwrap().next().unwrap().unwrap().path();
    assert!(!left.join("blobs").exists(), "what was sent is gone when the run is settled");
    controller.hang_up();
}

#[test]
fn acls_are_inherited_kept_and_come_back() {
    let host = Host::new();
    host.write("shared/old", "old");
    // version 2; owner rwx, user 7 rw-, group r-x, mask rwx, other ---
    let entry =
        |tag: u16, bits: u16, id: u32| [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat();
    let none = u32::MAX;
    let entries = [entry(1, 7, none), entry(2, 6, 7), entry(4, 5, none), entry(0x10, 7, none), entry(0x20, 0, none)];
    let acl = [&2u32.to_le_bytes()[..], &entries.concat()].concat();
    let set = |path: &str, name: &str| {
        rustix::fs::setxattr(host.root().join(path), name, &acl, rustix::fs::XattrFlags::empty()).unwrap();
    };
    set("shared", "system.posix_acl_default");
    set("shared/old", "system.posix_acl_access");
    let acls = |path: &str| {
        let mut value = [0; 256];
        rustix::fs::getxattr(host.root().join(path), "system.posix_acl_access", &mut value[..])
            .map(|n| value[..n].to_vec())
    };
    let before = (host.picture(), acls("shared/old").unwrap());
    let mut controller = host.connect();
    let tasks = |controller: &mut Controller| {
        controller.task("copy", json!({"dest": "/shared/new", "content": "new"}));
        controller.task("copy", json!({"dest": "/shared/old", "content": "changed", "mode": "0640"}));
        controller.task("file", json!({"path": "/shared/folder", "state": "directory"}));
    };
    controller.open(Mode::Apply, 1);
    tasks(&mut controller);
    assert_eq!(controller.close().closed().counts.changed, 3);
    controller.open(Mode::Apply, 2);
    tasks(&mut controller);
    controller.task("file", json!({"path": "/shared", "state": "absent"}));
    controller.task("fail", json!({"msg": "enough"}));
    let told = controller.listen();
    assert_eq!((told.closed().outcome, told.closed().counts.ok), (HostOutcome::RolledBack, 3), "{told:?}");
    assert_eq!(host.read("shared/old"), "changed");
    assert_eq!(acls("shared/old").unwrap().len(), acl.len());
    let found = rustix::fs::getxattr(host.root().join("shared"), "system.posix_acl_default", &mut [0; 256][..]);
    assert_eq!(found, Ok(acl.len()));
    controller.hang_up();
    assert_eq!(before.1, acl);
}
