//! Steps that one host does for another: the side that asks, and the side that is asked.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    sync::Arc,
};

use tokio::sync::oneshot;

use super::{HostRun, OpenTask, Order, Phase, plain_end};
use crate::{
    base::Fault,
    engine::{
        delegates::{Ask, Done, Errand},
        job::Job,
        results,
    },
    model::{
        event::{HostOutcome, Mode, StepLabel, StepOutcome, Undone},
        ids::{HostName, TaskNo},
        inventory::Host,
        runbook::Mark,
    },
    wire::{
        ToAgent,
        message::{Task, TaskEnd},
    },
};

/// What a host does that others ask.
#[derive(Debug, Default)]
pub(super) struct Service {
    waiting: VecDeque<Ask>,
    at: Option<At>,
    /// So many errands were begun: each has a number of its own.
    errands: u32,
    done_for: BTreeMap<HostName, Vec<TaskNo>>,
}

/// What it is at.
#[derive(Debug)]
enum At {
    Errand { answer: oneshot::Sender<Done>, done: Option<Box<Done>> },
    Back { answer: oneshot::Sender<usize>, left: usize },
}

/// The side that is asked.
impl HostRun {
    /// A host that does nothing but what others ask.
    pub fn serving(job: Arc<Job>, host: Arc<Host>) -> Self {
        HostRun { service: Some(Service::default()), phase: Phase::Waiting, ..HostRun::new(job, host) }
    }

    /// Whether it does nothing but what others ask.
    pub fn is_serving(&self) -> bool {
        self.service.is_some()
    }

    /// Another host asks for something.
    pub fn asked(&mut self, ask: Ask) -> Vec<Order> {
        if let Some(service) = &mut self.service {
            service.waiting.push_back(ask);
        }
        self.serve();
        mem::take(&mut self.orders)
    }

    fn serve(&mut self) {
        while let Some(service) = &mut self.service
            && service.at.is_none()
            && let Some(ask) = service.waiting.pop_front()
        {
            match ask {
                Ask::Do(errand) if errand.answer.is_closed() => {}
                Ask::Do(errand) => self.run_errand(errand),
                Ask::Back { owner, answer } => {
                    let tasks = service.done_for.remove(&owner).unwrap_or_default();
                    service.at = Some(At::Back { answer, left: 0 });
                    self.orders.push(Order::Tell(ToAgent::UndoTasks(tasks)));
                }
            }
        }
    }

    /// Each errand is a block: what fails is put back, and the others' stays.
    fn run_errand(&mut self, Errand { owner, label, mut task, answer }: Errand) {
        let Some(service) = &mut self.service else { return };
        task.no.item = service.errands;
        service.errands += 1;
        service.done_for.entry(owner.clone()).or_default().push(task.no);
        service.at = Some(At::Errand { answer, done: None });
        let name = format!("{} (for {owner})", label.name);
        self.labels.insert(task.no, Arc::new(StepLabel { no: task.no, name, ..(*label).clone() }));
        self.open.insert(task.no, OpenTask::default());
        let words = [ToAgent::Mark(Mark::Begin), ToAgent::Task(task), ToAgent::Mark(Mark::End)];
        self.orders.extend(words.map(Order::Tell));
    }

    /// Keeps how an errand went until its block has ended.
    pub(super) fn note_errand(&mut self, done: impl FnOnce() -> Done) {
        if let Some(Service { at: Some(At::Errand { done: kept, .. }), .. }) = &mut self.service {
            *kept = Some(Box::new(done()));
        }
    }

    /// Counts what cannot be put back as it was.
    pub(super) fn note_left(&mut self, how: &Undone) {
        if let Some(Service { at: Some(At::Back { left, .. }), .. }) = &mut self.service {
            *left += usize::from(!matches!(how, Undone::Undone | Undone::AlreadyBefore));
        }
    }

