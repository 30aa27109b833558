//! Hosts that change together: each is taken to its end, or held when it has done its steps until all are judged.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
};

use crate::{
    engine::{
        book::Events,
        delegates::Delegates,
        ending::HostEnd,
        gate::{self, Gate, Halted, Stage},
        job::Job,
        session,
    },
    model::{ids::HostName, inventory::Host},
};

/// A batch at work.
pub(super) struct Batch {
    stage: watch::Sender<Stage>,
    reached: mpsc::UnboundedReceiver<HostName>,
    waiting: BTreeSet<HostName>,
    running: JoinSet<(HostName, HostEnd)>,
}

impl Batch {
    /// Sends hosts on their way.
    pub(super) fn start(
        job: &Arc<Job>,
        hosts: &[Arc<Host>],
        events: &Events,
        halt: &Halted,
        turns: &Arc<Semaphore>,
        delegates: &Arc<Delegates>,
    ) -> Batch {
        let (stage, told) = watch::channel(Stage::Work);
        let (reach, reached) = mpsc::unbounded_channel();
        let mut running = JoinSet::new();
        for host in hosts {
            let (job, host, events, halt) = (Arc::clone(job), Arc::clone(host), events.clone(), halt.clone());
            let (stage, reached, turn) = (told.clone(), reach.clone(), gate::queue(turns));
            let delegates = Arc::clone(delegates);
            running.spawn(async move {
                let gate = Gate { stage, reached, turn: Some(turn.await), delegates, asked: None };
                let end = session::run(Arc::clone(&job), Arc::clone(&host), events, halt, gate).await;
                job.turnstiles.ended(&host.name);
                (host.name.clone(), end)
            });
        }
        Batch { stage, reached, waiting: BTreeSet::new(), running }
    }

    /// Tells all hosts.
    pub(super) fn tell(&mut self, stage: Stage) {
        if matches!(stage, Stage::Verify) {
            self.waiting.clear();
        }
        self.stage.send_replace(stage);
    }

    /// The next host that ends; none when all others wait.
    pub(super) async fn next_end(&mut self) -> Option<(HostName, HostEnd)> {
        loop {
            if self.waiting.len() >= self.running.len() {
                return None;
            }
            tokio::select! {
                Some(joined) = self.running.join_next() => return Some(self.gone(joined)),
                Some(host) = self.reached.recv() => drop(self.waiting.insert(host)),
            }
        }
    }

    /// The next host that ends, waiting or not; none when there is no other.
    pub(super) async fn next_of_all(&mut self) -> Option<(HostName, HostEnd)> {
        let joined = self.running.join_next().await?;
        Some(self.gone(joined))
    }

    /// The next host that ends within a time.
    pub(super) async fn next_within(&mut self, time: Duration) -> Option<(HostName, HostEnd)> {
        match self.running.is_empty() {
            true => None,
            false => tokio::time::timeout(time, self.next_of_all()).await.ok().flatten(),
        }
    }

    /// Whether any host waits to be judged.
    pub(super) fn is_held(&self) -> bool {
        !self.running.is_empty()
    }

    fn gone(&mut self, joined: Result<(HostName, HostEnd), tokio::task::JoinError>) -> (HostName, HostEnd) {
        let (name, end) = joined.expect("a host's task does not panic, and is not aborted");
        self.waiting.remove(&name);
        (name, end)
    }
}
