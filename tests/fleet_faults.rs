//! Hosts that are cut off, stop, or lose their power in the middle of a run; operators whose program dies. Each is seen
//! to have happened, and each host is as it was before, in the end.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

mod support;

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use support::{Controller, Host, Kind, Running, host, until};

/// Two things are changed, then there is time to do something to the host: until it is let go.
const SLOW: &str = "  - copy: {content: new, dest: /etc/app.conf}
  - file: {path: /srv/made, state: directory}
  - command: {cmd: [sh, -c, 'sleep 300; touch /srv/slept'], creates: /srv/slept}
    undo: rm -f /srv/slept
";

/// What is at work then.
const SLEEP: &str = "sleep 300";

/// Lets a slow run go on to its end.
fn let_go(host: &Host) {
    host.sh(&format!("pkill -f '^{SLEEP}$'"));
}

/// A runbook of that name with a strategy.
fn runbook(controller: &Controller<'_>, name: &str, strategy: &str, steps: &str) -> PathBuf {
    let path = controller.path("with-strategy.yml");
    fs::write(&path, format!("runbook: {name}\nhosts: all\nstrategy: {{{strategy}}}\nsteps:\n{steps}")).unwrap();
    path
}

/// Starts a slow run that waits so many seconds for a lost controller, and waits until it has changed what it changes.
fn under_way(host: &Host, grace_s: u32) -> (Controller<'_>, Running) {
    under_way_with(host, &format!("grace: {grace_s}s"))
}

/// The same with any strategy.
fn under_way_with<'h>(host: &'h Host, strategy: &str) -> (Controller<'h>, Running) {
    host.sh("echo old >/etc/app.conf");
    let controller = Controller::of(&[host]);
    let runbook = runbook(&controller, "Slow", strategy, SLOW);
    let run = controller.start("apply", runbook, &["--yes"]);
    until("the host is changed", Duration::from_secs(60), || host.outside("/srv/made").exists() && runs(host, SLEEP));
    (controller, run)
}

/// Whether a process runs whose command line has these words.
fn runs(host: &Host, words: &str) -> bool {
    let all = host.sh("for c in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <\"$c\" || true; echo; done 2>/dev/null");
    all.lines().any(|line| line.contains(words) && !line.contains("/proc/"))
}

