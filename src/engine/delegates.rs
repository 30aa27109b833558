//! Hosts that do steps for others (`delegate_to`). Each is a host of the run like any other, begun when it is first asked
//! for something, with a journal of its own; it becomes final when all hosts of the run have ended.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use crate::{
    engine::{
        book::Events,
        ending::HostEnd,
        gate::{Gate, Stage},
        job::Job,
        session,
    },
    model::{change::DeedReport, event::StepLabel, ids::HostName, inventory::Host},
    wire::message::{Task, TaskEnd},
};

/// What a host is asked by another. It does one after the other, in the order in which they come. An answer that does not
/// come will not come any more: what happened is told of the host that was asked.
#[derive(Debug)]
pub enum Ask {
    /// To do something. It is left out where nobody waits for it any more.
    Do(Errand),
    /// To undo all that it did for the other host.
    Back {
        /// The other host.
        owner: HostName,
        /// Where to say how many deeds are left.
        answer: oneshot::Sender<usize>,
    },
}

/// A step that a host does for another.
#[derive(Debug)]
pub struct Errand {
    /// The other host.
    pub owner: HostName,
    /// What the step is called there.
    pub label: Arc<StepLabel>,
    /// What to do; its number is given by the host that does it.
    pub task: Box<Task>,
    /// Where to say how it went.
    pub answer: oneshot::Sender<Done>,
}

/// How an errand went.
#[derive(Debug)]
pub struct Done {
    /// What the agent says.
    pub end: TaskEnd,
    /// What was done, or, in a plan, would be.
    pub deeds: Vec<DeedReport>,
}

/// The hosts that others ask.
#[derive(Debug)]
pub struct Delegates {
    stage: watch::Sender<Stage>,
    working: Mutex<Working>,
}

#[derive(Debug, Default)]
struct Working {
    hosts: BTreeMap<HostName, mpsc::UnboundedSender<Ask>>,
    running: JoinSet<(HostName, HostEnd)>,
}

impl Delegates {
    /// Nobody yet.
    pub fn new() -> Arc<Delegates> {
        Arc::new(Delegates { stage: watch::Sender::new(Stage::Work), working: Mutex::default() })
    }

    /// Asks a host, which is begun where it was not yet.
    pub(super) fn ask(self: &Arc<Self>, host: &Arc<Host>, ask: Ask, job: &Arc<Job>, events: &Events) {
        let mut working = self.working.lock().unwrap_or_else(PoisonError::into_inner);
        let Working { hosts, running } = &mut *working;
        let asks = hosts.entry(host.name.clone()).or_insert_with(|| {
            let (asks, asked) = mpsc::unbounded_channel();
            running.spawn(self.serve(Arc::clone(job), Arc::clone(host), events.clone(), asked));
            asks
        });
        // One that has ended answers nobody.
        let _dropped = asks.send(ask);
    }

    /// Sees what one host does for others to its end.
    fn serve(
        self: &Arc<Self>,
        job: Arc<Job>,
        host: Arc<Host>,
        events: Events,
        asked: mpsc::UnboundedReceiver<Ask>,
    ) -> Pin<Box<dyn Future<Output = (HostName, HostEnd)> + Send>> {
        // Those for whom it works are halted; it finishes what it is at, and is told by them what is to go back.
        let (_never, halt) = watch::channel(None);
        let (reached, _nobody_waits_for_it) = mpsc::unbounded_channel();
        let stage = self.stage.subscribe();
        let gate = Gate { stage, reached, turn: None, delegates: Arc::clone(self), asked: Some(asked) };
        Box::pin(async move {
            let name = host.name.clone();
            (name, session::run(job, host, events, halt, gate).await)
        })
    }

    /// All that was done for others becomes final; how the hosts ended.
    pub(super) async fn close(&self) -> BTreeMap<HostName, HostEnd> {
        self.stage.send_replace(Stage::Keep);
        let running = {
            let mut working = self.working.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *working).running
        };
        running.join_all().await.into_iter().collect()
    }
}
