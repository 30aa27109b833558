//! The dead man's switch, at the agent: what is to stay does so only when somebody came over another line.

mod agent_support;

use agent_support::{Controller, Host, shell};
use rollbook::{
    model::{
        event::{HostOutcome, Mode, StepOutcome},
        ids::{RunId, TaskNo},
        lease::Bid,
        strategy::OnFailure,
    },
    wire::{
        FromAgent, ToAgent,
        message::{Open, Vigil},
    },
};
use serde_json::json;

/// An apply whose first task is to be confirmed within some time; what it is to be confirmed with.
fn opened(host: &Host, within_ms: u32) -> (Controller, String) {
    host.write("etc/app.conf", "old");
    let mut controller = host.connect();
    controller.open(Mode::Apply, 1);
    controller.task_with("copy", json!({"dest": "/etc/app.conf", "content": "new"}), |task| {
        task.confirm_ms = Some(within_ms);
    });
    controller.task("copy", json!({"dest": "/etc/second.conf", "content": "new"}));
    let first = Some(TaskNo { step: 0, item: 0 });
    let told = controller.await_message(|message| matches!(message, FromAgent::Token { no, .. } if *no == first));
    let FromAgent::Token { token, .. } = told else { unreachable!("asked for above") };
    controller.await_message(|message| matches!(message, FromAgent::Ended(_)));
    (controller, token)
}

/// An apply that changes a file, and is to be confirmed as a whole; what it is to be confirmed with.
fn whole(host: &Host, on_failure: OnFailure, within_ms: u32) -> (Controller, String) {
    host.write("etc/app.conf", "old");
    let mut controller = host.connect();
    let run = RunId::from_parts("20261123-051034", 1);
    let bid = Bid { run, operator: "ann".into(), reason: None, job: None };
    let vigil = Vigil { grace_ms: 0, confirm_ms: Some(within_ms), ..Vigil::default() };
    controller.tell(&ToAgent::Open(Open { bid, mode: Mode::Apply, on_failure, witness: None, vigil }));
    let told = controller.await_message(|message| matches!(message, FromAgent::Token { no: None, .. }));
    let FromAgent::Token { token, .. } = told else { unreachable!("asked for above") };
    controller.task("copy", json!({"dest": "/etc/app.conf", "content": "new"}));
    controller.await_message(|message| matches!(message, FromAgent::Ended(_)));
    (controller, token)
}

/// Gives a token over another line; how the run stands then.
fn confirm(host: &Host, token: &str) -> HostOutcome {
    confirm_part(host, token, true)
}

fn confirm_part(host: &Host, token: &str, of_step: bool) -> HostOutcome {
    let mut other = host.connect();
    let run: RunId = other.hello.open_run.as_ref().expect("it is at work").run().clone();
    other.tell(&ToAgent::Confirm { run, token: token.to_owned(), of_step });
    let outcome = other.listen().closed().outcome;
    other.hang_up();
    outcome
}

#[test]
fn the_next_task_begins_when_the_step_is_confirmed() {
    let host = Host::new();
    let (mut controller, token) = opened(&host, 60_000);
    assert!(!host.has("etc/second.conf"), "it waits");
    assert_eq!(confirm(&host, &token), HostOutcome::Succeeded);
    let told = controller.close();
    assert_eq!((told.outcomes(), told.closed().outcome), (vec![StepOutcome::Changed], HostOutcome::Succeeded));
    assert_eq!((host.read("etc/app.conf"), host.read("etc/second.conf")), ("new".to_owned(), "new".to_owned()));
    controller.hang_up();
}

#[test]
fn what_is_not_confirmed_in_time_goes_back_and_nothing_comes_after_it() {
    for wrong in [None, Some("0123456789abcdef")] {
        let host = Host::new();
        let (mut controller, _) = opened(&host, 5_000);
        if let Some(wrong) = wrong {
            assert_eq!(confirm(&host, wrong), HostOutcome::RolledBack);
        }
        let told = controller.listen();
        assert!(told.outcomes().is_empty(), "nothing began behind it: {told:?}");
        assert_eq!(told.closed().outcome, HostOutcome::RolledBack);
        let why = told.closed().message.clone().unwrap_or_default();
        assert!(why.contains("not confirmed over a new connection"), "{why}");
        assert_eq!((host.read("etc/app.conf"), host.has("etc/second.conf")), ("old".to_owned(), false));
        controller.hang_up();
    }
}

