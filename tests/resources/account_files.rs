//! Users and groups in the account files of a folder that stands for a host: every step goes forward, rests, and goes
//! back to the same bytes.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use rollbook::resources::Halt;

use crate::host::{Host, words};

/// Odd on purpose: entries in no order, a comment that is no UTF-8, an admin in gshadow, a user whose own group lists
/// him, a line for NIS, a last line without an end.
const FILES: [(&str, u32, &[u8]); 6] = [
    (
        "passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n\
          ada:x:1000:1000:Ada \xe9:/home/ada:/bin/bash\nsshd:x:101:65534::/run/sshd:/usr/sbin/nologin\n\
          bob:x:1001:1001::/home/bob:/bin/sh\n+::::::\n",
    ),
    (
        "shadow",
        0o640,
        b"root:*:20780:0:99999:7:::\nnobody:*:20780:0:99999:7:::\nada:$6$old$hash:20000:0:90:7:30:21000:\n\
          sshd:!:20780::::::\nbob:!:20780:0:99999:7:::",
    ),
    (
        "group",
        0o644,
        b"root:x:0:\nlp:x:7:\nadm:x:4:bob,ada,sshd\nada:x:1000:\nbob:x:1001:bob\nnogroup:x:65534:\nempty:x:1002:\n",
    ),
    ("gshadow", 0o640, b"root:*::\nlp:*::\nadm:!:ada:bob,ada,sshd\nada:!::\nbob:!::bob\nnogroup:*::\nempty:$6$x$y::\n"),
    ("subuid", 0o644, b"ada:100000:65536\nbob:165536:65536\n"),
    ("subgid", 0o644, b"ada:100000:65536\nbob:165536:65536\n"),
];

/// A folder with the account files, a skeleton and two home directories.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        for path in ["etc/skel/.config", "home/ada", "home/bob", "proc", "run"] {
            fs::create_dir_all(at(path)).unwrap();
        }
        for (name, mode, bytes) in FILES {
            fs::write(at(&format!("etc/{name}")), bytes).unwrap();
            fs::set_permissions(at(&format!("etc/{name}")), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::write(at("etc/.pwd.lock"), "").unwrap();
        fs::write(at("etc/login.defs"), "PASS_MAX_DAYS 99999\nPASS_MIN_DAYS 0\nPASS_WARN_AGE 7\nUMASK 077\n").unwrap();
        fs::write(at("etc/skel/.config/rc"), "rc\n").unwrap();
        Folder(folder)
    }

    /// Every path with its mode and bytes, one a line.
    fn all(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect(self.0.path(), &mut found);
        found.sort();
        found
    }

    fn etc(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.0.path().join("etc").join(name)).unwrap()).into_owned()
    }
}

fn collect(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        let bytes = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        found.push(format!("{} {:o} {}", path.display(), meta.permissions().mode(), bytes.escape_ascii()));
        if meta.is_dir() {
            collect(&path, found);
        }
    }
}

