//! Services in runs that fail and in runs that are undone, with systemd for real: they run as before, with the old files.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

mod support;

use std::{fs, time::Duration};

use support::{Controller, Host, Kind, host, until};

/// A host on which `reader` runs: it notes what it has read, and does not run with a bad file. With `checks` it is the
/// restart itself that fails then, and not only what it has started.
fn with_reader(checks: bool) -> Host {
    let host = host(Kind::Systemd);
    let check = if checks { "ExecStartPre=grep -qv bad /etc/app.conf\n" } else { "" };
    let unit = format!(
        "[Service]\n{check}Restart=on-failure\nRestartSec=100ms\n\
         ExecStart=/bin/sh -c 'cat /etc/app.conf >>/srv/read; grep -q bad /etc/app.conf && exit 3; exec sleep infinity'\n\
         ExecReload=/bin/sh -c 'cat /etc/app.conf >>/srv/read; grep -q bad /etc/app.conf && kill $MAINPID; true'\n\
         [Install]\nWantedBy=multi-user.target\n"
    );
    fs::write(host.outside("/etc/systemd/system/reader.service"), unit).unwrap();
    host.sh("echo old >/etc/app.conf; systemctl daemon-reload; systemctl start reader");
    host
}

fn is_active(host: &Host, unit: &str) -> bool {
    host.sh(&format!("systemctl is-active {unit} || true")) == "active\n"
}

/// It is the old file that it has read last.
#[track_caller]
fn has_read_the_old_file(host: &Host) {
    until("it has read the old file", Duration::from_secs(5), || host.sh("tail -n 1 /srv/read") == "old\n");
}

fn copies(content: &str, act: &str) -> String {
    format!(
        "  - copy: {{content: \"{content}\\n\", dest: /etc/app.conf}}\n    notify: tell it\n\
         handlers:\n  - name: tell it\n    service: {{name: reader, state: {act}}}\n"
    )
}

/// The same as steps, and a look whether it still runs a while later: it may live a moment longer than it is watched.
fn then_looks(content: &str, act: &str) -> String {
    format!(
        "  - copy: {{content: \"{content}\\n\", dest: /etc/app.conf}}\n\
         \x20 - service: {{name: reader, state: {act}}}\n\
         \x20 - command: {{cmd: [sh, -c, 'sleep 2; systemctl is-active reader']}}\n    undo: \"true\"\n"
    )
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn a_restart_that_fails_leaves_the_service_running_with_the_old_file() {
    for checks in [false, true] {
        let host = with_reader(checks);
        let controller = Controller::of(&[&host]);
        let run = controller.apply(controller.runbook(&then_looks("bad", "restarted")), &[]).ended(7);
        run.with("as it was before");
        if checks {
            run.with("systemctl restart reader.service failed");
        }
        assert_eq!(host.sh("cat /etc/app.conf"), "old\n");
        assert!(is_active(&host, "reader"), "{}", host.sh("systemctl status reader || true"));
        has_read_the_old_file(&host);
    }
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn a_reload_that_ends_the_service_leaves_it_running_with_the_old_file() {
    let host = with_reader(false);
    host.sh("sed -i 's/^Restart=.*/Restart=no/' /etc/systemd/system/reader.service; systemctl daemon-reload");
    let controller = Controller::of(&[&host]);
    controller.apply(controller.runbook(&then_looks("bad", "reloaded")), &[]).ended(7);
    assert!(is_active(&host, "reader"), "{}", host.sh("systemctl status reader || true"));
    assert_eq!(host.sh("cat /etc/app.conf"), "old\n");
    has_read_the_old_file(&host);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn what_did_not_run_is_not_started_by_the_way_back() {
    let host = with_reader(true);
    host.sh("systemctl stop reader");
    let controller = Controller::of(&[&host]);
    let steps = "  - copy: {content: new, dest: /etc/app.conf}\n\
                 \x20 - service: {name: reader, state: started}\n\
                 \x20 - service: {name: reader, state: restarted}\n\
                 \x20 - command: \"false\"\n";
    controller.apply(controller.runbook(steps), &[]).ended(7).with("as it was before");
    assert!(!is_active(&host, "reader"));
    // One that keeps failing does not go on trying either.
    let failing = "  - copy: {content: bad, dest: /etc/app.conf}\n  - service: {name: reader, state: started}\n";
    controller.apply(controller.runbook(failing), &[]).ended(7).with("systemctl start reader.service failed");
    let state = || host.sh("systemctl show -P ActiveState reader");
    assert!(["inactive\n", "failed\n"].contains(&&*state()), "{}", state());
    // It is left alone by a reload.
    let run = controller.apply(controller.runbook(&copies("new", "reloaded")), &[]).ended(0);
    run.with("succeeded, 1 changed");
    assert!(!is_active(&host, "reader"));
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn a_unit_file_that_changes_is_read_and_read_again_when_it_is_back() {
    let host = with_reader(false);
    let unit = "/etc/systemd/system/reader.service";
    host.sh(&format!("touch -d @1000000000 {unit}; systemctl daemon-reload"));
    let controller = Controller::of(&[&host]);
    let old = host.sh("systemctl show -P ExecStart reader | sed 's/start_time.*//'");
    let steps = format!(
        "  - lineinfile: {{path: {unit}, regexp: '^ExecStart=', line: 'ExecStart=/bin/sleep 4444'}}\n\
         \x20 - service: {{name: reader, state: restarted}}\n\
         \x20 - command: systemctl show -P ExecStart reader\n    undo: \"true\"\n    id: shown\n\
         \x20 - assert: {{that: \"'4444' in steps.shown.stdout\"}}\n"
    );
    controller.apply(controller.runbook(&(steps.clone() + "  - command: \"false\"\n")), &[]).ended(7);
    assert_eq!(host.sh("systemctl show -P ExecStart reader | sed 's/start_time.*//'"), old);
    assert!(!host.sh("systemctl status reader || true").contains("sleep 4444") && is_active(&host, "reader"));
    // The same where the run has ended, and is undone.
    controller.apply(controller.runbook(&steps), &[]).ended(0);
    assert!(host.sh("systemctl status reader || true").contains("sleep 4444"));
    let log = controller.rollbook(&["log"]).ended(0);
    let run = log.0.lines().find(|line| line.contains("succeeded")).and_then(|line| line.split(' ').next()).unwrap();
    let inventory = controller.path("inventory.yml");
    controller.rollbook(&["undo", run, "-i", inventory.to_str().unwrap(), "--yes"]).ended(0);
    assert_eq!(host.sh("systemctl show -P ExecStart reader | sed 's/start_time.*//'"), old);
    until("it runs as before", Duration::from_secs(5), || is_active(&host, "reader"));
    assert!(!host.sh("systemctl status reader || true").contains("sleep 4444"));
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn what_runs_to_its_end_is_run_once_more() {
    let host = host(Kind::Systemd);
    let unit = "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'cat /etc/app.conf >>/srv/read'\n";
    fs::write(host.outside("/etc/systemd/system/once.service"), unit).unwrap();
    host.sh("echo old >/etc/app.conf; systemctl daemon-reload");
    let controller = Controller::of(&[&host]);
    let steps = "  - copy: {content: \"new\\n\", dest: /etc/app.conf}\n\
                 \x20 - service: {name: once, state: restarted}\n\
                 \x20 - command: \"false\"\n";
    controller.apply(controller.runbook(steps), &[]).ended(7).with("as it was before");
    assert_eq!(host.sh("cat /srv/read"), "new\nold\n");
}
