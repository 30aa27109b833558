//! Awkward hosts: passwords for sudo and for the login, places that nothing can be executed from.

mod support;

use support::{Controller, Host, Kind, host, hosts};

/// A line of an inventory: a host by its address, as it is known; how it is logged in is in `more`.
fn entry(host: &Host, more: &str) -> String {
    let Host { name, address, known_hosts, .. } = host;
    format!("    {name}: {{address: {address}, known_hosts: {}, {more}}}\n", known_hosts.display())
}

/// The same by the fleet's key.
fn by_key(host: &Host, more: &str) -> String {
    entry(host, &format!("key_file: {}, {more}", host.key.display()))
}

/// Fails unless root carries it out.
const AS_ROOT: &str = "  - shell: '[ \"$(id -u)\" = 0 ]'\n";
/// Fails if root carries it out. It names nobody: the name of `ops` is a password.
const NOT_AS_ROOT: &str = "  - shell: '[ \"$(id -u)\" != 0 ]'\n";

/// `ops` gives its password for sudo, then none.
fn right_and_missing_passwords(host: &Host, lines: &str) {
    let controller = Controller::of_inventory(host, lines).where_is("ROLLBOOK_BECOME_PASSWORD", "ops");
    controller.apply(controller.runbook(AS_ROOT), &[]).ended(0);
    let controller = Controller::of_inventory(host, lines);
    controller.apply(controller.runbook(AS_ROOT), &[]).ended(5).with("sudo wants a password, and there is none");
}

