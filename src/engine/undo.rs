//! Undoes a settled run on its hosts, each host by itself.

use std::{collections::HashSet, sync::Arc, time::Instant};

use tokio::time::Interval;

use crate::{
    base::{Fault, FaultKind},
    engine::{
        book::Events,
        contact::{self, Contact},
        ending::{self, HostEnd},
        fleet::{self, RunEnd},
        gate::{self, Halted},
        line::{self, Line},
        recover::{self, Labels},
    },
    model::{
        change::DeedReport,
        event::{Counts, Event, HostOutcome, Mode, RunOpened, StepEnd, StepLabel, StepOutcome, Undone},
        ids::{HostName, RunId, TaskNo},
        inventory::{Become, Host},
        lease::Bid,
        strategy::OnFailure,
    },
    transport::Settings,
    wire::{
        FromAgent, ToAgent,
        message::{Closed, Open, TaskEnd, UndoRun, Vigil, Witness},
    },
};

/// What is to be undone.
pub struct Undoing {
    /// The run that undoes.
    pub run: RunId,
    /// Whether anything may be written.
    pub mode: Mode,
    /// Who does it.
    pub operator: String,
    /// The run that is undone.
    pub of: RunId,
    /// What someone else has changed since goes back too.
    pub force_drift: bool,
    /// Its hosts.
    pub hosts: Vec<Arc<Host>>,
    /// Whom to become where the inventory does not say.
    pub become_user: Become,
    /// How to connect.
    pub settings: Settings,
    /// How many hosts at once.
    pub forks: usize,
    /// The steps of the run, as far as the record knows them.
    pub labels: Labels,
    /// The hosts on which it had done nothing, by the record.
    pub untouched: HashSet<HostName>,
}

/// Undoes it on all hosts. `opened` is told, and recorded, before the first connection; `halt` stops it and puts back
/// what was undone.
pub async fn undo(undoing: Arc<Undoing>, opened: RunOpened, events: Events, halt: Halted) -> RunEnd {
    let started = Instant::now();
    events.tell(Event::RunOpened(Box::new(opened))).await;
    let _on_record = events.head().await;
    let hosts = contact::each(&undoing.hosts, undoing.forks, |host| {
        let (undoing, events, halt) = (Arc::clone(&undoing), events.clone(), halt.clone());
        async move { one(&undoing, &host, &events, halt).await }
    });
    let hosts = hosts.await;
    fleet::close(hosts, &events, started).await
}

async fn one(undoing: &Undoing, host: &Host, events: &Events, mut halt: Halted) -> HostEnd {
    let connecting = contact::connect(host, &undoing.become_user, &undoing.settings, events);
    let contact = tokio::select! {
        biased;
        reason = gate::halted(&mut halt) => return ending::not_started(host, events, Some(reason)).await,
        contact = connecting => contact,
    };
    let Contact { connection, line, hello } = match contact {
        Ok(contact) => contact,
        Err(fault) => return ending::unreachable(host, events, fault).await,
    };
    if let Some(open) = &hello.open_run {
        let end = ending::open_run(host, &undoing.become_user, events, open).await;
        line.goodbye().await;
        connection.close().await;
        return end;
    }
    let (counts, deeds) = (Counts::default(), Vec::new());
    // Waiting for the head means that this host is on record before anything is done to it.
    let witness = events.head().await.filter(|_| undoing.mode == Mode::Apply);
    if undoing.mode == Mode::Apply && witness.is_none() {
        let end = ending::not_started(host, events, Some(gate::unrecorded(&halt))).await;
        line.goodbye().await;
        connection.close().await;
        return end;
    }
    let pings = line::pings(Vigil::default().silence_ms);
    let mut talk = Talk { undoing, host, events, halt, line, pings, counts, deeds, halted: None };
    let (outcome, fault) = match talk.undo(witness).await {
        Ok(closed) => talk.judge(closed).await,
        Err(fault) => {
            (if undoing.mode == Mode::Plan { HostOutcome::Unreachable } else { HostOutcome::Unknown }, Some(fault))
        }
    };
    let counts = talk.counts;
    talk.line.goodbye().await;
    connection.close().await;
    events.tell(Event::HostEnded { host: host.name.clone(), outcome, counts, fault: fault.clone() }).await;
    HostEnd { outcome, counts, fault }
}

/// The conversation with one host.
struct Talk<'a> {
    undoing: &'a Undoing,
    host: &'a Host,
    events: &'a Events,
    halt: Halted,
    line: Line,
    /// When to say that the controller is still there.
    pings: Interval,
    counts: Counts,
    /// What the task at hand would do, where a plan tells it in pieces.
    deeds: Vec<DeedReport>,
    /// Why it was stopped.
    halted: Option<Fault>,
}

