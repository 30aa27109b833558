//! What a host is sent: as far ahead as it can be rendered, and what is done past its agent.

use std::sync::Arc;

use super::{Aside, Entry, HostRun, OpenTask, Order, Phase, plain_end, raw};
use crate::{
    engine::{
        job::Job,
        results::{self, Results},
        task::{self, Prepared, Rendered, Work},
    },
    model::{
        event::{HostOutcome, Mode, StepEnd, StepOutcome},
        ids::{StepId, TaskNo},
        runbook::Mark,
    },
    wire::ToAgent,
};

impl HostRun {
    /// Sends all that can be rendered by now.
    pub(super) fn advance(&mut self) {
        while self.phase == Phase::Working && !self.is_aside() && self.cursor < self.barrier {
            let job = Arc::clone(&self.job);
            self.mark(&job);
            if !self.leaves() {
                return;
            }
            let Some(step) = job.step(self.cursor) else { break };
            if !job.chooses(self.cursor, step) {
                self.cursor += 1;
                continue;
            }
            let no = TaskNo { step: u32::try_from(self.cursor).expect("steps are counted in u32"), item: 0 };
            if step.turn.is_some() {
                match self.passes(no, step) {
                    Some(true) => self.entry = Entry::Inside(self.cursor),
                    Some(false) => {
                        self.cursor += 1;
                        continue;
                    }
                    None => return,
                }
            }
            let draft = job.drafts.take(&self.host, no.step).map(Rendered::Work);
            match draft.unwrap_or_else(|| task::render(&job, step, no, &self.scope)) {
                Rendered::Work(prepared) => {
                    let aside = |item: &Prepared| matches!(item.work, Work::Raw { .. } | Work::Delegated(..));
                    if prepared.iter().any(aside) && !(self.open.is_empty() && self.ending == 0) {
                        return;
                    }
                    self.gather(no.step, step.id.clone(), step.each.is_some(), prepared.len());
                    prepared.into_iter().for_each(|item| self.send(item));
                }
                Rendered::Wait(_) if !self.open.is_empty() => return,
                Rendered::Wait(pending) => self.never(no, &step.name.value, &pending),
                Rendered::Wrong(faults) => self.wrong(no, &faults),
            }
            self.cursor += 1;
        }
        if self.phase == Phase::Working && !self.is_aside() {
            self.mark(&Arc::clone(&self.job));
            self.leaves();
        }
        self.next_aside();
        self.close_when_done();
    }

    /// Whether something is done past the agent, or is to be.
    pub(super) fn is_aside(&self) -> bool {
        self.aside.is_some() || !self.asides.is_empty()
    }

    /// Begins the next thing that is done past the agent.
    fn next_aside(&mut self) {
        if self.aside.is_some() || self.phase != Phase::Working {
            return;
        }
        match self.asides.pop_front() {
            Some(Aside::Raw { no, line, timeout_s }) => {
                self.aside = Some(no);
                self.started(no);
                self.orders.push(Order::Raw { no, line, timeout_s });
            }
            Some(Aside::Delegated { no, to, task }) => {
                self.aside = Some(no);
                self.ask(no, to, task);
            }
            None => {}
        }
    }

    /// Tells the agent where blocks begin, change and end.
    fn mark(&mut self, job: &Job) {
        while let Some((_, mark)) = job.runbook.marks.get(self.marks).filter(|(at, _)| *at <= self.cursor) {
            self.marks += 1;
            if job.needs_agent() {
                self.orders.push(Order::Tell(ToAgent::Mark(*mark)));
                self.ending += usize::from(*mark == Mark::End);
            }
        }
    }

    fn close_when_done(&mut self) {
        if self.phase != Phase::Working || !self.open.is_empty() || self.ending > 0 {
            return;
        }
        let is_done = self.job.step(self.cursor).is_none();
        if self.cursor >= self.barrier || is_done && self.job.waits() {
            self.phase = Phase::Waiting;
            self.orders.push(Order::Wait);
        } else if is_done {
            self.phase = Phase::Closing;
            if self.job.needs_agent() {
                self.orders.push(Order::Close);
            } else {
                self.end(HostOutcome::Succeeded);
            }
        }
    }

    fn gather(&mut self, step: u32, id: Option<StepId>, is_loop: bool, due: usize) {
        if let Some(id) = id {
            self.results.insert(step, Results::new(id, is_loop, due));
            self.conclude(step);
        }
    }

    fn send(&mut self, item: Prepared) {
        let no = item.label.no;
        self.labels.insert(no, item.label.clone());
        match item.work {
            Work::Skip(why) => {
                let result = results::of_skipped();
                self.step_ended(no, plain_end(StepOutcome::Skipped, Some(why)));
                self.result(no, item.item.as_deref(), Some(result));
            }
            Work::Agent(task, contents) => {
                self.open.insert(no, OpenTask { item: item.item, ..OpenTask::default() });
                self.orders.extend(contents.into_iter().map(Order::Ahead));
                self.orders.push(Order::Tell(ToAgent::Task(task)));
            }
            Work::Raw { line, .. } if self.job.mode == Mode::Plan => {
                let deeds = vec![raw::raw_report(&line, item.label.sensitive)];
                let end = StepEnd { deeds, ..plain_end(StepOutcome::Changed, None) };
                self.step_ended(no, end);
                self.result(no, item.item.as_deref(), None);
            }
            Work::Raw { line, timeout_s } => {
                self.open.insert(no, OpenTask { item: item.item, ..OpenTask::default() });
                self.asides.push_back(Aside::Raw { no, line, timeout_s });
            }
            Work::Delegated(to, task) => {
                self.open.insert(no, OpenTask { item: item.item, ..OpenTask::default() });
                self.asides.push_back(Aside::Delegated { no, to, task });
            }
        }
    }
}
