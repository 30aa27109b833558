//! Steps that one host does for others: what each does, what goes back when, and what is lost when a line is.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

mod support;

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use rollbook::model::event::{Event, HostOutcome, StepOutcome, Undone};
use support::{Controller, Host, Kind, Said, host, until};

/// A balancer that takes each of two hosts out and back in again, around what changes on the host itself.
struct Site {
    balancer: Host,
    webs: [Host; 2],
}

impl Site {
    fn new() -> Site {
        let site = Site { balancer: host(Kind::Light), webs: [host(Kind::Light), host(Kind::Light)] };
        site.balancer.sh("mkdir /srv/in; touch /srv/in/web1 /srv/in/web2");
        site.webs.iter().for_each(|web| drop(web.sh("echo old >/etc/app.conf")));
        site
    }

    fn controller(&self) -> Controller<'_> {
        let names = [(&self.balancer, "balancer"), (&self.webs[0], "web1"), (&self.webs[1], "web2")];
        let lines: String = names.iter().map(|(host, name)| support::entry(name, host, "")).collect();
        Controller::of_inventory(&self.balancer, &lines)
    }

    /// What the balancer sends visitors to.
    fn is_in(&self) -> String {
        self.balancer.sh("ls /srv/in | xargs")
    }

    fn configurations(&self) -> [String; 2] {
        [0, 1].map(|web| self.webs[web].sh("cat /etc/app.conf"))
    }
}

/// `within` comes while the host is out.
fn runbook(controller: &Controller<'_>, strategy: &str, within: &str) -> PathBuf {
    let path = controller.path("site.yml");
    let text = format!(
        "runbook: Of a site
hosts: \"web*\"
strategy: {{{strategy}}}
steps:
  - name: out
    id: out
    command: {{cmd: [sh, -c, 'rm /srv/in/{{{{ host.name }}}} && hostname']}}
    undo: [sh, -c, 'touch /srv/in/{{{{ host.name }}}}; echo {{{{ host.name }}}} >>/srv/back']
    delegate_to: balancer
  - copy: {{content: new, dest: /etc/app.conf}}
{within}  - name: in
    copy: {{content: '', dest: '/srv/in/{{{{ host.name }}}}'}}
    delegate_to: balancer
"
    );
    fs::write(&path, text).unwrap();
    path
}

fn outcomes(controller: &Controller<'_>) -> BTreeMap<String, HostOutcome> {
    let ended = |event: Event| match event {
        Event::HostEnded { host, outcome, .. } => Some((host.to_string(), outcome)),
        _ => None,
    };
    events(controller).into_iter().filter_map(ended).collect()
}

fn events(controller: &Controller<'_>) -> Vec<Event> {
    controller.events_of_first("Of a site").into_iter().map(|stamped| stamped.event).collect()
}

/// That run's outcomes: the balancer's, and those of the two.
fn ended(controller: &Controller<'_>, expected: [HostOutcome; 3]) {
    let names = ["balancer", "web1", "web2"].map(str::to_owned);
    assert_eq!(outcomes(controller), names.into_iter().zip(expected).collect());
}

use HostOutcome::{NeedsRecovery, RolledBack, Succeeded, Unknown};

#[test]
#[ignore = "needs the fleet: tests/run"]
fn one_host_does_it_for_each_other() {
    let site = Site::new();
    let controller = site.controller();
    let within = "  - copy: {content: '{{ steps.out.stdout }}', dest: /etc/told}\n";
    let runbook = runbook(&controller, "grace: 5s", within);
    let before = site.is_in();
    let planned = controller.plan(&runbook, &[]).ended(0);
    planned.with("out (for web1)").with("out (for web2)").with("depends on steps.out");
    assert_eq!((site.is_in(), site.configurations()), (before.clone(), ["old\n", "old\n"].map(str::to_owned)));

    let said = controller.apply(&runbook, &[]).ended(0);
    said.with("balancer  out (for web1)").with("succeeded");
    assert_eq!((site.is_in(), site.configurations()), (before, ["new", "new"].map(str::to_owned)));
    let told = site.balancer.sh("hostname");
    assert!(site.webs.iter().all(|web| web.sh("cat /etc/told") == told.trim_end()));
    ended(&controller, [Succeeded; 3]);
    is_recorded(&controller);
    is_settled(&[&site.balancer, &site.webs[0], &site.webs[1]]);

    // What it did goes back with the run, and last in, first out.
    let run = site.balancer.sh("ls /var/lib/rollbook/runs | head -n 1");
    let run = run.trim().split('.').next().unwrap().to_owned();
    let inventory = controller.path("inventory.yml");
    let undo = controller.rollbook(&["undo", &run, "-i", inventory.to_str().unwrap(), "--yes", "--reason", "a test"]);
    undo.ended(0).with("in (for web2)");
    assert_eq!(site.configurations(), ["old\n", "old\n"].map(str::to_owned));
    assert_eq!(site.balancer.sh("wc -l </srv/back"), "2\n");
}

