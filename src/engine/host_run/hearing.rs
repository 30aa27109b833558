//! What a host says of its steps: they begin, do something, end, and are undone.

use std::sync::Arc;

use serde_json::Value as Data;

use super::{HostRun, Order};
use crate::{
    engine::{
        delegates::Done,
        results::{self, Results},
    },
    model::{
        change::{Change, Deed, DeedReport},
        event::{Event, Mode, StepEnd, StepLabel, StepOutcome, Undone},
        ids::TaskNo,
        state::{PathState, State},
    },
    wire::message::TaskEnd,
};

impl HostRun {
    pub(super) fn started(&mut self, no: TaskNo) {
        if let Some(step) = self.labels.get(&no).cloned() {
            self.tell(Event::StepStarted { host: self.host.name.clone(), step });
        }
    }

    pub(super) fn done(&mut self, no: TaskNo, mut report: Box<DeedReport>, took_us: u64) {
        let Some(step) = self.labels.get(&no).cloned() else { return };
        self.fill_in(&step, &mut report);
        // A plan tells deeds so that are too many for one message: nothing is done.
        if self.job.mode == Mode::Plan {
            if let Some(open) = self.open.get_mut(&no) {
                open.deeds.push(*report);
            }
            return;
        }
        self.tell(Event::DeedDone { host: self.host.name.clone(), step, report, took_us });
    }

    /// Tells what is in a new file: what was sent to a host, that host does not say again.
    fn fill_in(&self, step: &StepLabel, report: &mut DeedReport) {
        let Deed::Change(Change { before: State::Path(PathState::Absent), after, .. }) = &report.deed else { return };
        if let (State::Path(PathState::File { content, .. }), None, false) = (after, &report.diff, step.sensitive) {
            report.diff = self.job.shelf.added(content);
        }
    }

    pub(super) fn ended(&mut self, mut end: TaskEnd) {
        let Some(open) = self.open.remove(&end.no) else { return };
        if let Some(step) = self.labels.get(&end.no) {
            end.deeds.iter_mut().for_each(|report| self.fill_in(step, report));
        }
        self.aside.take_if(|no| *no == end.no);
        let mut deeds = open.deeds;
        deeds.extend_from_slice(&end.deeds);
        self.note_errand(|| Done { end: end.clone(), deeds: deeds.clone() });
        let known = self.job.mode == Mode::Apply || results::is_foreseen(end.outcome, &deeds);
        let seen = known && self.results.contains_key(&end.no.step);
        let result = seen.then(|| results::of_task(&end));
        let failed = end.outcome == StepOutcome::Failed;
        let no = end.no;
        let message = end.message.clone();
        let step_end = StepEnd {
            outcome: end.outcome,
            deeds,
            output: end.output,
            message: end.message,
            attempts: end.attempts,
            took_us: end.took_us,
        };
        let stays = step_end.outcome == StepOutcome::Changed || failed && self.stays_at_failure();
        self.step_ended(no, step_end);
        self.result(no, open.item.as_deref(), result);
        if stays && self.job.step(no.step as usize).is_some_and(|step| step.confirm.is_some()) {
            self.orders.push(Order::Confirm(Some(no)));
        }
        if failed {
            self.fail(no, message);
        }
        self.advance();
    }

    pub(super) fn step_ended(&mut self, no: TaskNo, end: StepEnd) {
        self.note_handlers(no, end.outcome);
        match end.outcome {
            StepOutcome::Ok => self.counts.ok += 1,
            StepOutcome::Changed => self.counts.changed += 1,
            StepOutcome::Skipped => self.counts.skipped += 1,
            StepOutcome::Unknown => self.counts.unknown += 1,
            StepOutcome::Failed => self.counts.failed += 1,
        }
        let step = self.labels.get(&no).expect("a step is labelled before it ends").clone();
        self.tell(Event::StepEnded { host: self.host.name.clone(), step, end: Box::new(end) });
    }

    pub(super) fn result(&mut self, no: TaskNo, item: Option<&Data>, result: Option<Data>) {
        if let Some(results) = self.results.get_mut(&no.step) {
            results.add(no.item, item, result);
            self.conclude(no.step);
        }
    }

    /// When all items of a step have ended, its results can be seen under its id.
    pub(super) fn conclude(&mut self, step: u32) {
        if let Some((id, result)) = self.results.get(&step).and_then(Results::conclusion) {
            self.scope.steps.insert(id.to_string(), result.map(Arc::new));
        }
    }

    pub(super) fn undone(&mut self, no: TaskNo, report: Box<DeedReport>, how: Undone) {
        let Some(step) = self.labels.get(&no).cloned() else { return };
        self.note_left(&how);
        self.counts.undone += u32::from(how == Undone::Undone);
        self.tell(Event::DeedUndone { host: self.host.name.clone(), step, report, how });
    }
}
