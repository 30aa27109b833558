//! A settled run is undone: by a run of its own, whose deeds are journalled as any, so that what fails in it is put
//! back, and what is cut off is settled by a recovery.

use std::{collections::BTreeSet, io::Write, time::Instant};

use crate::{
    agent::{
        Machine,
        inbox::Inbox,
        life::Trial,
        report,
        serve::{End, Run},
        unwind::Settled,
        voice::Voice,
        way::{self, Chains, Step},
    },
    model::{
        change::{Act, Change, CommandSpec, Deed, Undo},
        event::{HostOutcome, StepOutcome, Undone},
        ids::{RunId, TaskNo},
        state::{PathState, Resource, State},
        witness::Witness,
    },
    resources::{Halt, View, service},
    target::journal::{Entry, Kept, Status},
    wire::{
        FromAgent,
        message::{Task, TaskEnd, UndoRun},
    },
};

/// Undoes a settled run, or says what that would do.
pub(super) fn undo<W: Write>(machine: &Machine, inbox: &Inbox, voice: &mut Voice<W>, order: UndoRun) {
    let UndoRun { open, of, force_drift } = order;
    let Some(mut run) = Run::open(machine, inbox, voice, open) else { return };
    let kept = match find(machine, &of) {
        Ok(kept) => kept,
        Err((outcome, why)) => return run.say_closed(outcome, Some(why)),
    };
    if let Some(other) = kept.unread().last() {
        let note =
            format!("the journal of run {other} cannot be read here: whether it has undone run {of} is not known");
        run.voice.say(FromAgent::Note(note));
    }
    if let Some(journal) = &mut run.journal {
        journal.undoes(of.clone());
    }
    run.blobs.lend_packages(kept.packages());
    let (chains, drifted) = (Chains::of(kept.entries()), BTreeSet::new());
    let mut undoing = Undoing {
        run,
        kept: &kept,
        chains,
        force_drift,
        commands_run: kept.commands_run().to_vec(),
        drifted,
        settled: Settled::default(),
        changed: false,
        blurred: false,
        in_doubt: None,
    };
    let ended = undoing.go();
    let Undoing { mut run, settled, changed, .. } = undoing;
    if let Err(halt) = ended {
        return run.fall_back(halt.to_string());
    }
    run.voice.say(FromAgent::Ready);
    match run.work() {
        End::Close(witness) => {
            let (outcome, told) = match settled.left() {
                Some(left) => (HostOutcome::NeedsRecovery, Some(left)),
                None if changed => (HostOutcome::Succeeded, None),
                None => (HostOutcome::Succeeded, Some(format!("nothing of run {of} is left to be undone"))),
            };
            run.end_undo(witness.as_ref(), outcome, told);
        }
        End::Back(why) | End::Failed(why) => run.fall_back(why),
        End::Kept => run.fall_back("the operator stopped it".into()),
    }
}

/// The run that is to be undone. The error says how it ends where there is nothing to undo.
fn find(machine: &Machine, of: &RunId) -> Result<Kept, (HostOutcome, String)> {
    let kept = machine.store.kept(of).map_err(|fault| (HostOutcome::Failed, fault.to_string()))?;
    let kept = kept.ok_or_else(|| (HostOutcome::NotStarted, format!("nothing of run {of} is kept on this host")))?;
    match kept.undone_by() {
        Some(by) => Err((HostOutcome::Succeeded, format!("run {of} was undone by run {by}"))),
        None => Ok(kept),
    }
}

impl<W: Write> Run<'_, W> {
    /// What was undone is put back.
    fn fall_back(mut self, why: String) {
        match self.journal {
            Some(_) => self.unwind(why, true),
            None => self.say_closed(HostOutcome::Failed, Some(why)),
        }
    }

    fn end_undo(mut self, witness: Option<&Witness>, outcome: HostOutcome, told: Option<String>) {
        let probe = &self.machine.probe;
        match self.journal.as_mut().map(|journal| journal.close(probe, outcome, witness)) {
            None | Some(Ok(())) => self.say_closed(outcome, told),
            Some(Err(fault)) => self.not_final(&fault),
        }
    }
}

