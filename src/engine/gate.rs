//! Where a host waits for the others of its batch.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::unconstrained,
};

use crate::{
    base::{Fault, FaultKind},
    engine::delegates::{Ask, Delegates},
    model::ids::HostName,
};

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

/// Why nothing more may be done, or become final, where the record takes nothing more.
pub fn unrecorded(halt: &Halted) -> Fault {
    let halted = halt.borrow().as_ref().map(|stop| stop.reason.clone());
    let of_record = halted.filter(|reason| reason.kind == FaultKind::Record);
    of_record.unwrap_or_else(|| Fault::new(FaultKind::Record, "what was done could not be recorded"))
}

/// A place in the queue for a turn, taken by the call: hosts begin in the order of the calls, whichever of their tasks
/// comes to run first.
pub fn queue(turns: &Arc<Semaphore>) -> impl Future<Output = OwnedSemaphorePermit> + use<> {
    let mut turn = Box::pin(unconstrained(Arc::clone(turns).acquire_owned()));
    let first = turn.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    async move {
        let turn = match first {
            Poll::Ready(turn) => turn,
            Poll::Pending => turn.await,
        };
        turn.expect("the semaphore is never closed")
    }
}

/// A host's end of its batch.
#[derive(Debug)]
pub struct Gate {
    /// What it is told.
    pub stage: watch::Receiver<Stage>,
    /// Where it says that it has done what it was told and waits.
    pub reached: mpsc::UnboundedSender<HostName>,
    /// Its turn, which it holds while it works, and not while it waits for others.
    pub turn: Option<OwnedSemaphorePermit>,
    /// Whom it can ask to do a step.
    pub delegates: Arc<Delegates>,
    /// What others ask, if it does nothing but that.
    pub asked: Option<mpsc::UnboundedReceiver<Ask>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_come_in_the_order_of_the_queue() {
        let turns = Arc::new(Semaphore::new(1));
        let (first, second, third) = (queue(&turns), queue(&turns), queue(&turns));
        let last = tokio::spawn(third);
        let next = tokio::spawn(second);
        let first = first.await;
        tokio::task::yield_now().await;
        assert!(!next.is_finished() && !last.is_finished());
        drop(first);
        let second = next.await.unwrap();
        assert!(!last.is_finished());
        drop(second);
        drop(last.await.unwrap());
    }
}
