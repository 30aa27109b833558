//! The way back: every entry of a journal, newest first, each looked at before it is touched (docs/rollback.md).

use std::io::Write;

use crate::{
    agent::{
        deeds::{self, words_of},
        report,
        serve::Run,
        voice::Voice,
        way::{self, Chains, Step},
    },
    base::{ByteText, point::fault},
    model::{
        change::{Act, Change, Deed, Undo},
        event::{HostOutcome, Undone},
        state::{PathState, Resource, State},
    },
    resources::{
        self,
        service::{self, Unit},
    },
    target::{
        Blobs, Journal, Probe,
        journal::{Entry, Status},
    },
    wire::FromAgent,
};

impl<W: Write> Run<'_, W> {
    /// Undoes all of it, and says how that went, and why it was undone where a task's end has not told that already.
    pub(super) fn unwind(mut self, why: String, is_told: bool) {
        // Where the disk takes no more records, closing the journal will tell.
        let _the_disk_has_failed = self.ground();
        let probe = &self.machine.probe;
        probe.running().shield();
        let Some(mut journal) = self.journal.take() else {
            return self.say_closed(HostOutcome::Failed, Some(why));
        };
        let settled = WayBack::of(probe, &self.blobs, &mut journal, self.voice).go(&|_| true);
        self.counts.undone += settled.undone;
        let (outcome, left) = settled.settle(&mut journal, probe);
        drop(journal);
        let message = match left {
            None => why,
            Some(left) if is_told => left,
            Some(left) => format!("{why}; {left}"),
        };
        self.say_closed(outcome, Some(message));
    }
}

/// How the way back went.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// How many deeds were undone.
    pub(super) undone: u32,
    drifted: Vec<String>,
    failed: Vec<String>,
    irreversible: Vec<String>,
}

impl Settled {
    /// Takes in how one deed was undone.
    pub(super) fn take(&mut self, deed: &Deed, how: &Undone) {
        let name = match deed {
            Deed::Change(change) => change.resource.to_string(),
            Deed::Act { act, .. } => words_of(act),
        };
        match how {
            Undone::Undone => self.undone += 1,
            Undone::AlreadyBefore => {}
            Undone::Drifted(_) if self.drifted.contains(&name) => {}
            Undone::Drifted(_) => self.drifted.push(name),
            Undone::Irreversible => self.irreversible.push(name),
            Undone::Failed(_) => self.failed.push(name),
        }
    }

    /// Closes the journal, unless another attempt may do better: then it stays open. How the host ended, and what is
    /// left to say.
    pub(super) fn settle(&self, journal: &mut Journal, probe: &Probe) -> (HostOutcome, Option<String>) {
        let left = self.left();
        let outcome = if left.is_some() { HostOutcome::NeedsRecovery } else { HostOutcome::RolledBack };
        fault!("unwind.settle");
        let kept = match &left {
            Some(left) if !self.failed.is_empty() => journal.attempted(left),
            _ => journal.close(probe, outcome, None),
        };
        match kept {
            Ok(()) => (outcome, left),
            Err(fault) => {
                let told = left.map_or_else(|| fault.to_string(), |left| format!("{left}; {fault}"));
                (HostOutcome::NeedsRecovery, Some(told))
            }
        }
    }

    /// Whether all is as it was before, but for commands that have no undo.
    pub(super) fn is_back(&self) -> bool {
        self.failed.is_empty() && self.drifted.is_empty()
    }

