use std::fs;

use super::*;
use crate::model::inventory::{Become, Host, Transport};

fn good(text: &str) -> Inventory {
    parse("hosts.yml", text).unwrap_or_else(|faults| panic!("{faults}"))
}

fn host<'a>(inventory: &'a Inventory, name: &str) -> &'a Host {
    inventory.hosts.iter().find(|host| host.name.as_str() == name).expect(name)
}

fn var(inventory: &Inventory, name: &str, var: &str) -> String {
    host(inventory, name).vars.get(var).map_or("-".into(), |node| node.to_data().to_string())
}

fn said(faults: &Faults) -> Vec<String> {
    let line = |fault: &Fault| {
        let at = fault.place.as_ref().map_or("-".into(), |place| format!("{}:{}", place.line, place.column));
        format!("{at} {} | {}", fault.message, fault.hints.join(" | "))
    };
    faults.0.iter().map(line).collect()
}

fn wrong(text: &str) -> Vec<String> {
    said(&parse("hosts.yml", text).expect_err("a fault"))
}

#[test]
fn groups_nest_and_hosts_keep_their_order() {
    let inventory = good(
        "
all:
  hosts: {lone: }
  children:
    eu: {children: {web: }}
web: {hosts: {'web[01:03]': }}
db: {hosts: {db1: , web02: }}
",
    );
    let names: Vec<&str> = inventory.hosts.iter().map(|host| host.name.as_str()).collect();
    assert_eq!(names, ["lone", "web01", "web02", "web03", "db1"]);
    assert_eq!(*host(&inventory, "web02").groups, ["all", "db", "eu", "web"]);
    assert_eq!(*host(&inventory, "lone").groups, ["all", "ungrouped"]);
    assert_eq!(inventory.groups["eu"].len(), 3);
    assert_eq!(inventory.groups["all"].len(), 5);
    assert_eq!(inventory.groups["ungrouped"].len(), 1);
}

