//! The record as a sink of events: what is recorded, and what is not.

use crate::{
    base::Fault,
    model::event::{Event, Mode, Sink, Stamped},
    record::Store,
};

impl Sink for Store {
    /// Appends the event, unless it is one that is only shown: the beginning of a step, and anything of a plan.
    fn take(&mut self, event: &Stamped) -> Result<(), Fault> {
        if let Event::RunOpened(opened) = &event.event {
            self.planning = (opened.mode == Mode::Plan).then(|| event.run.clone());
        }
        let is_plan = self.planning.as_ref() == Some(&event.run);
        if is_plan || matches!(event.event, Event::StepStarted { .. }) {
            return Ok(());
        }
        self.append(event).map(|_| ())
    }
}
