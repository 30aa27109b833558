//! Steps that hosts go through one after the other.

use std::{mem, sync::Arc};

use super::{Entry, HostRun, Order};
use crate::{
    base::{Fault, FaultKind},
    engine::turnstile::Pass,
    model::{
        event::{Mode, StepOutcome},
        ids::TaskNo,
        runbook::Step,
    },
};

impl HostRun {
    /// Whether it is at no such step any more: one whose tasks have ended is left.
    pub(super) fn leaves(&mut self) -> bool {
        match self.entry {
            Entry::Inside(_) if !self.open.is_empty() || self.is_aside() => false,
            Entry::Inside(step) => {
                self.entry = Entry::Outside;
                let id = self.job.step(step).and_then(|step| step.id.as_ref());
                let result = id.and_then(|id| self.scope.steps.get(&id.to_string())?.as_deref().cloned());
                self.orders.push(Order::Leave(step, result));
                true
            }
            _ => true,
        }
    }

    /// Whether it does the step, or goes on behind it; nothing while it has to wait.
    pub(super) fn passes(&mut self, no: TaskNo, step: &Step) -> Option<bool> {
        if self.job.mode == Mode::Plan {
            let other = self.job.turnstiles.done_by_another(self.cursor, &self.host.name).cloned();
            return match other {
                None => Some(true),
                Some(by) => {
                    self.refuse(no, StepOutcome::Skipped, format!("it is done once, on {by}"));
                    Some(false)
                }
            };
        }
        match mem::take(&mut self.entry) {
            // What came before is done first, so that nobody waits for it in vain.
            Entry::Outside if self.open.is_empty() && self.ending == 0 => {
                self.entry = Entry::Asked;
                self.orders.push(Order::Enter(self.cursor));
                None
            }
            Entry::Granted(Pass::Do) => Some(true),
            Entry::Granted(Pass::Done(by, result)) => {
                self.refuse(no, StepOutcome::Skipped, format!("it is done once, on {by}"));
                if let (Some(id), Some(result)) = (&step.id, result) {
                    self.scope.steps.insert(id.to_string(), Some(Arc::new(result)));
                }
                Some(false)
            }
            Entry::Granted(Pass::Missed(by)) => {
                let why = format!("{}: it is done once, on {by}, and was not", step.name.value);
                self.wrong(no, &Fault::new(FaultKind::Failed, why).into());
                Some(false)
            }
            other => {
                self.entry = other;
                None
            }
        }
    }
}
