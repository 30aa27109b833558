//! The state machine of one host: it hears what the host says and tells what to do next. No I/O, no clock.

mod delegation;
mod failure;
mod handlers;
mod hearing;
mod raw;
mod sending;
mod stopped;
mod turn;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use delegation::Service;
use serde_json::Value as Data;

use crate::{
    base::{Fault, FaultKind},
    engine::{ending, job::Job, results::Results, turnstile::Pass},
    model::{
        change::DeedReport,
        event::{Counts, Event, HostOutcome, Mode, StepEnd, StepLabel, StepOutcome},
        facts::Facts,
        ids::{HostName, TaskNo},
        inventory::Host,
        state::Content,
    },
    render::{FactSheet, Scope},
    wire::message::{Closed, FromAgent, Task, ToAgent},
};

/// What is to be done next, in order.
#[derive(Debug)]
pub enum Order {
    /// Send this to the agent.
    Tell(ToAgent),
    /// Stream this content to the agent ahead of its task, where it is small and was not sent before.
    Ahead(Content),
    /// Stream this content to the agent, which asked for it.
    Content(Content),
    /// It comes to a step that hosts go through one after the other: its turn is told by [`HostRun::entered`].
    Enter(usize),
    /// It has done that step, with this result.
    Leave(usize, Option<Data>),
    /// This host has done what it was told; what becomes of it is said by [`HostRun::verify`], [`HostRun::keep`] or
    /// [`HostRun::interrupt`].
    Wait,
    /// A task is done that is to be confirmed over another line; the whole apply where it is none.
    Confirm(Option<TaskNo>),
    /// Everything is done: close the agent's run, with the record's head as it is after all events before this.
    Close,
    /// Have another host do this, and say how it went with [`HostRun::delegated`].
    Delegate {
        /// Which item.
        no: TaskNo,
        /// The other host.
        to: Arc<Host>,
        /// What the step is called.
        label: Arc<StepLabel>,
        /// What to do.
        task: Box<Task>,
    },
    /// Have these hosts undo what they did for this one, one after the other, and say so with [`HostRun::returned`].
    Return(Vec<Arc<Host>>),
    /// Run this through the login shell, and say how it went with [`HostRun::raw_ended`].
    Raw {
        /// Which item.
        no: TaskNo,
        /// The command line.
        line: String,
        /// Seconds until it is given up.
        timeout_s: u64,
    },
    /// Tell everyone.
    Event(Event),
}

/// What a host is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Steps are being sent.
    Working,
    /// The steps are done, or those of `verify` too: others decide what becomes of it.
    Waiting,
    /// The run is stopped, and it is not said yet what becomes of what was done.
    Held,
    /// Everything is done and told so.
    Closing,
    /// Something failed; the agent undoes or stops.
    Failing,
    /// It has ended so; what others did for it is being undone.
    Returning(HostOutcome),
    /// Nothing more comes.
    Ended,
}

/// Where a host is at a step that hosts go through one after the other.
#[derive(Debug, Default)]
enum Entry {
    #[default]
    Outside,
    /// It waits for its turn.
    Asked,
    /// It has its turn.
    Granted(Pass),
    /// It does the step of that number.
    Inside(usize),
}

/// The run of one host.
pub struct HostRun {
    job: Arc<Job>,
    host: Arc<Host>,
    scope: Scope,
    cursor: usize,
    /// So many of the runbook's marks were sent.
    marks: usize,
    /// Blocks whose end was sent, and whose agent has not said how they ended.
    ending: usize,
    entry: Entry,
    /// The first step that may not be sent yet.
    barrier: usize,
    phase: Phase,
    labels: HashMap<TaskNo, Arc<StepLabel>>,
    open: BTreeMap<TaskNo, OpenTask>,
    results: BTreeMap<u32, Results>,
    /// What is done past the agent, one after the other.
    asides: VecDeque<Aside>,
    /// The one of them that has begun.
    aside: Option<TaskNo>,
    /// Who does steps for it, in the order in which they were first asked.
    delegates: Vec<Arc<Host>>,
    /// What it does for others, if it is there for that.
    service: Option<Service>,
    counts: Counts,
    /// Handlers that were notified and have not run.
    woken: BTreeSet<u32>,
    fault: Option<Fault>,
    /// Why it is to go back after all, where it was to become final.
    recalled: Option<Fault>,
    /// A failure in a block: it may be rescued.
    caught: Option<Fault>,
    orders: Vec<Order>,
}

