//! Settles runs that were cut off: asks each host what is open there, and has it put back.

use std::{collections::HashMap, sync::Arc, time::Instant};

use crate::{
    base::{Fault, FaultKind},
    engine::{
        book::Events,
        contact::{self, Contact},
        ending::{self, HostEnd},
        fleet::{self, RunEnd},
        line::Line,
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
        message::{ATTEMPTS_MAX, Closed, Settle},
    },
};

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
    pub labels: HashMap<(HostName, TaskNo), StepLabel>,
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
    let mut talk = Talk { recovery, host, events, line, counts: Counts::default() };
    let (outcome, fault) = match talk.refusal(hello.open_run.as_ref()) {
        Some(end) => end,
        None => {
            let open = hello.open_run.as_ref().expect("without an open run nothing is to be done");
            if let Some(words) = &recovery.steal {
                talk.note(format!("{open}; it is taken over: {words}")).await;
            }
            talk.settle(open.run()).await
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
    recovery: &'a Recovery,
    host: &'a Host,
    events: &'a Events,
    line: Line,
    counts: Counts,
}

impl Talk<'_> {
    /// Why nothing is to be done here, if nothing is.
    fn refusal(&self, open: Option<&OpenRun>) -> Option<(HostOutcome, Option<Fault>)> {
        let Some(open) = open else {
            return Some((HostOutcome::Succeeded, None));
        };
        let run = open.run();
        if self.recovery.run.as_ref().is_some_and(|wanted| wanted != run) {
            let fault = Fault::new(FaultKind::Policy, format!("another run is open here: {open}"));
            return Some((HostOutcome::NeedsRecovery, Some(fault.hint(format!("settle it: rollbook recover {run}")))));
        }
        match open.stand {
            Stand::CutOff { attempts } if attempts >= ATTEMPTS_MAX && self.recovery.how == Settle::Back => {
                Some((HostOutcome::NeedsRecovery, Some(self.wants_a_word(run, attempts))))
            }
            _ => None,
        }
    }

    /// It was tried so often in vain that someone has to look, and say how it goes on.
    fn wants_a_word(&self, run: &RunId, attempts: u32) -> Fault {
        let what = format!("{attempts} attempts to put back run {run} were in vain, and no more are made unasked");
        let again = format!("rollbook recover {run} -i INVENTORY --limit {}", self.host.name);
        Fault::new(FaultKind::Failed, what)
            .hint(format!("look at the host; when what was in the way is gone: {again} --again"))
            .hint(format!("or, if it may stay as it is: {again} --as-it-is --reason WHY"))
    }

    async fn settle(&mut self, run: &RunId) -> (HostOutcome, Option<Fault>) {
        self.line.push(&match &self.recovery.steal {
            Some(words) => ToAgent::Steal(words.clone()),
            None => ToAgent::Recover(self.recovery.how),
        });
        loop {
            match self.listen().await {
                Ok(Some(Closed { outcome, counts, message })) => {
                    self.counts.undone = self.counts.undone.max(counts.undone);
                    if outcome == HostOutcome::Failed {
                        return (outcome, message.map(|message| ending::at_work(message, run, self.host)));
                    }
                    if !matches!(outcome, HostOutcome::RolledBack | HostOutcome::Succeeded) {
                        return (outcome, message.map(|message| Fault::new(FaultKind::Failed, message)));
                    }
                    if let Some(message) = message {
                        self.note(message).await;
                    }
                    return (outcome, None);
                }
                Ok(None) => {}
                Err(fault) => return (HostOutcome::Unknown, Some(fault)),
            }
        }
    }

    async fn listen(&mut self) -> Result<Option<Closed>, Fault> {
        while let Some(message) = self.line.next_message()? {
            match message {
                FromAgent::Undone { no, report, how } => {
                    self.counts.undone += u32::from(how == Undone::Undone);
                    let (host, step) = (self.host.name.clone(), self.label(no));
                    self.events.tell(Event::DeedUndone { host, step, report: *report, how }).await;
                }
                FromAgent::Note(message) => self.note(message).await,
                FromAgent::Closed(closed) => return Ok(Some(closed)),
                _ => {}
            }
        }
        self.line.step().await?;
        Ok(None)
    }

    async fn note(&mut self, message: String) {
        self.events.tell(Event::Note { host: Some(self.host.name.clone()), message }).await;
    }

    fn label(&self, no: TaskNo) -> StepLabel {
        label(&self.recovery.labels, &self.host.name, no)
    }
}

/// The label of a step of an earlier run, as far as the record knows it.
pub(super) fn label(labels: &HashMap<(HostName, TaskNo), StepLabel>, host: &HostName, no: TaskNo) -> StepLabel {
    labels.get(&(host.clone(), no)).cloned().unwrap_or_else(|| StepLabel {
        no,
        name: format!("step {}", no.step + 1),
        kind: "unknown".to_owned(),
        place: String::new(),
        sensitive: false,
        handler: false,
    })
}
