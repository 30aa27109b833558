//! The main job on every kind of host: applied, at rest the second time, and put back byte for byte when it fails.

mod support;

use std::path::Path;

use support::{Controller, Host, Kind, Tree, host, tree};

const RUNBOOK: &str = "tests/runbooks/on-a-host.yml";

/// Where most of its steps work.
const PLACE: &str = "/srv/app";

/// What stands there before. On a busybox host nothing can show an ACL, but it is kept all the same.
const BEFORE: &str = r#"
f 0644 /app.conf "old = true\n"
  user.note "kept"
f 0644 /hosts "127.0.0.1 localhost\n10.0.0.1 db\n"
f 0600 /key "secret\n"
d 0755 /cache
f 0644 /cache/a "a\n"
d 0700 /cache/deep
f 0644 /cache/deep/b "b\n"
l /cache/link -> deep/b
d 0755 /releases
d 0755 /releases/1
l /current -> releases/1
f 0644 /untouched "as ever\n"
"#;

/// What is compared of a host: where it is worked, and where nothing is to happen.
const LOOKED_AT: [&str; 4] = ["/srv", "/etc", "/home", "/opt"];

fn prepare(host: &Host) {
    host.sh("mkdir /srv/app");
    tree::build(&host.outside(PLACE), BEFORE);
    if host.kind != Kind::Busybox {
        host.sh("setfacl -m u:7:rw /srv/app/app.conf; chown 7:8 /srv/app/key; touch -d @1000000000.5 /srv/app/*");
    }
}

fn trees(host: &Host) -> Vec<Tree> {
    LOOKED_AT.iter().map(|folder| host.tree(folder)).collect()
}

/// Everything is compared, times too, but those of folders, whose entries came and went, of links that are made anew on
/// the way back, and of the account files, whose entries come and go one by one.
#[track_caller]
fn assert_same(before: &[Tree], after: &[Tree], what: &str) {
    const MADE_ANEW: [&str; 8] =
        ["cache/link", "app/current", "passwd", "shadow", "group", "gshadow", "subuid", "subgid"];
    let made_anew = |path: &Path| MADE_ANEW.iter().any(|name| path.ends_with(name));
    for (before, after) in before.iter().zip(after) {
        let found = before.differences(after, |path, thing| !thing.is_folder() && !made_anew(path));
        assert_eq!(found, [] as [String; 0], "{what}");
    }
}

fn the_main_job(kind: Kind) {
    let host = host(kind);
    prepare(&host);
    let controller = Controller::of(&[&host]);
    // In this order: sudo notes in a home that it was used.
    let digests = host.digests(PLACE);
    let before = trees(&host);
    let apply = |fail: &str| controller.apply(RUNBOOK, &["--set", &format!("fail={fail}")]);

    controller.plan(RUNBOOK, &[]).ended(0);
    assert_same(&before, &trees(&host), "a plan writes nothing");

    apply("true").ended(7).with("the last step says why").with("as it was before");
    assert_same(&before, &trees(&host), "what failed is put back");
    assert_eq!(digests, host.digests(PLACE), "and the host's own tools see it so");

    apply("false").ended(0);
    let done = trees(&host);
    assert!(done[0].text().contains("/app/data"), "{}", done[0].text());
    assert_ne!(digests, host.digests(PLACE), "the digests can tell");

    apply("false").ended(0).with("succeeded, 0 changed");
    assert_same(&done, &trees(&host), "the second run rests");

    controller.rollbook(&["verify"]).ended(0);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn on_systemd() {
    the_main_job(Kind::Systemd);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn on_a_light_host() {
    the_main_job(Kind::Light);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn on_sysvinit() {
    the_main_job(Kind::Sysvinit);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn on_busybox() {
    let bare = host(Kind::Busybox);
    for path in ["/lib", "/lib64", "/usr/lib", "/bin/bash", "/usr/bin/python3"] {
        assert!(!bare.outside(path).exists(), "{path}: a libc or more than a POSIX shell");
    }
    drop(bare);
    the_main_job(Kind::Busybox);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn on_a_hardened_host() {
    the_main_job(Kind::Hardened);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn behind_a_bastion() {
    the_main_job(Kind::Inner);
}