/// A run at work on the undo of another.
struct Undoing<'a, 'k, W> {
    run: Run<'a, W>,
    kept: &'k Kept,
    chains: Chains,
    force_drift: bool,
    /// What earlier undos of it have run, and is not to be run again.
    commands_run: Vec<(TaskNo, CommandSpec)>,
    /// What was named as drifted: older deeds on it are passed over.
    drifted: BTreeSet<Resource>,
    /// What does not go back.
    settled: Settled,
    /// Whether anything goes back.
    changed: bool,
    /// In a plan: whether a command would have been run by now, of which nobody knows what it changes.
    blurred: bool,
    /// What of the task at hand cannot be told therefore.
    in_doubt: Option<String>,
}

type Deeds = [(Entry, Status)];

impl<W: Write> Undoing<'_, '_, W> {
    /// Goes back, newest first. The first failure ends it; a plan tells all that it can find.
    fn go(&mut self) -> Result<(), Halt> {
        let is_back = |status: &Status| {
            matches!(status, Status::Dropped | Status::Undone(Undone::Undone | Undone::AlreadyBefore))
        };
        let all = self.kept.entries().iter().rev();
        let todo: Vec<(Entry, Status)> = all.filter(|(_, status)| !is_back(status)).cloned().collect();
        let mut ended = Ok(());
        for deeds in todo.chunk_by(|(a, _), (b, _)| a.task == b.task) {
            let is_repeated = |deed: &Deed| matches!(deed, Deed::Act { undo: Undo::Repeat, .. });
            if deeds.iter().all(|(entry, _)| is_repeated(&entry.deed)) {
                continue;
            }
            let one = self.task(&deeds[0].0, |undoing, task, trial| {
                let mut groups = deeds.chunk_by(|(a, _), (b, _)| way::goes_with(a, b));
                groups.try_for_each(|group| undoing.group(task, group, trial))
            });
            ended = ended.and(one);
            if ended.is_err() && self.run.journal.is_some() {
                return ended;
            }
        }
        ended?;
        self.repeat(&todo)
    }

    /// Tells of a task that goes back as of one that is done.
    fn task(
        &mut self,
        entry: &Entry,
        back: impl FnOnce(&mut Self, &Task, &mut Trial) -> Result<(), Halt>,
    ) -> Result<(), Halt> {
        let task = stand_in(entry);
        let started = Instant::now();
        self.run.voice.say(FromAgent::Started(task.no));
        let mut trial = Trial::default();
        let ended = back(self, &task, &mut trial).map_err(|halt| report::halt(halt, task.sensitive));
        let in_doubt = self.in_doubt.take();
        let outcome = match &ended {
            Err(_) => StepOutcome::Failed,
            Ok(()) if trial.changed => StepOutcome::Changed,
            Ok(()) if in_doubt.is_some() => StepOutcome::Unknown,
            Ok(()) => StepOutcome::Ok,
        };
        let Trial { deeds, output, message, .. } = trial;
        let message = ended.as_ref().err().map(ToString::to_string).or(in_doubt).or(message);
        let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let output = output.filter(|_| !task.sensitive);
        self.run.count(outcome);
        let data = String::new();
        self.run.tell_end(TaskEnd { no: task.no, outcome, deeds, output, message, data, attempts: 1, took_us });
        ended
    }

