//! Where a host waits for the others of its batch.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, watch};

use crate::{base::Fault, model::ids::HostName};

/// What the hosts of a batch are told.
#[derive(Clone, Debug)]
pub enum Stage {
    /// Do the steps, then wait where the strategy says so.
    Work,
    /// Those that have begun may end; no other begins.
    Stop(Fault),
    /// Do the steps of `verify`, then wait again.
    Verify,
    /// It becomes final.
    Keep,
    /// It is undone.
    Back(Fault),
}

/// A run is to stop.
#[derive(Clone, Debug)]
pub struct Stop {
    /// Why.
    pub reason: Fault,
    /// What becomes of what was done. As long as nobody has said so, hosts finish what they are at, and wait.
    pub verdict: Option<Verdict>,
}

/// What becomes of what a stopped run has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is undone.
    Undo,
    /// It stays, on hosts that are not done too.
    Keep,
}

/// Where it is heard that a run is to stop.
pub type Halted = watch::Receiver<Option<Stop>>;

impl Stop {
    /// What was done is undone, without a question.
    pub fn and_undo(reason: Fault) -> Stop {
        Stop { reason, verdict: Some(Verdict::Undo) }
    }
}

/// Waits until the run is to stop; says why.
pub async fn halted(halt: &mut Halted) -> Fault {
    match halt.wait_for(Option::is_some).await.map(|stop| (*stop).clone()) {
        Ok(Some(stop)) => stop.reason,
        // Whoever could have halted the run is gone: it will not be halted any more.
        _ => std::future::pending().await,
    }
}

/// Waits until it is said what becomes of what a run has done that is to stop.
pub async fn judged(halt: &mut Halted) -> (Fault, Verdict) {
    match halt.wait_for(|stop| verdict(stop).is_some()).await.map(|stop| (*stop).clone()) {
        Ok(Some(Stop { reason, verdict: Some(verdict) })) => (reason, verdict),
        _ => std::future::pending().await,
    }
}

/// What becomes of what was done, where that was said.
pub fn verdict(stop: &Option<Stop>) -> Option<Verdict> {
    stop.as_ref().and_then(|stop| stop.verdict)
}

/// A host's end of its batch.
#[derive(Clone, Debug)]
pub struct Gate {
    /// What it is told.
    pub stage: watch::Receiver<Stage>,
    /// Where it says that it has done what it was told and waits.
    pub reached: mpsc::UnboundedSender<HostName>,
    /// The turns of all hosts: it holds one while it works.
    pub turns: Arc<Semaphore>,
}
