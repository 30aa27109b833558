//! All hosts of a run: so many at once, each to its end, and what that makes of the run.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

use crate::{
    base::Fault,
    engine::{
        book::Events,
        job::Job,
        outcome,
        session::{self, HostEnd},
    },
    model::{
        event::{Counts, Event, HostOutcome, RunOpened, RunOutcome},
        ids::HostName,
    },
};

/// How a run ended.
#[derive(Clone, Debug)]
pub struct RunEnd {
    /// How.
    pub outcome: RunOutcome,
    /// Each host, by name.
    pub hosts: BTreeMap<HostName, HostEnd>,
    /// All hosts' counts together.
    pub counts: Counts,
}

/// Runs a job on all its hosts. `opened` is told, and recorded, before the first connection; `halt` stops and
/// undoes what is under way.
pub async fn run(job: Arc<Job>, opened: RunOpened, events: Events, halt: watch::Receiver<Option<Fault>>) -> RunEnd {
    let started = Instant::now();
    events.tell(Event::RunOpened(Box::new(opened))).await;
    let _on_record = events.head().await;
    let hosts = all_hosts(&job, &events, &halt).await;
    let end = sum_up(hosts);
    let by_outcome = by_outcome(&end.hosts);
    let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    events.tell(Event::RunClosed { outcome: end.outcome, hosts: by_outcome, counts: end.counts, took_ms }).await;
    let _on_record = events.head().await;
    end
}

async fn all_hosts(
    job: &Arc<Job>,
    events: &Events,
    halt: &watch::Receiver<Option<Fault>>,
) -> BTreeMap<HostName, HostEnd> {
    let turns = Arc::new(Semaphore::new(job.forks));
    let mut running = JoinSet::new();
    for host in &job.hosts {
        let (job, host, events, halt) = (Arc::clone(job), Arc::clone(host), events.clone(), halt.clone());
        let turns = Arc::clone(&turns);
        running.spawn(async move {
            let _turn = turns.acquire().await.expect("the semaphore is never closed");
            let halted = halt.borrow().clone();
            let end = match halted {
                Some(reason) => session::not_started(&host, &events, Some(reason)).await,
                None => session::run(job, Arc::clone(&host), events, halt).await,
            };
            (host.name.clone(), end)
        });
    }
    let mut hosts = BTreeMap::new();
    while let Some(joined) = running.join_next().await {
        let (name, end) = joined.expect("a host's task does not panic, and is not aborted");
        hosts.insert(name, end);
    }
    hosts
}

fn sum_up(hosts: BTreeMap<HostName, HostEnd>) -> RunEnd {
    let mut counts = Counts::default();
    for end in hosts.values() {
        let Counts { ok, changed, skipped, failed, unknown, undone } = end.counts;
        counts.ok += ok;
        counts.changed += changed;
        counts.skipped += skipped;
        counts.failed += failed;
        counts.unknown += unknown;
        counts.undone += undone;
    }
    let outcome = outcome::run_outcome(&by_outcome(&hosts));
    RunEnd { outcome, hosts, counts }
}

fn by_outcome(hosts: &BTreeMap<HostName, HostEnd>) -> BTreeMap<HostOutcome, u32> {
    let mut counted = BTreeMap::new();
    for end in hosts.values() {
        *counted.entry(end.outcome).or_default() += 1;
    }
    counted
}
