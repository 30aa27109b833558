//! Batches, on hosts of a fleet: who goes first, when the others are left alone, and what goes back together.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

mod support;

use std::{collections::BTreeMap, fs, time::Duration};

use rollbook::model::event::{Event, HostOutcome, Stamped};
use support::{Controller, Host, Kind, host, until};

/// The bad host fails at the second step, after all hosts have had time to be at work, and when it is let go.
fn runbook(controller: &Controller<'_>, strategy: &str, bad: &str) -> std::path::PathBuf {
    let path = controller.path("strategy.yml");
    let text = format!(
        "runbook: In batches\nhosts: all\nstrategy:\n{strategy}\nsteps:\n\
         - copy: {{content: \"new\\n\", dest: /etc/motd}}\n\
         - shell: {{cmd: \"test {{{{ host.name }}}} != '{bad}' || {{ until [ -e /srv/go ]; do sleep 0.1; done; sleep 1; false; }}\"}}\n  undo: \"true\"\n  timeout: 120s\n"
    );
    fs::write(&path, text).unwrap();
    path
}

fn outcomes(controller: &Controller<'_>) -> BTreeMap<String, HostOutcome> {
    let ended = |stamped: Stamped| match stamped.event {
        Event::HostEnded { host, outcome, .. } => Some((host.to_string(), outcome)),
        _ => None,
    };
    controller.events("2").into_iter().filter_map(ended).collect()
}

fn motd(host: &Host) -> String {
    fs::read_to_string(host.root.join("etc/motd")).unwrap_or_default()
}

/// Applies with a strategy on three hosts of which one fails; how each ended, and whose file is new.
fn apply(strategy: &str, bad: usize, code: i32) -> (Vec<HostOutcome>, Vec<bool>, String) {
    apply_beside(&[], strategy, bad, code)
}

/// The same; the one fails when these others have a new file.
fn apply_beside(mates: &[usize], strategy: &str, bad: usize, code: i32) -> (Vec<HostOutcome>, Vec<bool>, String) {
    let hosts = [host(Kind::Light), host(Kind::Light), host(Kind::Light)];
    // In the order of the inventory.
    let controller = Controller::of(&[&hosts[0], &hosts[1], &hosts[2]]);
    let before: Vec<String> = hosts.iter().map(motd).collect();
    let bad = hosts.get(bad);
    let name = bad.map_or("none", |host| host.name.as_str());
    let run = controller.start("apply", runbook(&controller, strategy, name), &["--yes"]);
    until("the others are at work", Duration::from_secs(60), || {
        mates.iter().all(|mate| motd(&hosts[*mate]) == "new\n")
    });
    bad.inspect(|host| fs::write(host.outside("/srv/go"), "").unwrap());
    let said = run.wait().ended(code);
    let outcomes = outcomes(&controller);
    let new = hosts.iter().zip(&before).map(|(host, before)| {
        let now = motd(host);
        assert!(now == "new\n" || now == *before, "{}: {now:?}", host.name);
        now == "new\n"
    });
    (hosts.iter().map(|host| outcomes[&host.name]).collect(), new.collect(), said.0)
}

use HostOutcome::{Failed, NotStarted, RolledBack, Succeeded};

