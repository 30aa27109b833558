//! What the operator stops: what runs is brought to its end, then it is said what becomes of what was done.

use std::mem;

use super::{HostRun, Order, Phase};
use crate::{base::Fault, model::event::HostOutcome, wire::message::ToAgent};

impl HostRun {
    /// The run is to stop. The host finishes what it is at, and waits.
    pub fn hold(&mut self) -> Vec<Order> {
        if self.phase == Phase::Working {
            self.phase = Phase::Held;
            self.raws.clear();
            self.orders.push(Order::Tell(ToAgent::Stop));
        }
        mem::take(&mut self.orders)
    }

    /// It was stopped, and what was done is undone.
    pub fn stop_and_undo(&mut self, reason: &Fault) -> Vec<Order> {
        if matches!(self.phase, Phase::Held | Phase::Waiting | Phase::Closing) {
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
        mem::take(&mut self.orders)
    }
}
