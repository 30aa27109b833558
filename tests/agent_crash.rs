//! The agent's own program, killed in the middle: whoever comes next settles the run.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod agent_support;

use std::{
    cell::Cell,
    fs,
    os::unix::fs::symlink,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use agent_support::{Controller, Host, Told, picture, sh, shell};
use rollbook::{
    model::{
        event::{HostOutcome, Mode, Undone},
        ids::{RunId, TaskNo},
        lease::{Bid, Stand},
        strategy::OnFailure,
    },
    wire::{
        FromAgent, ToAgent,
        message::{Handlers, Open, Settle, Task, UndoRun, Vigil},
    },
};
use serde_json::json;

struct Agent {
    child: Child,
    controller: Controller,
}

/// Starts the agent's program on the host.
fn start(host: &Host) -> Agent {
    let (agent_reads, to_agent) = std::io::pipe().unwrap();
    let (from_agent, agent_writes) = std::io::pipe().unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_rollbook-agent"))
        .args(["serve", "--root", host.root().to_str().unwrap()])
        .env("XDG_STATE_HOME", "/state")
        .stdin(Stdio::from(agent_reads))
        .stdout(Stdio::from(agent_writes))
        .spawn()
        .unwrap();
    Agent { child, controller: Controller::greet(to_agent, from_agent, None) }
}

/// One that has begun to apply its first run.
fn begun(host: &Host) -> Agent {
    let mut agent = start(host);
    agent.controller.open(Mode::Apply, 1);
    agent
}

impl Agent {
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn end(mut self) {
        drop(self.controller);
        let until = Instant::now() + Duration::from_secs(30);
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "the agent does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn lived_in() -> Host {
    let host = Host::new();
    host.write("etc/app.conf", "one\ntwo\n");
    fs::hard_link(host.root().join("etc/app.conf"), host.root().join("etc/second.conf")).unwrap();
    for n in 0..30 {
        host.write(&format!("srv/old/{n}/file"), &n.to_string());
    }
    symlink("0/file", host.root().join("srv/old/link")).unwrap();
    // The agent's own state is below the root too: made before, so that the pictures can be compared without it.
    host
}

/// What stands on the host, but for the agent's own state.
fn seen(host: &Host) -> std::collections::BTreeMap<std::path::PathBuf, String> {
    let mut seen = picture(&host.root());
    seen.retain(|path, _| {
        let path = path.strip_prefix(host.root()).unwrap();
        !["var", "state"].iter().any(|own| path.starts_with(own))
    });
    seen
}

fn steps(controller: &mut Controller) {
    controller.task("copy", json!({"dest": "/etc/app.conf", "content": "one\nTWO\n", "mode": "0600"}));
    controller.task("file", json!({"path": "/srv/new/x/y", "state": "directory", "mode": "2750"}));
    controller.task("copy", json!({"dest": "/srv/new/x/y/file", "content": "new\n".repeat(50_000)}));
    controller.task("file", json!({"path": "/srv/old", "state": "absent"}));
    controller.task("file", json!({"path": "/srv/current", "state": "link", "src": "new/x"}));
    controller.task("lineinfile", json!({"path": "/etc/app.conf", "line": "three"}));
    controller.task("file", json!({"path": "/etc/second.conf", "mode": "0604"}));
    controller.task("file", json!({"path": "/srv/current", "state": "absent"}));
    controller.task("copy", json!({"dest": "/srv/current", "content": "a file now"}));
}

/// How long a run takes here that nobody disturbs; some milliseconds at least.
fn time_of_a_run() -> Duration {
    let host = lived_in();
    let mut agent = start(&host);
    let began = Instant::now();
    agent.controller.open(Mode::Apply, 1);
    steps(&mut agent.controller);
    assert_eq!(agent.controller.close().closed().outcome, HostOutcome::Succeeded);
    let took = began.elapsed();
    agent.end();
    took.max(Duration::from_millis(40))
}

#[test]
fn a_run_killed_at_any_time_is_settled_by_the_next_agent() {
    let seed = u64::from(std::process::id());
    let (mut cut_off, mut before_anything, mut after_all) = (0, 0, 0);
    let step_us = u64::try_from(time_of_a_run().as_micros()).unwrap() / 40;
    for round in 0..40 {
        let host = lived_in();
        let before = seen(&host);
        let mut first = start(&host);
        first.controller.open(Mode::Apply, 1);
        steps(&mut first.controller);
        // Spread over the time that the run takes, with some chance in it.
        let chance = seed.wrapping_mul(6_364_136_223_846_793_005).rotate_left(round) % step_us;
        let pause = chance + u64::from(round) * step_us;
        std::thread::sleep(Duration::from_micros(pause));
        first.kill();
        let mut second = start(&host);
        match &second.controller.hello.open_run {
            Some(open) => {
                assert!(open.stand == Stand::CutOff { attempts: 0 } && open.lease.bid.operator == "ann", "{open:?}");
                cut_off += 1;
                second.controller.open(Mode::Apply, 2);
                let refused = second.controller.listen();
                assert!(refused.closed().message.as_deref().unwrap().contains("rollbook recover"));
            }
            None if seen(&host) == before => before_anything += 1,
            None => panic!("changed, and no run is open (seed {seed}, round {round})"),
        }
        second.controller.tell(&ToAgent::Recover { run: None, how: Settle::Back });
        let told = second.controller.listen();
        let expected = [HostOutcome::RolledBack, HostOutcome::Succeeded];
        assert!(expected.contains(&told.closed().outcome), "seed {seed}, round {round}: {told:?}");
        assert_eq!(seen(&host), before, "seed {seed}, round {round}: {told:?}");
        after_all += usize::from(told.undone().len() > 40);
        second.end();
    }
    assert!(
        cut_off > 5,
        "only {cut_off} of 40 were cut off in the middle ({before_anything} before, {after_all} late)"
    );
}

#[test]
fn a_recovery_that_is_killed_is_recovered() {
    let host = lived_in();
    let before = seen(&host);
    let mut agent = begun(&host);
    steps(&mut agent.controller);
    agent.controller.await_message(|message| matches!(message, FromAgent::Ended(end) if end.no.step == 8));
    agent.kill();
    for pause in [1, 2, 4, 8] {
        let mut agent = start(&host);
        agent.controller.tell(&ToAgent::Recover { run: None, how: Settle::BackAgain });
        std::thread::sleep(Duration::from_millis(pause));
        agent.kill();
    }
    let mut agent = start(&host);
    agent.controller.tell(&ToAgent::Recover { run: None, how: Settle::BackAgain });
    assert_ne!(agent.controller.listen().closed().outcome, HostOutcome::NeedsRecovery);
    assert_eq!(seen(&host), before);
    agent.end();
}

/// Asks for the undo of run 1.
fn undo(agent: &mut Agent, letter: u32) {
    let run = |letter| RunId::from_parts("20261123-051034", letter);
    let open = Open {
        bid: Bid { run: run(letter), operator: "ann".into(), reason: None, job: None },
        mode: Mode::Apply,
        on_failure: OnFailure::Rollback,
        witness: None,
        vigil: Vigil::default(),
    };
    agent.controller.tell(&ToAgent::Undo(Box::new(UndoRun { open, of: run(1), force_drift: false })));
}

#[test]
fn an_undo_that_is_killed_is_put_back_and_can_be_made_again() {
    let without_times = |host: &Host| {
        let mut seen = seen(host);
        // What comes back from another run's journal is a file anew: it has its times, and no other names.
        seen.values_mut().for_each(|what| *what = what.split(" inode ").next().unwrap().to_owned());
        seen
    };
    let host = lived_in();
    let before = without_times(&host);
    let mut agent = begun(&host);
    steps(&mut agent.controller);
    assert_eq!(agent.controller.close().closed().outcome, HostOutcome::Succeeded);
    agent.end();
    let after = seen(&host);
    let mut runs = (2..).map(|letter| letter << 8);
    for round in 0..15 {
        let mut agent = start(&host);
        undo(&mut agent, runs.next().unwrap());
        let heard = Cell::new(0);
        agent.controller.await_message(|message| {
            heard.set(heard.get() + usize::from(matches!(message, FromAgent::Done { .. })));
            heard.get() > round * 3 || *message == FromAgent::Ready
        });
        agent.kill();
        let mut agent = start(&host);
        assert!(agent.controller.hello.open_run.is_some(), "round {round}");
        agent.controller.tell(&ToAgent::Recover { run: None, how: Settle::Back });
        let told = agent.controller.listen();
        assert_eq!(told.closed().outcome, HostOutcome::RolledBack, "round {round}: {told:?}");
        assert_eq!(seen(&host), after, "round {round}: {told:?}");
        agent.end();
    }
    let mut agent = start(&host);
    undo(&mut agent, runs.next().unwrap());
    agent.controller.await_message(|message| *message == FromAgent::Ready);
    assert_eq!(agent.controller.close().closed().outcome, HostOutcome::Succeeded);
    assert_eq!(without_times(&host), before);
    undo(&mut agent, runs.next().unwrap());
    let again = agent.controller.listen();
    assert!(again.closed().message.as_deref().unwrap().contains("was undone by run"), "{again:?}");
    agent.end();
}

#[test]
fn a_command_that_was_cut_off_is_undone_or_named() {
    let host = Host::new();
    let log = host.root().join("log");
    let mut agent = begun(&host);
    let script = format!("echo done >> {0}; exec sleep 300", log.display());
    let undo = sh(&format!("echo undone >> {}", log.display()));
    agent.controller.task("shell", shell("true"));
    agent.controller.task_with("shell", shell(&script), |task| task.undo = Some(undo));
    let until = Instant::now() + Duration::from_secs(30);
    while !log.exists() {
        assert!(Instant::now() < until, "the command does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    agent.kill();
    let mut agent = start(&host);
    agent.controller.tell(&ToAgent::Recover { run: None, how: Settle::Back });
    let told = agent.controller.listen();
    assert_eq!(told.undone(), [&Undone::Undone, &Undone::Irreversible]);
    assert_eq!(told.closed().outcome, HostOutcome::NeedsRecovery);
    assert_eq!(fs::read_to_string(&log).unwrap(), "done\nundone\n");
    assert!(start(&host).controller.hello.open_run.is_none(), "it is settled, and someone was told");
    agent.end();
}

#[test]
fn a_command_whose_agent_was_killed_is_ended_before_it_is_undone() {
    let host = Host::new();
    let root = host.root().display().to_string();
    let goes_on = |name: &str| format!("(while echo more >>{root}/{name}; do sleep 0.05; done) & wait");
    // The agent of its undo is killed too; and that one does not heed SIGTERM.
    let undo = format!("test -e {root}/mended || {{ trap '' TERM; {}; }}; rm {root}/made", goes_on("undoing"));
    let await_file = |name: &str| {
        let until = Instant::now() + Duration::from_secs(30);
        while !host.has(name) {
            assert!(Instant::now() < until, "no {name}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let mut agent = begun(&host);
    agent.controller.task_with("shell", shell(&goes_on("made")), |task| task.undo = Some(sh(&undo)));
    await_file("made");
    agent.kill();
    let mut agent = start(&host);
    agent.controller.tell(&ToAgent::Recover { run: None, how: Settle::Back });
    await_file("undoing");
    agent.kill();
    host.write("mended", "");
    let mut agent = start(&host);
    assert_eq!(settle(&mut agent, Settle::Back).closed().outcome, HostOutcome::RolledBack);
    fs::remove_file(host.root().join("undoing")).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!((host.has("made"), host.has("undoing")), (false, false), "something goes on");
    agent.end();
}

#[test]
fn the_handler_of_a_run_that_was_cut_off_runs_with_the_old_file_in_place() {
    let host = Host::new();
    host.write("conf", "old");
    let mut agent = begun(&host);
    let read = format!("cat {0}/conf >> {0}/log", host.root().display());
    agent.controller.task_with("copy", json!({"dest": "/conf", "content": "new"}), |task| task.notify = vec![1]);
    agent.controller.task_with("shell", shell(&read), |task| task.only_if_notified = true);
    agent.controller.await_message(|message| matches!(message, FromAgent::Ended(end) if end.no.step == 1));
    agent.kill();
    assert_eq!(host.read("log"), "new");
    let mut agent = start(&host);
    assert_eq!(settle(&mut agent, Settle::Back).closed().outcome, HostOutcome::RolledBack);
    assert_eq!(host.read("log"), "newold");
    agent.end();
}

#[test]
fn a_handler_that_was_notified_is_run_when_the_file_is_back_though_it_had_not_been() {
    for (notified, log) in [(vec![1], "old"), (vec![], "")] {
        let host = Host::new();
        host.write("conf", "old");
        host.write("log", "");
        let mut agent = start(&host);
        agent.controller.open(Mode::Apply, 1);
        let read = format!("cat {0}/conf >> {0}/log", host.root().display());
        let mut handler = None;
        let keep = |task: &mut Task| {
            task.only_if_notified = true;
            handler = Some(Task { no: TaskNo { step: 1, item: 0 }, ..task.clone() });
            // What is sent here is another step, that nobody notifies.
            task.no.step = 9;
        };
        agent.controller.task_with("shell", shell(&read), keep);
        let handlers = Handlers { tasks: vec![handler.unwrap()], notified_by: [(2, notified)].into() };
        agent.controller.tell(&ToAgent::Handlers(handlers));
        agent.controller.task("debug", json!({"msg": "takes its number"}));
        agent.controller.task("copy", json!({"dest": "/conf", "content": "new"}));
        agent.controller.await_message(|message| matches!(message, FromAgent::Ended(end) if end.no.step == 2));
        agent.kill();
        assert_eq!((host.read("conf"), host.read("log")), ("new".to_owned(), String::new()));
        let mut agent = start(&host);
        let told = settle(&mut agent, Settle::Back);
        assert_eq!(told.closed().outcome, HostOutcome::RolledBack, "{told:?}");
        assert_eq!((host.read("conf"), host.read("log")), ("old".to_owned(), log.to_owned()));
        agent.end();
    }
}

#[test]
fn a_handler_that_failed_in_a_recovery_is_run_by_the_next() {
    let host = Host::new();
    host.write("conf", "old");
    let mut agent = begun(&host);
    let read = format!("test -e {0}/mended && cat {0}/conf >>{0}/log", host.root().display());
    let mut handler = None;
    let keep = |task: &mut Task| {
        task.only_if_notified = true;
        handler = Some(Task { no: TaskNo { step: 1, item: 0 }, ..task.clone() });
        task.no.step = 9;
    };
    agent.controller.task_with("shell", shell(&read), keep);
    let handlers = Handlers { tasks: vec![handler.unwrap()], notified_by: [(2, vec![1])].into() };
    agent.controller.tell(&ToAgent::Handlers(handlers));
    agent.controller.task("debug", json!({"msg": "takes its number"}));
    agent.controller.task("copy", json!({"dest": "/conf", "content": "new"}));
    agent.controller.await_message(|message| matches!(message, FromAgent::Ended(end) if end.no.step == 2));
    agent.kill();
    let mut agent = start(&host);
    let told = settle(&mut agent, Settle::Back);
    assert_eq!((told.closed().outcome, host.read("conf")), (HostOutcome::NeedsRecovery, "old".to_owned()), "{told:?}");
    host.write("mended", "");
    let told = settle(&mut agent, Settle::Back);
    assert_eq!(told.closed().outcome, HostOutcome::RolledBack, "{told:?}");
    assert_eq!(host.read("log"), "old");
    agent.end();
}

/// A run whose one undo fails, three times.
fn given_up(host: &Host) -> Agent {
    let mut agent = begun(host);
    let undo = format!("test -e {}", host.root().join("mended").display());
    agent.controller.task_with("shell", shell("true"), |task| task.undo = Some(sh(&undo)));
    agent.controller.task("fail", json!({"msg": "enough"}));
    let told = agent.controller.listen();
    assert_eq!(told.closed().outcome, HostOutcome::NeedsRecovery);
    assert!(matches!(told.undone()[..], [Undone::Failed(_)]));
    for attempt in 2..=3 {
        bars_others(&mut agent, attempt);
        let told = settle(&mut agent, Settle::Back);
        assert!(matches!(told.undone()[..], [Undone::Failed(_)]), "attempt {attempt}: {told:?}");
    }
    agent
}

fn bars_others(agent: &mut Agent, run: u32) {
    agent.controller.open(Mode::Apply, run);
    let refused = agent.controller.listen();
    assert!(refused.closed().message.as_deref().unwrap().contains("rollbook recover"), "{refused:?}");
}

fn settle(agent: &mut Agent, how: Settle) -> Told {
    agent.controller.tell(&ToAgent::Recover { run: None, how });
    agent.controller.listen()
}

#[test]
fn after_three_attempts_in_vain_someone_is_asked() {
    let host = Host::new();
    let mut agent = given_up(&host);
    let told = settle(&mut agent, Settle::Back);
    assert_eq!((told.undone().len(), told.closed().outcome), (0, HostOutcome::NeedsRecovery));
    assert!(told.closed().message.as_deref().unwrap().contains("3 attempts"), "{told:?}");
    agent.end();
    let mut agent = start(&host);
    assert_eq!(agent.controller.hello.open_run.as_ref().map(|open| open.stand), Some(Stand::CutOff { attempts: 3 }));
    bars_others(&mut agent, 7);
    host.write("mended", "");
    let told = settle(&mut agent, Settle::BackAgain);
    assert_eq!((told.undone(), told.closed().outcome), (vec![&Undone::Undone], HostOutcome::RolledBack));
    agent.controller.open(Mode::Apply, 9);
    assert_eq!(agent.controller.close().closed().outcome, HostOutcome::Succeeded);
    agent.end();
}

#[test]
fn a_copy_of_an_account_file_that_was_cut_off_does_not_stay() {
    let host = Host::new();
    let passwd = "root:x:0:0::/root:/bin/sh\nann:x:12:34::/:/bin/sh\n";
    host.write("etc/passwd", passwd);
    host.write("etc/group", "root:x:0:\nann:x:34:\n");
    host.write("etc/shadow", "root:*:1::::::\nann:*:1::::::\n");
    let mut agent = begun(&host);
    agent.controller.task("user", json!({"name": "ann", "shell": "/bin/bash"}));
    agent.controller.await_message(|message| matches!(message, FromAgent::Ended(_)));
    agent.kill();
    // As it stands before the first of the new files has its name.
    host.write("etc/passwd", passwd);
    let places = ["var/lib/rollbook/runs", "state/rollbook/runs"].map(|place| host.root().join(place));
    let run =
        fs::read_dir(places.iter().find(|place| place.is_dir()).unwrap()).unwrap().next().unwrap().unwrap().path();
    let journal = String::from_utf8_lossy(&fs::read(run.join("journal")).unwrap()).into_owned();
    let token = journal.split("\"token\":\"").nth(1).unwrap().split('"').next().unwrap();
    host.write(&format!("etc/.rollbook-{token}-0"), "root:secret:1::::::\n");
    let mut agent = start(&host);
    assert_eq!(settle(&mut agent, Settle::Back).closed().outcome, HostOutcome::RolledBack);
    assert!(!host.has(&format!("etc/.rollbook-{token}-0")));
    agent.end();
}

#[test]
fn attempts_that_do_not_come_to_an_end_are_counted_too() {
    let host = Host::new();
    let mut agent = begun(&host);
    let undo = format!("test -e {}/mended || kill -9 $PPID", host.root().display());
    agent.controller.task_with("shell", shell("true"), |task| task.undo = Some(sh(&undo)));
    agent.controller.await_message(|message| matches!(message, FromAgent::Ended(_)));
    agent.kill();
    for attempt in 0..3 {
        let mut agent = start(&host);
        let stand = agent.controller.hello.open_run.as_ref().map(|open| open.stand);
        assert_eq!(stand, Some(Stand::CutOff { attempts: attempt }));
        agent.controller.tell(&ToAgent::Recover { run: None, how: Settle::Back });
        agent.child.wait().unwrap();
    }
    let mut agent = start(&host);
    let told = settle(&mut agent, Settle::Back);
    assert!(told.closed().message.as_deref().unwrap().contains("3 attempts"), "{told:?}");
    host.write("mended", "");
    assert_eq!(settle(&mut agent, Settle::BackAgain).closed().outcome, HostOutcome::RolledBack);
    agent.end();
}

#[test]
fn who_stops_a_run_while_the_one_before_it_goes_back_is_heard() {
    let host = Host::new();
    let open = |agent: &mut Agent, letter: u32| {
        let run = RunId::from_parts("20261123-051034", letter);
        let job = Some(rollbook::base::Digest::of(b"the same command"));
        let bid = Bid { run, operator: "ann".into(), reason: None, job };
        let (on_failure, vigil) = (OnFailure::Rollback, Vigil { grace_ms: 0, ..Vigil::default() });
        agent.controller.tell(&ToAgent::Open(Open { bid, mode: Mode::Apply, on_failure, witness: None, vigil }));
    };
    let root = host.root().display().to_string();
    let mut agent = start(&host);
    open(&mut agent, 1);
    let undo = sh(&format!("touch {root}/going-back; sleep 1"));
    agent.controller.task_with("shell", shell("true"), |task| task.undo = Some(undo));
    agent.controller.await_message(|message| matches!(message, FromAgent::Ended(_)));
    agent.kill();
    let mut agent = start(&host);
    open(&mut agent, 2);
    agent.controller.task("copy", json!({"dest": "/done", "content": "new"}));
    while !host.has("going-back") {
        std::thread::sleep(Duration::from_millis(5));
    }
    agent.controller.tell(&ToAgent::Stop);
    agent.controller.await_message(|message| *message == FromAgent::Held);
    agent.controller.tell(&ToAgent::Unwind);
    let told = agent.controller.listen();
    assert_eq!((told.closed().outcome, host.has("done")), (HostOutcome::RolledBack, false), "{told:?}");
    agent.end();
}

#[test]
fn what_someone_answers_for_stays_as_it_is() {
    let host = Host::new();
    let mut agent = given_up(&host);
    let told = settle(&mut agent, Settle::AsItIs);
    assert_eq!((told.undone().len(), told.closed().outcome), (0, HostOutcome::Succeeded));
    agent.controller.open(Mode::Apply, 9);
    assert_eq!(agent.controller.close().closed().outcome, HostOutcome::Succeeded);
    agent.end();
}

#[test]
fn what_has_only_a_temporary_name_goes_where_all_stays_as_it_is() {
    let host = Host::new();
    host.write("etc/other", "other\n");
    let mut agent = begun(&host);
    agent.controller.task("copy", json!({"dest": "/etc/new", "content": "new\n"}));
    agent.controller.await_message(|message| matches!(message, FromAgent::Ended(_)));
    agent.kill();
    let open_run = fs::read_dir(host.root().join("var/lib/rollbook/runs")).unwrap().next().unwrap().unwrap().path();
    let journal = String::from_utf8_lossy(&fs::read(open_run.join("journal")).unwrap()).into_owned();
    let token = journal.split("\"token\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let temporary = format!("etc/.rollbook-{token}-0");
    host.write(&temporary, "made ahead\n");
    let mut agent = start(&host);
    assert_eq!(settle(&mut agent, Settle::AsItIs).closed().outcome, HostOutcome::Succeeded);
    agent.end();
    assert!(!host.has(&temporary) && host.has("etc/new") && host.has("etc/other"));
}

#[test]
fn the_program_tells_its_digest_and_version() {
    let run = |argument: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_rollbook-agent")).arg(argument).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let program = fs::File::open(env!("CARGO_BIN_EXE_rollbook-agent")).unwrap();
    let (digest, _) = rollbook::base::Digest::of_reader(program).unwrap();
    assert_eq!(run("--digest"), (true, format!("{digest}\n")));
    assert!(run("--version").1.starts_with("rollbook-agent "));
    assert!(!run("--nonsense").0);
    let host = Host::new();
    let agent = start(&host);
    assert_eq!(agent.controller.hello.digest, digest);
    agent.end();
}
