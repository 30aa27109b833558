//! Hosts that are cut off, stop, or lose their power in the middle of a run; operators whose program dies. Each is seen
//! to have happened, and each host is as it was before, in the end.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

mod support;

use std::time::Duration;

use support::{Controller, Host, Kind, Running, host, until};

/// Two things are changed, then there is time to do something to the host.
const SLOW: &str = "  - copy: {content: new, dest: /etc/app.conf}
  - file: {path: /srv/made, state: directory}
  - command: {cmd: [sh, -c, 'sleep 8; touch /srv/slept'], creates: /srv/slept}
    undo: rm -f /srv/slept
";

/// Starts a slow run and waits until it has changed what it changes.
fn under_way(host: &Host) -> (Controller<'_>, Running) {
    host.sh("echo old >/etc/app.conf");
    let controller = Controller::of(&[host]);
    let runbook = controller.runbook(SLOW);
    let run = controller.start("apply", runbook, &["--yes"]);
    until("the host is changed", Duration::from_secs(60), || {
        host.outside("/srv/made").exists() && runs(host, "sleep 8")
    });
    (controller, run)
}

/// Whether a process runs whose command line has these words.
fn runs(host: &Host, words: &str) -> bool {
    let all = host.sh("for c in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <\"$c\" || true; echo; done 2>/dev/null");
    all.lines().any(|line| line.contains(words) && !line.contains("/proc/"))
}

/// All is as it was before the run, within a while.
fn is_put_back(host: &Host) {
    until("the host is as it was", Duration::from_secs(60), || {
        host.sh("cat /etc/app.conf") == "old\n" && !host.outside("/srv/made").exists()
    });
    assert!(!runs(host, "sleep 8"), "the run's command was ended");
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn a_short_cut_is_no_matter() {
    let host = host(Kind::Light);
    let (_controller, run) = under_way(&host);
    host.cut();
    assert!(!host.answers(), "it is cut off");
    host.heal();
    assert!(host.answers());
    let said = run.wait().ended(0);
    said.with("succeeded, 3 changed");
    assert_eq!(host.sh("cat /etc/app.conf"), "new");
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn a_host_that_is_cut_off_undoes_the_run_by_itself() {
    let host = host(Kind::Systemd);
    let (_controller, run) = under_way(&host);
    host.cut();
    assert!(!host.answers(), "it is cut off");
    let run = run.wait();
    assert!(run.took < Duration::from_secs(50), "silence is noticed, after {:?}", run.took);
    run.ended(9).with("UNKNOWN, the line was lost");
    host.heal();
    is_put_back(&host);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn a_frozen_host_goes_on_where_it_was() {
    let host = host(Kind::Light);
    let (_controller, mut run) = under_way(&host);
    host.freeze();
    assert!(!host.answers(), "it stands still");
    assert!(!run.is_over());
    host.thaw();
    run.wait().ended(0).with("succeeded, 3 changed");
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn a_frozen_host_does_not_hold_up_the_others() {
    let (frozen, other) = (host(Kind::Light), host(Kind::Light));
    frozen.freeze();
    let controller = Controller::of(&[&frozen, &other]);
    let runbook = controller.runbook("  - copy: {content: new, dest: /etc/app.conf}\n");
    let run = controller.apply(runbook, &["--connect-timeout", "3"]);
    assert!(run.took < Duration::from_secs(10), "{:?}", run.took);
    run.ended(9).with(&format!("{}  UNREACHABLE", frozen.name));
    assert_eq!(other.sh("cat /etc/app.conf"), "new");
    frozen.thaw();
    assert!(!frozen.outside("/etc/app.conf").exists());
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn a_power_cut_leaves_a_journal_that_the_next_contact_settles() {
    let host = host(Kind::Systemd);
    let (controller, run) = under_way(&host);
    let before = host.boot();
    host.reset();
    assert_ne!(before, host.boot(), "it was booted again");
    run.wait().ended(9).with("UNKNOWN, the line was lost");
    is_refused_and_settled(&host, &controller);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn so_does_a_session_whose_end_is_the_end_of_its_processes() {
    let host = host(Kind::Hardened);
    let (controller, run) = under_way(&host);
    run.kill();
    until("logind has ended the session, and the agent with it", Duration::from_secs(30), || !runs(&host, "agent-"));
    is_refused_and_settled(&host, &controller);
}

/// The next run is told what is the matter. `rollbook recover` brings everything back, names each deed as the run did, and
/// has nothing to do the second time.
fn is_refused_and_settled(host: &Host, controller: &Controller<'_>) {
    let refused = controller.apply(controller.runbook(SLOW), &[]).ended(8);
    refused.with("was cut off on this host, and is not settled").with("rollbook recover");
    let inventory = controller.path("inventory.yml");
    let recover =
        |more: &[&str]| controller.rollbook(&[&["recover", "-i", inventory.to_str().unwrap()], more].concat());
    recover(&["20000101-000000-aaaa"]).ended(8).with("another run is open here");
    recover(&[]).ended(0).with("recovery of what was cut off").with("put back").with("rolled back");
    is_put_back(host);
    let again = recover(&[]).ended(0);
    assert!(!again.0.contains("put back"), "{}", again.0);
}

fn an_operators_program_dies(kind: Kind) {
    let host = host(kind);
    let (_controller, run) = under_way(&host);
    run.kill();
    is_put_back(&host);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn when_the_operators_program_dies_the_host_goes_back() {
    an_operators_program_dies(Kind::Systemd);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn on_busybox_too() {
    an_operators_program_dies(Kind::Busybox);
}
