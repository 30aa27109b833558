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