    /// What is not as it was before.
    pub(super) fn left(&self) -> Option<String> {
        let told = |what: &str, names: &[String]| {
            let few = names[..names.len().min(NAMES_TOLD)].join(", ");
            match names.len().saturating_sub(NAMES_TOLD) {
                _ if names.is_empty() => None,
                0 => Some(format!("{few} {what}")),
                more => Some(format!("{few} and {more} more {what}")),
            }
        };
        let parts: Vec<String> = [
            told("could not be put back", &self.failed),
            told("changed by someone else since, and left alone", &self.drifted),
            told("cannot be undone", &self.irreversible),
        ]
        .into_iter()
        .flatten()
        .collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// How many names one sentence gives.
const NAMES_TOLD: usize = 3;

/// How a deed stands that is being put back.
const CUT_OFF: &str = "it was cut off while it was put back";

/// Why a command's undo was not run.
const FORGETFUL: &str = "not run, since the journal takes no more records: it might be run twice";

/// What the way back needs.
pub(super) struct WayBack<'a, W> {
    pub(super) probe: &'a Probe,
    blobs: &'a Blobs,
    pub(super) journal: &'a mut Journal,
    pub(super) voice: &'a mut Voice<W>,
    chains: Chains,
    /// The entries that were put back, whether the journal took that or not.
    pub(super) put_back: Vec<u32>,
    /// The journal did not take a record: what is run from here on would be run again by the next attempt.
    is_forgetful: bool,
    /// Whether the run was cut off: nobody knows what has happened since.
    is_after_a_cut: bool,
}

impl<'a, W: Write> WayBack<'a, W> {
    /// The way back of a journal's run.
    pub(super) fn of(probe: &'a Probe, blobs: &'a Blobs, journal: &'a mut Journal, voice: &'a mut Voice<W>) -> Self {
        let (chains, put_back) = (Chains::default(), Vec::new());
        WayBack { probe, blobs, journal, voice, chains, put_back, is_forgetful: false, is_after_a_cut: false }
    }
}

impl<W: Write> WayBack<'_, W> {
    /// Goes the way of a part of the entries. What fails does not keep the rest from being put back. Changes that were put
    /// back already are looked at again: the power may have gone before that was on the disk. Acts are believed.
    pub(super) fn go(mut self, part: &dyn Fn(&Entry) -> bool) -> Settled {
        let mut settled = Settled::default();
        let is_open = |entry: &Entry, status: &Status| {
            let done = matches!(status, Status::Undone(Undone::Undone | Undone::AlreadyBefore));
            let is_begun = *status != Status::Dropped;
            part(entry) && is_begun && (!done || matches!(entry.deed, Deed::Change(_)))
        };
        let all = self.journal.entries();
        let todo: Vec<(Entry, Status)> =
            all.iter().filter(|(entry, status)| is_open(entry, status)).rev().cloned().collect();
        self.chains = Chains::of(all);
        fault!("unwind.begun");
        for group in todo.chunk_by(|(a, _), (b, _)| way::goes_with(a, b)) {
            match &group[0].0.deed {
                Deed::Change(_) => self.changes(group, &mut settled),
                Deed::Act { undo, .. } => self.act(&group[0], undo, &mut settled),
            }
        }
        fault!("unwind.back");
        self.repeat(&todo, &mut settled);
        if self.is_after_a_cut {
            self.wake(&mut settled);
        }
        settled
    }

    /// Begins with what the power may have left half done.
    pub(super) fn after_a_cut(mut self) -> Self {
        self.is_after_a_cut = true;
        for (entry, _) in self.journal.entries() {
            let Deed::Change(Change { resource: Resource::Path(path), before, after }) = &entry.deed else { continue };
            let is_directory = |state: &State| matches!(state, State::Path(PathState::Directory { .. }));
            if is_directory(before) || is_directory(after) {
                // Where it does not work, it is found and told by whoever looks there.
                let _is_looked_at = self.journal.tools_back(self.probe, self.blobs, &[entry.no]).place_again(path);
            }
        }
        self
    }

    /// Puts back one change, or all packages of one task together.
    fn changes(&mut self, group: &[(Entry, Status)], settled: &mut Settled) {
        let mut back = Vec::new();
        for (entry, status) in group {
            let Deed::Change(change) = &entry.deed else { unreachable!("only changes are put back so") };
            match self.look(entry, status, change) {
                Ok(Step::Before) => self.already(entry, status, settled),
                Ok(Step::Drifted(how)) => self.end(entry, Undone::Drifted(how), settled),
                Ok(Step::Back(now)) => {
                    let resource = change.resource.clone();
                    back.push((entry, Change { resource, before: now, after: change.before.clone() }));
                }
                Err(why) => self.end(entry, Undone::Failed(why), settled),
            }
        }
        if back.is_empty() {
            return;
        }
        self.begin(&back);
        let entries: Vec<u32> = back.iter().map(|(entry, _)| entry.no).collect();
        let changes: Vec<Change> = back.iter().map(|(_, change)| change.clone()).collect();
        let tools = self.journal.tools_back(self.probe, self.blobs, &entries);
        fault!("unwind.change");
        let brought = resources::converge(&tools, &changes);
        fault!("unwind.changed");
        for (entry, change) in back {
            let how = match (&brought, way::unlike(self.probe, &change)) {
                (_, None) => Undone::Undone,
                (Err(halt), Some(_)) => Undone::Failed(halt.to_string()),
                (Ok(()), Some(why)) => Undone::Failed(why),
            };
            self.end(entry, how, settled);
        }
    }

    /// Notes that deeds are being undone: what is found half changed after a crash is then ours, and not drift. What is
    /// written in place can stay half written even where the power goes.
    fn begin(&mut self, back: &[(&Entry, Change)]) {
        for (entry, _) in back {
            let begun = Undone::Failed(CUT_OFF.to_owned());
            let mut kept = self.journal.undone(entry.no, begun);
            if entry.in_place {
                kept = kept.and_then(|()| self.journal.sync());
            }
            self.is_forgetful |= kept.is_err();
        }
    }

    /// Looks before anything is touched.
    fn look(&self, entry: &Entry, status: &Status, change: &Change) -> Result<Step, String> {
        // Also of what is sealed: the power may have taken the name that it got, and not the one that it had before.
        let tools = self.journal.tools_back(self.probe, self.blobs, &[entry.no]);
        let cleared = match &change.resource {
            Resource::Path(path) => tools.clear_temporary(path),
            Resource::User(_) | Resource::Group(_) if self.is_after_a_cut => tools.clear_accounts(),
            _ => Ok(()),
        };
        cleared.map_err(|error| format!("clearing up beside {}: {error}", change.resource))?;
        let now = resources::observe(self.probe, &change.resource).map_err(|halt| halt.to_string())?;
        let earlier = self.chains.earlier(self.journal.entries(), entry, change);
        let list = |path: &ByteText| self.probe.list(path).ok();
        Ok(way::from(now, entry, status, change, earlier).unless_it_holds(change, list))
    }

