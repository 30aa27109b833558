//! Settles runs that were cut off: asks each host what is open there, and has it put back.

use std::{collections::HashMap, sync::Arc, time::Instant};

use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    base::{Fault, FaultKind},
    engine::{
        book::Events,
        fleet::{self, RunEnd},
        line::Line,
        session::{self, HostEnd},
    },
    model::{
        event::{Counts, Event, HostOutcome, RunOpened, StepLabel, Undone},
        ids::{HostName, RunId, TaskNo},
        inventory::{Become, Host},
    },
    transport::{self, Connection, Settings},
    wire::{
        FromAgent, ToAgent,
        message::{ATTEMPTS_MAX, Closed, OpenRun, Settle},
    },
};

/// What is to be settled.
pub struct Recovery {
    /// Only this run; any that is found open otherwise.
    pub run: Option<RunId>,
    /// How.
    pub how: Settle,
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
    let turns = Arc::new(Semaphore::new(recovery.forks));
    let mut running = JoinSet::new();
    for host in &recovery.hosts {
        let (recovery, host, events) = (Arc::clone(&recovery), Arc::clone(host), events.clone());
        let turns = Arc::clone(&turns);
        running.spawn(async move {
            let _turn = turns.acquire().await.expect("the semaphore is never closed");
            (host.name.clone(), one(&recovery, &host, &events).await)
        });
    }
    let hosts = running.join_all().await.into_iter().collect();
    fleet::close(hosts, &events, started).await
}

async fn one(recovery: &Recovery, host: &Host, events: &Events) -> HostEnd {
    let asked = Instant::now();
    let (connection, line, hello) = match connect(recovery, host).await {
        Ok(connected) => connected,
        Err(fault) => return session::unreachable_host(host, events, fault).await,
    };
    let installed = line.installed;
    events.tell(Event::HostConnected(session::hello_event(host, &connection, Some(&hello), installed, asked))).await;
    let mut talk = Talk { recovery, host, events, line: line.line, counts: Counts::default() };
    let (outcome, fault) = match talk.refusal(hello.open_run.as_ref()) {
        Some(end) => end,
        None => talk.settle().await,
    };
    let counts = talk.counts;
    talk.line.goodbye().await;
    connection.close().await;
    events.tell(Event::HostEnded { host: host.name.clone(), outcome, counts, fault: fault.clone() }).await;
    HostEnd { outcome, counts, fault }
}

struct NewLine {
    line: Line,
    installed: bool,
}

async fn connect(
    recovery: &Recovery,
    host: &Host,
) -> Result<(Connection, NewLine, Box<crate::wire::message::Hello>), Fault> {
    let mut connection = transport::connect(host, &recovery.settings).await?;
    let whom = host.connection.become_user.as_ref().unwrap_or(&recovery.become_user);
    let pipe = connection.agent(whom).await?;
    let installed = pipe.installed;
    let mut line = Line::new(pipe);
    let hello = line.hello(recovery.settings.connect_timeout).await?;
    Ok((connection, NewLine { line, installed }, hello))
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
        let Some(OpenRun { run, operator, alive, attempts }) = open else {
            return Some((HostOutcome::Succeeded, None));
        };
        if self.recovery.run.as_ref().is_some_and(|wanted| wanted != run) {
            let fault = Fault::new(FaultKind::Policy, format!("another run is open here: {run} of {operator}"));
            return Some((HostOutcome::NeedsRecovery, Some(fault.hint(format!("settle it: rollbook recover {run}")))));
        }
        if *alive {
            let fault = Fault::new(FaultKind::Policy, format!("run {run} of {operator} is still at work here"));
            return Some((HostOutcome::Failed, Some(fault.hint("wait until it has ended"))));
        }
        if *attempts >= ATTEMPTS_MAX && self.recovery.how == Settle::Back {
            return Some((HostOutcome::NeedsRecovery, Some(self.wants_a_word(run, *attempts))));
        }
        None
    }

    /// It was tried so often in vain that someone has to look, and say how it goes on.
    fn wants_a_word(&self, run: &RunId, attempts: u32) -> Fault {
        let what = format!("{attempts} attempts to put back run {run} were in vain, and no more are made unasked");
        let again = format!("rollbook recover {run} -i INVENTORY --limit {}", self.host.name);
        Fault::new(FaultKind::Failed, what)
            .hint(format!("look at the host; when what was in the way is gone: {again} --again"))
            .hint(format!("or, if it may stay as it is: {again} --as-it-is --reason WHY"))
    }

    async fn settle(&mut self) -> (HostOutcome, Option<Fault>) {
        self.line.push(&ToAgent::Recover(self.recovery.how));
        loop {
            match self.listen().await {
                Ok(Some(Closed { outcome, counts, message })) => {
                    self.counts.undone = self.counts.undone.max(counts.undone);
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
        let known = self.recovery.labels.get(&(self.host.name.clone(), no)).cloned();
        known.unwrap_or_else(|| StepLabel {
            no,
            name: format!("step {}", no.step + 1),
            kind: "unknown".to_owned(),
            place: String::new(),
            sensitive: false,
            handler: false,
        })
    }
}