    /// What it was at is over, and is answered. Whoever does not wait any more has ended.
    pub(super) fn served(&mut self) {
        match self.service.as_mut().and_then(|service| service.at.take()) {
            Some(At::Errand { answer, done: Some(done) }) => drop(answer.send(*done)),
            Some(At::Back { answer, left }) => drop(answer.send(left)),
            Some(At::Errand { done: None, .. }) | None => {}
        }
        self.serve();
    }

    /// How it ended, where all that it did for others was put back since: it is as it was.
    pub(super) fn of_service(&self, outcome: HostOutcome) -> HostOutcome {
        let stays = |service: &Service| service.errands == 0 || !service.done_for.is_empty();
        match outcome {
            HostOutcome::Succeeded | HostOutcome::Failed if !self.service.as_ref().is_none_or(stays) => {
                HostOutcome::RolledBack
            }
            other => other,
        }
    }
}

/// The side that asks.
impl HostRun {
    /// Has another host do a step.
    pub(super) fn ask(&mut self, no: TaskNo, other: Arc<Host>, task: Box<Task>) {
        self.started(no);
        if self.delegates.iter().all(|host| host.name != other.name) {
            self.delegates.push(Arc::clone(&other));
        }
        let label = self.labels.get(&no).expect("a step is labelled before it begins").clone();
        self.orders.push(Order::Delegate { no, to: other, label, task });
    }

    /// Another host has done a step for this one, or has ended without it. On this host nothing was done.
    pub fn delegated(&mut self, no: TaskNo, by: &HostName, done: Option<Done>) -> Vec<Order> {
        let Some(open) = self.open.remove(&no) else { return Vec::new() };
        self.aside = None;
        let (end, result) = match done {
            None => {
                (plain_end(StepOutcome::Failed, Some(format!("{by} has not done it: see what is told of {by}"))), None)
            }
            Some(Done { end, deeds }) => {
                let known = self.job.mode == Mode::Apply || results::is_foreseen(end.outcome, &deeds);
                let result = known.then(|| results::of_task(&end));
                let TaskEnd { outcome, message, attempts, took_us, .. } = end;
                let outcome = if outcome == StepOutcome::Changed { StepOutcome::Ok } else { outcome };
                let message = message.map_or_else(|| format!("done on {by}"), |message| format!("on {by}: {message}"));
                (super::StepEnd { attempts, took_us, ..plain_end(outcome, Some(message)) }, result)
            }
        };
        let (failed, message) = (end.outcome == StepOutcome::Failed, end.message.clone());
        self.step_ended(no, end);
        self.result(no, open.item.as_deref(), result);
        if failed {
            self.fail(no, message);
        }
        self.advance();
        if failed && self.phase == Phase::Failing {
            self.undo_now();
        }
        mem::take(&mut self.orders)
    }

    /// The host's own end is known. Where it goes back, so does what others did for it, and that is waited for.
    pub(super) fn settle(&mut self, outcome: HostOutcome) {
        let goes_back = matches!(outcome, HostOutcome::RolledBack | HostOutcome::NeedsRecovery | HostOutcome::Unknown);
        if !goes_back || self.delegates.is_empty() || self.job.mode == Mode::Plan {
            return self.end(outcome);
        }
        self.phase = Phase::Returning(outcome);
        let delegates = mem::take(&mut self.delegates).into_iter().rev().collect();
        self.orders.push(Order::Return(delegates));
    }

    /// What others did for this host is undone: how many deeds are left there, where they could say.
    pub fn returned(&mut self, left: Vec<(HostName, Option<usize>)>) -> Vec<Order> {
        let Phase::Returning(outcome) = self.phase else { return Vec::new() };
        let fault = self.fault.get_or_insert_with(|| Fault::internal("a host went back without a reason"));
        fault.causes.extend(left.into_iter().filter_map(|(host, left)| match left {
            Some(0) => None,
            Some(1) => Some(format!("on {host} one thing that was done for it could not be undone")),
            Some(left) => Some(format!("on {host} {left} things that were done for it could not be undone")),
            None => Some(format!("what {host} did for it was not undone: see what is told of {host}")),
        }));
        self.end(outcome);
        mem::take(&mut self.orders)
    }
}
