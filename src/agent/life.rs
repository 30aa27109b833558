//! The life of a task: what it wants, what differs, armed, done, sealed, and asked again.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use crate::{
    agent::{deeds, report, serve::Run, validate},
    base::{point::fault, secret::HIDDEN},
    model::{
        change::{Change, Deed, DeedReport},
        event::{Output, StepOutcome},
        state::{Content, PathState, Resource, State},
    },
    resources::{self, Halt, HostView, path},
    steps::{Decision, Spec},
    target::journal::JournalFault,
    wire::{
        FromAgent,
        message::{Task, TaskEnd},
    },
};

/// What one try of a task has come to.
#[derive(Default)]
pub(super) struct Trial {
    /// In a plan: what would be done.
    pub(super) deeds: Vec<DeedReport>,
    /// Whether something was done.
    pub(super) changed: bool,
    /// What its command printed.
    pub(super) output: Option<Output>,
    pub(super) message: Option<String>,
    data: String,
}

impl<W: Write> Run<'_, W> {
    /// Lives a task to its end.
    pub(super) fn live(&mut self, task: &Task) -> TaskEnd {
        let started = Instant::now();
        let running = self.machine.probe.running().clone();
        self.voice.say(FromAgent::Started(task.no));
        fault!("agent.task");
        let (mut trial, mut attempts) = (Trial::default(), 0);
        let left_out = match self.left_out() {
            None if task.only_if_notified && !self.woken.contains(&task.no.step) => Some("it was not notified"),
            why => why,
        };
        let outcome = if let Some(why) = left_out {
            trial.message = Some(why.into());
            StepOutcome::Skipped
        } else {
            running.set_deadline(task.timeout_s.map(|limit| started + Duration::from_secs(limit)));
            let ended = self.try_until_done(task, &mut trial, &mut attempts);
            let late = running.is_late();
            running.set_deadline(None);
            self.outcome(task, ended, late, &mut trial)
        };
        if task.sensitive {
            trial.output =
                trial.output.map(|output| Output { stdout: Default::default(), stderr: Default::default(), ..output });
            trial.data.clear();
        }
        TaskEnd {
            no: task.no,
            outcome,
            deeds: trial.deeds,
            output: trial.output,
            message: trial.message,
            data: trial.data,
            attempts,
            took_us: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
        }
    }

    fn outcome(&mut self, task: &Task, ended: Result<(), Halt>, late: bool, trial: &mut Trial) -> StepOutcome {
        let planning = self.journal.is_none();
        let halt = match ended {
            Ok(()) if !trial.changed => return StepOutcome::Ok,
            Ok(()) => {
                self.woken.extend(&task.notify);
                return StepOutcome::Changed;
            }
            Err(halt) => report::halt(halt, task.sensitive),
        };
        let running = self.machine.probe.running();
        let why = match &halt {
            _ if running.is_cancelled() => "it was cancelled".to_owned(),
            _ if running.is_held() => "the operator stopped it".to_owned(),
            _ if running.is_lost() => "the controller was lost".to_owned(),
            halt if late => format!("its time was over ({} s): {halt}", task.timeout_s.unwrap_or_default()),
            halt => halt.to_string(),
        };
        trial.message = Some(why);
        match halt {
            Halt::Unknown(_) | Halt::NotYet(_) if planning => StepOutcome::Unknown,
            _ => StepOutcome::Failed,
        }
    }

    fn try_until_done(&mut self, task: &Task, trial: &mut Trial, attempts: &mut u32) -> Result<(), Halt> {
        let spec = Spec::unpack(&task.args)
            .map_err(|error| Halt::Failed(format!("the step {:?} cannot be read: {error}", task.kind)))?;
        let patience = spec.patience().filter(|_| task.retry.is_none());
        let started = Instant::now();
        loop {
            *attempts += 1;
            if *attempts > 1 {
                self.seen.forget();
            }
            let halt = match self.attempt(task, &spec, trial) {
                Ok(()) => return Ok(()),
                Err(halt) => halt,
            };
            let wait_ms = match (&halt, task.retry, patience) {
                (Halt::Unknown(_), ..) => return Err(halt),
                (_, Some(retry), _) if *attempts <= retry.times => retry.delay_ms,
                (Halt::NotYet(_), _, Some(patience))
                    if started.elapsed() < Duration::from_millis(patience.limit_ms) =>
                {
                    patience.interval_ms
                }
                _ => return Err(halt),
            };
            let running = self.machine.probe.running().clone();
            if self.journal.is_none() {
                return Err(halt);
            }
            self.voice.finish();
            self.inbox.pause(Duration::from_millis(wait_ms), &running);
            if running.is_stopped() || running.is_late() {
                return Err(halt);
            }
        }
    }

    /// Tries it once.
    fn attempt(&mut self, task: &Task, spec: &Spec, trial: &mut Trial) -> Result<(), Halt> {
        let (decision, changes) = self.look(task, spec).map_err(|halt| self.in_doubt(spec, halt))?;
        trial.message = decision.message.as_ref().map(|said| if task.sensitive { HIDDEN.into() } else { said.clone() });
        trial.output.clone_from(&decision.output);
        trial.data = match decision.data.is_empty() {
            true => String::new(),
            false => serde_json::Value::Object(decision.data.clone()).to_string(),
        };
        if self.journal.is_none() {
            return self.foresee(task, &decision, changes, trial);
        }
        self.seen.forget();
        self.carry_out(task, &decision, &changes, trial)?;
        if !changes.is_empty() || decision.guarded && !decision.acts.is_empty() {
            self.verify(task, spec)?;
        }
        Ok(())
    }

    /// What it wants, and what differs. What an earlier task saw a moment ago is good enough to find that there is
    /// nothing to do; who is to change something, or has failed, has looked by himself. Whoever is foreseen to change something
    /// does so at once.
    fn look(&mut self, task: &Task, spec: &Spec) -> Result<(Decision, Vec<Change>), Halt> {
        let look = |run: &mut Self| {
            let decision = run.want(task, spec)?;
            let changes = run.changes(task, &decision)?;
            Ok((decision, changes))
        };
        if self.flight.expects(task.no) {
            self.seen.forget();
            return look(self);
        }
        self.seen.lend();
        let looked = look(self);
        let has_nothing_to_do =
            matches!(&looked, Ok((decision, changes)) if changes.is_empty() && decision.acts.is_empty());
        if has_nothing_to_do || self.journal.is_none() || !self.seen.is_borrowed() {
            return looked;
        }
        self.seen.forget();
        look(self)
    }

    /// In a plan: what fails now may not when the plan is carried out, if earlier steps do what nobody can foresee.
    fn in_doubt(&mut self, spec: &Spec, halt: Halt) -> Halt {
        let planning = self.journal.is_none();
        let halt = match halt {
            Halt::Failed(why) if planning && spec.looks() && self.overlay.is_blurred() => {
                Halt::Unknown(format!("as things are, it would fail: {why}; earlier steps may change that"))
            }
            halt => halt,
        };
        if planning && matches!(halt, Halt::Unknown(_)) {
            self.overlay.blur();
        }
        halt
    }

    fn want(&mut self, task: &Task, spec: &Spec) -> Result<Decision, Halt> {
        self.through_view(task, |view| spec.want(view))
    }

    fn changes(&mut self, task: &Task, decision: &Decision) -> Result<Vec<Change>, Halt> {
        self.through_view(task, |view| deeds::changes(view, decision))
    }

    /// Looks at the host, with what earlier tasks of a plan would have done laid over it.
    pub(super) fn through_view<T>(&mut self, task: &Task, at: impl FnOnce(&mut HostView<'_>) -> T) -> T {
        let mut slow = || self.voice.finish();
        let planning = self.journal.is_none();
        let (probe, environment) = (&self.machine.probe, &task.environment);
        let (blobs, overlay, seen) = (&mut self.blobs, &self.overlay, &mut self.seen);
        at(&mut HostView::new(probe, blobs, overlay, environment, planning, seen, &mut slow))
    }

    /// In a plan: says what would be done, and lays it over the host for the tasks to come.
    fn foresee(
        &mut self,
        task: &Task,
        decision: &Decision,
        changes: Vec<Change>,
        trial: &mut Trial,
    ) -> Result<(), Halt> {
        for change in changes {
            let diff = self.diff(task, &change);
            self.overlay.lay(change.resource.clone(), change.after.clone());
            trial.deeds.push(report::of(&Deed::Change(change), diff, task.sensitive));
        }
        if !decision.acts.is_empty() {
            self.overlay.blur();
        }
        trial.deeds.extend(deeds::acts(task, decision).iter().map(|act| report::of(act, None, task.sensitive)));
        trial.changed = !trial.deeds.is_empty();
        Ok(())
    }

    /// In an apply: does it.
    fn carry_out(
        &mut self,
        task: &Task,
        decision: &Decision,
        changes: &[Change],
        trial: &mut Trial,
    ) -> Result<(), Halt> {
        if !changes.is_empty() {
            self.fetch(changes)?;
            self.judge(task, decision, true, trial)?;
            self.change(task, changes, trial)?;
            self.judge(task, decision, false, trial)?;
        }
        deeds::acts(task, decision).iter().try_for_each(|act| self.act(task, act, trial))
    }

    /// Waits for the contents that are not here yet.
    fn fetch(&mut self, changes: &[Change]) -> Result<(), Halt> {
        for content in changes.iter().filter_map(Change::new_content) {
            if !self.blobs.has(content) {
                self.voice.say(FromAgent::Need(*content));
                self.voice.finish();
                self.await_content(content)?;
            }
        }
        Ok(())
    }

    fn await_content(&mut self, content: &Content) -> Result<(), Halt> {
        let running = self.machine.probe.running().clone();
        while !self.blobs.has(content) {
            if running.is_stopped() || running.is_late() {
                return Err(Halt::Failed("its content did not come in time".into()));
            }
            let Some(chunk) = self.inbox.next_piece() else { continue };
            self.blobs
                .take_in(chunk.content, chunk.offset, chunk.piece.bytes())
                .map_err(|fault| Halt::Failed(format!("its content was refused: {fault}")))?;
        }
        Ok(())
    }

    /// Lets the validation judge, before or after the content is in place.
    fn judge(&mut self, task: &Task, decision: &Decision, before: bool, trial: &mut Trial) -> Result<(), Halt> {
        let Some(given) = decision.validate.as_ref().filter(|given| validate::is_before(given) == before) else {
            return Ok(());
        };
        let mut given = given.clone();
        given.command = deeds::of_task(task, &given.command);
        self.voice.finish();
        match validate::judge(&self.machine.probe, &self.blobs, &given)? {
            None => Ok(()),
            Some(output) => {
                trial.output = Some(output);
                Err(Halt::Failed(format!("the validation {:?} refused it", validate::name(&given.command))))
            }
        }
    }

    /// Brings the changes about: all armed with one sync, that of later tasks perhaps among them, then one after the
    /// other.
    pub(super) fn change(&mut self, task: &Task, changes: &[Change], trial: &mut Trial) -> Result<(), Halt> {
        self.keep_handlers();
        let armed = self.arm(task, changes)?;
        self.stage(changes, &armed)?;
        let mut armed = &armed[..];
        for group in deeds::together(changes) {
            self.go_on()?;
            let (own, rest) = armed.split_at(group.len());
            armed = rest;
            if group.iter().any(deeds::takes_time) {
                self.voice.finish();
            }
            let reports: Vec<DeedReport> = group
                .iter()
                .map(|change| report::of(&Deed::Change(change.clone()), self.diff(task, change), task.sensitive))
                .collect();
            let started = Instant::now();
            let probe = &self.machine.probe;
            let journal = self.journal.as_mut().expect("an apply has a journal");
            trial.changed = true;
            resources::converge(&journal.tools(probe, &self.blobs, own), group)?;
            let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX) / group.len() as u64;
            for (armed, report) in own.iter().zip(reports) {
                journal.seal(armed).map_err(|fault| unjournalled(&fault))?;
                fault!("agent.sealed");
                self.voice.say(FromAgent::Done { no: task.no, report: Box::new(report), took_us });
            }
        }
        Ok(())
    }

    /// Does an act. It is armed by itself, right before: so whoever finds it armed knows that it was begun.
    pub(super) fn act(&mut self, task: &Task, deed: &Deed, trial: &mut Trial) -> Result<(), Halt> {
        self.go_on()?;
        self.voice.finish();
        self.ground().map_err(|fault| unjournalled(&fault))?;
        self.keep_handlers();
        let Deed::Act { act, .. } = deed else { unreachable!("only acts are done here") };
        let probe = &self.machine.probe;
        let journal = self.journal.as_mut().expect("an apply has a journal");
        let armed = journal
            .arm(probe, task.no, task.sensitive, std::slice::from_ref(deed))
            .map_err(|fault| unjournalled(&fault))?;
        let started = Instant::now();
        trial.changed = true;
        let (output, ended) = deeds::carry_out(&journal.tools(probe, &self.blobs, &armed), act);
        fault!("agent.acted");
        let kept = if ended.is_ok() { journal.seal(&armed[0]) } else { journal.miss(&armed[0]) };
        kept.map_err(|fault| unjournalled(&fault))?;
        trial.output = output.or(trial.output.take());
        ended?;
        let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let report = Box::new(report::of(deed, None, task.sensitive));
        self.voice.say(FromAgent::Done { no: task.no, report, took_us });
        Ok(())
    }

    /// Asks again: now there must be nothing left to do.
    fn verify(&mut self, task: &Task, spec: &Spec) -> Result<(), Halt> {
        let decision = match self.want(task, spec) {
            Ok(decision) => decision,
            Err(Halt::Unknown(why) | Halt::Failed(why)) => {
                return Err(Halt::Failed(format!("applied, but asked again it fails: {why}")));
            }
            Err(not_yet) => return Err(not_yet),
        };
        let left = self.changes(task, &decision)?;
        if let Some(change) = left.first() {
            let told = resources::differences(&change.before, &change.after);
            let told: Vec<String> =
                told.iter().map(|d| format!("{} is {}, not {}", d.attribute, d.before, d.after)).collect();
            return Err(Halt::Failed(format!("applied, but {} still differs: {}", change.resource, told.join("; "))));
        }
        match decision.guarded && !decision.acts.is_empty() {
            true => Err(Halt::Failed(match decision.message {
                Some(why) => format!("it has run, but {why}"),
                None => "it has run, but its guard still says that there is something to do".into(),
            })),
            false => Ok(()),
        }
    }

    /// Whether the next deed may begin.
    fn go_on(&self) -> Result<(), Halt> {
        let running = self.machine.probe.running();
        match running.is_stopped() || running.is_late() {
            true => Err(Halt::Failed("it was ended between two deeds".into())),
            false => Ok(()),
        }
    }

    /// The difference of the contents, where both are text that is at hand. What a new file is given by the controller, that
    /// tells itself.
    pub(super) fn diff(&self, task: &Task, change: &Change) -> Option<String> {
        let Resource::Path(file) = &change.resource else { return None };
        let content =
            change.new_content().filter(|new| !task.sensitive && new.bytes <= path::INPUT_BYTES_MAX as u64)?;
        let old = match &change.before {
            State::Path(PathState::File { content, .. }) => self.old_bytes(file, content)?,
            State::Path(PathState::Absent) if !self.blobs.is_the_controllers(content) => Vec::new(),
            _ => return None,
        };
        path::diff(&old, &self.blobs.bytes(content)?.ok()?)
    }

    fn old_bytes(&self, file: &crate::base::ByteText, content: &Content) -> Option<Vec<u8>> {
        if content.bytes > path::INPUT_BYTES_MAX as u64 {
            return None;
        }
        let held = self.blobs.bytes(content).and_then(Result::ok);
        held.or_else(|| self.machine.probe.read(file).ok().filter(|bytes| Content::of(bytes) == *content))
    }
}

/// Nothing is changed where the way back cannot be kept.
pub(super) fn unjournalled(fault: &JournalFault) -> Halt {
    Halt::Failed(format!("its undo could not be kept, so nothing more was changed: {fault}"))
}
