//! How often a host and its controller wait for each other in a run, counted on the controller's side and without a clock.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/job.rs"]
mod job;

use std::{fmt::Write, fs, sync::Arc};

use rollbook::{
    engine::host_run::{HostRun, Order},
    model::{
        event::{Counts, HostOutcome, StepOutcome},
        facts::Facts,
    },
    wire::{
        FromAgent, ToAgent,
        message::{Closed, TaskEnd},
    },
};

/// What a host answers to all that it was sent, once nothing more comes unless it says something.
fn answers(orders: &[Order]) -> Vec<FromAgent> {
    let answer = |order: &Order| match order {
        Order::Tell(ToAgent::Task(task)) => Some(FromAgent::Ended(Box::new(TaskEnd {
            no: task.no,
            outcome: StepOutcome::Changed,
            deeds: Vec::new(),
            output: None,
            message: None,
            data: "{}".to_owned(),
            attempts: 1,
            took_us: 1,
        }))),
        Order::Tell(ToAgent::Mark(mark)) => {
            (*mark == rollbook::model::runbook::Mark::End).then_some(FromAgent::BlockEnded)
        }
        Order::Close => {
            let closed = Closed { outcome: HostOutcome::Succeeded, counts: Counts::default(), message: None };
            Some(FromAgent::Closed(closed))
        }
        _ => None,
    };
    orders.iter().filter_map(answer).collect()
}

/// Runs the steps on a host that answers only when nothing more comes; how often it was waited for, and how many tasks
/// it was sent.
fn round_trips(steps_text: &str) -> (usize, usize) {
    let project = tempfile::tempdir().unwrap();
    fs::write(project.path().join("a.j2"), "{{ n }} on {{ host.name }} with {{ facts.arch }}\n").unwrap();
    let runbook = format!("runbook: Of a test\nhosts: all\nsteps:\n{steps_text}");
    let job = job::job(project.path(), &runbook, "all: {hosts: {one: {}}}");
    let mut run = HostRun::new(Arc::clone(&job), Arc::clone(&job.hosts[0]));
    let facts = Facts { arch: "x86_64".to_owned(), ..Facts::default() };
    let mut orders = run.begin(Some(facts));
    let (mut trips, mut tasks) = (0, 0);
    while !run.is_over() {
        tasks += orders.iter().filter(|order| matches!(order, Order::Tell(ToAgent::Task(_)))).count();
        let said = answers(&orders);
        assert!(!said.is_empty(), "nobody is waited for after {trips} round trips and {tasks} tasks");
        trips += 1;
        orders = said.into_iter().flat_map(|message| run.hear(message)).collect();
    }
    (trips, tasks)
}

/// Steps of several kinds that do not wait for each other.
fn independent(count: usize) -> String {
    let mut text = String::new();
    for n in 0..count {
        match n % 5 {
            0 => writeln!(text, "  - file: {{path: /srv/{n}, state: directory}}"),
            1 => writeln!(text, "  - copy: {{dest: /srv/file-{n}, content: \"{n} on {{{{ facts.hostname }}}}\"}}"),
            2 => writeln!(text, "  - template: {{src: a.j2, dest: /srv/template-{n}}}\n    vars: {{n: {n}}}"),
            3 => writeln!(text, "  - command: {{cmd: \"true\", creates: /srv/{n}}}\n    undo: \"true\""),
            _ => writeln!(text, "  - block:\n      - lineinfile: {{path: /srv/lines, line: \"{n}\"}}"),
        }
        .unwrap();
    }
    text
}

#[test]
fn steps_that_do_not_wait_for_each_other_are_sent_at_once() {
    // One for all steps, one for the end of the run.
    assert_eq!(round_trips(&independent(10)), (2, 10));
    assert_eq!(round_trips(&independent(100)), (2, 100));
}

#[test]
fn only_who_needs_a_result_waits_for_it() {
    let mut chain = independent(50);
    for n in 0..3 {
        let before = if n == 0 { String::new() } else { format!("it was {{{{ steps.s{}.changed }}}}", n - 1) };
        writeln!(chain, "  - copy: {{dest: /srv/chain-{n}, content: \"{before}\"}}\n    id: s{n}").unwrap();
    }
    chain.push_str(&independent(50));
    // The first of the chain goes with what is before it, and the last with what is behind it.
    assert_eq!(round_trips(&chain), (4, 103));
}