#[test]
fn inner_groups_and_hosts_hide_outer_ones() {
    let inventory = good(
        "
all: {vars: {a: all, b: all, c: all, d: all, e: all}}
outer: {vars: {b: outer, c: outer, d: outer}, children: {inner: , beta: , alpha: }}
inner: {vars: {c: inner, d: inner}, hosts: {h: {d: host}}}
beta: {vars: {e: beta}, hosts: {h: }}
alpha: {vars: {e: alpha, ansible_group_priority: 10}, hosts: {h: }}
",
    );
    let all: Vec<String> = ["a", "b", "c", "d", "e"].iter().map(|name| var(&inventory, "h", name)).collect();
    assert_eq!(all, [r#""all""#, r#""outer""#, r#""inner""#, r#""host""#, r#""alpha""#]);
}

#[test]
fn connection_values_come_from_both_vocabularies() {
    let inventory = good(
        "
all:
  vars: {ansible_user: admin, ansible_port: '2022', ansible_become: yes, ansible_become_pass: hunter2, ansible_python_interpreter: /x}
  hosts:
    plain:
    one: {ansible_host: 10.0.0.1, ansible_ssh_private_key_file: ~/.ssh/k, ansible_become_user: postgres, app: x}
    two: {address: 10.0.0.2, port: 22, user: root, transport: openssh, become: false, ssh_args: [-J, bastion]}
    three: {ansible_connection: local, become: app, password: 'pw'}
    four: {ansible_ssh_common_args: '-J jump -o \"Compression yes\"', known_hosts: [/a, /b]}
    'five:2222': {ansible_become: 'No', agent_dir: /opt/x}
",
    );
    let of = |name: &str| &host(&inventory, name).connection;
    assert_eq!((of("plain").user.as_deref(), of("plain").port), (Some("admin"), Some(2022)));
    assert_eq!(of("plain").become_user, Some(Become::Root));
    assert_eq!(of("plain").become_password.as_ref().unwrap().expose(), "hunter2");
    assert_eq!(of("one").address.as_deref(), Some("10.0.0.1"));
    assert_eq!(of("one").become_user, Some(Become::User("postgres".into())));
    assert_eq!(of("one").transport, Transport::Ssh2);
    assert_eq!((of("two").transport, of("two").port), (Transport::Openssh, Some(22)));
    assert_eq!(of("two").become_user, Some(Become::No));
    assert_eq!(of("two").ssh_args, ["-J", "bastion"]);
    assert_eq!(
        (of("three").transport, of("three").become_user.clone()),
        (Transport::Local, Some(Become::User("app".into())))
    );
    assert_eq!(of("four").ssh_args, ["-J", "jump", "-o", "Compression yes"]);
    assert_eq!(of("four").transport, Transport::Openssh);
    assert_eq!(of("four").known_hosts.as_deref().unwrap(), ["/a", "/b"]);
    assert_eq!((of("five").port, of("five").become_user.clone()), (Some(2222), Some(Become::No)));
    let names: Vec<&str> = host(&inventory, "one").vars.keys().map(|name| &**name).collect();
    assert_eq!(names, ["ansible_python_interpreter", "app"], "connection values are no variables");
    assert!(!format!("{inventory:?}").contains("hunter2"));
}

#[test]
fn wrong_shapes_are_told_all_at_once() {
    let faults = wrong(
        "
all:
  host: {a: }
  hosts:
    - web1
web: 7
db:
  children: [x]
  vars: x
  hosts: {'web[3:1]': , d1: {port: 70000, transport: opensh, become: yes, params: 1, my-var: 2}}
hosts: {a: }
",
    );
    let expected = [
        "3:3 a group has no key `host` | did you mean `hosts`?",
        "5:5 `hosts` is a mapping, and this is a list | write each name as a key, with a colon and no hyphen: `web1.example.com:`",
        "6:6 the group `web` is a mapping, and this is the number 7 | a group has `hosts:`, `children:` and `vars:`",
        "8:13 `children` is a mapping, and this is a list | write each name as a key, with a colon and no hyphen: `web:`",
        "9:9 `vars` are a mapping of names to values, and this is the unquoted text x | ",
        "10:11 [3:1] ends before it begins | ",
        "10:36 a port is a number from 1 to 65535, and this is the number 70000 | ",
        "10:54 there is no transport \"opensh\" | did you mean `openssh`?",
        "10:70 yes is not a boolean here | write true or false",
        "10:75 a variable cannot be called `params`: templates find other things there | ",
        "10:86 `my-var` is no variable name | use letters, digits and underscores, not beginning with a digit",
        "11:1 `hosts` stands under a group, not at the top | write `all:`, and `hosts:` under it",
    ];
    assert_eq!(faults, expected);
}

#[test]
fn one_slip_of_a_group_is_told_once() {
    let faults = wrong("all: {vars: {transport: ssh2, ssh_args: [-C]}, hosts: {'h[1:99]': }}");
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("for the system's ssh"));
}

#[test]
fn groups_within_themselves_are_refused() {
    let faults = wrong("a: {children: {b: }}\nb: {children: {c: }}\nc: {children: {a: }}\nd: {children: {a: }}");
    assert_eq!(faults, ["1:1 the group `a` stands within itself: `a` -> `b` -> `c` -> `a` | "]);
    assert!(wrong("a: {children: {a: }}")[0].contains("`a` -> `a`"));
    assert!(wrong("a: {children: {all: }}")[0].contains("stands in none"));
    let deep: String = (0..200).map(|n| format!("g{n}: {{children: {{g{}: }}}}\n", n + 1)).collect();
    assert!(wrong(&deep)[0].contains("more than 64 groups deep"));
}

#[test]
fn other_formats_are_recognised() {
    assert!(wrong("[web]\nweb1\nweb2 ansible_host=10.0.0.1\n")[0].contains("looks like an INI inventory"));
    assert!(wrong("[web]")[0].contains("looks like an INI inventory"));
    assert!(wrong("plugin: aws_ec2\nregions: [eu]")[0].contains("dynamic inventories"));
    assert!(wrong("")[0].contains("the file is empty"));
    assert!(wrong("- web1")[0].contains("a mapping of groups"));
}

#[test]
fn unsafe_or_unusable_connections_are_refused() {
    for (entry, why) in [
        ("ansible_ssh_common_args: -o StrictHostKeyChecking=no", "always checked"),
        ("ansible_ssh_args: '-o \"StrictHostKeyChecking no\"'", "always checked"),
        ("ansible_connection: docker", "not supported"),
        ("ansible_become_method: su", "only sudo"),
        ("ansible_host: '{{ ip }}'", "before templates are rendered"),
        ("address: -oProxyCommand=x", "begins with a hyphen"),
        ("address: ", "has no value"),
        ("user: \"a\\nb\"", "control characters"),
        ("ansible_become: maybe", "expected yes or no"),
        ("ssh_args: \"'\"", "a quote is not closed"),
        ("port: ssh", "from 1 to 65535"),
        ("become: no such user; rm", "no user's name"),
        ("ansible_become_user: $(id)", "no user's name"),
        ("agent_dir: opt/rollbook", "no folder that can be used"),
        ("agent_dir: /opt/../rollbook", "no folder that can be used"),
    ] {
        let faults = wrong(&format!("all:\n  hosts:\n    h:\n      {entry}\n"));
        assert!(faults.len() == 1 && faults[0].contains(why), "{entry}: {faults:?}");
    }
}

#[test]
fn too_many_hosts_are_refused_before_they_are_made() {
    let faults = wrong("all: {hosts: {'a[1:150000]': , 'b[1:150000]': , 'c[1:150000]': }}");
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("more than 200000"));
}