/// All is as it was before the run, within a while.
fn is_put_back(host: &Host) {
    until("the host is as it was", Duration::from_secs(120), || {
        host.sh("cat /etc/app.conf") == "old\n" && !host.outside("/srv/made").exists()
    });
    assert!(!runs(host, SLEEP), "the run's command was ended");
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn a_short_cut_is_no_matter() {
    let host = host(Kind::Light);
    let (_controller, run) = under_way(&host, 1);
    host.cut();
    assert!(host.is_silent(), "it is cut off");
    host.heal();
    let_go(&host);
    let said = run.wait().ended(0);
    said.with("succeeded, 3 changed");
    assert_eq!(host.sh("cat /etc/app.conf"), "new");
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn a_host_that_is_cut_off_undoes_the_run_by_itself() {
    let host = host(Kind::Systemd);
    let (_controller, run) = under_way(&host, 1);
    host.cut();
    let cut = Instant::now();
    assert!(host.is_silent(), "it is cut off");
    let run = run.wait();
    assert!(cut.elapsed() < Duration::from_secs(50), "silence is noticed, after {:?}", cut.elapsed());
    run.ended(9).with("UNKNOWN, the line was lost");
    host.heal();
    is_put_back(&host);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn a_frozen_host_goes_on_where_it_was() {
    let host = host(Kind::Light);
    let (_controller, mut run) = under_way(&host, 1);
    host.freeze();
    assert!(host.is_silent(), "it stands still");
    assert!(!run.is_over());
    host.thaw();
    let_go(&host);
    run.wait().ended(0).with("succeeded, 3 changed");
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn a_frozen_host_does_not_hold_up_the_others() {
    let (frozen, other) = (host(Kind::Light), host(Kind::Light));
    frozen.freeze();
    let controller = Controller::of(&[&frozen, &other]);
    let runbook = controller.runbook("  - copy: {content: new, dest: /etc/app.conf}\n");
    let run = controller.apply(runbook, &["--connect-timeout", "30"]);
    assert!(run.took < Duration::from_secs(80), "{:?}", run.took);
    run.ended(9).with(&format!("{}  UNREACHABLE", frozen.name));
    assert_eq!(other.sh("cat /etc/app.conf"), "new");
    frozen.thaw();
    assert!(!frozen.outside("/etc/app.conf").exists());
}

/// Nothing is open any more, and nothing is left that would settle it at boot.
fn is_settled(host: &Host) {
    until("the run is settled", Duration::from_secs(30), || {
        host.sh("ls /var/lib/rollbook/runs").lines().all(|run| !run.ends_with(".open"))
    });
    until("nothing would settle it", Duration::from_secs(30), || {
        !host.outside(UNIT).exists() && !host.outside("/etc/cron.d/rollbook-settle").exists()
    });
}

const UNIT: &str = "/etc/systemd/system/rollbook-settle.service";

#[test]
#[ignore = "needs the fleet: tests/run"]
fn after_a_power_cut_the_host_goes_back_when_it_boots() {
    let host = host(Kind::Systemd);
    let (controller, run) = under_way(&host, 60);
    assert!(host.outside(UNIT).exists(), "it is there before the first change");
    loses_power_and_settles(&host);
    run.wait().ended(9).with("UNKNOWN, the line was lost");
    controller.apply(controller.runbook("  - copy: {content: new, dest: /etc/app.conf}\n"), &[]).ended(0);
    is_settled(&host);
}

/// Pulls the plug and boots it again: the run is settled within half a minute, counted from the boot.
fn loses_power_and_settles(host: &Host) {
    let before = host.boot();
    host.reset();
    assert_ne!(before, host.boot(), "it was booted again");
    is_put_back(host);
    is_settled(host);
    // When its folder got another name, and not when it was seen to have one.
    let settled = "$(stat -c %Y /var/lib/rollbook/runs)";
    let up_s = host.sh(&format!("echo $(({settled} - $(date +%s) + $(cut -d . -f 1 /proc/uptime)))"));
    assert!(up_s.trim().parse::<i64>().unwrap() < 30, "settled {up_s} s after it was booted");
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn services_that_booted_with_the_new_file_are_told_of_the_old_one() {
    let host = host(Kind::Systemd);
    let unit = "[Service]\nExecStartPre=/bin/sh -c 'cat /etc/app.conf >>/srv/read'\nExecStart=sleep infinity\n\n[Install]\n\
                WantedBy=multi-user.target\n";
    fs::write(host.outside("/etc/systemd/system/reader.service"), unit).unwrap();
    host.sh("echo old >/etc/app.conf; systemctl daemon-reload; systemctl enable --now reader");
    let controller = Controller::of(&[&host]);
    let steps = SLOW.replace("dest: /etc/app.conf}", "dest: /etc/app.conf}\n    notify: reread");
    let handlers = "handlers:\n  - name: reread\n    service: {name: reader, state: restarted}\n";
    let runbook = runbook(&controller, "Read", "grace: 60s", &(steps + handlers));
    let run = controller.start("apply", runbook, &["--yes"]);
    until("the host is changed", Duration::from_secs(60), || host.outside("/srv/made").exists() && runs(&host, SLEEP));
    loses_power_and_settles(&host);
    run.wait().ended(9).with("UNKNOWN, the line was lost");
    until("it has read the old file again", Duration::from_secs(30), || host.sh("cat /srv/read").ends_with("old\n"));
    assert_eq!(host.sh("cat /srv/read"), "old\nnewold\n", "at first, when it booted, when it was put back");
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn services_that_are_slow_to_start_and_late_at_boot_go_back() {
    let host = host(Kind::Systemd);
    let unit = |more: &str| format!("{more}[Service]\nType=simple\nExecStart=/bin/sleep infinity\n");
    let slow = "ExecStartPre=/bin/sleep 3\n[Install]\nWantedBy=multi-user.target\n";
    fs::write(host.outside("/etc/systemd/system/slow.service"), unit("") + slow).unwrap();
    fs::write(host.outside("/etc/systemd/system/late.service"), unit("[Unit]\nAfter=multi-user.target\n")).unwrap();
    host.sh("echo old >/etc/app.conf; systemctl daemon-reload; systemctl start late");
    let controller = Controller::of(&[&host]);
    let steps = "  - service: {name: slow, state: started, enabled: true}\n  - service: {name: late, state: stopped}\n";
    let run =
        controller.start("apply", runbook(&controller, "Slow", "grace: 60s", &(steps.to_owned() + SLOW)), &["--yes"]);
    until("the host is changed", Duration::from_secs(60), || host.outside("/srv/made").exists() && runs(&host, SLEEP));
    loses_power_and_settles(&host);
    run.wait().ended(9).with("UNKNOWN, the line was lost");
    let stand = host.sh("systemctl is-enabled slow || true; systemctl is-active slow late || true; systemctl is-system-running --wait || true");
    assert_eq!(stand, "disabled\ninactive\nactive\nrunning\n");
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn without_systemd_cron_settles_at_boot() {
    for kind in [Kind::Sysvinit, Kind::Light] {
        let host = host(kind);
        let (controller, run) = under_way(&host, 60);
        assert!(host.outside("/etc/cron.d/rollbook-settle").exists(), "it is there before the first change");
        loses_power_and_settles(&host);
        run.wait().ended(9).with("UNKNOWN, the line was lost");
        controller.apply(controller.runbook("  - copy: {content: new, dest: /etc/app.conf}\n"), &[]).ended(0);
    }
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn where_nothing_settles_at_boot_the_next_contact_does() {
    let host = host(Kind::Busybox);
    let (controller, run) = under_way(&host, 60);
    host.reset();
    run.wait().ended(9).with("UNKNOWN, the line was lost");
    is_refused_and_settled(&host, &controller);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn the_end_of_a_session_and_of_all_its_processes_is_survived() {
    let host = host(Kind::Hardened);
    let (_controller, run) = under_way(&host, 30);
    run.kill();
    until("logind has ended the session's processes", Duration::from_secs(30), || !runs(&host, SLEEP));
    assert!(runs(&host, "agent-"), "the agent waits for a controller");
    is_put_back(&host);
    until("it has ended", Duration::from_secs(30), || !runs(&host, "agent-"));
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn what_an_agent_runs_leaves_the_session_with_it() {
    let host = host(Kind::Hardened);
    host.sh("echo old >/etc/app.conf");
    let controller = Controller::of(&[&host]);
    let runbook = runbook(&controller, "Slow", "confirm_within: 20s", SLOW);
    let run = controller.start("apply", runbook, &["--yes"]);
    let is_in = |scope: &str| {
        host.sh(&format!("cat /proc/$(pgrep -f '^{SLEEP}$' | tail -n 1)/cgroup 2>/dev/null || true")).contains(scope)
    };
    until("the command runs", Duration::from_secs(60), || is_in("session-"));
    host.cut();
    // Its session does not end: nobody has hung up.
    until("the command has left the session", Duration::from_secs(30), || is_in("rollbook-"));
    host.heal();
    run.kill();
    is_put_back(&host);
}

/// The host's agent knows that nobody is there any more.
fn is_alone(host: &Host) {
    until("the agent is alone", Duration::from_secs(30), || {
        !host.sh("cat /var/lib/rollbook/holder").contains("\"alone_until\":null")
    });
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn the_same_command_again_takes_the_place_of_a_run_that_waits() {
    let host = host(Kind::Systemd);
    let (controller, run) = under_way(&host, 100);
    run.kill();
    is_alone(&host);
    let other = controller.apply(controller.runbook(SLOW), &[]).ended(8);
    other.with("has lost its controller on this host, and goes back by itself in");
    let again = controller.start("apply", runbook(&controller, "Slow", "grace: 100s", SLOW), &["--yes"]);
    until("it has taken its place", Duration::from_secs(60), || {
        again.said().contains("had lost its controller here") && runs(&host, SLEEP)
    });
    let_go(&host);
    let again = again.wait().ended(0);
    again.with("had lost its controller here").with("succeeded, 3 changed");
    is_settled(&host);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn a_recovery_takes_a_run_over_that_waits() {
    let host = host(Kind::Light);
    let (controller, run) = under_way(&host, 100);
    run.kill();
    is_alone(&host);
    let inventory = controller.path("inventory.yml");
    controller.rollbook(&["recover", "-i", inventory.to_str().unwrap()]).ended(0).with("rolled back");
    is_put_back(&host);
    is_settled(&host);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn a_run_that_is_at_work_can_be_taken_over_and_both_know_it() {
    let host = host(Kind::Light);
    let (controller, run) = under_way(&host, 100);
    let id = host.sh("ls /var/lib/rollbook/runs").trim().replace(".open", "");
    let other = Controller::of(&[&host]);
    let inventory = other.path("inventory.yml");
    let recover = |more: &[&str]| {
        let words = ["recover", &id, "-i", inventory.to_str().unwrap()];
        other.rollbook(&[&words[..], more].concat())
    };
    recover(&[]).ended(5).with("is at work").with("--steal --reason WHY");
    recover(&["--steal", "--reason", "she is on leave"]).ended(0).with("it is taken over").with("rolled back");
    is_put_back(&host);
    is_settled(&host);
    run.wait().ended(9).with("the run was taken over").with("she is on leave");
    let told = format!("{:?}", controller.events("2"));
    assert!(told.contains("taken over") && told.contains("she is on leave"), "{told}");
    let log = other.rollbook(&["log"]).ended(0);
    let theft = log.0.lines().find(|line| line.contains("rolled back")).and_then(|line| line.split(' ').next());
    let shown = other.rollbook(&["show", theft.unwrap()]).ended(0);
    shown.with(&format!("recovery of {id}")).with("it is taken over").with("she is on leave");
}

/// All ssh is dropped, also what is on its way already.
const LOCK_OUT: &str = "  - copy: {content: new, dest: /etc/app.conf}
  - command: {cmd: [nft, 'add table inet lockout; add chain inet lockout in { type filter hook input priority 0; }; add rule inet lockout in tcp dport 22 drop']}
    undo: nft delete table inet lockout
";

#[test]
#[ignore = "needs the fleet: tests/run"]
fn a_firewall_that_locks_everybody_out_heals_itself() {
    let host = host(Kind::Systemd);
    host.sh("echo old >/etc/app.conf");
    let controller = Controller::of(&[&host]);
    let run = controller.apply(runbook(&controller, "Lock out", "confirm_within: 10s", LOCK_OUT), &[]);
    assert!(matches!(run.code(), Some(7 | 9)), "never 0 after a rollback: {:?}", run.code());
    until("it answers again", Duration::from_secs(60), || host.answers());
    assert_eq!(host.sh("cat /etc/app.conf; nft list tables"), "old\n");
    is_settled(&host);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn no_step_begins_behind_one_that_is_not_confirmed() {
    let host = host(Kind::Systemd);
    host.sh("echo old >/etc/app.conf");
    let controller = Controller::of(&[&host]);
    let behind = "  - command: touch /srv/went-on\n    undo: \"true\"\n";
    let locking = format!("{LOCK_OUT}    confirm_within: 5s\n{behind}");
    let run = controller.apply(runbook(&controller, "Lock out", "grace: 1s", &locking), &[]);
    assert!(matches!(run.code(), Some(7 | 9)), "never 0 after a rollback: {:?}", run.code());
    until("it answers again", Duration::from_secs(60), || host.answers());
    assert_eq!(host.sh("cat /etc/app.conf; nft list tables; ls /srv | grep went || true"), "old\n");
    is_settled(&host);
    // What does no harm is confirmed, and the run goes on behind it.
    let harmless = format!("{LOCK_OUT}    confirm_within: 15s\n{behind}").replace("dport 22", "dport 23");
    controller
        .apply(runbook(&controller, "Harmless", "grace: 1s", &harmless), &[])
        .ended(0)
        .with("succeeded, 3 changed");
    assert_eq!(host.sh("cat /etc/app.conf; ls /srv | grep went"), "newwent-on\n");
    is_settled(&host);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn a_line_that_is_cut_before_the_run_is_confirmed_brings_it_back() {
    let host = host(Kind::Systemd);
    let (_controller, run) = under_way_with(&host, "confirm_within: 20s");
    host.cut();
    let_go(&host);
    assert!(host.is_silent(), "it is cut off");
    // Nobody reaches it: it has nobody to ask.
    is_put_back(&host);
    is_settled(&host);
    host.heal();
    let run = run.wait();
    assert!(matches!(run.code(), Some(7 | 9)), "never 0 after a rollback: {run:?}");
    assert!(host.answers());
}

/// The service is off, and whatever is left of sshd is killed: also what this run goes over.
const NO_SSHD: &str = "  - copy: {content: new, dest: /etc/app.conf}
  - service: {name: ssh, state: stopped, enabled: false}
  - command: {cmd: [sh, -c, 'pkill -9 sshd; sleep 1; touch /srv/killed']}
    undo: rm -f /srv/killed
";

/// The same, but the line that the run goes over stays.
const NO_NEW_SSH: &str = "  - copy: {content: new, dest: /etc/app.conf}
  - service: {name: ssh.socket, state: stopped, enabled: false}
  - service: {name: ssh, state: stopped, enabled: false}
";

#[test]
#[ignore = "needs the fleet: tests/run"]
fn a_host_whose_sshd_is_killed_gets_it_back() {
    for (steps, code) in [(NO_SSHD, None), (NO_NEW_SSH, Some(7))] {
        let host = host(Kind::Systemd);
        host.sh("echo old >/etc/app.conf");
        let standing = || {
            let units = host.sh("systemctl show -p UnitFileState,ActiveState,SubState ssh ssh.socket");
            (units, host.sh("find /etc/systemd/system -printf '%p %l\n' | sort; cat /etc/app.conf; ls /srv"))
        };
        let before = standing();
        let controller = Controller::of(&[&host]);
        let run = controller.apply(runbook(&controller, "No sshd", "confirm_within: 12s", steps), &[]);
        match code {
            Some(code) => drop(run.ended(code).with("not confirmed over a new connection")),
            None => assert!(matches!(run.code(), Some(7 | 9)), "never 0 after a rollback: {run:?}"),
        }
        is_settled(&host);
        assert_eq!(standing(), before);
        assert!(host.answers());
    }
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn who_comes_back_too_late_may_not_go_on() {
    let host = host(Kind::Light);
    let (_controller, run) = under_way_with(&host, "grace: 1s, confirm_within: 20s");
    run.stop();
    let_go(&host);
    is_put_back(&host);
    is_settled(&host);
    // Another has taken the host since, and holds it.
    let other = Controller::of(&[&host]);
    let steps = SLOW.replace("content: new", "content: newer");
    let others = other.start("apply", runbook(&other, "Another", "grace: 60s", &steps), &["--yes"]);
    until("the other is at work", Duration::from_secs(60), || runs(&host, SLEEP));
    run.go_on();
    let late = run.wait();
    assert!(matches!(late.code(), Some(7 | 9)), "never 0 after a rollback: {late:?}");
    let_go(&host);
    others.wait().ended(0).with("succeeded, 3 changed");
    assert_eq!(host.sh("cat /etc/app.conf"), "newer");
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn what_can_still_be_reached_stays() {
    let host = host(Kind::Systemd);
    let controller = Controller::of(&[&host]);
    let steps = "  - copy: {content: new, dest: /etc/app.conf}\n";
    let via = "confirm_within: 20s, confirm_via: '{{ host.address }}'";
    let book = |strategy: &str| runbook(&controller, "Confirmed", strategy, steps);
    controller.apply(book(via), &[]).ended(0).with("succeeded, 1 changed");
    assert_eq!(host.sh("cat /etc/app.conf"), "new");
    controller.apply(book(via), &[]).ended(0).with("succeeded, 0 changed");
    // Nobody answers there.
    let elsewhere = "confirm_within: 3s, confirm_via: 127.0.0.2";
    host.sh("echo old >/etc/app.conf");
    let run = controller.apply(book(elsewhere), &[]).ended(7);
    run.with("not confirmed over a new connection");
    assert_eq!(host.sh("cat /etc/app.conf"), "old\n");
    is_settled(&host);
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
    let (_controller, run) = under_way(&host, 1);
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
