//! The fleet itself: what its commands say happens, happens; several stand side by side; and when one is down, nothing
//! of it is left on this machine.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

mod support;

use std::{collections::BTreeSet, fs, path::Path, process::Command, time::Duration};

use support::{Fleet, Kind, host, until};

/// What a fleet could leave on this machine, as far as other fleets at the same time leave it alone.
#[derive(Debug, PartialEq)]
struct Machine {
    links: String,
    routes: String,
    neighbours: String,
    packet_filter: String,
    mounts: Vec<String>,
    settings: Vec<String>,
    folders: Vec<BTreeSet<String>>,
    host_name: String,
}

impl Machine {
    fn look(fleet: &Fleet) -> Machine {
        let folders = ["/run", "/run/lock", "/run/netns", "/var/lib/lxc", "/dev", "/sys/class/net", "/etc/lxc"];
        let settings = ["vm/swappiness", "vm/overcommit_memory", "fs/file-max", "kernel/panic", "net/ipv4/ip_forward"];
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        Machine {
            links: said("ip", &["-o", "link"]),
            routes: said("ip", &["route", "show", "table", "all"]),
            neighbours: said("ip", &["neighbour", "show", "nud", "permanent"]),
            packet_filter: said("nft", &["list", "ruleset"]),
            mounts: mounts.lines().filter(|line| line.contains(fleet.id())).map(str::to_owned).collect(),
            settings: settings.map(|name| fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap()).into(),
            folders: folders.map(|folder| names(Path::new(folder))).into(),
            host_name: said("hostname", &[]),
        }
    }
}

