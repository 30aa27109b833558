//! Users and groups on a host with its own tools beside us.

use std::{process::Command, thread, time::Duration};

use crate::host::{Host, assert_same, sh, words};

/// The account files, byte for byte, with owners and modes, and the home directories.
fn memory() -> String {
    sh("cd /etc; for f in passwd shadow group gshadow subuid subgid; do stat -c '%n %a %u %g' $f; cat $f; done; \
        find /home -printf '%p %m %u %g %s %l\\n' | sort; ls -A /etc | sort")
}

/// A host on which everything is as its own tools make it.
fn fresh() -> Host {
    let host = Host::take();
    sh(
        "for u in zoe yan xia wim par; do userdel -r $u >/dev/null 2>&1 || true; done; groupdel docker 2>/dev/null || true; \
        groupadd docker; useradd -m -c Zoe -G docker,adm -s /bin/bash zoe; useradd -r yan; echo zoe:zoe | chpasswd; \
        rm -f /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow- /etc/subuid- /etc/subgid-",
    );
    host
}

#[test]
#[ignore = "needs root and a Debian test host: tests/run"]
fn a_user_is_made_as_useradd_makes_it_and_goes() {
    let mut host = fresh();
    let entries = "getent passwd xia; getent group xia docker; getent shadow xia | sed 's/:[0-9]*:/:DAY:/'; \
        getent gshadow xia; grep xia /etc/subuid /etc/subgid; find /home/xia -printf '%p %m %u %g %s\\n' | sort; id xia";
    let clean = memory();
    sh("useradd -m -c Xia -G docker -s /bin/bash xia");
    let theirs = sh(entries);
    sh(
        "userdel -r xia 2>/dev/null; rm -f /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow- /etc/subuid- /etc/subgid-",
    );
    assert_same(&memory(), &clean, "");
    let done = host.apply("user", r#"{"name": "xia", "comment": "Xia", "groups": "docker", "shell": "/bin/bash"}"#);
    assert_eq!(sh(entries), theirs);
    sh("pwck -qr && grpck -qr");
    host.undo(done);
    assert_same(&memory(), &clean, "");
}

#[test]
#[ignore = "needs root and a Debian test host: tests/run"]
fn a_user_goes_with_its_home_and_comes_back_whole() {
    let mut host = fresh();
    sh(
        "umask 077; mkdir /home/zoe/.ssh; echo key >/home/zoe/.ssh/id; ln -s id /home/zoe/.ssh/link; chown -hR zoe:zoe /home/zoe",
    );
    let before = memory();
    let done = host.apply("user", r#"{"name": "zoe", "state": "absent", "remove_home": true}"#);
    assert_eq!(sh("getent passwd zoe || ls /home/zoe 2>/dev/null || echo gone"), "gone\n");
    sh("pwck -qr && grpck -qr");
    host.undo(done);
    assert_same(&memory(), &before, "");
    sh("setpriv --reuid=zoe --regid=zoe --clear-groups cat /home/zoe/.ssh/link | grep -q key");
}

#[test]
#[ignore = "needs root and a Debian test host: tests/run"]
fn changes_go_back_to_the_same_bytes() {
    let mut host = fresh();
    let before = memory();
    for step in [
        r#"{"name": "zoe", "groups": ["sudo"], "shell": "/bin/sh", "comment": "Zoë"}"#,
        r#"{"name": "zoe", "groups": "sudo", "append": true, "password_hash": "$6$salt$0123456789abcdef"}"#,
        r#"{"name": "zoe", "uid": 4242, "home": "/srv/zoe", "create_home": true}"#,
        r#"{"name": "zoe", "state": "absent"}"#,
        r#"{"name": "yan", "state": "absent"}"#,
        r#"{"name": "deploy", "state": "absent"}"#,
        r#"{"name": "wim", "system": true}"#,
    ] {
        let done = host.apply("user", step);
        assert_ne!(memory(), before, "{step}");
        sh("pwck -qr || [ $? = 2 ]; grpck -qr");
        host.undo(done);
        assert_same(&memory(), &before, step);
    }
    for step in
        [r#"{"name": "docker", "state": "absent"}"#, r#"{"name": "docker", "gid": 4242}"#, r#"{"name": "apps"}"#]
    {
        let done = host.apply("group", step);
        assert_ne!(memory(), before, "{step}");
        host.undo(done);
        assert_same(&memory(), &before, step);
    }
    assert_eq!(sh("[ -e /srv/zoe ] || echo gone"), "gone\n");
}

#[test]
#[ignore = "needs root and a Debian test host: tests/run"]
fn a_home_that_was_used_since_is_not_taken_away() {
    let mut host = fresh();
    let done = host.apply("user", r#"{"name": "xia"}"#);
    sh("echo work >/home/xia/work");
    let halt = host.try_undo(&done).unwrap_err();
    assert!(halt.message().contains("/home/xia"), "{halt}");
    assert_eq!(sh("cat /home/xia/work"), "work\n");
    sh("userdel -r xia 2>/dev/null");
}

#[test]
#[ignore = "needs root and a Debian test host: tests/run"]
fn a_user_at_work_is_not_removed() {
    let mut host = fresh();
    // Without a login, with which systemd would start processes of its own for her.
    let mut sleeper = Command::new("setpriv");
    let sleeper = sleeper.args(["--reuid=zoe", "--regid=zoe", "--clear-groups", "sleep", "30"]);
    let mut sleeper = sleeper.spawn().unwrap();
    let mut refused = None;
    for _ in 0..50 {
        thread::sleep(Duration::from_millis(100));
        if let Err(halt) = host.plan("user", r#"{"name": "zoe", "state": "absent"}"#) {
            refused = Some(halt);
            break;
        }
    }
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    assert!(refused.unwrap().message().contains("zoe runs 1 processes"));
}

#[test]
#[ignore = "needs root and a Debian test host: tests/run"]
fn others_at_the_account_files_are_waited_for() {
    let mut host = fresh();
    let before = memory();
    // useradd, at the same time, again and again: no line of either gets lost.
    let other = thread::spawn(|| {
        for _ in 0..10 {
            sh("useradd -M par && userdel par");
        }
    });
    for _ in 0..10 {
        // With numbers of its own: the next free ones depend on who comes first.
        let group = host.apply("group", r#"{"name": "xia", "gid": 4343}"#);
        let user = r#"{"name": "xia", "uid": 4343, "group": "xia", "groups": "docker", "create_home": false}"#;
        let done = host.apply("user", user);
        sh("getent passwd xia && getent group docker | grep -q xia");
        host.undo(done);
        host.undo(group);
    }
    other.join().unwrap();
    sh("rm -f /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow- /etc/subuid- /etc/subgid-");
    assert_same(&memory(), &before, "");
    assert_eq!(words(&host.plan("user", r#"{"name": "zoe"}"#).unwrap()), [] as [&str; 0]);
}
