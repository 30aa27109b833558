//! Hosts of other families: each with its own package manager, for real. Rollbook knows none of these managers yet: what
//! it says of them is right, all else works, and a package is refused before anything is done.

mod support;

use support::{Controller, Kind, host};

fn a_host_of(kind: Kind, manager: &str, install: &str) {
    let host = host(kind);
    host.sh(&format!("{install} && [ \"$(rbdemo)\" = 'rbdemo 1.1' ]"));
    let controller = Controller::of(&[&host]);

    let facts = controller.runbook("  - debug: {msg: \"it has {{ facts.package_manager }}\"}\n");
    controller.apply(facts, &[]).ended(0).with(&format!("it has {manager}"));

    let before = host.tree("/etc");
    let apply = |fail: &str| controller.apply("tests/runbooks/on-a-host.yml", &["--set", &format!("fail={fail}")]);
    host.sh(
        "mkdir -p /srv/app/cache /srv/app/releases/1; ln -s releases/1 /srv/app/current; cd /srv/app; touch key hosts",
    );
    apply("true").ended(7).with("as it was before");
    let accounts = ["passwd", "shadow", "group", "gshadow", "subuid", "subgid"];
    let put_back = before.differences(&host.tree("/etc"), |path, thing| {
        !thing.is_folder() && !accounts.iter().any(|name| path.ends_with(name))
    });
    assert_eq!(put_back, [] as [String; 0]);
    apply("false").ended(0);
    apply("false").ended(0).with("succeeded, 0 changed");

    let package = controller.runbook("  - file: {path: /srv/new, state: directory}\n  - package: {name: rbdep}\n");
    controller.apply(package, &[]).ended(7).with(manager);
    assert!(!host.outside("/srv/new").exists(), "it was put back");
}

#[test]
#[ignore = "needs the families' hosts: tests/run"]
fn with_dnf() {
    a_host_of(Kind::Dnf, "dnf", "dnf -y -q install rbdemo");
}

#[test]
#[ignore = "needs the families' hosts: tests/run"]
fn with_zypper() {
    a_host_of(Kind::Zypper, "zypper", "zypper --non-interactive --no-gpg-checks install -y rbdemo");
}

#[test]
#[ignore = "needs the families' hosts: tests/run"]
fn with_pacman() {
    a_host_of(Kind::Pacman, "pacman", "pacman -Sy --noconfirm && pacman -S --noconfirm rbdemo");
}