#[test]
#[ignore = "needs the fleet: tests/run"]
fn a_canary_that_fails_spares_the_others() {
    let (outcomes, new, said) = apply("  batches: [1, 100%]", 0, 7);
    assert_eq!(outcomes, [RolledBack, NotStarted, NotStarted]);
    assert_eq!(new, [false, false, false]);
    assert!(said.contains("batch 1 of 2") && said.contains("the run was stopped: 1 host of 3 failed"), "{said}");
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn without_batches_everyone_has_a_turn() {
    let (outcomes, new, _) = apply("  on_failure: rollback", 1, 9);
    assert_eq!(outcomes, [Succeeded, RolledBack, Succeeded]);
    assert_eq!(new, [true, false, true]);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn a_batch_goes_back_together() {
    let (outcomes, new, _) = apply_beside(&[1], "  batches: [1, 2]\n  rollback: batch", 2, 9);
    assert_eq!(outcomes, [Succeeded, RolledBack, RolledBack]);
    assert_eq!(new, [true, false, false]);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn a_run_goes_back_together() {
    let (outcomes, new, _) = apply("  batches: 1\n  rollback: run", 2, 7);
    assert_eq!(outcomes, [RolledBack, RolledBack, RolledBack]);
    assert_eq!(new, [false, false, false]);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn some_may_fail() {
    let (outcomes, new, _) = apply("  batches: 1\n  max_failures: 2", 0, 9);
    assert_eq!(outcomes, [RolledBack, Succeeded, Succeeded]);
    assert_eq!(new, [false, true, true]);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn a_batch_that_does_not_verify_goes_back() {
    let strategy = "  batches: [1, 100%]\n  rollback: batch\n  bake: 300ms\n  verify:\n    - name: the file is old\n      \
                    shell: {cmd: \"! grep -q new /etc/motd\"}\n      undo: \"true\"";
    let (outcomes, new, said) = apply(strategy, 9, 7);
    assert_eq!(outcomes, [RolledBack, NotStarted, NotStarted]);
    assert_eq!(new, [false, false, false]);
    assert!(said.contains("waiting 0.3 s") && said.contains("the file is old"), "{said}");
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn who_is_not_confirmed_has_failed_and_spares_the_others() {
    let elsewhere = "  batches: [1, 100%]\n  bake: 100ms\n  confirm_within: 3s\n  confirm_via: 127.0.0.2";
    let (outcomes, new, said) = apply(elsewhere, 9, 7);
    assert_eq!(outcomes, [RolledBack, NotStarted, NotStarted]);
    assert_eq!(new, [false, false, false]);
    assert!(said.contains("the run was stopped: 1 host of 3 failed"), "{said}");
    // Where all of it goes back together, those that were not judged yet go back too.
    let (outcomes, new, _) = apply(&elsewhere.replace("[1, 100%]", "1\n  rollback: run"), 9, 7);
    assert_eq!(outcomes, [RolledBack, RolledBack, RolledBack]);
    assert_eq!(new, [false, false, false]);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn what_stays_after_a_failure_is_confirmed() {
    let stop = "  on_failure: stop\n  confirm_within: 20s";
    let (outcomes, new, _) = apply_beside(&[1, 2], stop, 0, 9);
    assert_eq!((outcomes, new), (vec![Failed, Succeeded, Succeeded], vec![true, true, true]));
    // Nobody answers there.
    let (outcomes, new, _) = apply_beside(&[1, 2], &format!("{stop}\n  confirm_via: 127.0.0.2"), 0, 7);
    assert_eq!((outcomes, new), (vec![RolledBack, RolledBack, RolledBack], vec![false, false, false]));
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn an_agent_that_hangs_does_not_hold_the_others() {
    let hosts = [host(Kind::Light), host(Kind::Light)];
    let controller = Controller::of(&[&hosts[0], &hosts[1]]);
    let path = controller.path("hangs.yml");
    let text = "runbook: Hangs\nhosts: all\nstrategy: {batches: 1, max_failures: 2}\nsteps:\n\
                - copy: {content: \"new\\n\", dest: /etc/motd}\n\
                - shell: {cmd: \"{{ 'pkill -STOP -f [a]gent-' if host.name == params.bad else 'true' }}\"}\n  undo: \"true\"\n\
                params: {bad: {type: string, required: true}}\n";
    fs::write(&path, text).unwrap();
    let said = controller.apply(&path, &["--set", &format!("bad={}", hosts[0].name)]).ended(9);
    said.with("the agent has said nothing for 60 s").with("UNKNOWN");
    let outcomes = outcomes(&controller);
    assert_eq!((outcomes[&hosts[0].name], outcomes[&hosts[1].name]), (HostOutcome::Unknown, Succeeded));
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn it_may_go_on_after_a_failure() {
    let hosts = [host(Kind::Light)];
    let controller = Controller::of(&[&hosts[0]]);
    let path = controller.path("on.yml");
    let text = "runbook: Goes on\nhosts: all\nstrategy: {on_failure: continue}\nsteps:\n- fail: {msg: never mind}\n\
                - copy: {content: \"new\\n\", dest: /etc/motd}\n";
    fs::write(&path, text).unwrap();
    controller.apply(&path, &[]).ended(9).with("never mind");
    assert_eq!(outcomes(&controller)[&hosts[0].name], Failed);
    assert_eq!(motd(&hosts[0]), "new\n");
}

/// Applies steps on three hosts with one fork; the events of the run.
fn apply_steps(steps: &str, code: i32) -> ([Host; 3], Vec<Event>, String) {
    let hosts = [host(Kind::Light), host(Kind::Light), host(Kind::Light)];
    let controller = Controller::of(&[&hosts[0], &hosts[1], &hosts[2]]);
    let path = controller.path("turns.yml");
    fs::write(&path, format!("runbook: In turns\nhosts: all\nsteps:\n{steps}")).unwrap();
    let said = controller.apply(&path, &["--forks", if code == 0 { "1" } else { "3" }]).ended(code);
    let events = controller.events("2").into_iter().map(|stamped| stamped.event).collect();
    (hosts, events, said.0)
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn what_is_done_once_is_done_by_the_first_and_known_by_all() {
    let steps = "- {id: once, command: {cmd: [hostname], undo: \"true\"}, run_once: true}\n"
        .replace(", undo: \"true\"}", "}, undo: \"true\"");
    let (hosts, events, _) =
        apply_steps(&format!("{steps}- copy: {{content: \"{{{{ steps.once.stdout }}}}\", dest: /etc/motd}}\n"), 0);
    let first = hosts[0].sh("hostname");
    for host in &hosts {
        assert_eq!(motd(host), first.trim_end());
    }
    let done: Vec<String> = events
        .iter()
        .filter_map(|event| match event {
            Event::DeedDone { host, step, .. } if step.kind == "command" => Some(host.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(done, [hosts[0].name.clone()]);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn what_was_to_be_done_once_and_was_not_is_done_by_nobody() {
    let steps = "- copy: {content: \"new\\n\", dest: /etc/motd}\n- {command: {cmd: [\"false\"]}, run_once: true}\n";
    let (hosts, events, said) = apply_steps(steps, 7);
    assert!(said.contains(&format!("it is done once, on {}, and was not", hosts[0].name)), "{said}");
    assert!(hosts.iter().all(|host| motd(host) != "new\n"), "{said}");
    let back = events.iter().filter(|event| matches!(event, Event::HostEnded { outcome: RolledBack, .. })).count();
    assert_eq!(back, 3, "{said}");
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn a_throttled_step_is_done_by_so_many_at_once() {
    let hosts = [host(Kind::Light), host(Kind::Light), host(Kind::Light)];
    let controller = Controller::of(&[&hosts[0], &hosts[1], &hosts[2]]);
    let path = controller.path("turns.yml");
    let most = |limit: u32, sleep_s: f32| {
        let step = format!("{{shell: {{cmd: sleep {sleep_s}}}, undo: \"true\", throttle: {limit}}}");
        fs::write(&path, format!("runbook: In turns\nhosts: all\nsteps:\n- {step}\n")).unwrap();
        let said = controller.apply(&path, &["--json"]).ended(0).0;
        let (mut at_work, mut most) = (0, 0);
        for line in said.lines() {
            at_work += i32::from(line.contains(r#""event":"step_started""#));
            at_work -= i32::from(line.contains(r#""event":"step_ended""#));
            most = most.max(at_work);
        }
        most
    };
    assert_eq!(most(1, 0.3), 1);
    assert!(most(3, 5.0) > 1, "without need they do not wait for each other");
}
