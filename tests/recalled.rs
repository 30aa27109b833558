//! A run is stopped while a host is becoming final: what it is told then, and how it ends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/job.rs"]
mod job;

use std::sync::Arc;

use rollbook::{
    base::{Fault, FaultKind},
    engine::host_run::{HostRun, Order},
    model::{
        event::{Counts, Event, HostOutcome, StepOutcome},
        ids::TaskNo,
    },
    wire::{
        FromAgent, ToAgent,
        message::{Closed, TaskEnd},
    },
};

/// A host that has done its one step, and was told to become final.
fn closing() -> HostRun {
    let project = tempfile::tempdir().unwrap();
    let runbook =
        "runbook: Of a test\nhosts: all\nstrategy: {confirm_within: 60s}\nsteps:\n- copy: {content: a, dest: /srv/a}\n";
    let job = job::job(project.path(), runbook, "all: {hosts: {one: {}}}");
    let mut run = HostRun::new(Arc::clone(&job), Arc::clone(&job.hosts[0]));
    run.begin(None);
    let end = TaskEnd {
        no: TaskNo { step: 0, item: 0 },
        outcome: StepOutcome::Changed,
        deeds: Vec::new(),
        output: None,
        message: None,
        data: "{}".to_owned(),
        attempts: 1,
        took_us: 1,
    };
    let orders = run.hear(FromAgent::Ended(Box::new(end)));
    assert!(matches!(orders.last(), Some(Order::Close)), "{orders:?}");
    run
}

fn told(orders: Vec<Order>) -> Vec<ToAgent> {
    let told = |order| if let Order::Tell(message) = order { Some(message) } else { None };
    orders.into_iter().filter_map(told).collect()
}

/// How the host ends, with what fault, when its agent says how its run ended; and what is noted.
fn ends(run: &mut HostRun, outcome: HostOutcome) -> (HostOutcome, bool, String) {
    let orders = run.hear(FromAgent::Closed(Closed { outcome, counts: Counts::default(), message: None }));
    let (mut notes, mut end) = (String::new(), None);
    for order in orders {
        match order {
            Order::Event(Event::Note { message, .. }) => notes.push_str(&message),
            Order::Event(Event::HostEnded { outcome, fault, .. }) => end = Some((outcome, fault.is_some())),
            _ => {}
        }
    }
    let (outcome, is_faulty) = end.unwrap();
    (outcome, is_faulty, notes)
}

fn stopped() -> Fault {
    Fault::new(FaultKind::Failed, "stopped by the operator")
}

#[test]
fn who_waits_to_be_confirmed_is_stopped_and_goes_back() {
    let mut run = closing();
    assert_eq!(told(run.hold()), [ToAgent::Stop]);
    let orders = told(run.stop_and_undo(&stopped()));
    assert_eq!(orders.last(), Some(&ToAgent::Unwind));
    assert_eq!(ends(&mut run, HostOutcome::RolledBack), (HostOutcome::RolledBack, true, String::new()));
}

#[test]
fn who_is_put_back_with_its_batch_hears_it_while_it_waits_to_be_confirmed() {
    let mut run = closing();
    assert_eq!(told(run.interrupt(&stopped())), [ToAgent::Stop, ToAgent::Unwind]);
}

#[test]
fn who_was_final_before_has_succeeded_and_says_so() {
    let mut run = closing();
    run.hold();
    run.stop_and_undo(&stopped());
    let (outcome, is_faulty, notes) = ends(&mut run, HostOutcome::Succeeded);
    assert_eq!((outcome, is_faulty), (HostOutcome::Succeeded, false));
    assert!(notes.contains("final before it could be stopped") && notes.contains("rollbook undo"), "{notes}");
}

#[test]
fn who_is_kept_goes_on_to_be_confirmed() {
    let mut run = closing();
    run.hold();
    assert_eq!(told(run.stop_and_keep(&stopped())), [ToAgent::Keep]);
    assert_eq!(ends(&mut run, HostOutcome::Succeeded).0, HostOutcome::Succeeded);
}