/// What is not done by the host's agent.
#[derive(Debug)]
enum Aside {
    /// By its login shell.
    Raw { no: TaskNo, line: String, timeout_s: u64 },
    /// By another host.
    Delegated { no: TaskNo, to: Arc<Host>, task: Box<Task> },
}

/// A task that was sent and has not ended.
#[derive(Debug, Default)]
struct OpenTask {
    item: Option<Arc<Data>>,
    /// What a plan has told of it already.
    deeds: Vec<DeedReport>,
}

impl HostRun {
    /// A host before its first word.
    pub fn new(job: Arc<Job>, host: Arc<Host>) -> Self {
        let scope = job.scope(&host);
        let barrier = if job.waits() { job.verify_from() } else { usize::MAX };
        HostRun {
            job,
            host,
            scope,
            cursor: 0,
            marks: 0,
            ending: 0,
            entry: Entry::Outside,
            barrier,
            phase: Phase::Working,
            labels: HashMap::new(),
            open: BTreeMap::new(),
            results: BTreeMap::new(),
            asides: VecDeque::new(),
            aside: None,
            delegates: Vec::new(),
            service: None,
            counts: Counts::default(),
            woken: BTreeSet::new(),
            fault: None,
            recalled: None,
            caught: None,
            orders: Vec::new(),
        }
    }

    /// The host is there; `facts` are what its agent says, if one runs.
    pub fn begin(&mut self, facts: Option<Facts>) -> Vec<Order> {
        let sheet = |facts| move || Arc::new(serde_json::to_value::<Facts>(facts).expect("facts are plain data"));
        self.scope.facts = facts.map(|facts| Arc::new(FactSheet::new(Box::new(sheet(facts)))));
        self.tell_handlers();
        self.advance();
        std::mem::take(&mut self.orders)
    }

    /// The agent says something.
    pub fn hear(&mut self, message: FromAgent) -> Vec<Order> {
        match message {
            FromAgent::Started(no) => self.started(no),
            FromAgent::Done { no, report, took_us } => self.done(no, report, took_us),
            FromAgent::Ended(end) => self.ended(*end),
            FromAgent::BlockEnded => {
                self.ending = self.ending.saturating_sub(1);
                self.served();
                self.advance();
            }
            FromAgent::Undone { no, report, how } => self.undone(no, report, how),
            FromAgent::Awaits => self.orders.push(Order::Confirm(None)),
            FromAgent::Need(content) => self.orders.push(Order::Content(content)),
            FromAgent::Closed(closed) => self.closed(closed),
            FromAgent::Note(message) => self.tell(Event::Note { host: Some(self.host.name.clone()), message }),
            FromAgent::Hello(_)
            | FromAgent::Witnesses(_)
            | FromAgent::Alive
            | FromAgent::Ready
            | FromAgent::Held
            | FromAgent::Token { .. } => {}
        }
        std::mem::take(&mut self.orders)
    }

    /// Whoever runs this wants it stopped and undone.
    pub fn interrupt(&mut self, reason: &Fault) -> Vec<Order> {
        if self.phase == Phase::Closing {
            self.recall(reason);
        }
        if matches!(self.phase, Phase::Working | Phase::Held | Phase::Waiting) {
            self.fault.get_or_insert_with(|| reason.clone());
            self.phase = Phase::Failing;
            let order = if self.open.is_empty() { ToAgent::Unwind } else { ToAgent::Cancel };
            self.orders.push(Order::Tell(order));
        }
        std::mem::take(&mut self.orders)
    }

    /// The hosts of its batch have done their steps: now they are looked at.
    pub fn verify(&mut self) -> Vec<Order> {
        if self.phase == Phase::Waiting {
            self.phase = Phase::Working;
            self.barrier = usize::MAX;
            self.advance();
        }
        std::mem::take(&mut self.orders)
    }

