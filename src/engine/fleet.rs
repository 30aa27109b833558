//! All hosts of a run: batch by batch, each host to its end, and what that makes of the run.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use crate::{
    base::{Fault, FaultKind, point::fault},
    engine::{
        batch::Batch,
        book::Events,
        delegates::Delegates,
        ending::{self, HostEnd},
        gate::{self, Halted, Stage, Verdict},
        job::Job,
        outcome,
    },
    model::{
        event::{Counts, Event, HostOutcome, RunOpened, RunOutcome},
        ids::HostName,
        inventory::Host,
        strategy::{Scope, Strategy},
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
pub async fn run(job: Arc<Job>, opened: RunOpened, events: Events, halt: Halted) -> RunEnd {
    let started = Instant::now();
    events.tell(Event::RunOpened(Box::new(opened))).await;
    let _on_record = events.head().await;
    fault!("run.opened");
    let turns = Arc::new(Semaphore::new(job.forks));
    let delegates = Delegates::new();
    let (ended, failed, too_many) = (BTreeMap::new(), 0, None);
    let mut fleet = Fleet { job, events: events.clone(), halt, turns, delegates, ended, failed, too_many };
    fleet.all_batches().await;
    fleet.ended.extend(fleet.delegates.close().await);
    close(fleet.ended, &events, started).await
}

/// Sums up how the hosts ended, and tells that the run is over.
pub(super) async fn close(hosts: BTreeMap<HostName, HostEnd>, events: &Events, started: Instant) -> RunEnd {
    let end = sum_up(hosts);
    let by_outcome = by_outcome(&end.hosts);
    fault!("run.closing");
    let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    events.tell(Event::RunClosed { outcome: end.outcome, hosts: by_outcome, counts: end.counts, took_ms }).await;
    let _on_record = events.head().await;
    fault!("run.closed");
    end
}

struct Fleet {
    job: Arc<Job>,
    events: Events,
    halt: Halted,
    turns: Arc<Semaphore>,
    delegates: Arc<Delegates>,
    ended: BTreeMap<HostName, HostEnd>,
    failed: usize,
    /// What is said of it, once so many have failed that the run is stopped.
    too_many: Option<Fault>,
}

impl Fleet {
    async fn all_batches(&mut self) {
        let job = Arc::clone(&self.job);
        let strategy = &job.runbook.strategy;
        let sizes = strategy.cut(job.hosts.len());
        let mut rest = &job.hosts[..];
        let mut held = VecDeque::new();
        for (at, size) in sizes.iter().enumerate() {
            let (hosts, later) = rest.split_at(*size);
            rest = later;
            if let Some(reason) = self.stopped() {
                self.leave(hosts, &reason).await;
                continue;
            }
            if sizes.len() > 1 {
                self.note(format!("batch {} of {}: {}", at + 1, sizes.len(), hosts_words(hosts.len()))).await;
            }
            let mut batch = Batch::start(&job, hosts, &self.events, &self.halt, &self.turns, &self.delegates);
            self.see_through(&mut batch, strategy).await;
            if strategy.rollback == Scope::Run {
                held.push_back(batch);
            } else {
                self.judge(&mut batch).await;
            }
        }
        // What goes back together goes back newest first.
        while let Some(mut batch) = if self.stopped().is_some() { held.pop_back() } else { held.pop_front() } {
            self.judge(&mut batch).await;
        }
    }

    /// Takes a batch to where all its hosts have ended or wait to be judged.
    async fn see_through(&mut self, batch: &mut Batch, strategy: &Strategy) {
        self.until_all_wait(batch).await;
        if strategy.bake_ms > 0 && batch.is_held() && self.stopped().is_none() {
            self.note(format!("waiting {} s before they are judged", strategy.bake_ms as f64 / 1000.0)).await;
            self.bake(batch, Duration::from_millis(strategy.bake_ms)).await;
        }
        if !self.job.runbook.verify.is_empty() && batch.is_held() && self.stopped().is_none() {
            batch.tell(Stage::Verify);
            self.until_all_wait(batch).await;
        }
    }

    async fn until_all_wait(&mut self, batch: &mut Batch) {
        while let Some((name, end)) = batch.next_end().await {
            self.took(name, end, batch).await;
        }
    }

    async fn bake(&mut self, batch: &mut Batch, time: Duration) {
        let until = Instant::now() + time;
        while let Some(left) = until.checked_duration_since(Instant::now())
            && self.stopped().is_none()
            && batch.is_held()
        {
            let mut halt = self.halt.clone();
            tokio::select! {
                Some((name, end)) = batch.next_within(left) => self.took(name, end, batch).await,
                _ = halt.wait_for(Option::is_some) => return,
                () = tokio::time::sleep(left) => return,
            }
        }
    }

    /// Keeps what the waiting hosts have done, or has it undone, and sees all of them to their end.
    async fn judge(&mut self, batch: &mut Batch) {
        let together = self.job.runbook.strategy.rollback != Scope::Host;
        let is_halted = self.halt.borrow().is_some();
        let verdict = if is_halted { Some(gate::judged(&mut self.halt).await.1) } else { None };
        batch.tell(match self.stopped() {
            Some(_) if verdict == Some(Verdict::Keep) => Stage::Keep,
            Some(reason) if together || is_halted => Stage::Back(reason),
            _ => Stage::Keep,
        });
        while let Some((name, end)) = batch.next_of_all().await {
            // Who is becoming final is final or not by itself; the batches to come are another matter.
            self.count(name, end).await;
        }
    }

    /// A host has ended by itself. When that is one failure too many, the others of its batch are told at once.
    async fn took(&mut self, name: HostName, end: HostEnd, batch: &mut Batch) {
        if let Some(reason) = self.count(name, end).await {
            batch.tell(match self.job.runbook.strategy.rollback {
                Scope::Host => Stage::Stop(reason),
                Scope::Batch | Scope::Run => Stage::Back(reason),
            });
        }
    }

    /// Keeps how a host ended. When that is one failure too many, the run is stopped, and this says why.
    async fn count(&mut self, name: HostName, end: HostEnd) -> Option<Fault> {
        self.failed += usize::from(!matches!(end.outcome, HostOutcome::Succeeded | HostOutcome::NotStarted));
        self.ended.insert(name, end);
        let all = self.job.hosts.len();
        if self.stopped().is_some() || self.failed < self.job.runbook.strategy.failures_max(all) {
            return None;
        }
        let failed = hosts_words(self.failed);
        let reason = Fault::new(FaultKind::Failed, format!("the run was stopped: {failed} of {all} failed"));
        self.note(reason.message.clone()).await;
        Some(self.too_many.insert(reason).clone())
    }

    /// Why no further host may begin, if none may.
    fn stopped(&self) -> Option<Fault> {
        let halted = self.halt.borrow().as_ref().map(|stop| stop.reason.clone());
        halted.or_else(|| self.too_many.clone())
    }

    async fn leave(&mut self, hosts: &[Arc<Host>], reason: &Fault) {
        for host in hosts {
            let end = ending::not_started(host, &self.events, Some(reason.clone())).await;
            self.ended.insert(host.name.clone(), end);
        }
    }

    async fn note(&self, message: String) {
        self.events.tell(Event::Note { host: None, message }).await;
    }
}

fn hosts_words(count: usize) -> String {
    format!("{count} host{}", if count == 1 { "" } else { "s" })
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
