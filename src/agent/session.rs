//! The session that the agent was started in may end with its line, and logind may end all of its processes then
//! (`KillUserProcesses=yes`). An agent that has to go on alone leaves it before.

use std::{collections::BTreeMap, fs};

use crate::{
    model::change::CommandSpec,
    target::{
        Probe,
        process::{self, Hold, Running},
    },
};

/// Moves this process and all that it has started into a scope of its own, where there is systemd and we are root.
/// Elsewhere nothing can be done: the journal stays, and whoever comes next settles it.
pub(super) fn leave(probe: &Probe) {
    let is_real = probe.locate(&"/".into()) == std::path::Path::new("/");
    if !is_real || probe.facts().init != "systemd" || !rustix::process::geteuid().is_root() {
        return;
    }
    let own = std::process::id().to_string();
    let mut all = Vec::new();
    gather(own.clone(), &mut all);
    // One of them may be gone by now, and the whole is refused then.
    let _ended_with_the_session_then = moves(&own, all) || moves(&own, vec![own.clone()]);
}

/// Moves processes into a scope that is named after one; whether that worked.
fn moves(own: &str, processes: Vec<String>) -> bool {
    let scope = format!("rollbook-{own}.scope");
    let count = processes.len().to_string();
    let words = [
        "busctl",
        "call",
        "--quiet",
        "org.freedesktop.systemd1",
        "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager",
        "StartTransientUnit",
        "ssa(sv)a(sa(sv))",
        &scope,
        "fail",
        "2",
        "CollectMode",
        "s",
        "inactive-or-failed",
        "PIDs",
        "au",
        &count,
    ];
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let command = CommandSpec {
        argv: words.into_iter().map(str::to_owned).chain(processes).chain(["0".to_owned()]).collect(),
        environment: BTreeMap::from([("PATH".to_owned(), path.to_owned())]),
        timeout_s: Some(10),
        ..CommandSpec::default()
    };
    process::run_held(&command, &Running::default(), Hold::Firm).is_ok_and(|output| output.code == Some(0))
}

/// A process and its descendants: what brings a resource to its end (apt, dpkg) must not be ended either.
fn gather(process: String, all: &mut Vec<String>) {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return };
    all.push(process);
    for thread in threads.flatten() {
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children.split_whitespace().for_each(|child| gather(child.to_owned(), all));
    }
}