    /// Takes back one deed, or all packages of one task together.
    fn group(&mut self, task: &Task, group: &Deeds, trial: &mut Trial) -> Result<(), Halt> {
        let (entry, status) = &group[0];
        match &entry.deed {
            Deed::Change(_) => self.changes(task, group, trial),
            Deed::Act { undo: Undo::Repeat, .. } => Ok(()),
            // Its own failure was told; what it did until then nobody knows.
            Deed::Act { undo: Undo::Irreversible, .. } if *status == Status::Missed => Ok(()),
            Deed::Act { undo: Undo::Irreversible, .. } => {
                self.leave(entry, Undone::Irreversible);
                Ok(())
            }
            Deed::Act { undo: Undo::Run(command), .. } if self.was_run(task, command) => Ok(()),
            Deed::Act { undo: Undo::Run(command), .. } => {
                trial.message = Some("its undo is run, which itself cannot be undone".into());
                let deed = Deed::Act { act: Act::Run(command.clone()), undo: Undo::Irreversible };
                self.act(task, &deed, trial)
            }
        }
    }

    /// Whether an earlier undo has run this command; each time counts once.
    fn was_run(&mut self, task: &Task, command: &CommandSpec) -> bool {
        let known = CommandSpec { stdin: None, environment: Default::default(), ..command.clone() };
        let found = self.commands_run.iter().position(|(no, run)| *no == task.no && *run == known);
        found.map(|at| self.commands_run.swap_remove(at)).is_some()
    }

    fn changes(&mut self, task: &Task, group: &Deeds, trial: &mut Trial) -> Result<(), Halt> {
        let mut back = Vec::new();
        for (entry, status) in group {
            let Deed::Change(change) = &entry.deed else { unreachable!("only changes are put back so") };
            match self.look(task, entry, status, change, trial)? {
                Step::Before => {}
                Step::Drifted(_) if self.in_doubt.is_some() => self.changed = true,
                Step::Drifted(how) => self.drift(entry, change, how),
                Step::Back(now) => {
                    if let Some((content, path)) = self.kept.image(entry) {
                        self.run.blobs.lend(content, path);
                    }
                    let after = goal(entry, &change.before, &now);
                    back.push(Change { resource: change.resource.clone(), before: now, after });
                }
            }
        }
        if back.is_empty() {
            return Ok(());
        }
        self.changed = true;
        trial.changed = true;
        if self.run.journal.is_none() {
            for change in back {
                let diff = self.run.diff(task, &change);
                self.run.overlay.lay(change.resource.clone(), change.after.clone());
                trial.deeds.push(report::of(&Deed::Change(change), diff, task.sensitive));
            }
            return Ok(());
        }
        self.run.change(task, &back, trial)?;
        let probe = &self.run.machine.probe;
        back.iter().try_for_each(|change| match way::unlike(probe, change) {
            Some(why) => Err(Halt::Failed(format!("{} was put back, and still {why}", change.resource))),
            None => Ok(()),
        })
    }

    /// Looks before anything is touched.
    fn look(
        &mut self,
        task: &Task,
        entry: &Entry,
        status: &Status,
        change: &Change,
        trial: &mut Trial,
    ) -> Result<Step, Halt> {
        self.run.seen.forget();
        let now = self.run.through_view(task, |view| view.observe(&change.resource))?;
        let earlier = self.chains.earlier(self.kept.entries(), entry, change);
        let step = match way::from(now.clone(), entry, status, change, earlier) {
            Step::Drifted(how) if self.force_drift => {
                trial.message = Some(match task.sensitive {
                    true => "overwrites what someone else has changed since".to_owned(),
                    false => format!("overwrites what someone else has changed since ({how})"),
                });
                Step::Back(now)
            }
            step => step,
        };
        let would_go_back = matches!(step, Step::Back(_));
        let step = step.unless_it_holds(change, |path| self.run.through_view(task, |view| view.list(path).ok()));
        if let (true, true, Step::Drifted(how)) = (would_go_back, self.blurred, &step) {
            let told = if task.sensitive { String::new() } else { format!(" ({how})") };
            let resource = &change.resource;
            self.in_doubt = Some(format!(
                "as things are, {resource} would be left alone{told}; what is run before it may change that"
            ));
        }
        Ok(step)
    }