/// Each step that was delegated is told of both hosts: what was done of the one, and that it was done there of the other.
fn is_recorded(controller: &Controller<'_>) {
    let mut there = 0;
    for event in events(controller) {
        match event {
            Event::DeedDone { host, step, .. } if step.name.starts_with("out") || step.name.starts_with("in") => {
                assert_eq!(host.as_str(), "balancer");
                assert!(step.name.ends_with("(for web1)") || step.name.ends_with("(for web2)"), "{}", step.name);
                there += 1;
            }
            Event::StepEnded { host, step, end } if host.as_str() != "balancer" && step.name == "out" => {
                assert_eq!((end.outcome, end.message.as_deref()), (StepOutcome::Ok, Some("done on balancer")));
            }
            _ => {}
        }
    }
    assert_eq!(there, 4, "two steps for two hosts");
}

/// Nothing is open any more.
fn is_settled(hosts: &[&Host]) {
    for host in hosts {
        until("the run is settled", Duration::from_secs(60), || {
            host.sh("ls /var/lib/rollbook/runs || true").lines().all(|run| !run.ends_with(".open"))
        });
    }
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn what_was_done_for_a_host_that_fails_goes_back_behind_it() {
    let site = Site::new();
    let controller = site.controller();
    let within = "  - fail: {msg: never mind}\n    when: host.name == 'web2'\n";
    let said = controller.apply(runbook(&controller, "on_failure: rollback", within), &[]).ended(9);
    said.with("never mind").with("rolled back");
    assert_eq!(site.is_in(), "web1 web2\n");
    assert_eq!(site.configurations(), ["new", "old\n"].map(str::to_owned));
    assert_eq!(site.balancer.sh("wc -l </srv/back"), "1\n", "once, for the one");
    ended(&controller, [Succeeded, Succeeded, RolledBack]);
    let back: Vec<String> = events(&controller)
        .into_iter()
        .filter_map(|event| match event {
            Event::DeedUndone { host, how: Undone::Undone, .. } => Some(host.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(back, ["web2", "balancer"], "the host is back before visitors are");
    is_settled(&[&site.balancer, &site.webs[0], &site.webs[1]]);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn all_of_a_run_goes_back_together() {
    let site = Site::new();
    let controller = site.controller();
    let within = "  - fail: {msg: never mind}\n    when: host.name == 'web2'\n";
    controller.apply(runbook(&controller, "batches: 1, rollback: run", within), &[]).ended(7);
    assert_eq!(
        (site.is_in(), site.configurations()),
        ("web1 web2\n".to_owned(), ["old\n", "old\n"].map(str::to_owned))
    );
    ended(&controller, [RolledBack; 3]);
    is_settled(&[&site.balancer, &site.webs[0], &site.webs[1]]);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn what_fails_there_fails_here() {
    let site = Site::new();
    site.balancer.sh("rm /srv/in/web2");
    let controller = site.controller();
    let said = controller.apply(runbook(&controller, "batches: 1", ""), &[]).ended(9);
    said.with("balancer").with("on balancer: ").with("rolled back");
    assert_eq!(site.configurations(), ["new", "old\n"].map(str::to_owned));
    assert_eq!(site.is_in(), "web1 web2\n", "its undo ran: nobody knows how far it had come");
    is_settled(&[&site.balancer, &site.webs[0], &site.webs[1]]);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn what_cannot_go_back_there_is_told() {
    let site = Site::new();
    let controller = site.controller();
    let text = fs::read_to_string(runbook(&controller, "batches: 1", "  - fail: {msg: never mind}\n")).unwrap();
    let path = controller.path("irreversible.yml");
    let without: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("undo:")).collect();
    fs::write(&path, without.join("\n")).unwrap();
    let said = controller.apply(&path, &[]).ended(8);
    said.with("balancer  out (for web1)  run sh -c 'rm /srv/in/web1 && hostname'  CANNOT BE UNDONE, and stays");
    assert_eq!(site.configurations(), ["old\n", "old\n"].map(str::to_owned));
    assert_eq!(outcomes(&controller)["balancer"], NeedsRecovery);
    is_settled(&[&site.balancer, &site.webs[0], &site.webs[1]]);
}

const SLOW: &str = "  - command: {cmd: [sleep, '25']}\n    undo: 'true'\n";

/// Has both hosts out, and at work.
fn under_way(site: &Site, controller: &Controller<'_>) -> support::Running {
    let run = controller.start("apply", runbook(controller, "grace: 1s", SLOW), &["--yes"]);
    until("both are out and at work", Duration::from_secs(60), || {
        site.is_in() == "\n" && site.configurations() == ["new", "new"].map(str::to_owned)
    });
    run
}

fn all_is_back(site: &Site) {
    is_settled(&[&site.balancer, &site.webs[0], &site.webs[1]]);
    assert_eq!(
        (site.is_in(), site.configurations()),
        ("web1 web2\n".to_owned(), ["old\n", "old\n"].map(str::to_owned))
    );
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn when_the_operators_program_dies_all_go_back() {
    let site = Site::new();
    let controller = site.controller();
    under_way(&site, &controller).kill();
    all_is_back(&site);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn one_that_is_cut_off_goes_back_by_itself() {
    let site = Site::new();
    let controller = site.controller();
    let run = under_way(&site, &controller);
    site.balancer.cut();
    assert!(site.balancer.is_silent());
    let Said(said) = run.wait().ended(9);
    assert!(said.contains("balancer has not done it") && said.contains("UNKNOWN, the line was lost"), "{said}");
    ended(&controller, [Unknown, RolledBack, RolledBack]);
    site.balancer.heal();
    all_is_back(&site);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn one_that_cannot_be_reached_fails_those_who_ask() {
    let site = Site::new();
    let controller = site.controller();
    site.balancer.cut();
    let runbook = runbook(&controller, "grace: 1s", "");
    let said = controller.apply(runbook, &["--connect-timeout", "10"]).ended(9);
    said.with("balancer  UNREACHABLE").with("balancer has not done it");
    site.balancer.heal();
    all_is_back(&site);
    ended(&controller, [HostOutcome::Unreachable, RolledBack, RolledBack]);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn once_for_all_item_by_item_and_by_itself() {
    let site = Site::new();
    let controller = site.controller();
    let path = controller.path("once.yml");
    let text = "runbook: Of a site
hosts: \"web*\"
steps:
  - id: once
    loop: [a, b]
    shell: {cmd: 'echo {{ item }} >>/srv/once; echo {{ host.name }}'}
    undo: rm /srv/once
    delegate_to: balancer
    run_once: true
  - shell: {cmd: 'echo {{ host.name }} >/srv/own'}
    undo: rm /srv/own
    delegate_to: '{{ host.name }}'
  - copy: {content: '{{ steps.once.results[1].stdout }}', dest: /etc/told}
  - when: host.name == 'web2'
    copy: {content: x, dest: /srv/left-out}
    delegate_to: balancer
";
    fs::write(&path, text).unwrap();
    let _said = controller.apply(&path, &[]).ended(0);
    assert_eq!(site.balancer.sh("cat /srv/once; cat /srv/left-out"), "a\nb\nx");
    for (web, name) in site.webs.iter().zip(["web1\n", "web2\n"]) {
        assert_eq!(web.sh("cat /srv/own /etc/told"), format!("{name}web1"));
    }
    assert!(!site.balancer.outside("/srv/own").exists());
    ended(&controller, [Succeeded; 3]);
}
