//! What the agent is told of handlers before the first step: if the run is cut off, it has them run on the way back.

use std::{collections::BTreeMap, sync::Arc};

use super::{HostRun, Order};
use crate::{
    engine::task::{self, Rendered, Work},
    model::{event::Mode, ids::TaskNo},
    wire::{
        ToAgent,
        frame::payload_bytes,
        message::{Handlers, TASK_BYTES_MAX},
    },
};

impl HostRun {
    /// Those that can be rendered by now, and who notifies them.
    pub(super) fn tell_handlers(&mut self) {
        let job = Arc::clone(&self.job);
        if self.is_serving() || job.mode != Mode::Apply || job.runbook.handlers.is_empty() || !job.needs_agent() {
            return;
        }
        let numbered = || (0..).zip(job.runbook.all_steps());
        let notified_by: BTreeMap<u32, Vec<u32>> =
            numbered().map(|(number, step)| (number, job.notified(step))).filter(|(_, all)| !all.is_empty()).collect();
        let mut tasks = Vec::new();
        for (number, step) in numbered().filter(|(number, _)| notified_by.values().flatten().any(|own| own == number)) {
            let no = TaskNo { step: number, item: 0 };
            if let Rendered::Work(items) = task::render(&job, step, no, &self.scope) {
                tasks.extend(items.into_iter().filter_map(|item| match item.work {
                    Work::Agent(task, _) => Some(*task),
                    Work::Skip(_) | Work::Raw { .. } | Work::Delegated(..) => None,
                }));
            }
        }
        let handlers = Handlers { tasks, notified_by };
        // Very much of it would not be kept.
        if !handlers.tasks.is_empty() && payload_bytes(&handlers) <= TASK_BYTES_MAX {
            self.orders.push(Order::Tell(ToAgent::Handlers(handlers)));
        }
    }
}
