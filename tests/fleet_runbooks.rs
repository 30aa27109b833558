//! The runbooks that users copy from, on hosts as they have them; and what is told of a run.

mod support;

use support::{Controller, Kind, entry, host, hosts};

#[test]
#[ignore = "needs the fleet: tests/run"]
fn the_first_runbook_on_any_host() {
    for kind in [Kind::Light, Kind::Busybox] {
        let host = host(kind);
        let controller = Controller::of(&[&host]);
        let apply = |more: &[&str]| controller.apply("runbooks/welcome.yml", more);
        apply(&[]).ended(0);
        let place = "/var/lib/rollbook-welcome";
        let done = host.tree(place);
        assert!(done.text().contains("/welcome.txt"), "{}", done.text());
        apply(&[]).ended(0).with("succeeded, 0 changed");
        apply(&["--set", "greeting=Hi", "--set", "fail=true"]).ended(7).with("as it was before");
        let put_back =
            done.differences(&host.tree(place), |path, thing| !thing.is_folder() && !path.ends_with("latest"));
        assert_eq!(put_back, [] as [String; 0]);
    }
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn sshd_takes_no_passwords_and_nobody_is_locked_out() {
    let host = host(Kind::Systemd);
    let controller = Controller::of(&[&host]);
    // Older versions call `prohibit-password` by its first name.
    let settings = || {
        let told = host.sh("/usr/sbin/sshd -T | grep -E '^(passwordauthentication|permitrootlogin|maxauthtries) '");
        told.replace("without-password", "prohibit-password")
    };
    let before = settings();
    controller.apply("runbooks/ssh-hardening.yml", &[]).ended(0);
    assert_ne!(settings(), before);
    assert_eq!(settings(), "maxauthtries 4\npermitrootlogin prohibit-password\npasswordauthentication no\n");
    assert!(host.answers(), "by key");
    let stranger = host.ssh("nobody-knows-me", "true");
    assert!(String::from_utf8_lossy(&stranger.stderr).contains("(publickey)"), "without a password: {stranger:?}");
    controller.apply("runbooks/ssh-hardening.yml", &[]).ended(0).with("succeeded, 0 changed");
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn a_site_is_served_by_nginx() {
    let host = host(Kind::Systemd);
    host.sh("apt-get -qq update");
    // The runbook is for a host, or a group, of this name.
    let controller = Controller::of_inventory(&host, &entry("web", &host, ""));
    let apply =
        |more: &[&str]| controller.apply("runbooks/nginx-site.yml", &[&["--set", "site=example.test"], more].concat());

    // At first nobody answers for the site's health: all of it goes, nginx too.
    let tables = host.sh("nft add table inet t; nft add chain inet t i '{ type filter hook input priority 0; }'; \
        nft add rule inet t i tcp dport 80 reject with tcp reset; nft list tables");
    assert!(tables.contains("inet t"), "{tables}");
    let before = (host.sh("dpkg -l | grep ^ii"), host.tree("/srv"));
    apply(&[]).ended(7).with("as it was before");
    assert_eq!(host.sh("dpkg -l | grep ^ii"), before.0);
    assert_eq!(before.1.differences(&host.tree("/srv"), |_, _| false), [] as [String; 0]);
    host.sh("nft delete table inet t");

    apply(&[]).ended(0);
    let page = host.sh("curl -sS -H 'Host: example.test' http://127.0.0.1/");
    assert!(page.contains("example.test, served by web"), "{page}");
    apply(&[]).ended(0).with("succeeded, 0 changed");

    // Another site, whose configuration cannot be put there: nothing of it stays, and the first is served as before.
    let done = host.tree("/etc/nginx");
    host.sh("mkdir /etc/nginx/conf.d/broken.test.conf");
    let broken = ["--set", "site=broken.test"];
    controller.apply("runbooks/nginx-site.yml", &broken).ended(7).with("as it was before");
    host.sh("rmdir /etc/nginx/conf.d/broken.test.conf; [ ! -e /srv/www/broken.test ]");
    assert_eq!(done.differences(&host.tree("/etc/nginx"), |_, thing| !thing.is_folder()), [] as [String; 0]);
    assert_eq!(host.sh("curl -sS -H 'Host: example.test' http://127.0.0.1/"), page);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn forty_hosts_in_one_run() {
    let all = hosts(Kind::Light, 40);
    let controller = Controller::of(&all.iter().collect::<Vec<_>>());
    let runbook = controller.runbook("  - copy: {content: \"{{ host.name }}\", dest: /etc/app.conf}\n");
    controller.apply(&runbook, &[]).ended(0).with("succeeded, 40 changed");
    for host in &all {
        assert_eq!(
            host.outside("/etc/app.conf").metadata().map(|found| found.len()).ok(),
            Some(host.name.len() as u64)
        );
    }
    controller.apply(&runbook, &[]).ended(0).with("succeeded, 0 changed");
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn what_is_told_of_a_run_that_fails() {
    let all = hosts(Kind::Light, 2);
    all[0].sh("mkdir /etc/app.conf");
    let lines: String = ["one", "two"].iter().zip(&all).map(|(name, host)| entry(name, host, "")).collect();
    let controller = Controller::of_inventory(&all[0], &lines);
    let runbook = controller.runbook(
        "  - name: a folder\n    file: {path: /srv/app, state: directory}\n  - name: its configuration\n    copy: \
         {content: \"port = 80\\n\", dest: /etc/app.conf}\n",
    );
    controller.plan(&runbook, &["--diff", "--limit", "two"]).ended(0).is("plan");
    controller.apply(&runbook, &["--forks", "1"]).ended(9).is("failed-run");
}
