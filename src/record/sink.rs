//! The record as a sink of events: what is recorded, and what is not.

use crate::{
    base::Fault,
    model::event::{Event, Mode, Sink, Stamped},
    record::Store,
};

impl Sink for Store {
    fn take(&mut self, event: &Stamped) -> Result<(), Fault> {
        self.take_all(std::slice::from_ref(event))
    }

    /// Appends the events with one wait for the disk, without those that are only shown: the beginning of a step, and
    /// anything of a plan.
    fn take_all(&mut self, events: &[Stamped]) -> Result<(), Fault> {
        let mut kept = Vec::with_capacity(events.len());
        for event in events {
            if let Event::RunOpened(opened) = &event.event {
                self.planning = (opened.mode == Mode::Plan).then(|| event.run.clone());
            }
            let is_plan = self.planning.as_ref() == Some(&event.run);
            if !is_plan && !matches!(event.event, Event::StepStarted { .. }) {
                kept.push(event);
            }
        }
        match kept.is_empty() {
            true => Ok(()),
            false => self.append_all(&kept).map(|_| ()),
        }
    }
}
