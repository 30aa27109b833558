//! The state machine of one host: it hears what the host says and tells what to do next. No I/O, no clock.

mod failure;
mod handlers;
mod hearing;
mod raw;
mod stopped;
mod turn;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use serde_json::Value as Data;

use crate::{
    base::{Fault, FaultKind},
    engine::{
        job::Job,
        results::{self, Results},
        task::{self, Prepared, Rendered, Work},
        turnstile::Pass,
    },
    model::{
        change::DeedReport,
        event::{Counts, Event, HostOutcome, Mode, StepEnd, StepLabel, StepOutcome},
        facts::Facts,
        ids::{HostName, StepId, TaskNo},
        inventory::Host,
        runbook::Mark,
        state::Content,
    },
    render::{FactSheet, Scope},
    wire::message::{Closed, FromAgent, ToAgent},
};

/// What is to be done next, in order.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a few at a time per host, each moved once")]
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
    /// A task is done that is to be confirmed over another line.
    Confirm(TaskNo),
    /// Everything is done: close the agent's run, with the record's head as it is after all events before this.
    Close,
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
    labels: HashMap<TaskNo, StepLabel>,
    open: BTreeMap<TaskNo, OpenTask>,
    results: BTreeMap<u32, Results>,
    raws: VecDeque<(TaskNo, String, u64)>,
    counts: Counts,
    /// Handlers that were notified and have not run.
    woken: BTreeSet<u32>,
    fault: Option<Fault>,
    /// A failure in a block: it may be rescued.
    caught: Option<Fault>,
    orders: Vec<Order>,
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
            raws: VecDeque::new(),
            counts: Counts::default(),
            woken: BTreeSet::new(),
            fault: None,
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
            FromAgent::Done { no, report, took_us } => self.done(no, *report, took_us),
            FromAgent::Ended(end) => self.ended(*end),
            FromAgent::BlockEnded => {
                self.ending = self.ending.saturating_sub(1);
                self.advance();
            }
            FromAgent::Undone { no, report, how } => self.undone(no, *report, how),
            FromAgent::Need(content) => self.orders.push(Order::Content(content)),
            FromAgent::Closed(closed) => self.closed(closed),
            FromAgent::Note(message) => self.tell(Event::Note { host: Some(self.host.name.clone()), message }),
            FromAgent::Hello(_)
            | FromAgent::Witnesses(_)
            | FromAgent::Ready
            | FromAgent::Held
            | FromAgent::Token { .. } => {}
        }
        std::mem::take(&mut self.orders)
    }

    /// Whoever runs this wants it stopped and undone.
    pub fn interrupt(&mut self, reason: &Fault) -> Vec<Order> {
        if matches!(self.phase, Phase::Working | Phase::Held | Phase::Waiting | Phase::Closing) {
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
        let begun = self.job.mode == Mode::Apply && !self.labels.is_empty();
        let fault = if begun { self.goes_back_alone(fault) } else { fault };
        self.fault.get_or_insert(fault);
        self.end(if begun { HostOutcome::Unknown } else { HostOutcome::Unreachable });
        std::mem::take(&mut self.orders)
    }

    /// What becomes of a host that has lost its controller.
    fn goes_back_alone(&self, fault: Fault) -> Fault {
        let (run, grace_s) = (&self.job.run, self.job.vigil().grace_ms / 1000);
        fault
            .hint(format!("the host finishes what it is at, waits {grace_s} s for its controller, and undoes the run"))
            .hint(format!("to have it undone at once: rollbook recover {run} -i INVENTORY --limit {}", self.host.name))
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

    /// Sends all that can be rendered by now.
    fn advance(&mut self) {
        while self.phase == Phase::Working && self.raws.is_empty() && self.cursor < self.barrier {
            let job = Arc::clone(&self.job);
            self.mark(&job);
            if !self.leaves() {
                return;
            }
            let Some(step) = job.step(self.cursor) else { break };
            if !job.chooses(self.cursor, step) {
                self.cursor += 1;
                continue;
            }
            let no = TaskNo { step: u32::try_from(self.cursor).expect("steps are counted in u32"), item: 0 };
            if step.turn.is_some() {
                match self.passes(no, step) {
                    Some(true) => self.entry = Entry::Inside(self.cursor),
                    Some(false) => {
                        self.cursor += 1;
                        continue;
                    }
                    None => return,
                }
            }
            let draft = job.drafts.take(&self.host.name, no.step).map(Rendered::Work);
            match draft.unwrap_or_else(|| task::render(&job, step, no, &self.scope)) {
                Rendered::Work(prepared) => {
                    let raw = prepared.iter().any(|item| matches!(item.work, Work::Raw { .. }));
                    if raw && !(self.open.is_empty() && self.ending == 0) {
                        return;
                    }
                    self.gather(no.step, step.id.clone(), step.each.is_some(), prepared.len());
                    prepared.into_iter().for_each(|item| self.send(item));
                }
                Rendered::Wait(_) if !self.open.is_empty() => return,
                Rendered::Wait(pending) => self.never(no, &step.name.value, &pending),
                Rendered::Wrong(faults) => self.wrong(no, &faults),
            }
            self.cursor += 1;
        }
        if self.phase == Phase::Working && self.raws.is_empty() {
            self.mark(&Arc::clone(&self.job));
            self.leaves();
        }
        self.next_raw();
        self.close_when_done();
    }

    /// Tells the agent where blocks begin, change and end.
    fn mark(&mut self, job: &Job) {
        while let Some((_, mark)) = job.runbook.marks.get(self.marks).filter(|(at, _)| *at <= self.cursor) {
            self.marks += 1;
            if job.needs_agent() {
                self.orders.push(Order::Tell(ToAgent::Mark(*mark)));
                self.ending += usize::from(*mark == Mark::End);
            }
        }
    }

    fn close_when_done(&mut self) {
        if self.phase != Phase::Working || !self.open.is_empty() || self.ending > 0 {
            return;
        }
        let is_done = self.job.step(self.cursor).is_none();
        if self.cursor >= self.barrier || is_done && self.job.waits() {
            self.phase = Phase::Waiting;
            self.orders.push(Order::Wait);
        } else if is_done {
            self.phase = Phase::Closing;
            if self.job.needs_agent() {
                self.orders.push(Order::Close);
            } else {
                self.end(HostOutcome::Succeeded);
            }
        }
    }

    fn gather(&mut self, step: u32, id: Option<StepId>, is_loop: bool, due: usize) {
        if let Some(id) = id {
            self.results.insert(step, Results::new(id, is_loop, due));
            self.conclude(step);
        }
    }

    fn send(&mut self, item: Prepared) {
        let no = item.label.no;
        self.labels.insert(no, item.label.clone());
        match item.work {
            Work::Skip(why) => {
                let result = results::of_skipped();
                self.step_ended(no, plain_end(StepOutcome::Skipped, Some(why)));
                self.result(no, item.item.as_deref(), Some(result));
            }
            Work::Agent(task, contents) => {
                self.open.insert(no, OpenTask { item: item.item, ..OpenTask::default() });
                self.orders.extend(contents.into_iter().map(Order::Ahead));
                self.orders.push(Order::Tell(ToAgent::Task(task)));
            }
            Work::Raw { line, .. } if self.job.mode == Mode::Plan => {
                let end = StepEnd { deeds: vec![raw::raw_report(&line)], ..plain_end(StepOutcome::Changed, None) };
                self.step_ended(no, end);
                self.result(no, item.item.as_deref(), None);
            }
            Work::Raw { line, timeout_s } => {
                self.open.insert(no, OpenTask { item: item.item, ..OpenTask::default() });
                self.raws.push_back((no, line, timeout_s));
            }
        }
    }

    fn closed(&mut self, closed: Closed) {
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
        let outcome = match closed.outcome {
            HostOutcome::Succeeded if self.fault.is_some() => HostOutcome::Failed,
            HostOutcome::RolledBack if self.job.mode == Mode::Plan => HostOutcome::Failed,
            other => other,
        };
        if outcome == HostOutcome::Failed {
            self.tell_pending();
        }
        self.end(outcome);
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
