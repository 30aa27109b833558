//! Settles runs that were cut off: asks each host what is open there, and has it put back.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use tokio::time::Interval;

use crate::{
    base::{Fault, FaultKind},
    engine::{
        book::Events,
        contact::{self, Contact},
        ending::{self, HostEnd},
        fleet::{self, RunEnd},
        line::{self, Line},
    },
    model::{
        event::{Counts, Event, HostOutcome, RunOpened, StepLabel, Undone},
        ids::{HostName, RunId, TaskNo},
        inventory::{Become, Host},
        lease::{OpenRun, Stand},
    },
    transport::Settings,
    wire::{
        FromAgent, ToAgent,
        message::{ATTEMPTS_MAX, Closed, Settle, Vigil},
    },
};

/// The steps of an earlier run.
pub type Labels = HashMap<(HostName, TaskNo), Arc<StepLabel>>;

/// What is to be settled.
pub struct Recovery {
    /// Only this run; any that is found open otherwise.
    pub run: Option<RunId>,
    /// How.
    pub how: Settle,
    /// Who takes it over, and why, also where it is at work for somebody.
    pub steal: Option<String>,
    /// The hosts.
    pub hosts: Vec<Arc<Host>>,
    /// Whom to become where the inventory does not say.
    pub become_user: Become,
    /// How to connect.
    pub settings: Settings,
    /// How many hosts at once.
    pub forks: usize,
    /// The steps of the run, as far as the record knows them.
    pub labels: Labels,
    /// The hosts on which it did something, by the record.
    pub touched: HashSet<HostName>,
}

/// Settles all hosts. `opened` is told, and recorded, before the first connection.
pub async fn recover(recovery: Arc<Recovery>, opened: RunOpened, events: Events) -> RunEnd {
    let started = Instant::now();
    events.tell(Event::RunOpened(Box::new(opened))).await;
    let _on_record = events.head().await;
    let hosts = contact::each(&recovery.hosts, recovery.forks, |host| {
        let (recovery, events) = (Arc::clone(&recovery), events.clone());
        async move { one(&recovery, &host, &events).await }
    });
    let hosts = hosts.await;
    fleet::close(hosts, &events, started).await
}

async fn one(recovery: &Recovery, host: &Host, events: &Events) -> HostEnd {
    let contact = contact::connect(host, &recovery.become_user, &recovery.settings, events).await;
    let Contact { connection, line, hello } = match contact {
        Ok(contact) => contact,
        Err(fault) => return ending::unreachable(host, events, fault).await,
    };
    let user = hello.facts.user.clone();
    let pings = line::pings(Vigil::default().silence_ms);
    let mut talk = Talk { recovery, host, user, events, line, pings, counts: Counts::default() };
    let (outcome, fault) = match hello.open_run.as_ref().and_then(|open| talk.refusal(open)) {
        Some(fault) => (HostOutcome::NeedsRecovery, Some(fault)),
        // Also where no run was found: what keeps one from being found is told then.
        None => talk.settle(hello.open_run.as_ref()).await,
    };
    let counts = talk.counts;
    talk.line.goodbye().await;
    connection.close().await;
    events.tell(Event::HostEnded { host: host.name.clone(), outcome, counts, fault: fault.clone() }).await;
    HostEnd { outcome, counts, fault }
}

/// The conversation with one host.
struct Talk<'a> {
    recovery: &'a Recovery,
    host: &'a Host,
    /// Who the agent is on the host.
    user: String,
    events: &'a Events,
    line: Line,
    pings: Interval,
    counts: Counts,
}