#[test]
fn a_block_does_not_rescue_what_is_not_confirmed() {
    use rollbook::model::runbook::Mark;
    let host = Host::new();
    let mut controller = host.connect();
    controller.open(Mode::Apply, 1);
    controller.tell(&ToAgent::Mark(Mark::Begin));
    let make = |task: &mut rollbook::wire::message::Task| {
        task.confirm_ms = Some(500);
        task.undo = Some(agent_support::sh("true"));
    };
    controller.task_with("shell", shell("true"), make);
    controller.tell(&ToAgent::Mark(Mark::Rescue));
    controller.task("copy", json!({"dest": "/etc/rescued", "content": "new"}));
    controller.tell(&ToAgent::Mark(Mark::End));
    let told = controller.listen();
    assert_eq!((told.outcomes(), told.closed().outcome), (vec![StepOutcome::Changed], HostOutcome::RolledBack));
    assert!(!host.has("etc/rescued"));
    controller.hang_up();
}

#[test]
fn what_changes_nothing_needs_no_confirmation() {
    let host = Host::new();
    host.write("etc/app.conf", "new");
    let mut controller = host.connect();
    controller.open(Mode::Apply, 1);
    controller.task_with("copy", json!({"dest": "/etc/app.conf", "content": "new"}), |task| {
        task.confirm_ms = Some(60_000);
    });
    let told = controller.close();
    assert_eq!((told.outcomes(), told.closed().outcome), (vec![StepOutcome::Ok], HostOutcome::Succeeded));
    controller.hang_up();
}

#[test]
fn what_stays_after_a_failure_is_confirmed_too() {
    for (within_ms, outcome, text) in [(60_000, HostOutcome::Failed, "new"), (500, HostOutcome::RolledBack, "old")] {
        let host = Host::new();
        let (mut controller, token) = whole(&host, OnFailure::Stop, within_ms);
        controller.task("fail", json!({"msg": "enough"}));
        controller.await_message(|message| *message == FromAgent::Awaits);
        if outcome == HostOutcome::Failed {
            assert_eq!(confirm_part(&host, &token, false), outcome);
        }
        assert_eq!(controller.listen().closed().outcome, outcome);
        assert_eq!(host.read("etc/app.conf"), text);
        controller.hang_up();
    }
}

#[test]
fn what_a_failed_step_leaves_is_confirmed_too() {
    for on_failure in [OnFailure::Stop, OnFailure::Continue] {
        let host = Host::new();
        host.write("etc/app.conf", "old");
        let mut controller = host.connect();
        controller.open_with(Mode::Apply, 1, on_failure);
        let script = format!("echo new > {}/etc/app.conf; false", host.root().display());
        controller.task_with("shell", shell(&script), |task| {
            task.confirm_ms = Some(500);
            task.undo = Some(agent_support::sh(&format!("printf old > {}/etc/app.conf", host.root().display())));
        });
        controller.task("copy", json!({"dest": "/etc/second.conf", "content": "new"}));
        let told = controller.listen();
        assert_eq!((told.outcomes().len(), told.closed().outcome), (1, HostOutcome::RolledBack), "{told:?}");
        assert_eq!((host.read("etc/app.conf"), host.has("etc/second.conf")), ("old".to_owned(), false));
        controller.hang_up();
    }
}

#[test]
fn what_the_operator_keeps_is_confirmed_too() {
    for (within_ms, outcome, text) in [(60_000, HostOutcome::Failed, "new"), (500, HostOutcome::RolledBack, "old")] {
        let host = Host::new();
        let (mut controller, token) = whole(&host, OnFailure::Rollback, within_ms);
        controller.tell(&ToAgent::Stop);
        controller.tell(&ToAgent::Keep);
        controller.await_message(|message| *message == FromAgent::Awaits);
        if outcome == HostOutcome::Failed {
            assert_eq!(confirm_part(&host, &token, false), outcome);
        }
        assert_eq!(controller.listen().closed().outcome, outcome);
        assert_eq!(host.read("etc/app.conf"), text);
        controller.hang_up();
    }
}

#[test]
fn who_waits_to_be_confirmed_hears_that_it_is_stopped() {
    for (verdict, outcome, text) in
        [(ToAgent::Unwind, HostOutcome::RolledBack, "old"), (ToAgent::Keep, HostOutcome::Succeeded, "new")]
    {
        let host = Host::new();
        let (mut controller, token) = whole(&host, OnFailure::Rollback, 60_000);
        controller.tell(&ToAgent::Close { witness: None });
        controller.await_message(|message| *message == FromAgent::Awaits);
        controller.tell(&ToAgent::Stop);
        controller.await_message(|message| *message == FromAgent::Held);
        controller.tell(&verdict);
        if verdict == ToAgent::Keep {
            assert_eq!(confirm_part(&host, &token, false), outcome);
        }
        assert_eq!(controller.listen().closed().outcome, outcome);
        assert_eq!(host.read("etc/app.conf"), text);
        controller.hang_up();
    }
}
