//! What a run costs, counted and not timed: waits for the disk, writes to the pipe, questions to the controller.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod agent_support;

use std::{
    io::{PipeWriter, Write},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread::JoinHandle,
};

use agent_support::{Controller, Host, Told};
use rollbook::{
    agent::{self, Machine},
    base::Digest,
    model::{
        event::{HostOutcome, Mode, StepOutcome},
        facts::Facts,
    },
    target::{Probe, disk, process::Running},
    wire::{FromAgent, ToAgent},
};
use serde_json::json;

/// The agent's end of the pipe, and how often it was written to.
struct Counted(PipeWriter, Arc<AtomicU32>);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// What a run has cost.
#[derive(Debug)]
struct Cost {
    told: Told,
    syncs: u64,
    writes: u32,
}

/// An apply of `steps`, all of them there before the first is begun.
fn apply(host: &Host, letter: u32, steps: impl Fn(&mut Controller)) -> Cost {
    let probe = Probe::new(host.root(), Facts { is_root: true, ..Facts::default() }, Running::default());
    let machine = Machine { probe, store: host.store(), digest: Digest::of(b"a test's agent") };
    let (agent_reads, to_agent) = std::io::pipe().unwrap();
    let (from_agent, agent_writes) = std::io::pipe().unwrap();
    let writes = Arc::new(AtomicU32::new(0));
    let counted = Counted(agent_writes, Arc::clone(&writes));
    let agent: JoinHandle<u64> = std::thread::spawn(move || {
        agent::serve(agent_reads, counted, &machine).unwrap();
        disk::syncs()
    });
    let mut controller = Controller::greet(to_agent, from_agent, None);
    controller.open(Mode::Apply, letter);
    // The steps come while this one still looks.
    controller.task("shell", json!({"cmd": "sleep 3", "changes": false}));
    steps(&mut controller);
    controller.tell(&ToAgent::Close { witness: None });
    let told = controller.listen();
    let writes = writes.load(Ordering::SeqCst);
    controller.hang_up();
    Cost { told, syncs: agent.join().unwrap(), writes }
}

fn files(count: usize) -> impl Fn(&mut Controller) {
    move |controller| {
        for n in 0..count {
            controller.task("copy", json!({"dest": format!("/etc/file-{n}"), "content": format!("{n}\n")}));
        }
    }
}

/// Host with `/etc`, and what an apply of so many files costs there, first and again.
fn costs_of(count: usize) -> (Cost, Cost) {
    let host = Host::new();
    host.write("etc/other", "other\n");
    let first = apply(&host, 1, files(count));
    assert_eq!(first.told.closed().outcome, HostOutcome::Succeeded, "{first:?}");
    assert_eq!(first.told.closed().counts.changed as usize, count);
    let again = apply(&host, 2, files(count));
    assert_eq!(again.told.closed().counts.changed, 0, "{again:?}");
    (first, again)
}

#[test]
fn steps_that_came_together_share_their_waits_for_the_disk() {
    let (few, _) = costs_of(5);
    let (many, _) = costs_of(45);
    // The journal, and the new files before they take their places: nothing grows with the number of steps.
    assert_eq!(many.syncs, few.syncs);
    assert!(few.syncs <= 13, "{}", few.syncs);
}

#[test]
fn an_unchanged_run_waits_for_the_disk_no_more_with_more_steps() {
    let (_, few) = costs_of(5);
    let (_, many) = costs_of(45);
    assert_eq!(many.syncs, few.syncs);
    assert!(few.syncs <= 1, "{}", few.syncs);
}

#[test]
fn nothing_is_asked_of_the_controller_while_steps_are_done() {
    let (few, _) = costs_of(5);
    let (many, again) = costs_of(45);
    for cost in [&few, &many, &again] {
        let asks = cost.told.messages.iter().filter(|message| matches!(message, FromAgent::Need(_))).count();
        assert_eq!(asks, 0, "{cost:?}");
    }
    // Each step says that it begins and how it ended, and these are told together: with time in between at most every
    // 20 ms. Far fewer than one for each message, however slow this machine is.
    assert!(again.told.messages.len() > 90 && again.writes < 60, "{} of {}", again.writes, again.told.messages.len());
}

