//! What the operator stops: what runs is brought to its end, then it is said what becomes of what was done.

use std::mem;

use super::{HostRun, Order, Phase};
use crate::{
    base::Fault,
    model::{
        event::{Event, HostOutcome, Mode, StepOutcome},
        ids::TaskNo,
    },
    wire::message::ToAgent,
};

impl HostRun {
    /// The run is to stop. The host finishes what it is at, and waits.
    pub fn hold(&mut self) -> Vec<Order> {
        if self.phase == Phase::Working {
            self.phase = Phase::Held;
            self.asides.clear();
            self.orders.push(Order::Tell(ToAgent::Stop));
        }
        // It may wait to be confirmed. Where it is final already, this is not heard.
        if self.phase == Phase::Closing && self.job.mode == Mode::Apply {
            self.orders.push(Order::Tell(ToAgent::Stop));
        }
        mem::take(&mut self.orders)
    }

    /// It was to become final, and has not been told so: it waits for what is said now.
    pub fn wait_on(&mut self) {
        if self.phase == Phase::Closing {
            self.phase = Phase::Waiting;
        }
    }

    /// It was to become final, and is to go back after all: it stops to wait for a confirmation.
    pub(super) fn recall(&mut self, reason: &Fault) {
        self.recalled = Some(reason.clone());
        self.phase = Phase::Failing;
        self.orders.push(Order::Tell(ToAgent::Stop));
        self.undo_now();
    }

    /// Says of a host that was to go back after all whether it did.
    pub(super) fn tell_recalled(&mut self, outcome: HostOutcome) {
        let Some(reason) = self.recalled.take() else { return };
        if outcome != HostOutcome::Succeeded || self.job.mode == Mode::Plan {
            self.fault.get_or_insert(reason);
        } else if self.has_changed() {
            let run = &self.job.run;
            let message = format!("it was final before it could be stopped; to put it back: rollbook undo {run}");
            self.orders.push(Order::Event(Event::Note { host: Some(self.host.name.clone()), message }));
        }
    }

    /// Keeps track of the handlers that are still to be run.
    pub(super) fn note_handlers(&mut self, no: TaskNo, outcome: StepOutcome) {
        if outcome == StepOutcome::Changed
            && let Some(step) = self.job.step(no.step as usize)
        {
            self.woken.extend(self.job.notified(step));
        }
        if matches!(outcome, StepOutcome::Changed | StepOutcome::Ok) {
            self.woken.remove(&no.step);
        }
    }

    /// What was done stays on a host that has failed: the next run will find it as wanted, and notify nobody. So the
    /// handlers that have not run are named.
    pub(super) fn tell_pending(&mut self) {
        if self.job.mode == Mode::Plan || self.woken.is_empty() {
            return;
        }
        let names = self.woken.iter().filter_map(|number| self.job.step(*number as usize));
        let names: Vec<&str> = names.map(|step| step.name.value.as_str()).collect();
        let run = &self.job.run;
        let message = format!(
            "notified, and not run: {}. The files it is about are changed: run it by hand, or put them back: \
             rollbook undo {run}",
            names.join(", ")
        );
        self.orders.push(Order::Event(Event::Note { host: Some(self.host.name.clone()), message }));
    }

    /// It was stopped, and what was done is undone.
    pub fn stop_and_undo(&mut self, reason: &Fault) -> Vec<Order> {
        if self.phase == Phase::Closing {
            self.recall(reason);
        }
        if matches!(self.phase, Phase::Held | Phase::Waiting) {
            self.fault.get_or_insert_with(|| reason.clone());
            self.phase = Phase::Failing;
            self.undo_now();
        }
        mem::take(&mut self.orders)
    }

    /// It was stopped, and what was done stays. A host that has done all its steps has succeeded.
    pub fn stop_and_keep(&mut self, reason: &Fault) -> Vec<Order> {
        if self.phase == Phase::Held {
            self.fault.get_or_insert_with(|| reason.clone());
            self.phase = Phase::Failing;
            match self.job.needs_agent() {
                true => self.orders.push(Order::Tell(ToAgent::Keep)),
                false => self.end(HostOutcome::Failed),
            }
        }
        if self.phase == Phase::Waiting {
            return self.keep();
        }
        if self.phase == Phase::Closing && self.job.mode == Mode::Apply {
            self.orders.push(Order::Tell(ToAgent::Keep));
        }
        mem::take(&mut self.orders)
    }
}
