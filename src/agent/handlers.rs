//! What handlers do, kept in the journal: whoever finds a run cut off does it once more when the files that had notified
//! them are back. Nobody knows what has been told of the new files by then; a machine that came up again has started its
//! services with them.

use std::{collections::BTreeMap, io::Write};

use crate::{
    agent::{
        deeds, report,
        serve::Run,
        unwind::{Settled, WayBack},
    },
    model::{
        change::{Act, Deed, Undo},
        event::Undone,
        ids::TaskNo,
    },
    resources::service::Unit,
    steps::Spec,
    target::journal::{Entry, Status, WayOfHandlers},
    wire::{
        FromAgent,
        message::{Handlers, Task},
    },
};

impl<W: Write> Run<'_, W> {
    /// Tells the journal, before the first change. What cannot be said of a handler by now is left out.
    pub(super) fn keep_handlers(&mut self) {
        let Some(Handlers { tasks, notified_by }) = self.handlers.take() else { return };
        let mut acts: BTreeMap<u32, Vec<Act>> = BTreeMap::new();
        for task in &tasks {
            acts.entry(task.no.step).or_default().extend(self.repeated(task));
        }
        if let Some(journal) = &mut self.journal {
            journal.keep_handlers(WayOfHandlers { acts, notified_by });
        }
    }

    /// What a handler would do that bears to be done again.
    fn repeated(&mut self, task: &Task) -> Vec<Act> {
        let Ok(spec) = Spec::unpack(&task.args) else { return Vec::new() };
        let Ok(decision) = self.through_view(task, |view| spec.want(view)) else { return Vec::new() };
        let repeated = deeds::acts(task, &decision).into_iter().filter_map(|deed| match deed {
            Deed::Act { act, undo: Undo::Repeat } => Some(act),
            _ => None,
        });
        repeated.collect()
    }
}

impl<W: Write> WayBack<'_, W> {
    /// Runs the handlers of what was undone, where they have not been run: those that have are repeated anyway.
    pub(super) fn wake(&mut self, settled: &mut Settled) {
        let WayOfHandlers { acts, notified_by } = self.journal.handlers().clone();
        let entries = self.journal.entries();
        let begun = |step: &u32| entries.iter().any(|(entry, _)| entry.task.step == *step);
        let undone = entries
            .iter()
            .filter(|(entry, status)| *status == Status::Undone(Undone::Undone) || self.put_back.contains(&entry.no));
        let mut due: BTreeMap<u32, Entry> = BTreeMap::new();
        for (entry, _) in undone {
            let notified = notified_by.get(&entry.task.step).into_iter().flatten();
            notified.filter(|step| !begun(step)).for_each(|step| {
                due.entry(*step).or_insert_with(|| entry.clone());
            });
        }
        for (step, entry) in &due {
            // What is stopped had run before, and has been stopped by somebody, or by the machine that went down.
            let again = |act| self.again(act, Unit::is_stopped);
            for act in acts.get(step).into_iter().flatten().filter_map(again).collect::<Vec<_>>() {
                let how = self.run(entry, &act);
                let deed = Deed::Act { act, undo: Undo::Repeat };
                settled.take(&deed, &how);
                let (no, report) =
                    (TaskNo { step: *step, item: 0 }, Box::new(report::of(&deed, None, entry.sensitive)));
                self.voice.say(FromAgent::Undone { no, report, how });
            }
        }
    }
}