fn said(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output().unwrap();
    assert!(output.status.success(), "{program}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn names(folder: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeSet::new() };
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// A process, told apart from a later one with the same number by its start.
type Process = (u32, String);

fn process(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.rsplit_once(')')?.1.to_owned();
    let mut fields = after_name.split_whitespace();
    // A zombie holds nothing; this machine's PID 1 takes its time to bury it.
    let alive = fields.next() != Some("Z");
    alive.then(|| Some((pid, fields.nth(18)?.to_owned())))?
}

fn processes() -> BTreeSet<Process> {
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    all.filter_map(process).collect()
}

/// Those of a fleet: all that are in its cgroup.
fn processes_of(fleet: &Fleet) -> BTreeSet<Process> {
    let belongs =
        |pid: u32| fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(fleet.id()));
    processes().into_iter().filter(|(pid, _)| belongs(*pid)).collect()
}

/// The namespaces that processes are in.
fn namespaces(processes: &BTreeSet<Process>) -> BTreeSet<String> {
    let of = |pid: u32| {
        let kinds = ["net", "mnt", "pid", "uts", "ipc", "cgroup", "time"];
        kinds.into_iter().filter_map(move |kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok())
    };
    processes.iter().flat_map(|(pid, _)| of(*pid)).map(|link| link.to_string_lossy().into_owned()).collect()
}

fn cgroups_of(fleet: &Fleet) -> Vec<String> {
    let found = said("find", &["/sys/fs/cgroup", "-type", "d", "-name", &format!("*{}*", fleet.id())]);
    found.lines().map(str::to_owned).collect()
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn nothing_is_left_of_a_fleet_that_is_down() {
    let fleet = Fleet::named(&format!("gone{}", std::process::id()));
    let before = Machine::look(&fleet);
    let own_namespaces = namespaces(&processes());
    for (kind, count) in
        [(Kind::Systemd, 1), (Kind::Light, 3), (Kind::Sysvinit, 1), (Kind::Busybox, 2), (Kind::Inner, 1)]
    {
        fleet.up(kind, count);
    }
    // Whatever is done to hosts, it is done to them alone.
    fleet.run(&[
        "console",
        "systemd1",
        "/bin/sh",
        "-ec",
        "sysctl -q -w vm.swappiness=7 net.ipv4.ip_forward=1; hostname other; \
        mount -t tmpfs none /mnt; nft add table inet t; ip route add 192.0.2.0/24 dev eth0",
    ]);
    for words in [["cut", "light1"], ["freeze", "light2"], ["reset", "busybox1"], ["wipe", "busybox2"]] {
        fleet.run(&words);
    }
    let theirs = processes_of(&fleet);
    let their_namespaces: BTreeSet<String> = namespaces(&theirs).difference(&own_namespaces).cloned().collect();
    assert!(theirs.len() > 25 && their_namespaces.len() > 30, "{theirs:?} {their_namespaces:?}");
    assert!(!cgroups_of(&fleet).is_empty());

    let before_down = processes();
    fleet.run(&["down"]);

    let left = |found: BTreeSet<_>, theirs: &BTreeSet<_>| found.intersection(theirs).count();
    until("its processes are gone", Duration::from_secs(30), || left(processes(), &theirs) == 0);
    // The number of a namespace that is gone is given again: to a host of another fleet, perhaps.
    let older = processes().intersection(&before_down).cloned().collect();
    assert_eq!(namespaces(&older).intersection(&their_namespaces).count(), 0, "a namespace is left");
    assert_eq!(cgroups_of(&fleet), [] as [String; 0]);
    assert_eq!(Machine::look(&fleet), before);
    assert!(!fleet.state().exists(), "its files are left");
    fleet.run(&["down"]); // there is nothing to take down, and that is fine
    assert!(!fleet.state().exists());
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn a_fleet_goes_with_its_owner_however_that_ends() {
    let fleet = Fleet::named(&format!("owned{}", std::process::id()));
    let mut owner = Command::new("sleep").arg("300").spawn().unwrap();
    fleet.run(&["up", "1", "--kind", "light", "--owner", &owner.id().to_string()]);
    let theirs = processes_of(&fleet);
    assert!(theirs.len() > 3, "{theirs:?}");
    owner.kill().unwrap();
    owner.wait().unwrap();
    until("the fleet is gone", Duration::from_secs(120), || {
        processes().is_disjoint(&theirs) && cgroups_of(&fleet).is_empty() && !fleet.state().exists()
    });
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn fleets_stand_side_by_side() {
    let (one, other) =
        (Fleet::named(&format!("a{}", std::process::id())), Fleet::named(&format!("b{}", std::process::id())));
    one.up(Kind::Light, 1);
    other.up(Kind::Light, 2);
    let root = |fleet: &Fleet| fleet.inventory()["hosts"][0]["root"].as_str().unwrap().to_owned();
    fs::write(Path::new(&root(&one)).join("etc/mark"), "one").unwrap();
    assert!(!Path::new(&root(&other)).join("etc/mark").exists(), "the same name and address, another host");
    one.run(&["down"]);
    assert_eq!(other.run(&["ssh", "light2", "hostname"]), "light2\n");
    other.run(&["down"]);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn up_again_changes_nothing() {
    let host = host(Kind::Light);
    let boot = host.boot();
    host.sh("echo kept >/etc/mark");
    for _ in 0..2 {
        host.up_again();
    }
    assert_eq!((host.boot(), host.sh("cat /etc/mark")), (boot, "kept\n".to_owned()));
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn a_reset_keeps_the_disk_and_a_wipe_does_not() {
    for kind in [Kind::Systemd, Kind::Sysvinit, Kind::Busybox] {
        let host = host(kind);
        let boot = host.boot();
        host.sh("echo kept >/etc/mark; echo lost >/run/mark");
        host.reset();
        assert_ne!(host.boot(), boot);
        assert_eq!(host.sh("cat /etc/mark; ls /run/mark 2>&1 || true").lines().next(), Some("kept"));
        assert!(host.sh("[ -e /run/mark ] || echo gone").contains("gone"));
        host.wipe();
        assert_eq!(host.sh("ls /etc/mark 2>/dev/null || echo fresh"), "fresh\n");
        assert!(host.answers());
    }
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn a_cut_is_silent_and_a_frozen_host_says_nothing() {
    let host = host(Kind::Light);
    host.cut();
    assert!(host.is_silent());
    host.heal();
    assert!(host.answers());
    host.freeze();
    assert!(host.is_silent());
    host.thaw();
    assert!(host.answers());
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn hosts_that_come_and_go_disturb_no_other() {
    let host = host(Kind::Light);
    // Where it knows the way to the controller, and would send to whoever had that address before.
    let bridge = || {
        let shown = host.nearby("ip").args(["-brief", "link", "show", "br0"]).output().unwrap();
        String::from_utf8(shown.stdout).unwrap().split_whitespace().nth(2).unwrap().to_owned()
    };
    let before = bridge();
    let other = support::host(Kind::Light);
    for _ in 0..3 {
        other.reset();
        assert!(host.answers());
        host.reset();
        assert!(other.answers());
    }
    assert_eq!(bridge(), before);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn what_is_known_of_the_hosts_is_whole_at_every_moment() {
    let fleet = Fleet::named(&format!("whole{}", std::process::id()));
    fleet.up(Kind::Light, 1);
    let known =
        || ["known_hosts", "ssh_config", "inventory.json"].map(|name| fs::read(fleet.state().join(name)).unwrap());
    let whole = known();
    std::thread::scope(|scope| {
        let told = scope.spawn(|| (0..20).for_each(|_| drop(fleet.inventory())));
        while !told.is_finished() {
            assert!(known() == whole, "a part of what is known of the hosts was missing");
        }
    });
    fleet.run(&["down"]);
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn no_packet_leaves() {
    let host = host(Kind::Light);
    assert_eq!(
        host.sh(
            "ip route show default; cat /proc/net/ipv6_route | grep -v ' lo$' | grep -c '^0\\{32\\} 00 .*eth0' || true"
        ),
        "0\n"
    );
    let outside = host.nearby("ip").args(["route", "get", "192.0.2.1"]).output().unwrap();
    assert!(String::from_utf8_lossy(&outside.stderr).contains("unreachable"), "{outside:?}");
}