/// `ops` gives a wrong one, and it is not told.
fn a_wrong_password(host: &Host, lines: &str) {
    let controller = Controller::of_inventory(host, lines).where_is("ROLLBOOK_BECOME_PASSWORD", "wrong-as-can-be");
    let said = controller.apply(controller.runbook(AS_ROOT), &[]).ended(5);
    said.with("sudo does not accept the password");
    assert!(!said.0.contains("wrong-as-can-be"), "{}", said.0);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn passwords_for_sudo() {
    let host = host(Kind::Hardened);
    let lines = by_key(&host, "user: ops, become: true");
    right_and_missing_passwords(&host, &lines);

    let failures = "journalctl -q -t sudo | grep -c 'incorrect password attempt' || true";
    let before: u32 = host.sh(failures).trim().parse().unwrap();
    a_wrong_password(&host, &lines);
    support::until("sudo notes it", std::time::Duration::from_secs(20), || {
        host.sh(failures).trim().parse::<u32>().unwrap() > before
    });
    assert!(!host.sh("journalctl -q -t sudo").contains(" 2 incorrect password attempts"), "it is given once");

    // sudo in between with a terminal of its own: nothing of the agent's words may be changed by it.
    host.sh("echo 'Defaults use_pty, log_output' >/etc/sudoers.d/terminal; rm -rf /root/.cache/rollbook");
    let controller = Controller::of_inventory(&host, &lines).where_is("ROLLBOOK_BECOME_PASSWORD", "ops");
    controller.apply(controller.runbook(AS_ROOT), &[]).ended(0);
    host.sh("echo 'Defaults requiretty' >/etc/sudoers.d/terminal");
    controller.apply(controller.runbook(AS_ROOT), &[]).ended(5).with("wants a terminal");
    host.sh("rm /etc/sudoers.d/terminal");

    // Whom sudo lets do nothing.
    let lines = by_key(&host, "user: deploy, become: true, become_password: deploy");
    let controller = Controller::of_inventory(&host, &lines);
    controller.apply(controller.runbook(AS_ROOT), &[]).ended(5).with("sudo");
}

/// Ubuntu's sudo since 25.10; here as a package of Rust's, from tests/fleet/suites.
#[test]
#[ignore = "needs the fleet: tests/run"]
fn passwords_for_sudo_rs() {
    let host = host(Kind::Hardened);
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/sudo-rs/bin/sudo");
    // Where it is a link, that leads elsewhere on this machine.
    host.sh("rm /usr/bin/sudo");
    std::fs::copy(built, host.outside("/usr/bin/sudo")).expect("tests/run has built sudo-rs");
    host.sh("chown root: /usr/bin/sudo; chmod 4755 /usr/bin/sudo");
    assert!(host.sh("sudo --version").starts_with("sudo-rs"));
    let lines = by_key(&host, "user: ops, become: true");
    right_and_missing_passwords(&host, &lines);
    a_wrong_password(&host, &lines);

    for (login, reason) in [
        ("user: ops, become: nosuch, become_password: ops", "there is no such user on the target to become"),
        ("user: deploy, become: true", "sudo does not allow it"),
        ("user: deploy, become: true, become_password: deploy", "sudo does not allow it"),
    ] {
        let controller = Controller::of_inventory(&host, &by_key(&host, login));
        controller.apply(controller.runbook(AS_ROOT), &[]).ended(5).with(reason);
    }
    host.sh("umask 227; echo 'deploy ALL=(www-data) NOPASSWD:ALL' >/etc/sudoers.d/deploy");
    let controller = Controller::of_inventory(&host, &by_key(&host, "user: deploy, become: www-data"));
    controller.apply(controller.runbook(NOT_AS_ROOT), &[]).ended(0);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn users_whose_home_is_not_theirs() {
    let host = host(Kind::Systemd);
    for user in ["nobody", "www-data"] {
        let controller = Controller::of_inventory(&host, &by_key(&host, &format!("user: deploy, become: {user}")));
        let steps =
            format!("  - shell: '[ \"$(id -un)\" = {user} ]'\n  - copy: {{content: x, dest: /var/tmp/{user}}}\n");
        controller.apply(controller.runbook(&steps), &[]).ended(0);
        let kept = format!("stat -c %U /var/tmp/{user} /var/tmp/rollbook-$(id -u {user})/rollbook/runs");
        assert_eq!(host.sh(&kept), format!("{user}\n{user}\n"));
    }
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn passwords_for_the_login() {
    let host = host(Kind::Systemd);
    let controller = Controller::of_inventory(&host, &entry(&host, "user: ops, become: false"));
    let refused = controller.apply(controller.runbook(NOT_AS_ROOT), &[]).ended(4);
    refused.with("permission denied").with("ROLLBOOK_PASSWORD is not set");

    let settings = "/etc/ssh/sshd_config.d/00-passwords.conf";
    for (plain, interactive) in [("yes", "no"), ("no", "yes")] {
        host.sh(&format!(
            "printf 'UsePAM yes\\nPasswordAuthentication {plain}\\nKbdInteractiveAuthentication {interactive}\\n' \
             >{settings}; systemctl reload ssh"
        ));
        let line = entry(&host, "user: ops, become: false");
        let controller = Controller::of_inventory(&host, &line).where_is("ROLLBOOK_PASSWORD", "ops");
        controller.apply(controller.runbook(NOT_AS_ROOT), &[]).ended(0);
        let controller = Controller::of_inventory(&host, &line).where_is("ROLLBOOK_PASSWORD", "wrong-as-can-be");
        let said = controller.apply(controller.runbook(NOT_AS_ROOT), &[]).ended(4);
        assert!(said.with("permission denied").0.contains("the password"), "{}", said.0);
        assert!(!said.0.contains("wrong-as-can-be"), "{}", said.0);
    }
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn places_that_nothing_can_be_executed_from() {
    let host = host(Kind::Light);
    let controller = Controller::of_inventory(&host, &by_key(&host, "user: deploy, become: false"));
    host.sh("mount --bind /home /home; mount -o remount,bind,noexec /home");
    controller.apply(controller.runbook(NOT_AS_ROOT), &[]).ended(0);
    let agents = host.sh("ls /var/tmp/rollbook-*/");
    assert!(agents.starts_with("agent-") && agents.lines().count() == 1, "{agents}");

    host.sh(
        "for place in /var/tmp /dev/shm; do mkdir -p $place; mount -t tmpfs -o noexec,mode=1777 tmpfs $place; done",
    );
    let said = controller.apply(controller.runbook(NOT_AS_ROOT), &[]).ended(4);
    said.with("no folder on the target that the agent can be put into and started from");
    for place in ["/home/deploy/.cache/rollbook", "/var/tmp/rollbook-", "/dev/shm/rollbook-"] {
        said.with(place);
    }
    said.with("is mounted noexec").with("agent_dir");
    host.sh("mkdir /srv/agents; chown deploy: /srv/agents");
    let line = by_key(&host, "user: deploy, become: false, agent_dir: /srv/agents");
    let controller = Controller::of_inventory(&host, &line);
    controller.apply(controller.runbook(NOT_AS_ROOT), &[]).ended(0);
    assert!(host.sh("ls /srv/agents/rollbook-*/").starts_with("agent-"));

    // A place that others can write is none, even if it could be executed from.
    host.sh("chmod 777 /srv/agents; rm -r /srv/agents/rollbook-*");
    controller.apply(controller.runbook(NOT_AS_ROOT), &[]).ended(4).with("can be written by everybody");
}

/// A bastion that turns away some of those who come at once.
#[test]
#[ignore = "needs the fleet: tests/run"]
fn many_behind_one_bastion() {
    let inner = hosts(Kind::Inner, 24);
    let controller = Controller::of(&inner.iter().collect::<Vec<_>>());
    let steps = "  - debug: {msg: here}\n";
    let said = controller.apply(controller.runbook(steps), &["--forks", "24"]).ended(0);
    said.with(": succeeded, 0 changed");
}
