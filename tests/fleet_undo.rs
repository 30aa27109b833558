//! Finished runs that are undone on real hosts: packages, services, users and groups go back, also where the world has
//! gone on since.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

mod support;

use rollbook::record::Store;
use support::{Controller, Host, Kind, Run, host};

/// Applies steps that work; the run's id.
fn applied(controller: &Controller<'_>, steps: &str) -> String {
    controller.apply(controller.runbook(steps), &[]).ended(0);
    let store = Store::open_read_only(&controller.path("record.db")).unwrap();
    store.runs(&Default::default()).unwrap().runs[0].run.to_string()
}

fn undo(controller: &Controller<'_>, run: &str, more: &[&str]) -> Run {
    let inventory = controller.path("inventory.yml");
    controller.rollbook(&[&["undo", run, "-i", inventory.to_str().unwrap()], more].concat())
}

/// All that dpkg, apt, systemd and the account files know, by the host's own tools; the demo packages' files, and homes.
fn standing(host: &Host) -> String {
    host.sh(
        "dpkg-query -W -f '${Package} ${Version} ${Status}\\n' | grep -v not-installed; dpkg --audit; apt-mark showhold; dpkg --verify rbdemo rbdep rbother 2>/dev/null || true; \
         sort /var/lib/apt/extended_states; ls /var/lib/dpkg/updates; cd /; find etc/rb* usr/bin/rb* 2>/dev/null | sort; \
         tail -n +1 etc/rb*/* 2>/dev/null; find etc/systemd/system -printf '%p %l\\n' | sort; \
         systemctl show -p Names,UnitFileState,ActiveState,LoadState rbdemo rbother cron; \
         cat etc/passwd etc/shadow etc/group etc/gshadow etc/subuid etc/subgid; \
         find home srv/homes -printf '%p %m %u %g %l\\n' 2>/dev/null | sort",
    )
}

/// Two looks must have shown the same; else the lines that only one of them has.
#[track_caller]
fn assert_same(now: &str, before: &str) {
    let only = |one: &str, other: &str| -> Vec<String> {
        one.lines().filter(|line| !other.lines().any(|known| known == *line)).map(str::to_owned).collect()
    };
    assert!(now == before, "new {:#?}, gone {:#?}", only(now, before), only(before, now));
}

/// A host with apt's lists, on which some things stand already.
fn lived_in() -> Host {
    let host = host(Kind::Systemd);
    host.sh("apt-get -qq update; apt-get -qq -y install rbother >/dev/null 2>&1; systemctl enable -q --now rbother; \
         groupadd older; useradd -m -G older -s /bin/sh ann; echo work >/home/ann/work; chown ann:ann /home/ann/work; \
         rm -f /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow- /etc/subuid- /etc/subgid-");
    host
}

/// What is new comes with all that it needs; what is there is turned around.
const ALL_KINDS: &str = "  - package: {name: rbdep}
  - copy: {content: 'version=mine', dest: /etc/rbdemo/rbdemo.conf}
    notify: restart it
  - service: {name: rbdemo, state: started, enabled: true}
  - service: {name: rbother, state: stopped, enabled: false}
  - service: {name: cron, state: stopped, masked: true}
  - group: {name: apps, gid: 4343}
  - user: {name: xia, groups: [apps, older], shell: /bin/bash}
  - user: {name: bob, home: /srv/homes/bob, create_home: false}
  - user: {name: ann, groups: [apps], shell: /bin/bash, comment: Ann}
  - package: {name: rbother, hold: true}
handlers:
  - name: restart it
    service: {name: rbdemo, state: restarted}
";