#[test]
fn every_step_goes_back_to_the_same_bytes() {
    let steps: &[(&str, &str, &[&str])] = &[
        (
            "user",
            r#"{"name": "ada", "state": "absent"}"#,
            &[
                "user ada: state uid 1000, group ada, groups adm, home /home/ada, shell /bin/bash → absent",
                "group ada: state gid 1000 → absent",
            ],
        ),
        (
            "user",
            r#"{"name": "bob", "state": "absent"}"#,
            &[
                "user bob: state uid 1001, group bob, groups adm,bob, home /home/bob, shell /bin/sh → absent",
                "group bob: state gid 1001 → absent",
            ],
        ),
        ("user", r#"{"name": "root", "shell": "/bin/sh"}"#, &["user root: shell /bin/bash → /bin/sh"]),
        (
            "user",
            r#"{"name": "ada", "comment": "Ada", "home": "/srv/ada", "uid": 1500}"#,
            &["user ada: uid 1000 → 1500, home /home/ada → /srv/ada, comment Ada \u{fffd} → Ada"],
        ),
        ("user", r#"{"name": "ada", "groups": ["lp"]}"#, &["user ada: groups adm → lp (+lp -adm)"]),
        ("user", r#"{"name": "ada", "groups": "lp", "append": true}"#, &["user ada: groups adm → adm,lp (+lp)"]),
        ("user", r#"{"name": "bob", "groups": []}"#, &["user bob: groups adm,bob → bob (-adm)"]),
        ("user", r#"{"name": "bob", "password_hash": "$6$new$0123456789"}"#, &["user bob: password locked → set"]),
        ("user", r#"{"name": "ada", "password_hash": "$6$new$0123456789"}"#, &["user ada: password set → changed"]),
        ("user", r#"{"name": "ada", "group": "lp"}"#, &["user ada: group ada → lp"]),
        ("user", r#"{"name": "ada", "group": 7}"#, &["user ada: group ada → lp"]),
        (
            "user",
            r#"{"name": "eve", "create_home": false, "groups": ["adm", "lp"]}"#,
            &[
                "group eve: state absent → gid 1003",
                "user eve: state absent → uid 1002, group eve, groups adm,lp, home /home/eve, shell /bin/sh",
            ],
        ),
        (
            "user",
            r#"{"name": "app", "system": true, "group": "lp", "shell": "/usr/sbin/nologin"}"#,
            &["user app: state absent → uid 999, group lp, home /home/app, shell /usr/sbin/nologin"],
        ),
        ("group", r#"{"name": "empty", "state": "absent"}"#, &["group empty: state gid 1002 → absent"]),
        ("group", r#"{"name": "adm", "state": "absent"}"#, &["group adm: state gid 4 → absent"]),
        ("group", r#"{"name": "ada", "gid": 2000}"#, &["group ada: gid 1000 → 2000"]),
        ("group", r#"{"name": "new"}"#, &["group new: state absent → gid 1003"]),
        ("group", r#"{"name": "sys", "system": true}"#, &["group sys: state absent → gid 999"]),
        ("group", r#"{"name": "given", "gid": 77}"#, &["group given: state absent → gid 77"]),
    ];
    for (kind, json, expected) in steps {
        let folder = Folder::new();
        let before = folder.all();
        let mut host = Host::below(folder.0.path());
        let done = host.apply(kind, json);
        assert_eq!(words(&done.0), *expected, "{json}");
        assert_ne!(folder.all(), before, "{json}");
        host.undo(done);
        assert_eq!(folder.all(), before, "{json}");
    }
}

#[test]
fn new_lines_are_as_useradd_writes_them() {
    let folder = Folder::new();
    let mut host = Host::below(folder.0.path());
    let step = r#"{"name": "eve", "comment": "Eve, of NIS", "create_home": false, "groups": ["adm"], "password_hash": "$6$salt$0123456789"}"#;
    let done = host.apply("user", step);
    assert!(folder.etc("passwd").ends_with("/bin/sh\neve:x:1002:1003:Eve, of NIS:/home/eve:/bin/sh\n+::::::\n"));
    let days = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() / 86400;
    assert!(folder.etc("shadow").ends_with(&format!("\neve:$6$salt$0123456789:{days}:0:99999:7:::")));
    assert!(
        folder.etc("group").contains("\nadm:x:4:bob,ada,sshd,eve\n")
            && folder.etc("group").ends_with("\neve:x:1003:\n")
    );
    assert!(
        folder.etc("gshadow").contains("\nadm:!:ada:bob,ada,sshd,eve\n")
            && folder.etc("gshadow").ends_with("\neve:!::\n")
    );
    assert!(folder.etc("subuid").ends_with("\neve:231072:65536\n"));
    host.undo(done);
}

#[test]
fn two_users_go_and_come_back_in_their_order() {
    let folder = Folder::new();
    let before = folder.all();
    let mut host = Host::below(folder.0.path());
    let ada = host.apply("user", r#"{"name": "ada", "state": "absent"}"#);
    let bob = host.apply("user", r#"{"name": "bob", "state": "absent"}"#);
    let adm = host.apply("group", r#"{"name": "adm", "state": "absent"}"#);
    host.undo(adm);
    host.undo(bob);
    host.undo(ada);
    assert_eq!(folder.all(), before);
}

#[test]
fn what_others_did_in_between_stays() {
    let folder = Folder::new();
    let mut host = Host::below(folder.0.path());
    let done = host.apply("user", r#"{"name": "ada", "state": "absent"}"#);
    for (name, old, new) in
        [("group", "adm:x:4:bob,sshd\n", "adm:x:4:sshd,eve\n"), ("passwd", "nobody:x:65534", "no:x:65534")]
    {
        let text = folder.etc(name).replace(old, new);
        fs::write(folder.0.path().join("etc").join(name), text).unwrap();
    }
    host.undo(done);
    assert!(folder.etc("group").contains("\nadm:x:4:sshd,eve,ada\n"), "{}", folder.etc("group"));
    // The line before ada's has another name now: the entry comes back at the end, before NIS.
    assert!(folder.etc("passwd").contains("/bin/sh\nada:x:1000:1000:Ada"), "{}", folder.etc("passwd"));
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_done() {
    let folder = Folder::new();
    let before = folder.all();
    let mut host = Host::below(folder.0.path());
    let mut refused = |kind: &str, json: &str| host.plan(kind, json).unwrap_err().message().to_owned();
    assert_eq!(refused("user", r#"{"name": "ada", "uid": 1001}"#), "the number 1001 belongs to the user bob");
    assert_eq!(refused("user", r#"{"name": "ada", "groups": ["admm"]}"#), "there is no group admm; the nearest is adm");
    assert!(refused("user", r#"{"name": "eve", "group": "qqqq"}"#).starts_with("there is no group qqqq; make it"));
    assert!(refused("user", r#"{"name": "root", "state": "absent"}"#).contains("root's own"));
    assert!(refused("group", r#"{"name": "nogroup", "state": "absent"}"#).contains("is the primary group of nobody"));
    assert_eq!(refused("group", r#"{"name": "adm", "gid": 7}"#), "the number 7 belongs to the group lp");
    assert_eq!(folder.all(), before);
    let text = folder.etc("passwd").replace("bob:x:1001", "bob:x:x");
    fs::write(folder.0.path().join("etc/passwd"), text).unwrap();
    let damaged = host.plan("user", r#"{"name": "bob"}"#).unwrap_err();
    assert!(damaged.message().contains("the line about bob in /etc/passwd is damaged"), "{damaged}");
}

#[test]
fn a_plan_knows_the_users_and_groups_of_earlier_steps() {
    let folder = Folder::new();
    let before = folder.all();
    let mut host = Host::below(folder.0.path());
    host.stage("group", r#"{"name": "docker"}"#);
    host.stage("user", r#"{"name": "eve"}"#);
    let next = host.plan("user", r#"{"name": "fay", "group": "eve", "groups": "docker"}"#).unwrap();
    assert_eq!(
        words(&next)[0],
        "user fay: state absent → uid 1003, group eve, groups docker, home /home/fay, shell /bin/sh"
    );
    let refused = host.plan("group", r#"{"name": "eve", "state": "absent"}"#).unwrap_err();
    assert!(matches!(&refused, Halt::Failed(why) if why.contains("primary group of eve")), "{refused}");
    host.stage("user", r#"{"name": "eve", "state": "absent"}"#);
    assert_eq!(
        words(&host.plan("user", r#"{"name": "gil"}"#).unwrap())[1].split(',').next().unwrap(),
        "user gil: state absent → uid 1002"
    );
    assert_eq!(folder.all(), before);
}

#[test]
fn hosts_without_shadow_files_have_users_too() {
    let folder = Folder::new();
    for name in ["shadow", "gshadow", "subuid", "subgid", ".pwd.lock", "login.defs"] {
        fs::remove_file(folder.0.path().join("etc").join(name)).unwrap();
    }
    let before = folder.all();
    let mut host = Host::below(folder.0.path());
    let done = host.apply("user", r#"{"name": "eve", "create_home": false}"#);
    assert!(folder.etc("passwd").contains("\neve:!:1002:1003::/home/eve:/bin/sh\n"));
    let refused = host.plan("user", r#"{"name": "fay", "password_hash": "$6$salt$0123456789"}"#).unwrap_err();
    assert!(refused.message().contains("no /etc/shadow"), "{refused}");
    host.undo(done);
    assert_eq!(folder.all(), before);
}
