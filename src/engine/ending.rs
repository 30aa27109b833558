//! How a host ends, and the ends of those with which nothing was begun.

use crate::{
    base::{Fault, FaultKind},
    engine::book::Events,
    model::{
        event::{Counts, Event, HostOutcome},
        ids::RunId,
        inventory::{Become, Host},
        lease::{OpenRun, Stand},
    },
};

/// How a host ended.
#[derive(Clone, Debug)]
pub struct HostEnd {
    /// How.
    pub outcome: HostOutcome,
    /// What was counted.
    pub counts: Counts,
    /// Why, when it did not succeed.
    pub fault: Option<Fault>,
}

/// Tells of a host whose turn never came.
pub async fn not_started(host: &Host, events: &Events, fault: Option<Fault>) -> HostEnd {
    ended(host, events, HostOutcome::NotStarted, fault).await
}

pub(super) async fn unreachable(host: &Host, events: &Events, fault: Fault) -> HostEnd {
    events.tell(Event::HostUnreachable { host: host.name.clone(), fault: fault.clone() }).await;
    ended(host, events, HostOutcome::Unreachable, Some(fault)).await
}

/// Tells of a host on which another run is not settled: no other may begin there. `whom` was become to look.
pub(super) async fn open_run(host: &Host, whom: &Become, events: &Events, found: &OpenRun) -> HostEnd {
    let run = found.run();
    let (outcome, fault) = if found.stand == Stand::Working {
        (HostOutcome::Failed, at_work(found.to_string(), run, host, whom))
    } else {
        let hint = format!("have it put back: {}", recovery(run, host, whom));
        (HostOutcome::NeedsRecovery, Fault::new(FaultKind::Policy, found.to_string()).hint(hint))
    };
    ended(host, events, outcome, Some(fault)).await
}

async fn ended(host: &Host, events: &Events, outcome: HostOutcome, fault: Option<Fault>) -> HostEnd {
    let counts = Counts::default();
    events.tell(Event::HostEnded { host: host.name.clone(), outcome, counts, fault: fault.clone() }).await;
    HostEnd { outcome, counts, fault }
}

/// A run that cannot be had: its agent is at work for somebody.
pub(super) fn at_work(told: String, run: &RunId, host: &Host, whom: &Become) -> Fault {
    let steal = recovery(run, host, whom);
    Fault::new(FaultKind::Policy, told)
        .hint("wait until it has ended")
        .hint(format!("or take it over, and have it put back: {steal} --steal --reason WHY"))
}

/// The command that settles a run on a host. Each user there has journals of his own: it says whom to become, where the
/// inventory does not.
pub(super) fn recovery(run: &RunId, host: &Host, whom: &Become) -> String {
    let command = format!("rollbook recover {run} -i INVENTORY --limit {}", host.name);
    match (&host.connection.become_user, whom.name()) {
        (None, Some(user)) => format!("{command} --become {user}"),
        _ => command,
    }
}