impl Talk<'_> {
    /// Why a run that was found is not to be touched, if it is not.
    fn refusal(&self, open: &OpenRun) -> Option<Fault> {
        let run = open.run();
        if self.recovery.run.as_ref().is_some_and(|wanted| wanted != run) {
            let fault = Fault::new(FaultKind::Policy, format!("another run is open here: {open}"));
            return Some(fault.hint(format!("settle it: {}", self.command(run))));
        }
        match open.stand {
            Stand::CutOff { attempts } if attempts >= ATTEMPTS_MAX && self.recovery.how == Settle::Back => {
                Some(self.wants_a_word(run, attempts))
            }
            _ => None,
        }
    }

    fn command(&self, run: &RunId) -> String {
        ending::recovery(run, self.host, &self.recovery.become_user)
    }

    /// It was tried so often in vain that someone has to look, and say how it goes on.
    fn wants_a_word(&self, run: &RunId, attempts: u32) -> Fault {
        let what = format!("{attempts} attempts to put back run {run} were in vain, and no more are made unasked");
        let again = self.command(run);
        Fault::new(FaultKind::Failed, what)
            .hint(format!("look at the host; when what was in the way is gone: {again} --again"))
            .hint(format!("or, if it may stay as it is: {again} --as-it-is --reason WHY"))
    }

    /// Has what was found settled, or what is found now.
    async fn settle(&mut self, open: Option<&OpenRun>) -> (HostOutcome, Option<Fault>) {
        let Recovery { run, how, steal, .. } = self.recovery;
        let word = match (run, steal) {
            (Some(run), Some(words)) => {
                if let Some(open) = open {
                    self.note(format!("{open}; it is taken over: {words}")).await;
                }
                ToAgent::Steal { run: run.clone(), words: words.clone() }
            }
            _ => ToAgent::Recover { run: run.clone(), how: *how },
        };
        self.line.push(&word);
        let closed = loop {
            match self.listen().await {
                Ok(Some(closed)) => break closed,
                Ok(None) => {}
                Err(fault) => return (HostOutcome::Unknown, Some(fault)),
            }
        };
        self.counts.undone = self.counts.undone.max(closed.counts.undone);
        let Some(message) = closed.message else { return self.nothing_open(closed.outcome).await };
        let fault = match closed.outcome {
            HostOutcome::RolledBack | HostOutcome::Succeeded => {
                self.note(message).await;
                None
            }
            HostOutcome::Failed => Some(match run.as_ref().or(open.map(OpenRun::run)) {
                Some(run) => ending::at_work(message, run, self.host, &self.recovery.become_user),
                None => Fault::new(FaultKind::Policy, message),
            }),
            _ => Some(Fault::new(FaultKind::Failed, message)),
        };
        (closed.outcome, fault)
    }

    /// Nothing that is meant is open there: says how the run that is meant had ended.
    async fn nothing_open(&mut self, ended: HostOutcome) -> (HostOutcome, Option<Fault>) {
        let user = &self.user;
        let told = match (&self.recovery.run, ended) {
            (None, _) => format!("no run of {user} is open on this host"),
            (Some(run), HostOutcome::NotStarted) if self.recovery.touched.contains(&self.host.name) => {
                let what = format!("run {run} did something here, and {user} keeps nothing of it on this host");
                let fault = Fault::new(FaultKind::Policy, what)
                    .hint("each user has journals of his own: give --become as the run had it")
                    .hint("or it was settled long since: a host keeps its newest runs only");
                return (HostOutcome::Failed, Some(fault));
            }
            (Some(run), HostOutcome::NotStarted) => format!("{user} keeps nothing of run {run} on this host"),
            (Some(run), ended) => format!("run {run} is settled on this host: {}", settled_words(ended)),
        };
        self.note(told).await;
        (HostOutcome::Succeeded, None)
    }

    async fn listen(&mut self) -> Result<Option<Closed>, Fault> {
        while let Some(message) = self.line.next_message()? {
            match message {
                FromAgent::Undone { no, report, how } => {
                    self.counts.undone += u32::from(how == Undone::Undone);
                    let (host, step) = (self.host.name.clone(), self.label(no));
                    self.events.tell(Event::DeedUndone { host, step, report, how }).await;
                }
                FromAgent::Note(message) => self.note(message).await,
                FromAgent::Closed(closed) => return Ok(Some(closed)),
                _ => {}
            }
        }
        tokio::select! {
            stepped = self.line.step() => stepped?,
            _ = self.pings.tick() => self.line.ping(&self.pings)?,
        }
        Ok(None)
    }

    async fn note(&mut self, message: String) {
        self.events.tell(Event::Note { host: Some(self.host.name.clone()), message }).await;
    }

    fn label(&self, no: TaskNo) -> Arc<StepLabel> {
        label(&self.recovery.labels, &self.host.name, no)
    }
}

/// How a run ended that is settled.
fn settled_words(ended: HostOutcome) -> &'static str {
    match ended {
        HostOutcome::Succeeded => "it succeeded, and what it did stays",
        HostOutcome::RolledBack => "everything is as it was before it",
        HostOutcome::NeedsRecovery => "not all of it could be put back, and someone was told",
        _ => "it failed, and what it did stays, as was asked for",
    }
}

/// The label of a step of an earlier run, as far as the record knows it.
pub(super) fn label(labels: &Labels, host: &HostName, no: TaskNo) -> Arc<StepLabel> {
    labels.get(&(host.clone(), no)).cloned().unwrap_or_else(|| {
        Arc::new(StepLabel {
            no,
            name: format!("step {}", no.step + 1),
            kind: "unknown".to_owned(),
            place: String::new(),
            sensitive: false,
            handler: false,
        })
    })
}
