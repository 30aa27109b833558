//! Packages, with apt and dpkg for real. The host's repository has rbdemo 1.0 and 1.1, rbdep (which needs rbdemo),
//! rbother, and rbbroken (whose last script fails).

use rollbook::resources::Halt;

use crate::host::{Host, sh, words};

/// Everything that dpkg and apt remember, and the files of the demo packages.
fn memory() -> String {
    sh("dpkg-query -W -f '${Package} ${Architecture} ${Version} ${Status}\\n' | grep -v not-installed; \
        sort /var/lib/apt/extended_states; apt-mark showhold; find /etc/rb* /usr/bin/rb* 2>/dev/null | sort || true; \
        cat /etc/rb*/* 2>/dev/null || true; ls /var/lib/dpkg/updates; dpkg --audit")
}

/// A host with fresh lists and none of the demo packages.
fn fresh() -> Host {
    let host = Host::take();
    sh("ls /var/lib/apt/lists/*_Packages >/dev/null 2>&1 || apt-get -qq update; \
        apt-mark unhold rbdemo rbdep rbbroken >/dev/null 2>&1; \
        DEBIAN_FRONTEND=noninteractive apt-get -y -qq purge rbdemo rbdep rbbroken rbother >/dev/null 2>&1");
    host
}

#[test]
#[ignore = "needs root and a Debian test host: tests/run"]
fn installed_upgraded_and_back() {
    let mut host = fresh();
    let clean = memory();
    let installed = host.apply("package", r#"{"name": ["rbdemo"], "version": "1.0"}"#);
    assert_eq!(words(&installed.0), ["package rbdemo: state absent → installed 1.0"]);
    sh("echo edited >>/etc/rbdemo/rbdemo.conf");
    let old = memory();
    assert_eq!(words(&host.plan("package", r#"{"name": ["rbdemo"]}"#).unwrap()), [] as [&str; 0]);
    let upgraded = host.apply("package", r#"{"name": ["rbdemo"], "state": "latest"}"#);
    assert_eq!(words(&upgraded.0), ["package rbdemo: version 1.0 → 1.1"]);
    host.undo(upgraded);
    assert_eq!(memory(), old);
    host.undo(installed);
    assert_eq!(memory(), clean);
}

#[test]
#[ignore = "needs root and a Debian test host: tests/run"]
fn what_comes_with_it_is_planned_and_goes_with_it() {
    let mut host = fresh();
    let clean = memory();
    let done = host.apply("package", r#"{"name": "rbdep"}"#);
    assert_eq!(
        words(&done.0),
        ["package rbdemo: state absent → installed 1.1 as a dependency", "package rbdep: state absent → installed 1.0"]
    );
    let adopted = host.apply("package", r#"{"name": "rbdemo"}"#);
    assert_eq!(words(&adopted.0), ["package rbdemo: automatic yes → no"]);
    host.undo(adopted);
    host.undo(done);
    assert_eq!(memory(), clean);
}

#[test]
#[ignore = "needs root and a Debian test host: tests/run"]
fn what_must_go_with_it_is_planned_and_comes_back() {
    let mut host = fresh();
    sh("apt-get -y -qq install rbdep >/dev/null 2>&1; echo mine >/etc/rbdep/rbdep.conf");
    let before = memory();
    let done = host.apply("package", r#"{"name": "rbdemo", "state": "absent"}"#);
    assert_eq!(
        words(&done.0),
        [
            "package rbdemo: state installed 1.1 as a dependency → removed, configuration kept",
            "package rbdep: state installed 1.0 → removed, configuration kept"
        ]
    );
    let purged = host.apply("package", r#"{"name": "rbdemo", "state": "purged"}"#);
    assert_eq!(words(&purged.0), ["package rbdemo: state removed, configuration kept → purged, with its data"]);
    host.undo(done);
    assert_eq!(memory(), before);
}

#[test]
#[ignore = "needs root and a Debian test host: tests/run"]
fn versions_patterns_and_downgrades() {
    let mut host = fresh();
    let done = host.apply("package", r#"{"name": "rbdemo", "version": "1.*"}"#);
    assert_eq!(words(&done.0), ["package rbdemo: state absent → installed 1.1"]);
    let refused = host.plan("package", r#"{"name": "rbdemo", "version": "1.0"}"#).unwrap_err();
    assert_eq!(
        refused.message(),
        "rbdemo 1.1 would be replaced by the older 1.0; say allow_downgrade: true if that is meant"
    );
    let down = host.apply("package", r#"{"name": "rbdemo", "version": "1.0*", "allow_downgrade": true}"#);
    assert_eq!(words(&down.0), ["package rbdemo: version 1.1 → 1.0"]);
    host.undo(down);
    host.undo(done);
}

#[test]
#[ignore = "needs root and a Debian test host: tests/run"]
fn holds_are_respected() {
    let mut host = fresh();
    let done = host.apply("package", r#"{"name": "rbdemo", "version": "1.0", "hold": true}"#);
    assert_eq!(words(&done.0), ["package rbdemo: state absent → installed 1.0, held no → yes"]);
    let before = memory();
    for step in [r#"{"name": "rbdemo", "state": "latest"}"#, r#"{"name": "rbdemo", "state": "absent"}"#] {
        let (nothing, halt) = host.try_apply("package", step).unwrap_err();
        assert!(nothing.0.is_empty() && halt.message().contains("rbdemo is held at 1.0"), "{halt}");
    }
    let released = host.apply("package", r#"{"name": "rbdemo", "hold": false}"#);
    host.undo(released);
    assert_eq!(memory(), before);
    host.undo(done);
}

#[test]
#[ignore = "needs root and a Debian test host: tests/run"]
fn a_failed_installation_leaves_dpkg_configured() {
    let mut host = fresh();
    sh("apt-get -y -qq install rbdep=1.0 rbdemo=1.0 >/dev/null 2>&1");
    let before = memory();
    let (done, halt) = host.try_apply("package", r#"{"name": ["rbbroken", "rbother"]}"#).unwrap_err();
    let message = halt.message();
    // As the dpkg of Debian 12 and 13 says it, and as that of Ubuntu 26.04 does.
    let ways = [
        "rbbroken package post-installation script subprocess returned error",
        "rbbroken package postinst maintainer script subprocess failed with exit status",
    ];
    assert!(ways.iter().any(|way| message.contains(way)), "{message}");
    assert!(!sh("dpkg --audit").is_empty());
    let refused = host.plan("package", r#"{"name": "rbdemo", "state": "latest"}"#).unwrap_err();
    assert!(refused.message().contains("rbbroken is not fully installed"), "{refused}");
    host.undo(done);
    assert_eq!(sh("dpkg --audit"), "");
    assert_eq!(memory(), before);
}

#[test]
#[ignore = "needs root and a Debian test host: tests/run"]
fn a_transaction_that_would_do_more_than_planned_is_refused() {
    let mut host = fresh();
    let done = host.apply("package", r#"{"name": "rbdemo"}"#);
    sh("apt-get -y -qq install rbdep >/dev/null 2>&1");
    let halt = host.try_undo(&done).unwrap_err();
    assert!(halt.message().contains("rbdep is not part of the plan like this, but apt would now remove it"), "{halt}");
    assert_eq!(sh("dpkg-query -W -f '${Status}' rbdep"), "install ok installed");
}

#[test]
#[ignore = "needs root and a Debian test host: tests/run"]
fn a_plan_knows_what_earlier_steps_would_do() {
    let mut host = fresh();
    host.stage("package", r#"{"name": "rbdemo", "version": "1.0"}"#);
    let next = host.plan("package", r#"{"name": "rbdep"}"#).unwrap();
    assert_eq!(words(&next), ["package rbdep: state absent → installed 1.0"]);
    let unknown = host.plan("package", r#"{"name": "nosuchpackage"}"#).unwrap_err();
    assert!(matches!(unknown, Halt::Unknown(_)), "{unknown}");
}

#[test]
#[ignore = "needs root and a Debian test host: tests/run"]
fn what_apt_does_not_know_is_told_with_what_it_knows() {
    let mut host = fresh();
    let mut refused = |step: &str| host.plan("package", step).unwrap_err().message().to_owned();
    assert_eq!(refused(r#"{"name": "rbdem"}"#), "there is no package rbdem; the nearest is rbdemo");
    assert!(refused(r#"{"name": "qqqq"}"#).starts_with("there is no package qqqq; if it is new, say update_cache"));
    assert!(refused(r#"{"name": "rbdemo", "version": "7"}"#).contains("have no rbdemo 7; they have 1.1, 1.0; if it"));
    assert!(
        refused(r#"{"name": "rbdemo", "version": "7.*"}"#).contains("have no rbdemo 7.*; they have 1.1, 1.0; if it")
    );
    sh("mv /var/lib/apt/lists /var/lib/apt/lists.away");
    let missing = refused(r#"{"name": "rbdemo"}"#);
    let unknown = host.plan("package", r#"{"name": "rbdemo", "update_cache": true}"#).unwrap_err();
    let done = host.try_apply("package", r#"{"name": "rbdemo", "update_cache": true}"#);
    sh("rm -rf /var/lib/apt/lists && mv /var/lib/apt/lists.away /var/lib/apt/lists");
    assert_eq!(missing, "apt knows no packages at all on this host, so not rbdemo; say update_cache: true");
    assert_eq!(unknown, Halt::Unknown("apt has no lists of packages yet; the apply gets them first".into()));
    assert_eq!(words(&done.unwrap().0), ["package rbdemo: state absent → installed 1.1"]);
}

#[test]
#[ignore = "needs root and a Debian test host: tests/run"]
fn a_version_that_the_repository_lost_comes_from_the_hosts_own_archive() {
    let mut host = fresh();
    sh("apt-get -y -qq install rbdemo=1.0 >/dev/null 2>&1");
    let done = host.apply("package", r#"{"name": "rbdemo", "state": "latest"}"#);
    sh("cp -a /var/lib/apt/lists /var/lib/apt/lists.away; cd /var/lib/apt/lists; \
        awk 'BEGIN{RS=\"\";ORS=\"\\n\\n\"} !/Package: rbdemo\\nVersion: 1.0/' *_Packages >/tmp/lists; \
        cp /tmp/lists *_Packages; rm -f /var/cache/apt/*.bin");
    let gone = host.try_undo(&done);
    sh("cp /srv/repo/deb/rbdemo_1.0_all.deb /var/cache/apt/archives/");
    let from_file = host.try_undo(&done);
    sh("rm -rf /var/cache/apt/archives/*.deb /var/cache/apt/*.bin /var/lib/apt/lists; \
        mv /var/lib/apt/lists.away /var/lib/apt/lists");
    let message = gone.unwrap_err().message().to_owned();
    assert!(message.starts_with("rbdemo 1.0 can no longer be had: no repository of this host has it"), "{message}");
    from_file.unwrap();
    assert_eq!(sh("dpkg-query -W -f '${Version}' rbdemo"), "1.0");
}
