//! What `rollbook recover` finds and says, on hosts where each user has journals of his own.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

mod support;

use std::{fs, time::Duration};

use support::{Controller, Host, Kind, Run, entry, host, until};

/// Its inventory does not say whom to become.
fn controller(host: &Host) -> Controller<'_> {
    Controller::of_inventory(host, &entry(&host.name, host, "").replace("become: true, ", ""))
}

fn recover(controller: &Controller<'_>, more: &[&str]) -> Run {
    let inventory = controller.path("inventory.yml");
    controller.rollbook(&[&["recover", "-i", inventory.to_str().unwrap()], more].concat())
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn a_run_is_looked_for_with_the_user_that_it_had_become() {
    let host = host(Kind::Hardened);
    host.sh("echo old >/etc/app.conf");
    let (ours, others) = (controller(&host), controller(&host));
    let steps = "- copy: {content: new, dest: /etc/app.conf}\n- command: {cmd: [sleep, '60']}\n  undo: 'true'\n";
    let path = ours.path("become.yml");
    fs::write(&path, format!("runbook: Becomes\nhosts: all\nbecome: true\nsteps:\n{steps}")).unwrap();
    let run = ours.start("apply", &path, &["--yes"]);
    until("the command runs", Duration::from_secs(60), || host.sh("ps -eo args").contains("sleep 60"));
    host.sh("pkill -9 -f '[a]gent-'");
    run.wait().ended(9).with("UNKNOWN, the line was lost").with("--become root");
    let id = host.sh("ls /var/lib/rollbook/runs").trim().replace(".open", "");
    // Without its record nobody knows whom it had become: it is said who was looked at.
    recover(&others, &[]).ended(0).with("is open on this host");
    recover(&others, &[&id]).ended(0).with(&format!("keeps nothing of run {id} on this host"));
    recover(&ours, &[&id, "--become", "ops"]).ended(5).with("each user has journals of his own");
    recover(&ours, &[&id]).ended(0).with("rolled back");
    assert_eq!(host.sh("cat /etc/app.conf"), "old\n");
    recover(&ours, &[&id]).ended(0).with("is settled on this host: everything is as it was before it");
    recover(&others, &[&id, "-b"]).ended(0).with("everything is as it was before it");
}