#[test]
#[ignore = "needs the fleet: tests/run"]
fn packages_services_users_and_groups_go_back() {
    let host = lived_in();
    let controller = Controller::of(&[&host]);
    let before = standing(&host);
    let run = applied(&controller, ALL_KINDS);
    let done = standing(&host);
    assert_eq!(host.sh("systemctl is-active rbdemo rbother cron || true"), "active\ninactive\ninactive\n");
    let planned = undo(&controller, &run, &["--plan"]).ended(0);
    planned.with("rbdep").with("rbdemo").with("xia").with("apps").with("cron");
    assert_same(&standing(&host), &done);
    undo(&controller, &run, &["--yes"]).ended(0);
    assert_same(&standing(&host), &before);
    undo(&controller, &run, &["--yes"]).ended(0).with("was undone by run");
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn what_was_removed_comes_back_with_its_settings() {
    let host = lived_in();
    let controller = Controller::of(&[&host]);
    host.sh("apt-get -qq -y install rbdemo rbdep >/dev/null 2>&1; echo mine >/etc/rbdemo/rbdemo.conf; \
        chmod 640 /etc/rbdemo/rbdemo.conf; echo also mine >/etc/rbdep/rbdep.conf; systemctl enable -q --now rbdemo");
    let before = standing(&host);
    let steps = "  - service: {name: rbdemo, state: stopped, enabled: false}
  - package: {name: rbdep, state: absent}
  - package: {name: rbdemo, state: purged}
  - user: {name: ann, state: absent, remove_home: true}
  - group: {name: older, state: absent}
";
    let run = applied(&controller, steps);
    assert!(!host.outside("/etc/rbdemo/rbdemo.conf").exists() && !host.outside("/home/ann").exists());
    undo(&controller, &run, &["--yes"]).ended(0);
    assert_same(&standing(&host), &before);
}

/// The repository offers only the newest of each from now on.
fn forget_old_versions(host: &Host) {
    host.sh(
        "mkdir -p /srv/new; cp /srv/repo/deb/rb*.deb /srv/new; rm /srv/new/rbdemo_1.0_all.deb; cd /srv/new; \
         awk 'BEGIN { RS = \"\"; ORS = \"\\n\\n\" } /^Package: rb/ && !/Package: rbdemo\\nVersion: 1.0/' /srv/repo/deb/Packages >Packages; \
         echo 'deb [trusted=yes] file:///srv/new ./' >/etc/apt/sources.list.d/fleet.list; apt-get -qq update; apt-get clean",
    );
    assert!(!host.sh("apt-cache madison rbdemo").contains("1.0"), "it can no longer be had");
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn a_version_that_no_repository_has_any_more_comes_back() {
    let host = lived_in();
    let controller = Controller::of(&[&host]);
    host.sh("apt-get -qq -y install rbdemo=1.0 >/dev/null 2>&1; echo mine >/etc/rbdemo/rbdemo.conf; \
        systemctl enable -q --now rbdemo");
    forget_old_versions(&host);
    let before = standing(&host);
    let steps = "  - package: {name: rbdemo, state: latest}
  - service: {name: rbdemo, state: restarted}
";
    let failing = format!("{steps}  - command: \"false\"\n");
    controller.apply(controller.runbook(&failing), &[]).ended(7);
    assert_same(&standing(&host), &before);

    let run = applied(&controller, steps);
    assert_eq!(host.sh("dpkg-query -W -f '${Version}' rbdemo"), "1.1");
    host.sh("apt-get clean");
    undo(&controller, &run, &["--yes"]).ended(0);
    assert_same(&standing(&host), &before);
    // What is kept for it is the run's, and is not among the packages that apt looks at.
    assert_eq!(host.sh("ls /var/cache/apt/archives/*.deb 2>/dev/null || echo none"), "none\n");
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn what_has_been_changed_since_stays() {
    let host = lived_in();
    let controller = Controller::of(&[&host]);
    let steps = "  - package: {name: rbdemo, version: '1.0'}
  - service: {name: rbother, state: stopped}
  - user: {name: xia}
  - user: {name: yan}
  - group: {name: apps}
";
    let before = standing(&host);
    let run = applied(&controller, steps);
    // A newer version, a home with work in it, and a service that someone has started again.
    host.sh("apt-get -qq -y install rbdemo=1.1 >/dev/null 2>&1; echo work >/home/xia/work; systemctl start rbother");
    let said = undo(&controller, &run, &["--yes"]).ended(8);
    said.with("package rbdemo").with("/home/xia");
    assert_eq!(host.sh("dpkg-query -W -f '${Version}' rbdemo; cat /home/xia/work"), "1.1work\n");
    assert_eq!(host.sh("id xia 2>/dev/null || id yan 2>/dev/null || getent group apps || echo gone"), "gone\n");
    // By hand, it is all as it was.
    host.sh("apt-get -qq -y purge rbdemo >/dev/null 2>&1; rm -r /home/xia; \
        rm -f /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow- /etc/subuid- /etc/subgid-");
    assert_same(&standing(&host), &before);
}
