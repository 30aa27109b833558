//! What someone else has changed since stays as it is, however often the way back is gone.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod agent_support;

use agent_support::{Controller, Host, Told, sh, shell};
use rollbook::{
    model::{
        event::{HostOutcome, Mode, Undone},
        ids::RunId,
        lease::Bid,
        runbook::Mark,
        strategy::OnFailure,
    },
    wire::{
        ToAgent,
        message::{Open, Settle, UndoRun, Vigil},
    },
};
use serde_json::json;

fn with_a_user() -> Host {
    let host = Host::new();
    host.write("etc/passwd", "root:x:0:0::/root:/bin/sh\nann:x:12:34::/:/bin/sh\n");
    host.write("etc/group", "root:x:0:\nann:x:34:\n");
    host.write("etc/shadow", "root:*:1::::::\nann:*:1::::::\n");
    host
}

fn shell_of_ann(host: &Host) -> String {
    host.read("etc/passwd").lines().last().unwrap().rsplit(':').next().unwrap().to_owned()
}

/// Gives her another shell, as the run's own step.
fn change(controller: &mut Controller) {
    controller.task("user", json!({"name": "ann", "shell": "/bin/bash"}));
}

/// Gives her another shell, as someone else.
fn edit(host: &Host, controller: &mut Controller) {
    let passwd = host.root().join("etc/passwd");
    let script = format!("sed -i 's,/bin/.*sh$,/bin/zsh,' {}", passwd.display());
    controller.task_with("shell", shell(&script), |task| task.undo = Some(sh("true")));
}

#[track_caller]
fn is_left_alone(host: &Host, told: &Told) {
    assert!(told.undone().iter().any(|how| matches!(how, Undone::Drifted(_))), "{told:?}");
    assert_eq!((told.closed().outcome, &*shell_of_ann(host)), (HostOutcome::NeedsRecovery, "/bin/zsh"), "{told:?}");
}

fn recover(controller: &mut Controller) -> Told {
    controller.tell(&ToAgent::Recover { run: None, how: Settle::Back });
    controller.listen()
}

#[test]
fn a_recovery_leaves_alone_what_the_run_had_found_changed() {
    let host = with_a_user();
    let mut controller = host.connect();
    controller.open(Mode::Apply, 1);
    let undo = format!("test -e {}", host.root().join("mended").display());
    controller.task_with("shell", shell("true"), |task| task.undo = Some(sh(&undo)));
    change(&mut controller);
    edit(&host, &mut controller);
    controller.task("fail", json!({"msg": "enough"}));
    is_left_alone(&host, &controller.listen());
    is_left_alone(&host, &recover(&mut controller));
    host.write("mended", "");
    is_left_alone(&host, &recover(&mut controller));
    controller.hang_up();
}

#[test]
fn an_undo_leaves_alone_what_the_run_had_found_changed() {
    let host = with_a_user();
    let mut controller = host.connect();
    controller.open(Mode::Apply, 1);
    change(&mut controller);
    edit(&host, &mut controller);
    controller.task("fail", json!({"msg": "enough"}));
    is_left_alone(&host, &controller.listen());
    let run = |letter| RunId::from_parts("20261123-051034", letter);
    for (mode, letter) in [(Mode::Plan, 2), (Mode::Apply, 3)] {
        let open = Open {
            bid: Bid { run: run(letter), operator: "ann".into(), reason: None, job: None },
            mode,
            on_failure: OnFailure::Rollback,
            witness: None,
            vigil: Vigil::default(),
        };
        controller.tell(&ToAgent::Undo(Box::new(UndoRun { open, of: run(1), force_drift: false })));
        is_left_alone(&host, &controller.close());
    }
    controller.hang_up();
}

/// A block that fails, in which someone else has changed what it changed, or after it.
fn block(host: &Host, edits_inside: bool) -> Told {
    let mut controller = host.connect();
    controller.open(Mode::Apply, 1);
    controller.tell(&ToAgent::Mark(Mark::Begin));
    change(&mut controller);
    if edits_inside {
        edit(host, &mut controller);
    }
    controller.task("fail", json!({"msg": "no luck"}));
    controller.tell(&ToAgent::Mark(Mark::Rescue));
    controller.task("debug", json!({"msg": "rescued"}));
    controller.tell(&ToAgent::Mark(Mark::End));
    if !edits_inside {
        edit(host, &mut controller);
        controller.task("fail", json!({"msg": "enough"}));
    }
    let told = controller.listen();
    controller.hang_up();
    told
}

#[test]
fn what_a_block_found_changed_or_had_put_back_is_left_alone_by_the_run() {
    for edits_inside in [true, false] {
        let host = with_a_user();
        is_left_alone(&host, &block(&host, edits_inside));
    }
}