    /// Does an act, or says that it would be done.
    fn act(&mut self, task: &Task, deed: &Deed, trial: &mut Trial) -> Result<(), Halt> {
        self.changed = true;
        if self.run.journal.is_some() {
            return self.run.act(task, deed, trial);
        }
        trial.changed = true;
        self.blurred = true;
        trial.deeds.push(report::of(deed, None, task.sensitive));
        Ok(())
    }

    /// Restarts and reloads once more what was restarted or reloaded, now that everything else is back.
    fn repeat(&mut self, todo: &Deeds) -> Result<(), Halt> {
        self.reread(todo);
        let mut done: Vec<&Act> = Vec::new();
        for (entry, status) in todo.iter().rev() {
            let Deed::Act { act, undo: Undo::Repeat } = &entry.deed else { continue };
            if !self.changed || done.contains(&act) {
                continue;
            }
            let Some(again) = self.again(todo, entry, status, act) else { continue };
            done.push(act);
            let deed = Deed::Act { act: again, undo: Undo::Repeat };
            self.task(entry, |undoing, task, trial| undoing.act(task, &deed, trial))?;
        }
        Ok(())
    }

    /// systemd is told of its files that are back: it would not see that by itself. Where that fails, what is restarted
    /// tells.
    fn reread(&mut self, todo: &Deeds) {
        let is_read = todo.iter().any(|(entry, _)| way::is_read_by_systemd(&entry.deed));
        if let Some(journal) = self.run.journal.as_ref().filter(|_| is_read && self.changed) {
            let probe = &self.run.machine.probe;
            let tools = journal.tools(probe, &self.run.blobs, &[]);
            let _the_restart_tells = service::supported(probe.facts()).and_then(|()| service::reread(&tools));
        }
    }

    /// What is done once more for an act, if anything is: not where the service has been stopped since it was done.
    fn again(&mut self, todo: &Deeds, entry: &Entry, status: &Status, act: &Act) -> Option<Act> {
        let (Act::Restart(name) | Act::Reload(name)) = act else { return Some(act.clone()) };
        self.run.seen.forget();
        let seen = self.run.through_view(&stand_in(entry), |view| service::inspect(view, name));
        // Where the service manager cannot be asked, the attempt will tell.
        let Ok(unit) = seen else { return Some(act.clone()) };
        let leads_to_a_stop = way::leads_to_a_stop(todo, act, &unit);
        // What stops it is planned, and not done yet.
        if leads_to_a_stop && self.run.journal.is_none() {
            return None;
        }
        way::again(act, &unit, leads_to_a_stop || *status == Status::Sealed && unit.is_stopped())
    }

    fn drift(&mut self, entry: &Entry, change: &Change, how: String) {
        if self.drifted.insert(change.resource.clone()) {
            self.leave(entry, report::undone(Undone::Drifted(how), entry.sensitive));
        }
    }

    /// Names what stays as it is.
    fn leave(&mut self, entry: &Entry, how: Undone) {
        self.settled.take(&entry.deed, &how);
        let report = Box::new(report::of(&entry.deed, None, entry.sensitive));
        self.run.voice.say(FromAgent::Undone { no: entry.task, report, how });
    }
}

/// The state that a resource goes back to. Where the run had left a file's content as it was, it is left now.
fn goal(entry: &Entry, before: &State, now: &State) -> State {
    match (before, now) {
        (State::Path(PathState::File { meta, .. }), State::Path(PathState::File { content, .. }))
            if entry.image.is_none() =>
        {
            State::Path(PathState::File { content: *content, meta: meta.clone() })
        }
        _ => before.clone(),
    }
}

/// What the life of a deed needs to know of its task.
fn stand_in(entry: &Entry) -> Task {
    Task {
        no: entry.task,
        kind: String::new(),
        args: Vec::new(),
        notify: Vec::new(),
        only_if_notified: false,
        undo: None,
        retry: None,
        timeout_s: None,
        confirm_ms: None,
        environment: Default::default(),
        sensitive: entry.sensitive,
    }
}