#[test]
fn files_beside_the_inventory_hide_it_as_ansible_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "hosts.yml",
        "all: {vars: {a: 0, b: 0}}\nweb: {vars: {a: 1, b: 1, c: 1, d: 1}, hosts: {w1: {d: 4, e: 4, f: 4}}}\n",
    );
    write("group_vars/all.yml", "a: 2\n");
    write("group_vars/web/10-first.yml", "b: 3\nc: 3\n");
    write("group_vars/web/20-second.yaml", "---\n# nothing\n");
    write("group_vars/web/notes.txt", "not: [read\n");
    write("group_vars/web/.hidden.yml", "not: [read\n");
    write("group_vars/other.yml", "not: [read\n");
    write("host_vars/w1", "e: 5\nuser: deploy\n");
    let (inventory, read) = load(&dir.path().join("hosts.yml")).unwrap();
    let all: Vec<String> = ["a", "b", "c", "d", "e", "f"].iter().map(|name| var(&inventory, "w1", name)).collect();
    assert_eq!(all, ["2", "3", "3", "4", "5", "4"]);
    assert_eq!(host(&inventory, "w1").connection.user.as_deref(), Some("deploy"));
    let names: Vec<&str> =
        read.iter().map(|(name, _)| name.rsplit_once("_vars/").map_or("", |(_, name)| name)).collect();
    assert_eq!(names, ["", "all.yml", "web/10-first.yml", "web/20-second.yaml", "w1"]);
    assert_eq!(read[1].1, Digest::of(b"a: 2\n"));
}

#[test]
fn slips_in_files_beside_the_inventory_are_all_told() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("group_vars")).unwrap();
    let path = dir.path().join("hosts.yml");
    fs::write(&path, "all: {hosts: {h: {port: 0}}}\na: {}\nb: {}\nc: {}\n").unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join("group_vars").join(name), text).unwrap();
    write("a.yml", "- x\n");
    write("b.yml", "$ANSIBLE_VAULT;1.1;AES256\n6162\n");
    write("c.yml", "x: 1\n");
    write("c.yaml", "x: 2\n");
    let faults = said(&load(&path).unwrap_err());
    assert!(faults.iter().any(|fault| fault.contains("a port is a number")), "{faults:?}");
    fs::write(&path, "all: {hosts: {h: }}\na: {}\nb: {}\nc: {}\n").unwrap();
    let faults = said(&load(&path).unwrap_err());
    for part in ["two entries hold variables of `c`", "are a mapping of names", "Ansible Vault"] {
        assert!(faults.iter().any(|fault| fault.contains(part)), "{part}: {faults:?}");
    }
    assert!(said(&load(dir.path()).unwrap_err())[0].contains("inventory directories are not supported"));
    assert!(said(&load(&dir.path().join("none.yml")).unwrap_err())[0].contains("cannot read"));
}

#[test]
fn ten_thousand_hosts_share_what_their_groups_give() {
    let vars: String = (0..50).map(|n| format!("    v{n}: {}\n", "x".repeat(1000))).collect();
    let inventory = good(&format!("web:\n  vars:\n{vars}  hosts:\n    web[00001:10000].example.com: {{rack: 7}}\n"));
    assert_eq!(inventory.hosts.len(), 10_000);
    let first = inventory.hosts[0].vars.get("v7").unwrap();
    for host in &inventory.hosts {
        assert!(std::sync::Arc::ptr_eq(host.vars.get("v7").unwrap(), first), "one copy for all");
        assert!(std::sync::Arc::ptr_eq(&host.groups, &inventory.hosts[0].groups));
    }
    assert_eq!(var(&inventory, "web09999.example.com", "rack"), "7");
}

#[test]
fn the_samples_load() {
    let (local, _) = load(Path::new("inventories/local.yml")).unwrap();
    assert_eq!(host(&local, "localhost").connection.transport, Transport::Local);
    let (example, _) = load(Path::new("inventories/example.yml")).unwrap();
    assert_eq!(example.hosts.len(), 7);
    assert_eq!(*host(&example, "web02.example.com").groups, ["all", "production", "web"]);
}