    /// It is as it was before. If it had never been begun, there is nothing to say. What an attempt before this one has put
    /// back stays noted so: handlers are due for it, whichever attempt comes to run them.
    fn already(&mut self, entry: &Entry, status: &Status, settled: &mut Settled) {
        match status {
            Status::Armed => self.is_forgetful |= self.journal.undone(entry.no, Undone::AlreadyBefore).is_err(),
            Status::Undone(Undone::Undone | Undone::AlreadyBefore) => {}
            Status::Undone(Undone::Failed(why)) if why == CUT_OFF => self.end(entry, Undone::Undone, settled),
            _ => self.end(entry, Undone::AlreadyBefore, settled),
        }
    }

    fn act(&mut self, (entry, status): &(Entry, Status), undo: &Undo, settled: &mut Settled) {
        let how = match undo {
            Undo::Run(_) if self.is_forgetful => Undone::Failed(FORGETFUL.to_owned()),
            Undo::Run(command) => self.run(entry, &Act::Run(command.clone())),
            // Its own failure has been told; what it did until then nobody knows.
            Undo::Irreversible if *status == Status::Missed => return,
            Undo::Irreversible => Undone::Irreversible,
            Undo::Repeat => return,
        };
        self.end(entry, how, settled);
    }

    /// systemd is told of its files that are back: it would not see that by itself. Where that fails, what is restarted
    /// tells.
    fn reread(&self, todo: &[(Entry, Status)]) {
        if let Some((entry, _)) = todo.iter().find(|(entry, _)| way::is_read_by_systemd(&entry.deed)) {
            let tools = self.journal.tools_back(self.probe, self.blobs, &[entry.no]);
            let _the_restart_tells = service::supported(self.probe.facts()).and_then(|()| service::reread(&tools));
        }
    }

    /// Restarts and reloads once more what was restarted or reloaded, now that everything else is back. It ran before
    /// that, so it is to run again, however the act itself went.
    fn repeat(&mut self, todo: &[(Entry, Status)], settled: &mut Settled) {
        self.reread(todo);
        let mut done: Vec<(&Act, Undone)> = Vec::new();
        for (entry, status) in todo.iter().rev() {
            let Deed::Act { act, undo: Undo::Repeat } = &entry.deed else { continue };
            let is_off = |unit: &Unit| way::leads_to_a_stop(todo, act, unit);
            let how = match done.iter().find(|(own, _)| *own == act) {
                Some((_, how)) => how.clone(),
                None => self.again(act, is_off).map_or(Undone::AlreadyBefore, |act| self.run(entry, &act)),
            };
            done.push((act, how.clone()));
            // A handler's command that failed by itself and fails again: that was told, and is not held against the host.
            if !matches!((act, status, &how), (Act::Run(_), Status::Missed, Undone::Failed(_))) {
                self.end(entry, how, settled);
            }
        }
    }

    /// What is done once more for an act, if anything is.
    pub(super) fn again(&self, act: &Act, is_off: impl FnOnce(&Unit) -> bool) -> Option<Act> {
        let (Act::Restart(name) | Act::Reload(name)) = act else { return Some(act.clone()) };
        match service::look(self.probe, name) {
            Ok(unit) => way::again(act, &unit, is_off(&unit)),
            // Where the service manager cannot be asked, the attempt will tell.
            Err(_) => Some(act.clone()),
        }
    }

    pub(super) fn run(&mut self, entry: &Entry, act: &Act) -> Undone {
        self.voice.finish();
        fault!("unwind.act");
        let tools = self.journal.tools_back(self.probe, self.blobs, &[entry.no]);
        match deeds::carry_out(&tools, act) {
            (_, Ok(())) => Undone::Undone,
            (_, Err(halt)) => Undone::Failed(halt.to_string()),
        }
    }

    /// Keeps and tells how it went.
    fn end(&mut self, entry: &Entry, how: Undone, settled: &mut Settled) {
        let how = report::undone(how, entry.sensitive);
        settled.take(&entry.deed, &how);
        if how == Undone::Undone {
            self.put_back.push(entry.no);
        }
        // Where the disk takes no more records, the way back of what can be looked at goes on: closing the journal will
        // tell.
        let mut kept = self.journal.undone(entry.no, how.clone());
        if matches!(entry.deed, Deed::Act { .. }) {
            // An undo that was run should not be run again, even if the power goes.
            kept = kept.and_then(|()| self.journal.sync());
        }
        self.is_forgetful |= kept.is_err();
        fault!("unwind.step");
        let report = Box::new(report::of(&entry.deed, None, entry.sensitive));
        self.voice.say(FromAgent::Undone { no: entry.task, report, how });
    }
}