    /// It is its turn at the step for which it asked.
    pub fn entered(&mut self, pass: Pass) -> Vec<Order> {
        if self.phase == Phase::Working && matches!(self.entry, Entry::Asked) {
            self.entry = Entry::Granted(pass);
            self.advance();
        }
        std::mem::take(&mut self.orders)
    }

    /// What it has done stays.
    pub fn keep(&mut self) -> Vec<Order> {
        if self.phase == Phase::Waiting {
            self.phase = Phase::Closing;
            self.orders.push(Order::Close);
        }
        std::mem::take(&mut self.orders)
    }

    /// The line is lost: nobody can say more of this host.
    pub fn lost(&mut self, fault: Fault) -> Vec<Order> {
        if matches!(self.phase, Phase::Returning(_)) {
            return Vec::new();
        }
        let begun = self.job.mode == Mode::Apply && !self.labels.is_empty();
        let fault = if begun { self.goes_back_alone(fault) } else { fault };
        self.fault.get_or_insert(fault);
        self.settle(if begun { HostOutcome::Unknown } else { HostOutcome::Unreachable });
        std::mem::take(&mut self.orders)
    }

    /// What becomes of a host that has lost its controller.
    fn goes_back_alone(&self, fault: Fault) -> Fault {
        let (run, whom) = (&self.job.run, &self.job.runbook.become_user);
        let grace_s = self.job.vigil().grace_ms / 1000;
        fault
            .hint(format!("the host finishes what it is at, waits {grace_s} s for its controller, and undoes the run"))
            .hint(format!("to have it undone at once: {}", ending::recovery(run, &self.host, whom)))
    }

    /// Which host.
    pub fn host(&self) -> &HostName {
        &self.host.name
    }

    /// Whether something was done here, or was tried.
    pub fn has_changed(&self) -> bool {
        self.counts.changed + self.counts.failed > 0
    }

    /// The host, and what templates see of it.
    pub fn whereabouts(&self) -> (Arc<Host>, Scope) {
        (Arc::clone(&self.host), self.scope.clone())
    }

    /// Whether nothing more comes.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Ended
    }

    fn tell(&mut self, event: Event) {
        self.orders.push(Order::Event(event));
    }

    fn closed(&mut self, closed: Closed) {
        self.tell_recalled(closed.outcome);
        if closed.outcome != HostOutcome::Succeeded && self.fault.is_none() {
            self.fault = self.caught.take();
        }
        if let Some(message) = closed.message {
            let kind = if self.labels.is_empty() { FaultKind::Policy } else { FaultKind::Failed };
            match &mut self.fault {
                // Someone has taken the run over: what failed, failed by that.
                Some(_) if closed.outcome == HostOutcome::Unknown => {
                    self.tell(Event::Note { host: Some(self.host.name.clone()), message });
                }
                Some(fault) if closed.outcome == HostOutcome::NeedsRecovery => fault.causes.push(message),
                Some(_) => {}
                None => self.fault = Some(Fault::new(kind, message)),
            }
        }
        // In a plan nothing can have been done: a step that cannot work is all there is to tell.
        let outcome = match self.of_service(closed.outcome) {
            HostOutcome::Succeeded if self.fault.is_some() => HostOutcome::Failed,
            HostOutcome::RolledBack if self.job.mode == Mode::Plan => HostOutcome::Failed,
            other => other,
        };
        if outcome == HostOutcome::Failed {
            self.tell_pending();
        }
        self.settle(outcome);
    }

    fn end(&mut self, outcome: HostOutcome) {
        if self.phase == Phase::Ended {
            return;
        }
        self.phase = Phase::Ended;
        let host = self.host.name.clone();
        self.tell(Event::HostEnded { host, outcome, counts: self.counts, fault: self.fault.clone() });
    }
}

fn plain_end(outcome: StepOutcome, message: Option<String>) -> StepEnd {
    StepEnd { outcome, deeds: Vec::new(), output: None, message, attempts: 0, took_us: 0 }
}
