//! The session that the agent was started in may end with its line, and logind may end all of its processes then
//! (`KillUserProcesses=yes`). An agent that has to go on alone leaves it before.

use std::collections::BTreeMap;

use crate::{
    model::change::CommandSpec,
    target::{
        Probe,
        process::{self, Hold, Running},
    },
};

/// Moves this process into a scope of its own, where there is systemd and we are root. Elsewhere nothing can be done:
/// the journal stays, and whoever comes next settles it.
pub(super) fn leave(probe: &Probe) {
    let is_real = probe.locate(&"/".into()) == std::path::Path::new("/");
    if !is_real || probe.facts().init != "systemd" || !rustix::process::geteuid().is_root() {
        return;
    }
    let own = std::process::id().to_string();
    let scope = format!("rollbook-{own}.scope");
    let argv = [
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
        "PIDs",
        "au",
        "1",
        &own,
        "CollectMode",
        "s",
        "inactive-or-failed",
        "0",
    ];
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let command = CommandSpec {
        argv: argv.map(str::to_owned).to_vec(),
        environment: BTreeMap::from([("PATH".to_owned(), path.to_owned())]),
        timeout_s: Some(10),
        ..CommandSpec::default()
    };
    let _ended_with_the_session_then = process::run_held(&command, &Running::default(), Hold::Firm);
}
