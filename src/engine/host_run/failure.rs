//! What fails, and what that means for the host.

use super::{HostRun, Order, Phase, plain_end};
use crate::{
    base::{Fault, FaultKind, Faults},
    engine::task,
    model::{
        event::{HostOutcome, Mode, StepOutcome},
        ids::TaskNo,
        strategy::OnFailure,
    },
    render::Pending,
    wire::message::ToAgent,
};

impl HostRun {
    /// A step has failed on the agent, which goes on to undo by itself.
    pub(super) fn fail(&mut self, no: TaskNo, message: Option<String>) {
        if self.phase != Phase::Working {
            return;
        }
        let name = self.labels.get(&no).map_or("a step", |label| label.name.as_str());
        let message = message.unwrap_or_else(|| "failed".to_owned());
        let fault = Fault::new(FaultKind::Failed, format!("{name}: {message}"));
        if self.job.runbook.is_in_block(no.step as usize) {
            self.caught.get_or_insert(fault);
            return;
        }
        self.fault.get_or_insert(fault);
        // A plan tells everything that it can find.
        if self.job.mode == Mode::Apply && !self.goes_on() {
            self.phase = Phase::Failing;
            self.asides.clear();
        }
    }

    /// Whether a failed step is no reason to stop.
    fn goes_on(&self) -> bool {
        self.job.runbook.strategy.on_failure == OnFailure::Continue
    }

    /// Whether a failed step's deeds stay.
    pub(super) fn stays_at_failure(&self) -> bool {
        self.job.runbook.strategy.on_failure != OnFailure::Rollback
    }

    /// A step that turns out to be wrong now that more is known: nothing of it was sent.
    pub(super) fn wrong(&mut self, no: TaskNo, faults: &Faults) {
        let first = faults.0.first().cloned().unwrap_or_else(|| Fault::internal("a fault without words"));
        self.refuse(no, StepOutcome::Failed, first.to_string());
        self.fault.get_or_insert(first);
        if self.goes_on() {
            return;
        }
        self.phase = Phase::Failing;
        self.undo_now();
    }

    /// What was done is undone. Without an agent, nothing can be.
    pub(super) fn undo_now(&mut self) {
        if self.job.needs_agent() {
            self.orders.push(Order::Tell(ToAgent::Unwind));
        } else {
            self.end(HostOutcome::Failed);
        }
    }

    /// A step that waits for what will not come.
    pub(super) fn never(&mut self, no: TaskNo, name: &str, pending: &Pending) {
        let what = match pending {
            Pending::Facts => "facts".to_owned(),
            Pending::Step(id) => format!("steps.{id}"),
        };
        if self.job.mode == Mode::Plan {
            let why = format!("depends on {what}, which is known when it is applied");
            self.refuse(no, StepOutcome::Unknown, why);
            return;
        }
        let why = match pending {
            Pending::Facts => "needs facts, and no agent runs on this host to tell them".to_owned(),
            Pending::Step(id) => {
                format!("{name} needs steps.{id}, which has no result: it comes later, or was not chosen by --tags")
            }
        };
        self.wrong(no, &Fault::input(why).into());
    }

    /// Ends a step that was never sent.
    pub(super) fn refuse(&mut self, no: TaskNo, outcome: StepOutcome, why: String) {
        let step = self.job.step(no.step as usize).expect("only steps are refused");
        self.labels.insert(no, task::labelled(&self.job, step, no, step.name.value.clone()));
        self.step_ended(no, plain_end(outcome, Some(why)));
    }
}