impl Talk<'_> {
    async fn undo(&mut self, witness: Option<Witness>) -> Result<Closed, Fault> {
        let Undoing { run, mode, operator, of, force_drift, .. } = self.undoing;
        let bid = Bid { run: run.clone(), operator: operator.clone(), reason: None, job: None };
        let open = Open { bid, mode: *mode, on_failure: OnFailure::Rollback, witness, vigil: Vigil::default() };
        let order = UndoRun { open, of: of.clone(), force_drift: *force_drift };
        self.line.push(&ToAgent::Undo(Box::new(order)));
        loop {
            while let Some(message) = self.line.next_message()? {
                if let FromAgent::Closed(closed) = message {
                    return Ok(closed);
                }
                self.hear(message).await;
            }
            tokio::select! {
                stepped = self.line.step() => stepped?,
                _ = self.pings.tick() => self.line.ping(&self.pings)?,
                reason = gate::halted(&mut self.halt), if self.halted.is_none() => self.back(reason),
            }
        }
    }

    /// What was undone is put back.
    fn back(&mut self, reason: Fault) {
        self.halted = Some(reason);
        self.line.push(&ToAgent::Stop);
        self.line.push(&ToAgent::Unwind);
    }

    /// All is done. It becomes final when all of it is on record.
    async fn close(&mut self) {
        let witness = self.line.meanwhile(&mut self.pings, self.events.head()).await;
        let witness = witness.filter(|_| self.undoing.mode == Mode::Apply);
        if self.undoing.mode == Mode::Apply && witness.is_none() {
            return self.back(gate::unrecorded(&self.halt));
        }
        self.line.push(&ToAgent::Close { witness });
    }

    async fn hear(&mut self, message: FromAgent) {
        let host = self.host.name.clone();
        match message {
            FromAgent::Started(no) => {
                let step = self.label(no);
                self.tell(Event::StepStarted { host, step }).await;
            }
            FromAgent::Done { report, .. } if self.undoing.mode == Mode::Plan => self.deeds.push(*report),
            FromAgent::Done { no, report, took_us } => {
                let step = self.label(no);
                self.tell(Event::DeedDone { host, step, report, took_us }).await;
            }
            FromAgent::Ended(end) => self.ended(*end).await,
            FromAgent::Undone { no, report, how } => {
                self.counts.undone += u32::from(how == Undone::Undone);
                let step = self.label(no);
                self.tell(Event::DeedUndone { host, step, report, how }).await;
            }
            FromAgent::Note(message) => self.tell(Event::Note { host: Some(host), message }).await,
            FromAgent::Ready => self.close().await,
            _ => {}
        }
    }

    async fn ended(&mut self, end: TaskEnd) {
        match end.outcome {
            StepOutcome::Ok => self.counts.ok += 1,
            StepOutcome::Changed => self.counts.changed += 1,
            StepOutcome::Skipped => self.counts.skipped += 1,
            StepOutcome::Unknown => self.counts.unknown += 1,
            StepOutcome::Failed => self.counts.failed += 1,
        }
        let step = self.label(end.no);
        let TaskEnd { no: _, outcome, deeds, output, message, data: _, attempts, took_us } = end;
        let deeds = [std::mem::take(&mut self.deeds), deeds].concat();
        let end = Box::new(StepEnd { outcome, deeds, output, message, attempts, took_us });
        self.tell(Event::StepEnded { host: self.host.name.clone(), step, end }).await;
    }

    /// How the host ended.
    async fn judge(&mut self, closed: Closed) -> (HostOutcome, Option<Fault>) {
        let fault = |message: Option<String>| message.map(|message| Fault::new(FaultKind::Failed, message));
        let Closed { outcome, counts: _, message } = closed;
        match outcome {
            HostOutcome::Succeeded => {
                self.note(message).await;
                (outcome, None)
            }
            // The run is not kept there. Where it had done nothing, that is as it should be.
            HostOutcome::NotStarted if self.undoing.untouched.contains(&self.host.name) => {
                self.note(Some(format!("run {} had changed nothing here", self.undoing.of))).await;
                (HostOutcome::Succeeded, None)
            }
            HostOutcome::NotStarted => {
                let what = message.unwrap_or_else(|| "the run is not kept on this host".to_owned());
                let fault = Fault::new(FaultKind::Policy, what);
                let hint =
                    "a host keeps its newest runs only, and of those that were rolled back nothing is left to undo";
                (HostOutcome::Failed, Some(fault.hint(hint)))
            }
            _ => (outcome, self.halted.clone().or_else(|| fault(message))),
        }
    }

    async fn note(&mut self, message: Option<String>) {
        if let Some(message) = message {
            self.tell(Event::Note { host: Some(self.host.name.clone()), message }).await;
        }
    }

    async fn tell(&mut self, event: Event) {
        self.line.meanwhile(&mut self.pings, self.events.tell(event)).await;
    }

    fn label(&self, no: TaskNo) -> Arc<StepLabel> {
        recover::label(&self.undoing.labels, &self.host.name, no)
    }
}