#[test]
fn an_edit_of_what_an_earlier_step_makes_flies_with_it_and_comes_back() {
    let host = Host::new();
    host.write("etc/app.conf", "one\n");
    let before = host.picture();
    let steps = |fails: bool| {
        move |controller: &mut Controller| {
            for n in 0..6 {
                controller.task("lineinfile", json!({"path": "/etc/app.conf", "line": format!("line {n}")}));
            }
            controller.task("file", json!({"path": "/etc/new", "state": "directory"}));
            controller.task("copy", json!({"dest": "/etc/new/file", "content": "text\n"}));
            controller.task("file", json!({"path": "/etc/new/file", "mode": "0600"}));
            if fails {
                controller.task("fail", json!({"msg": "this far"}));
            }
        }
    };
    let back = apply(&host, 1, steps(true));
    assert_eq!(back.told.closed().outcome, HostOutcome::RolledBack, "{back:?}");
    assert_eq!(host.picture(), before);
    let there = apply(&host, 2, steps(false));
    assert_eq!(there.told.closed().outcome, HostOutcome::Succeeded, "{there:?}");
    assert_eq!(host.read("etc/app.conf").lines().count(), 7);
}

#[test]
fn what_was_not_foreseen_is_armed_anew_and_all_comes_back() {
    let host = Host::new();
    host.write("etc/a", "a\n");
    std::fs::hard_link(host.root().join("etc/a"), host.root().join("etc/b")).unwrap();
    let before = host.picture();
    let cost = apply(&host, 1, |controller| {
        controller.task("file", json!({"path": "/etc/a", "mode": "0600"}));
        // It is the same file: when its turn comes, there is nothing to do.
        controller.task("file", json!({"path": "/etc/b", "mode": "0600"}));
        controller.task("copy", json!({"dest": "/etc/c", "content": "c\n"}));
        controller.task("fail", json!({"msg": "this far"}));
    });
    let outcomes = [StepOutcome::Ok, StepOutcome::Changed, StepOutcome::Ok, StepOutcome::Changed, StepOutcome::Failed];
    assert_eq!(cost.told.outcomes(), outcomes, "{cost:?}");
    assert_eq!(cost.told.closed().outcome, HostOutcome::RolledBack, "{cost:?}");
    assert_eq!(cost.told.undone().len(), 2, "{cost:?}");
    assert_eq!(host.picture(), before);
}

#[test]
fn what_was_made_ahead_for_nothing_is_gone() {
    let host = Host::new();
    host.write("etc/a", "a\n");
    std::fs::hard_link(host.root().join("etc/a"), host.root().join("etc/b")).unwrap();
    let cost = apply(&host, 1, |controller| {
        controller.task("copy", json!({"dest": "/etc/first", "content": "1\n"}));
        controller.task("file", json!({"path": "/etc/a", "mode": "0600"}));
        // There is nothing to do: what flies behind it was made ahead with the first file, and is made anew.
        controller.task("file", json!({"path": "/etc/b", "mode": "0600"}));
        controller.task("copy", json!({"dest": "/etc/last", "content": "2\n"}));
    });
    assert_eq!(cost.told.closed().outcome, HostOutcome::Succeeded, "{cost:?}");
    let mut names: Vec<_> =
        std::fs::read_dir(host.root().join("etc")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a", "b", "first", "last"]);
}

#[test]
fn a_command_in_between_sees_what_came_before_it_and_nothing_after_it() {
    let host = Host::new();
    host.write("etc/a", "a\n");
    let root = host.root();
    let cost = apply(&host, 1, |controller| {
        controller.task("copy", json!({"dest": "/etc/one", "content": "1\n"}));
        let look = format!("test -e {0}/etc/one && test ! -e {0}/etc/two && touch {0}/etc/seen", root.display());
        controller.task_with("shell", json!({"cmd": look}), |task| task.undo = Some(agent_support::sh("true")));
        controller.task("copy", json!({"dest": "/etc/two", "content": "2\n"}));
    });
    assert_eq!(cost.told.closed().outcome, HostOutcome::Succeeded, "{cost:?}");
    assert!(host.has("etc/seen"));
}
